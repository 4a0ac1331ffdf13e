"""Writes the tokenizers and the ids that tests compare with: `python corpus.py FOLDER`.

The ids are those of Hugging Face's `tokenizers`. A string that llama.cpp is known to read otherwise has `null` instead of ids; `known.py`
says which ones these are, and why.
"""

import json
import sys
from pathlib import Path

from tokenizers import Tokenizer

import texts
import vocabularies
from known import is_same, is_same_without_accents, is_same_without_marks, is_same_word_piece

# Rules that llama.cpp knows, but not all of.
RULES = {"gpt-4o": is_same_without_marks, "tekken": is_same_without_marks}
# By name: the files, and whether llama.cpp reads a text as `tokenizers` does.
KINDS = {
    "bytes": (vocabularies.byte_pairs, is_same),
    "pieces": (vocabularies.sentence_piece, is_same),
    "pieces-gemma": (lambda: vocabularies.sentence_piece("gemma"), is_same),
    "unigram": (vocabularies.unigram, is_same),
    "words": (vocabularies.words, is_same_without_accents),
    "words-cased": (lambda: vocabularies.words(False), is_same_word_piece),
}


def ids(tokenizer, strings, is_same_text, is_framed=True):
    return [tokenizer.encode(text, add_special_tokens=is_framed).ids if is_same_text(text) else None for text in strings]


def main(folder):
    plain = texts.strings()
    write(folder / "strings.json", plain)
    for name, (make, is_same_text) in KINDS.items():
        files = make()
        vocabularies.write(files, folder / name)
        # A run of spaces is no text that a person would type as the sign that stands for them.
        tokens = [token["content"] for token in files["tokenizer.json"]["added_tokens"] if not token["content"].startswith("▁")]
        special = texts.with_special(tokens)
        tokenizer = Tokenizer.from_file(str(folder / name / "tokenizer.json"))
        found = ids(tokenizer, plain, is_same_text)
        expected = {"plain": found, "special": special, "special_ids": ids(tokenizer, special, is_same_text, is_framed=False)}
        if name == "bytes":
            # What is put around texts is the same for all rules.
            framing = {"post_processor": files["tokenizer.json"]["post_processor"]}
            expected["rules"] = [other_rule(rule, vocabularies.byte_pairs(rule)["tokenizer.json"] | framing, plain, special)
                                 for rule in vocabularies.RULES if rule != "llama-bpe"]
        if name == "pieces":
            expected["rules"] = [other_rule("first", vocabularies.sentence_piece("mistral")["tokenizer.json"], plain, special)]
        write(folder / name / "ids.json", expected)
        compared = sum(one is not None for one in found)
        print(f"{name}: {compared} of {len(plain)} strings are compared")


def other_rule(rule, file, plain, special):
    """The same vocabulary with other steps before it: what they are, and a hash of the ids of each string."""
    tokenizer = Tokenizer.from_str(json.dumps(file))
    hashes = lambda strings, is_framed: [one and fnv(one) for one in ids(tokenizer, strings, RULES.get(rule, is_same), is_framed)]
    return {
        "name": rule,
        "steps": {part: file[part] for part in ("normalizer", "pre_tokenizer")},
        "ignore_merges": file["model"]["ignore_merges"],
        "hashes": hashes(plain, True),
        "special_hashes": hashes(special, False),
    }


def fnv(numbers):
    """FNV-1a of 32 bits of the numbers as text with commas."""
    found = 0x811C9DC5
    for byte in ",".join(map(str, numbers)).encode():
        found = (found ^ byte) * 0x01000193 % 2**32
    return found


def write(path, content):
    path.write_text(json.dumps(content, ensure_ascii=True, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))

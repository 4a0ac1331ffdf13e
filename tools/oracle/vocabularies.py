"""Small tokenizers in their published form, trained on the texts of `texts.py`: the same ones at every call.

Each is a folder with tokenizer.json, tokenizer_config.json and, for SentencePiece, its own model file.
"""

import base64
import collections
import io
import json
from pathlib import Path

import sentencepiece
from sentencepiece import sentencepiece_model_pb2
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from texts import SENTENCES

CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
LETTERS = r"[^\r\n\p{L}\p{N}]?\p{L}+"
REST = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
LLAMA3 = CONTRACTIONS + "|" + LETTERS + r"|\p{N}{1,3}|" + REST
QWEN2 = CONTRACTIONS + "|" + LETTERS + r"|\p{N}|" + REST
QWEN35 = CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
UPPER, LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
CASES = r"[^\r\n\p{L}\p{N}]?" + UPPER + "*" + LOWER + "+{0}|" + r"[^\r\n\p{L}\p{N}]?" + UPPER + "+" + LOWER + "*{0}"
SLASHES = r" ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
GPT4O = CASES.replace("{0}", CONTRACTIONS + "?") + r"|\p{N}{1,3}|" + SLASHES
TEKKEN = CASES.replace("{0}", "") + r"|\p{N}|" + SLASHES

GPT2 = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
DIGITS = {"type": "Digits", "individual_digits": True}


def split(expression):
    """Texts are split by an expression, then become bytes."""
    first = {"type": "Split", "pattern": {"Regex": expression}, "behavior": "Isolated", "invert": False}
    return {"type": "Sequence", "pretokenizers": [first, GPT2 | {"use_regex": False}]}


# What splits texts, and whether a text that is a token is one before any pair is merged; by llama.cpp's names.
RULES = {
    "llama-bpe": (split(LLAMA3), True),
    "dbrx": (split(LLAMA3), False),
    "qwen2": (split(QWEN2), False),
    "qwen35": (split(QWEN35), False),
    "gpt-4o": (split(GPT4O), False),
    "tekken": (split(TEKKEN), True),
    "smollm": ({"type": "Sequence", "pretokenizers": [DIGITS, GPT2]}, False),
    "gpt-2": (GPT2, False),
}


def special(number, text, is_special=True):
    return {"id": number, "content": text, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
            "special": is_special}


def template(begin, end, ids, middle=None):
    """What is put around one text, and around two with `middle` between them."""
    token = lambda text, kind: [{"SpecialToken": {"id": text, "type_id": kind}}] if text else []
    sequence = lambda name, kind: [{"Sequence": {"id": name, "type_id": kind}}]
    single = token(begin, 0) + sequence("A", 0) + token(end, 0)
    pair = single + token(middle, 0) + sequence("B", 1) + token(end, 1)
    tokens = {text: {"id": text, "ids": [ids[text]], "tokens": [text]} for text in (begin, end, middle) if text}
    return {"type": "TemplateProcessing", "single": single, "pair": pair, "special_tokens": tokens}


def byte_pairs(rule="llama-bpe", size=560):
    """BPE over bytes. The vocabulary is the same for all rules, and was trained with none: wherever rules split a text differently, its
    tokens differ."""
    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    trainer = trainers.BpeTrainer(vocab_size=size, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()), show_progress=False)
    trained.train_from_iterator(SENTENCES * 3, trainer)
    file = json.loads(trained.to_str())
    splits, is_whole = RULES[rule]
    count = len(file["model"]["vocab"])
    tokens = ["<|begin|>", "<|end|>", "<think>", "<|pad|>"]
    ids = {text: count + place for place, text in enumerate(tokens)}
    file["added_tokens"] = [special(ids[text], text, text != "<think>") for text in tokens]
    file["model"]["ignore_merges"] = is_whole
    file["pre_tokenizer"] = splits
    level = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": False, "use_regex": True}
    file["post_processor"] = level
    if rule == "llama-bpe":
        file["post_processor"] = {"type": "Sequence", "processors": [level, template("<|begin|>", None, ids, middle="<|begin|>")]}
    file["decoder"] = level
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<|begin|>", "eos_token": "<|end|>", "pad_token": "<|pad|>",
                "chat_template": "{% for message in messages %}{{ message['content'] }}{% endfor %}"}
    return {"tokenizer.json": file, "tokenizer_config.json": settings}


def trained_pieces(kind, size, **options):
    """SentencePiece's own training."""
    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([line for sentence in SENTENCES for line in sentence.split("\n")] * 3), model_writer=written,
        model_type=kind, vocab_size=size, num_threads=1, minloglevel=2, character_coverage=0.98, **options)
    return written.getvalue()


def merges(pieces):
    """Every pair that makes a piece, as transformers finds them."""
    ids = {piece: place for place, (piece, _) in enumerate(pieces)}
    found = []
    for piece, score in pieces:
        halves = [(piece[:cut], piece[cut:], score) for cut in range(1, len(piece)) if piece[:cut] in ids and piece[cut:] in ids]
        found += sorted(halves, key=lambda half: (ids[half[0]], ids[half[1]]))
    found.sort(key=lambda half: (half[2], len(half[0]), len(half[1])), reverse=True)
    return [[left, right] for left, right, _ in found]


def sentence_piece(style="llama", size=760):
    """BPE over characters with tokens for single bytes, as Llama 2, Mistral and Gemma have it."""
    runs = ["▁▁"] if style == "gemma" else []
    known = ["[INST]"] + runs
    model = trained_pieces("bpe", size, byte_fallback=True, split_digits=True, add_dummy_prefix=style != "gemma",
                           normalization_rule_name="identity", remove_extra_whitespaces=False, allow_whitespace_only_pieces=True,
                           user_defined_symbols=known)
    processor = sentencepiece.SentencePieceProcessor(model_proto=model)
    pieces = [(processor.IdToPiece(number), processor.GetScore(number)) for number in range(processor.vocab_size())]
    ids = {piece: place for place, (piece, _) in enumerate(pieces)}
    replace = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
    normalizer, splits = {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"}, replace]}, None
    if style == "gemma":
        normalizer = replace
        splits = {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": False}
    if style == "mistral":
        normalizer, splits = None, {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": False}
    is_normal = lambda text: not text.startswith("<0x") and text not in ["<unk>", "<s>", "</s>"] + known
    added = [special(ids[text], text) for text in ("<unk>", "<s>", "</s>")] + [special(ids[text], text, False) for text in known]
    # Gemma's runs of spaces are made by its first merges, and are known as tokens besides.
    pairs = [["▁", "▁"]] if runs else []
    file = {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": added, "normalizer": normalizer, "pre_tokenizer": splits,
        "post_processor": template("<s>", None, ids, middle="<s>"),
        "decoder": {"type": "Sequence", "decoders": [{"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
                                                     {"type": "ByteFallback"}, {"type": "Fuse"}]},
        "model": {"type": "BPE", "dropout": None, "unk_token": "<unk>", "continuing_subword_prefix": None, "end_of_word_suffix": None,
                  "fuse_unk": True, "byte_fallback": True, "ignore_merges": False, "vocab": ids,
                  "merges": pairs + merges([(text, score) for text, score in pieces if is_normal(text)])},
    }
    decoder = {str(token["id"]): {key: value for key, value in token.items() if key != "id"} for token in added}
    settings = {"tokenizer_class": "LlamaTokenizerFast" if style != "gemma" else "GemmaTokenizerFast", "bos_token": "<s>",
                "eos_token": "</s>", "unk_token": "<unk>", "add_bos_token": True, "add_eos_token": False, "added_tokens_decoder": decoder,
                "chat_template": "{{ messages[0]['content'] }}"}
    return {"tokenizer.json": file, "tokenizer_config.json": settings, "tokenizer.model": model}


def unigram(size=700):
    """Pieces with likelihoods, as XLM-RoBERTa has them. A few rules of characters stand for its large table."""
    rules = {"ﬁ": "fi", "Ａ": "A", "１": "1", "①": "1", "ﷺ": "صلى الله عليه وسلم", "\u212b": "Å", "e\u0301": "é"}
    rules |= {space: " " for space in "\t\n\r\u0085\u00a0\u2003\u2028\u3000\u200b\ufeff"}
    table = Path("charsmap.tsv")
    table.write_text("".join(" ".join(f"{ord(c):X}" for c in old) + "\t" + " ".join(f"{ord(c):X}" for c in new) + "\n"
                             for old, new in sorted(rules.items())))
    model = trained_pieces("unigram", size, normalization_rule_tsv=str(table), hard_vocab_limit=False, bos_id=0, pad_id=1, eos_id=2, unk_id=3)
    table.unlink()
    proto = sentencepiece_model_pb2.ModelProto.FromString(model)
    vocabulary = [[piece.piece, round(piece.score, 4)] for piece in proto.pieces]
    ids = {piece: place for place, (piece, _) in enumerate(vocabulary)} | {"<mask>": len(vocabulary)}
    vocabulary.append(["<mask>", 0.0])
    tokens = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    added = [special(ids[text], text) for text in tokens]
    added[-1]["lstrip"] = True
    file = {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": added,
        "normalizer": {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(proto.normalizer_spec.precompiled_charsmap).decode()},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "WhitespaceSplit"}, {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}]},
        "post_processor": template("<s>", "</s>", ids, middle="</s>"),
        "decoder": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True},
        "model": {"type": "Unigram", "unk_id": 3, "vocab": vocabulary, "byte_fallback": False},
    }
    settings = {"tokenizer_class": "XLMRobertaTokenizerFast", "bos_token": "<s>", "eos_token": "</s>", "sep_token": "</s>", "cls_token": "<s>",
                "unk_token": "<unk>", "pad_token": "<pad>", "mask_token": "<mask>", "clean_up_tokenization_spaces": True}
    return {"tokenizer.json": file, "tokenizer_config.json": settings}


def words(is_lowercase=True, size=900):
    """Words and pieces of words, as BERT has them. The trainer of `tokenizers` breaks ties by chance, so the commonest parts are counted
    here."""
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    normalizer = {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True, "strip_accents": None, "lowercase": is_lowercase}
    start = json.loads(Tokenizer(models.WordPiece(unk_token="[UNK]")).to_str())
    start["normalizer"], start["pre_tokenizer"] = normalizer, {"type": "BertPreTokenizer"}
    splitter = Tokenizer.from_str(json.dumps(start))
    letters, parts = set(), collections.Counter()
    for sentence in SENTENCES:
        for word, _ in splitter.pre_tokenizer.pre_tokenize_str(splitter.normalizer.normalize_str(sentence)):
            letters |= {word[0]} | {"##" + letter for letter in word[1:]}
            pieces = [(begin, end) for begin in range(len(word)) for end in range(begin + 2, len(word) + 1)]
            parts.update(("##" if begin else "") + word[begin:end] for begin, end in pieces if end - begin <= 6)
    common = sorted(parts, key=lambda part: (-parts[part], part))[: size - len(tokens) - len(letters)]
    ids = {text: place for place, text in enumerate(tokens + sorted(letters) + sorted(common))}
    file = start
    file["model"]["vocab"] = ids
    file["added_tokens"] = [special(ids[text], text) for text in tokens]
    file["post_processor"] = template("[CLS]", "[SEP]", ids)
    file["decoder"] = {"type": "WordPiece", "prefix": "##", "cleanup": True}
    settings = {"tokenizer_class": "BertTokenizerFast", "cls_token": "[CLS]", "sep_token": "[SEP]", "unk_token": "[UNK]", "pad_token": "[PAD]",
                "mask_token": "[MASK]", "do_lower_case": is_lowercase}
    return {"tokenizer.json": file, "tokenizer_config.json": settings}


def write(files, folder):
    """Writes the files of a tokenizer."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        if isinstance(content, bytes):
            (folder / name).write_bytes(content)
        else:
            (folder / name).write_text(json.dumps(content, ensure_ascii=False, separators=(",", ":")), encoding="utf-8")

"""Writes the same shapes as their authors publish them, with random weights in BF16: `published.py FOLDER`.

    FOLDER/bench-0.5b/  model.safetensors                       tokenizer.json
    FOLDER/bench-1.1b/  three shards with their index           tokenizer.json, tokenizer.model
                        config.json, tokenizer_config.json in both

The vocabularies, the spreads and the silent rows are those of `models.py`.
"""

import argparse
import json
import math
import pathlib
import shutil
import statistics
import struct
from collections.abc import Iterator
from dataclasses import dataclass

import numpy
import vocabulary
from gguf import TokenType
from models import SEED, matrices, vectors
from shapes import SHAPES, Shape

SHARD_BYTES = 1 << 30
BYTES = 2

OUTER = {"token_embd": "model.embed_tokens", "output": "lm_head", "output_norm": "model.norm"}
INNER = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
CLASSES = {"qwen2": "Qwen2ForCausalLM", "llama": "LlamaForCausalLM"}

# What splits a text in Qwen2's tokenizer. Source: its tokenizer.json.
QWEN2 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


@dataclass(frozen=True)
class Published:
    """A tensor before it has any bytes. Without a spread all its numbers are `value`."""

    name: str
    shape: tuple[int, ...]
    spread: float | None
    value: float = 0.0

    @property
    def nbytes(self) -> int:
        return BYTES * math.prod(self.shape)


def name_of(tensor: str) -> str:
    """The published name of a tensor that GGUF calls so."""
    match tensor.split("."):
        case ["blk", block, part, kind]:
            return f"model.layers.{block}.{INNER[part]}.{kind}"
        case [part, kind]:
            return f"{OUTER[part]}.{kind}"
    raise ValueError(tensor)


def tensors(shape: Shape) -> Iterator[Published]:
    for matrix in matrices(shape):
        yield Published(name_of(matrix.name), (matrix.rows, matrix.columns), matrix.spread)
    for name, vector in vectors(shape):
        yield Published(name_of(name), vector.shape, None, float(vector[0]))


def brain_floats(numbers: numpy.ndarray) -> numpy.ndarray:
    """The upper halves of 32-bit floats, rounded to the nearest."""
    bits = numbers.astype(numpy.float32).view(numpy.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(numpy.uint16)


def draw(chance: numpy.random.Generator, quantiles: numpy.ndarray, tensor: Published) -> numpy.ndarray:
    """Its numbers as BF16: normal ones, of which each is one of 65,536 quantiles, or all the same."""
    if tensor.spread is None:
        return numpy.full(tensor.shape, brain_floats(numpy.array([tensor.value]))[0], numpy.uint16)
    return brain_floats(quantiles * tensor.spread)[chance.integers(0, 1 << 16, tensor.shape, numpy.uint16)]


def shards(wanted: list[Published]) -> list[list[Published]]:
    """In their order, as many in a file as its size allows."""
    files: list[list[Published]] = [[]]
    for tensor in wanted:
        if files[-1] and sum(other.nbytes for other in files[-1]) + tensor.nbytes > SHARD_BYTES:
            files.append([])
        files[-1].append(tensor)
    return files


def header(file: list[Published]) -> bytes:
    """The beginning of a file in the format safetensors."""
    entries: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for tensor in file:
        begin, end = end, end + tensor.nbytes
        entries[tensor.name] = {"dtype": "BF16", "shape": list(tensor.shape), "data_offsets": [begin, end]}
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text


def write_weights(folder: pathlib.Path, shape: Shape, silent: list[int]) -> None:
    chance = numpy.random.Generator(numpy.random.PCG64(SEED))
    normal = statistics.NormalDist()
    quantiles = numpy.array([normal.inv_cdf((place + 0.5) / (1 << 16)) for place in range(1 << 16)], numpy.float32)
    files = shards(list(tensors(shape)))
    places = {}
    for number, file in enumerate(files, 1):
        name = f"model-{number:05}-of-{len(files):05}.safetensors" if len(files) > 1 else "model.safetensors"
        with (folder / name).open("wb") as out:
            out.write(header(file))
            for tensor in file:
                numbers = draw(chance, quantiles, tensor)
                if tensor.name in ("model.embed_tokens.weight", "lm_head.weight"):
                    numbers[silent] = 0
                out.write(numbers.tobytes())
                places[tensor.name] = name
    if len(files) > 1:
        total = sum(tensor.nbytes for file in files for tensor in file)
        write_json(folder / "model.safetensors.index.json", {"metadata": {"total_size": total}, "weight_map": places})


def config(shape: Shape, words: vocabulary.Vocabulary) -> dict[str, object]:
    return {
        "architectures": [CLASSES[shape.architecture]],
        "bos_token_id": words.bos,
        "eos_token_id": words.eos,
        "hidden_act": "silu",
        "hidden_size": shape.width,
        "intermediate_size": shape.feed_forward,
        "max_position_embeddings": shape.context,
        "model_type": shape.architecture,
        "num_attention_heads": shape.heads,
        "num_hidden_layers": shape.blocks,
        "num_key_value_heads": shape.kv_heads,
        "rms_norm_eps": shape.norm_epsilon,
        "rope_theta": shape.rope_base,
        "tie_word_embeddings": shape.is_tied,
        "torch_dtype": "bfloat16",
        "vocab_size": shape.vocabulary,
    }


def tokenizer(words: vocabulary.Vocabulary) -> dict[str, object]:
    """The content of tokenizer.json."""
    kinds = (TokenType.NORMAL, TokenType.BYTE)
    added = [number for number, kind in enumerate(words.types) if kind in (TokenType.CONTROL, TokenType.UNKNOWN)]
    is_pieces = words.model == "llama"
    ids = {token: number for number, token in enumerate(words.tokens) if words.types[number] in kinds or (is_pieces and number in added)}
    assert all(left in ids and right in ids and left + right in ids for left, right in words.pairs)
    model = {"type": "BPE", "dropout": None, "unk_token": "<unk>" if is_pieces else None, "continuing_subword_prefix": None,
             "end_of_word_suffix": None, "fuse_unk": is_pieces, "byte_fallback": is_pieces, "ignore_merges": False, "vocab": ids,
             "merges": [list(pair) for pair in words.pairs]}
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    file = {"version": "1.0", "truncation": None, "padding": None,
            "added_tokens": [{"id": number, "content": words.tokens[number]} | flags for number in added]}
    return file | (steps_of_pieces(words) if is_pieces else steps_of_byte_pairs()) | {"model": model}


def steps_of_byte_pairs() -> dict[str, object]:
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    split = {"type": "Split", "pattern": {"Regex": QWEN2}, "behavior": "Isolated", "invert": False}
    return {"normalizer": {"type": "NFC"}, "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, level]},
            "post_processor": level, "decoder": level}


def steps_of_pieces(words: vocabulary.Vocabulary) -> dict[str, object]:
    begin = words.tokens[words.bos]
    special = {"SpecialToken": {"id": begin, "type_id": 0}}
    first, second = ({"Sequence": {"id": name, "type_id": kind}} for name, kind in (("A", 0), ("B", 1)))
    around = {"type": "TemplateProcessing", "single": [special, first],
              "pair": [special, first, {"SpecialToken": {"id": begin, "type_id": 1}}, second],
              "special_tokens": {begin: {"id": begin, "ids": [words.bos], "tokens": [begin]}}}
    spaces = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
    back = {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}
    return {"normalizer": {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"}, spaces]}, "pre_tokenizer": None,
            "post_processor": around, "decoder": {"type": "Sequence", "decoders": [back, {"type": "ByteFallback"}, {"type": "Fuse"}]}}


def settings(words: vocabulary.Vocabulary) -> dict[str, object]:
    """The content of tokenizer_config.json."""
    common = {"add_bos_token": words.adds_bos, "add_eos_token": False, "chat_template": words.chat_template,
              "eos_token": words.tokens[words.eos]}
    if words.model == "llama":
        return common | {"bos_token": words.tokens[words.bos], "unk_token": "<unk>", "tokenizer_class": "LlamaTokenizerFast"}
    return common | {"tokenizer_class": "PreTrainedTokenizerFast"}


def sentence_piece(words: vocabulary.Vocabulary) -> bytes:
    """The content of tokenizer.model. Source of the fields: sentencepiece_model.proto. GGUF's types of tokens are its types of pieces."""

    def number(value: int) -> bytes:
        head = bytes([value & 0x7F | (0x80 if value > 0x7F else 0)])
        return head + number(value >> 7) if value > 0x7F else head

    def whole(field: int, value: int) -> bytes:
        return number(field << 3) + number(value)

    def message(field: int, content: bytes) -> bytes:
        return number(field << 3 | 2) + number(len(content)) + content

    def piece(text: str, score: float, kind: int) -> bytes:
        return message(1, message(1, text.encode()) + number(2 << 3 | 5) + struct.pack("<f", score) + whole(3, kind))

    pieces = b"".join(piece(text, score, int(kind)) for text, score, kind in zip(words.tokens, words.scores, words.types, strict=True))
    byte_pairs, unknown = 2, 0
    trainer = whole(3, byte_pairs) + whole(4, len(words.tokens)) + whole(35, True) + whole(40, unknown) + whole(41, words.bos) + whole(42, words.eos)
    normalizer = message(1, b"identity") + whole(3, True) + whole(4, False) + whole(5, True)
    return pieces + message(2, trainer) + message(3, normalizer)


def write_json(path: pathlib.Path, content: object) -> None:
    path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")


def write(folder: pathlib.Path, shape: Shape) -> pathlib.Path:
    """Writes one model; its folder appears under its name only when it is whole."""
    target = folder / shape.name
    partial = folder / f"{shape.name}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    words = vocabulary.build(shape.tokenizer, shape.vocabulary)
    write_json(partial / "config.json", config(shape, words))
    write_json(partial / "tokenizer.json", tokenizer(words))
    write_json(partial / "tokenizer_config.json", settings(words))
    if words.model == "llama":
        (partial / "tokenizer.model").write_bytes(sentence_piece(words))
    write_weights(partial, shape, words.silent())
    shutil.rmtree(target, ignore_errors=True)
    return partial.replace(target)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--shape", choices=[shape.name for shape in SHAPES], action="append", help="all when left out")
    arguments = parser.parse_args()
    for shape in SHAPES:
        if arguments.shape is None or shape.name in arguments.shape:
            path = write(arguments.folder, shape)
            print(f"{path} {sum(file.stat().st_size for file in path.iterdir()) / 2**20:.0f} MiB", flush=True)


if __name__ == "__main__":
    main()

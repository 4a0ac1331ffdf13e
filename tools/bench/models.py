"""Writes GGUF models of real shapes with random weights, for the benches: `models.py FOLDER [--quantization Q8_0]`.

    shapes ─┐
    syllables ─► vocabulary ─┼─► FOLDER/bench-0.5b-q4_k_m.gguf …
    mixture ─► blocks ───────┘

They answer with made-up words and never end by themselves. They hold no weight of any trained model.
"""

import argparse
import pathlib
from collections.abc import Iterator
from dataclasses import dataclass

import blocks
import gguf
import mixture
import numpy
import vocabulary
from shapes import SHAPES, Shape

SEED = 20


@dataclass(frozen=True)
class Matrix:
    """A weight matrix before it has any bytes; `block` is -1 outside of the transformer blocks."""

    tensor: str
    block: int
    rows: int
    columns: int
    spread: float

    @property
    def name(self) -> str:
        return f"{self.tensor}.weight" if self.block < 0 else f"blk.{self.block}.{self.tensor}.weight"


def matrices(shape: Shape) -> Iterator[Matrix]:
    """Spreads keep the residual stream and the logits (standard deviation 3) in the range of a trained model."""
    logits = 3 / shape.width**0.5
    yield Matrix("token_embd", -1, shape.vocabulary, shape.width, logits if shape.is_tied else 0.02)
    if not shape.is_tied:
        yield Matrix("output", -1, shape.vocabulary, shape.width, logits)
    inner = [
        ("attn_q", shape.width, shape.width),
        ("attn_k", shape.kv_width, shape.width),
        ("attn_v", shape.kv_width, shape.width),
        ("attn_output", shape.width, shape.width),
        ("ffn_gate", shape.feed_forward, shape.width),
        ("ffn_up", shape.feed_forward, shape.width),
        ("ffn_down", shape.width, shape.feed_forward),
    ]
    for block in range(shape.blocks):
        for tensor, rows, columns in inner:
            yield Matrix(tensor, block, rows, columns, columns**-0.5)


def vectors(shape: Shape) -> Iterator[tuple[str, numpy.ndarray]]:
    """Norms and biases: ones and zeros."""
    yield "output_norm.weight", numpy.ones(shape.width, numpy.float32)
    for block in range(shape.blocks):
        yield f"blk.{block}.attn_norm.weight", numpy.ones(shape.width, numpy.float32)
        yield f"blk.{block}.ffn_norm.weight", numpy.ones(shape.width, numpy.float32)
        if shape.has_qkv_bias:
            yield f"blk.{block}.attn_q.bias", numpy.zeros(shape.width, numpy.float32)
            yield f"blk.{block}.attn_k.bias", numpy.zeros(shape.kv_width, numpy.float32)
            yield f"blk.{block}.attn_v.bias", numpy.zeros(shape.kv_width, numpy.float32)


def describe(writer: gguf.GGUFWriter, shape: Shape, words: vocabulary.Vocabulary, quantization: str) -> None:
    """Everything in the header but the tensors."""
    writer.add_name(shape.title)
    writer.add_description("Random weights in a real shape, for measuring speed and memory only")
    writer.add_license("MIT OR Apache-2.0")
    writer.add_file_type(mixture.FILE_TYPES[quantization])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_block_count(shape.blocks)
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.width)
    writer.add_feed_forward_length(shape.feed_forward)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_layer_norm_rms_eps(shape.norm_epsilon)
    writer.add_rope_freq_base(shape.rope_base)
    writer.add_rope_dimension_count(shape.head_width)
    writer.add_vocab_size(shape.vocabulary)
    writer.add_tokenizer_model(words.model)
    if words.pre:
        writer.add_tokenizer_pre(words.pre)
    writer.add_token_list(words.tokens)
    writer.add_token_types(words.types)
    if words.scores:
        writer.add_token_scores(words.scores)
    if words.merges:
        writer.add_token_merges(words.merges)
    writer.add_bos_token_id(words.bos)
    writer.add_eos_token_id(words.eos)
    writer.add_add_bos_token(words.adds_bos)
    writer.add_chat_template(words.chat_template)


def check(matrix: Matrix, kind: gguf.GGMLQuantizationType, rows: numpy.ndarray) -> None:
    """Reads the blocks back with gguf's own reader: a slip in a layout must not become a measurement."""
    weights = gguf.dequantize(rows, kind)
    mean, spread = float(weights.mean()), float(weights.std())
    is_meant = abs(mean) < 0.1 * matrix.spread and abs(spread / matrix.spread - 1) < 0.05
    assert is_meant, f"{matrix.name} as {kind.name}: mean {mean}, spread {spread}, meant {matrix.spread}"


def write(folder: pathlib.Path, shape: Shape, quantization: str) -> pathlib.Path:
    """Writes one model; the file appears under its name only when it is whole."""
    target = folder / f"{shape.name}-{quantization.lower()}.gguf"
    partial = target.with_suffix(".partial")
    words = vocabulary.build(shape.tokenizer, shape.vocabulary)
    silent = words.silent()
    wanted = [
        (matrix, mixture.kind(quantization, matrix.tensor, matrix.block, shape.blocks, matrix.columns, shape.is_tied))
        for matrix in matrices(shape)
    ]
    writer = gguf.GGUFWriter(partial, shape.architecture)
    describe(writer, shape, words, quantization)
    for matrix, kind in wanted:
        per_block, block_bytes = gguf.GGML_QUANT_SIZES[kind]
        row_bytes = matrix.columns // per_block * block_bytes
        writer.add_tensor_info(matrix.name, (matrix.rows, row_bytes), numpy.dtype(numpy.uint8), matrix.rows * row_bytes, kind)
    for name, vector in vectors(shape):
        writer.add_tensor_info(name, vector.shape, vector.dtype, vector.nbytes)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    chance = numpy.random.Generator(numpy.random.PCG64(SEED))
    for matrix, kind in wanted:
        rows = blocks.draw(chance, kind, matrix.rows, matrix.columns, matrix.spread)
        check(matrix, kind, rows[:64])
        if matrix.block < 0:
            rows[silent] = 0
        writer.write_tensor_data(rows)
    for _, vector in vectors(shape):
        writer.write_tensor_data(vector)
    writer.close()
    return partial.replace(target)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--quantization", choices=sorted(mixture.FILE_TYPES), default="Q4_K_M")
    parser.add_argument("--shape", choices=[shape.name for shape in SHAPES], action="append", help="all when left out")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    for shape in SHAPES:
        if arguments.shape is None or shape.name in arguments.shape:
            path = write(arguments.folder, shape, arguments.quantization)
            print(f"{path} {path.stat().st_size / 2**20:.0f} MiB", flush=True)


if __name__ == "__main__":
    main()

"""Random quantized weights, drawn as blocks at once: normal in size, uniform in shape, and cheap to make.

Scales are the same in every block and the quants are uniform, so that the spread is exact. Speed does not depend on
the values. *Source* of the layouts: ggml-common.h.
"""

import numpy
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

Q4_K_SCALE, Q4_K_MINIMUM = 8, 10
Q6_K_SCALE = 16


def uniform_spread(levels: int) -> float:
    """Standard deviation of whole numbers drawn evenly from `levels` neighbours."""
    return float(numpy.sqrt((levels**2 - 1) / 12))


def draw(chance: numpy.random.Generator, kind: GGMLQuantizationType, rows: int, columns: int, spread: float) -> numpy.ndarray:
    """Bytes of a `[rows, columns]` matrix whose weights have mean zero (nearly) and this standard deviation."""
    weights, size = GGML_QUANT_SIZES[kind]
    assert columns % weights == 0, f"{columns} columns do not make blocks of {kind.name}"
    count = rows * columns // weights
    blocks = numpy.frombuffer(chance.bytes(count * size), dtype=numpy.uint8).reshape(count, size).copy()
    SCALE[kind](blocks, spread)
    return blocks.reshape(rows, columns // weights * size)


def _half(value: float) -> numpy.ndarray:
    return numpy.frombuffer(numpy.float16(value).tobytes(), dtype=numpy.uint8)


def _scale_q4_k(blocks: numpy.ndarray, spread: float) -> None:
    # weight = d · scale · q − dmin · minimum, q in 0..15; the two cancel at the mean of q, 7.5.
    d = spread / (Q4_K_SCALE * uniform_spread(16))
    blocks[:, 0:2] = _half(d)
    blocks[:, 2:4] = _half(d * Q4_K_SCALE * 7.5 / Q4_K_MINIMUM)
    blocks[:, 4:8] = Q4_K_SCALE
    blocks[:, 8:12] = Q4_K_MINIMUM
    blocks[:, 12:16] = Q4_K_SCALE | Q4_K_MINIMUM << 4


def _scale_q6_k(blocks: numpy.ndarray, spread: float) -> None:
    # weight = d · scale · (q − 32), q in 0..63; the scales follow 192 bytes of quants, d comes last.
    blocks[:, 192:208] = Q6_K_SCALE
    blocks[:, 208:210] = _half(spread / (Q6_K_SCALE * uniform_spread(64)))


def _scale_q5_0(blocks: numpy.ndarray, spread: float) -> None:
    blocks[:, 0:2] = _half(spread / uniform_spread(32))


def _scale_q8_0(blocks: numpy.ndarray, spread: float) -> None:
    blocks[:, 0:2] = _half(spread / uniform_spread(256))


SCALE = {
    GGMLQuantizationType.Q4_K: _scale_q4_k,
    GGMLQuantizationType.Q6_K: _scale_q6_k,
    GGMLQuantizationType.Q5_0: _scale_q5_0,
    GGMLQuantizationType.Q8_0: _scale_q8_0,
}

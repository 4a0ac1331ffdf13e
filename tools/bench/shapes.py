"""The shapes of two widely used small models: what makes a bench believable without their weights."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Shape:
    """Numbers of a model; everything that decides its speed and its memory."""

    name: str
    title: str
    architecture: str
    blocks: int
    width: int
    heads: int
    kv_heads: int
    feed_forward: int
    vocabulary: int
    context: int
    rope_base: float
    norm_epsilon: float
    is_tied: bool
    has_qkv_bias: bool
    tokenizer: str

    @property
    def head_width(self) -> int:
        return self.width // self.heads

    @property
    def kv_width(self) -> int:
        return self.kv_heads * self.head_width


# Source: config.json of Qwen/Qwen2.5-0.5B-Instruct and of TinyLlama/TinyLlama-1.1B-Chat-v1.0. The context of the
# second is doubled, so that scenarios with long prompts fit both.
SHAPES = [
    Shape(
        name="bench-0.5b",
        title="Bench 0.5B (random weights)",
        architecture="qwen2",
        blocks=24,
        width=896,
        heads=14,
        kv_heads=2,
        feed_forward=4864,
        vocabulary=151_936,
        context=32_768,
        rope_base=1_000_000.0,
        norm_epsilon=1e-6,
        is_tied=True,
        has_qkv_bias=True,
        tokenizer="byte-pairs",
    ),
    Shape(
        name="bench-1.1b",
        title="Bench 1.1B (random weights)",
        architecture="llama",
        blocks=22,
        width=2048,
        heads=32,
        kv_heads=4,
        feed_forward=5632,
        vocabulary=32_000,
        context=4096,
        rope_base=10_000.0,
        norm_epsilon=1e-5,
        is_tied=False,
        has_qkv_bias=False,
        tokenizer="pieces",
    ),
]

"""A tokenizer's tables of exactly the asked size, as GGUF states them: byte pairs as Qwen2 has them, or pieces as Llama 2 has."""

from dataclasses import dataclass, field

import syllables
from gguf import TokenType

# Qwen2's own places for its control tokens; what follows up to the vocabulary's size is padding.
QWEN_CONTROL = {151_643: "<|endoftext|>", 151_644: "<|im_start|>", 151_645: "<|im_end|>"}

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
TURNS = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>\n' + message['content'] + eos_token + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
)


@dataclass
class Vocabulary:
    """The tables of one tokenizer."""

    model: str
    chat_template: str
    bos: int
    eos: int
    adds_bos: bool
    tokens: list[str] = field(default_factory=list)
    types: list[TokenType] = field(default_factory=list)
    scores: list[float] | None = None
    merges: list[str] | None = None
    pre: str | None = None
    # Every pair that is merged, the first ones first; `merges` are those that GGUF states.
    pairs: list[tuple[str, str]] = field(default_factory=list)

    def add(self, token: str, kind: TokenType) -> None:
        self.tokens.append(token)
        self.types.append(kind)

    def silent(self) -> list[int]:
        """Ids that must never win: an answer has the length that was asked for, on one line, in ASCII."""
        return [number for number in range(len(self.tokens)) if not self._is_printable(number)]

    def _is_printable(self, number: int) -> bool:
        text = self.tokens[number].replace("Ġ", " ").replace("▁", " ")
        return self.types[number] == TokenType.NORMAL and text.isascii() and text.isprintable()


def build(style: str, size: int) -> Vocabulary:
    """A vocabulary of `size` tokens."""
    vocabulary = {"byte-pairs": _byte_pairs, "pieces": _pieces}[style](size)
    assert len(vocabulary.tokens) == len(set(vocabulary.tokens)) == size
    return vocabulary


def _byte_pairs(size: int) -> Vocabulary:
    vocabulary = Vocabulary("gpt2", CHATML, bos=151_643, eos=151_645, adds_bos=False, pre="qwen2")
    letters = _byte_letters()
    pairs = syllables.merges("Ġ", min(QWEN_CONTROL) - len(letters))
    for token in letters + [left + right for left, right in pairs]:
        vocabulary.add(token, TokenType.NORMAL)
    for number in range(min(QWEN_CONTROL), size):
        control = QWEN_CONTROL.get(number)
        vocabulary.add(control or f"[PAD{number}]", TokenType.CONTROL if control else TokenType.UNUSED)
    vocabulary.merges = [f"{left} {right}" for left, right in pairs]
    vocabulary.pairs = pairs
    return vocabulary


def _byte_letters() -> list[str]:
    """One letter for each byte, in GPT-2's order. Source: `bytes_to_unicode` of the GPT-2 encoder."""
    plain = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    shifted = (byte for byte in range(0x100) if byte not in plain)
    return [chr(byte) for byte in plain] + [chr(0x100 + place) for place, _ in enumerate(shifted)]


def _pieces(size: int) -> Vocabulary:
    vocabulary = Vocabulary("llama", TURNS, bos=1, eos=2, adds_bos=True)
    vocabulary.add("<unk>", TokenType.UNKNOWN)
    vocabulary.add("<s>", TokenType.CONTROL)
    vocabulary.add("</s>", TokenType.CONTROL)
    for byte in range(0x100):
        vocabulary.add(f"<0x{byte:02X}>", TokenType.BYTE)
    letters = ["▁", *(chr(code) for code in range(ord("!"), ord("~") + 1))]
    vocabulary.pairs = syllables.merges("▁", size - len(vocabulary.tokens) - len(letters))
    pieces = [left + right for left, right in vocabulary.pairs]
    vocabulary.scores = [0.0] * len(vocabulary.tokens) + [-float(rank) for rank in range(len(pieces) + len(letters))]
    for piece in pieces + letters:
        vocabulary.add(piece, TokenType.NORMAL)
    return vocabulary

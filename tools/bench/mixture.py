"""Which tensor gets which type: llama.cpp's rules for `Q4_K_M` and `Q8_0`. *Source:* llama-quant.cpp."""

from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, LlamaFileType

FILE_TYPES = {"Q4_K_M": LlamaFileType.MOSTLY_Q4_K_M, "Q8_0": LlamaFileType.MOSTLY_Q8_0}

# A row that does not divide into blocks of 256 gets the nearest type with blocks of 32.
NARROW = {GGMLQuantizationType.Q4_K: GGMLQuantizationType.Q5_0, GGMLQuantizationType.Q6_K: GGMLQuantizationType.Q8_0}


def kind(quantization: str, tensor: str, block: int, blocks: int, columns: int, is_tied: bool) -> GGMLQuantizationType:
    """The type of one weight matrix."""
    if quantization == "Q8_0":
        return GGMLQuantizationType.Q8_0
    is_output = tensor == "output" or (tensor == "token_embd" and is_tied)
    is_sensitive = tensor in ("attn_v", "ffn_down") and _has_more_bits(block, blocks)
    wanted = GGMLQuantizationType.Q6_K if is_output or is_sensitive else GGMLQuantizationType.Q4_K
    return wanted if columns % GGML_QUANT_SIZES[wanted][0] == 0 else NARROW[wanted]


def _has_more_bits(block: int, blocks: int) -> bool:
    return block < blocks // 8 or block >= 7 * blocks // 8 or (block - blocks // 8) % 3 == 2

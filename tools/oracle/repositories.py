"""Models of random weights in their published form, written by transformers itself: config.json, shards with an index, tokenizer.

NomicBert is not in transformers: its author publishes the code with the weights. Its files are written by hand here.
"""

import json

import torch
import transformers
from safetensors.torch import save_file

import vocabularies

WIDTH, WIDE, HEADS, BLOCKS = 64, 96, 4, 3
# Rows of embeddings without a token.
SPARE = 5


def rows(vocabulary):
    """How many tokens a tokenizer has."""
    file = vocabulary["tokenizer.json"]
    ids = [token["id"] for token in file["added_tokens"]]
    return max(max(ids) + 1, len(file["model"]["vocab"]))


def decoder(**more):
    return dict(hidden_size=WIDTH, intermediate_size=WIDE, num_attention_heads=HEADS, num_key_value_heads=2, num_hidden_layers=BLOCKS,
                max_position_embeddings=512, bos_token_id=None, eos_token_id=None, pad_token_id=None) | more


def encoder(**more):
    return dict(hidden_size=WIDTH, intermediate_size=WIDE, num_attention_heads=HEADS, num_hidden_layers=BLOCKS,
                max_position_embeddings=128) | more


LLAMA3_ROPE = dict(rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=128)
LONG_ROPE = dict(type="longrope", short_factor=[1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.7], long_factor=[1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 4.5, 5.0])
MODERN = dict(global_attn_every_n_layers=3, local_attention=32, pad_token_id=0, bos_token_id=1, eos_token_id=2, cls_token_id=1, sep_token_id=2)
MEAN = dict(pooling_mode_cls_token=False, pooling_mode_mean_tokens=True, pooling_mode_lasttoken=False)
LAST = dict(pooling_mode_cls_token=False, pooling_mode_mean_tokens=False, pooling_mode_lasttoken=True)
CLS = dict(pooling_mode_cls_token=True, pooling_mode_mean_tokens=False, pooling_mode_lasttoken=False)


def byte_pairs(rule):
    return lambda: vocabularies.byte_pairs(rule)


def pieces(style):
    return lambda: vocabularies.sentence_piece(style)


def without_model(make):
    """As many are published: with tokenizer.json alone."""
    return lambda: {name: content for name, content in make().items() if name != "tokenizer.model"}


# By name: class, configuration, tokenizer, and what else the repository has.
MODELS = {
    "llama2": ("LlamaForCausalLM", decoder(rms_norm_eps=1e-5, num_key_value_heads=4), pieces("llama"), {}),
    "llama2-json": ("LlamaForCausalLM", decoder(rms_norm_eps=1e-5), without_model(pieces("llama")), {}),
    "llama3": ("LlamaForCausalLM", decoder(rms_norm_eps=1e-5, rope_theta=5e5, rope_scaling=LLAMA3_ROPE, tie_word_embeddings=True),
               byte_pairs("llama-bpe"), {}),
    "llama-bias": ("LlamaForCausalLM", decoder(attention_bias=True, mlp_bias=True, rope_scaling=dict(rope_type="linear", factor=2.0)),
                   byte_pairs("smollm"), dict(dtype=torch.float32)),
    "llama-base": ("LlamaModel", decoder(head_dim=32), byte_pairs("gpt-2"), {}),
    "mistral": ("MistralForCausalLM", decoder(head_dim=16, sliding_window=None, rope_theta=1e6), pieces("mistral"), dict(dtype=torch.float16)),
    "mistral-tekken": ("MistralForCausalLM", decoder(head_dim=32, sliding_window=256), byte_pairs("tekken"), {}),
    "qwen2": ("Qwen2ForCausalLM", decoder(rope_theta=1e6, tie_word_embeddings=True), byte_pairs("qwen2"), {}),
    "qwen2-yarn": ("Qwen2ForCausalLM", decoder(rope_scaling=dict(rope_type="yarn", factor=4.0, original_max_position_embeddings=128, beta_fast=32.0, beta_slow=1.0)),
                   byte_pairs("qwen2"), {}),
    "qwen2-embedding": ("Qwen2Model", decoder(is_causal=False), byte_pairs("qwen2"), dict(pooling=MEAN)),
    "qwen3": ("Qwen3ForCausalLM", decoder(head_dim=32, rope_theta=1e6), byte_pairs("qwen2"), {}),
    "qwen3-embedding": ("Qwen3Model", decoder(head_dim=32), byte_pairs("qwen2"), dict(pooling=LAST)),
    "smollm3": ("SmolLM3ForCausalLM", decoder(num_hidden_layers=4, rope_theta=5e6), byte_pairs("llama-bpe"), {}),
    "granite": ("GraniteForCausalLM", decoder(attention_multiplier=0.25, embedding_multiplier=12.0, residual_multiplier=0.22,
                                              logits_scaling=8.0, tie_word_embeddings=True), byte_pairs("smollm"), {}),
    "phi3": ("Phi3ForCausalLM", decoder(num_key_value_heads=4, original_max_position_embeddings=128, rope_scaling=LONG_ROPE, sliding_window=64),
             pieces("llama"), {}),
    "phi4": ("Phi3ForCausalLM", decoder(partial_rotary_factor=0.75, sliding_window=None), byte_pairs("gpt-4o"),
             dict(settings=dict(tokenizer_class="GPT2Tokenizer", unk_token="<|end|>"))),
    "gemma3": ("Gemma3ForCausalLM", decoder(head_dim=16, query_pre_attn_scalar=16, sliding_window=64, num_hidden_layers=7), pieces("gemma"), {}),
    "gemma3-json": ("Gemma3ForCausalLM", decoder(head_dim=16, query_pre_attn_scalar=16, sliding_window=64, num_hidden_layers=7),
                    without_model(pieces("gemma")), {}),
    "gemma-embedding": ("Gemma3TextModel", decoder(head_dim=16, query_pre_attn_scalar=16, sliding_window=64, num_hidden_layers=7, use_bidirectional_attention=True),
                        pieces("gemma"), dict(pooling=MEAN, dense=[(96, WIDTH), (WIDTH, 96)])),
    "bert": ("BertModel", encoder(), vocabularies.words, dict(pooling=CLS, dtype=torch.float32)),
    "bert-masked": ("BertForMaskedLM", encoder(), lambda: vocabularies.words(False), {}),
    "bert-reranker": ("BertForSequenceClassification", encoder(num_labels=1), vocabularies.words, {}),
    "bert-classes": ("BertForSequenceClassification", encoder(id2label={0: "no", 1: "perhaps", 2: "yes"}), vocabularies.words, {}),
    "xlm-roberta": ("XLMRobertaModel", encoder(max_position_embeddings=130, type_vocab_size=1, pad_token_id=1, bos_token_id=0, eos_token_id=2),
                    vocabularies.unigram, dict(pooling=CLS)),
    "xlm-roberta-reranker": ("XLMRobertaForSequenceClassification",
                             encoder(max_position_embeddings=130, type_vocab_size=1, pad_token_id=1, bos_token_id=0, eos_token_id=2, num_labels=1),
                             vocabularies.unigram, {}),
    "modern-bert": ("ModernBertModel", encoder(**MODERN), byte_pairs("gpt-2"), dict(pooling=CLS, bert=True)),
    "modern-bert-reranker": ("ModernBertForSequenceClassification", encoder(**MODERN, classifier_pooling="mean", num_labels=1), byte_pairs("gpt-2"), dict(bert=True)),
    "nomic-bert": ("NomicBertModel", None, vocabularies.words, dict(pooling=MEAN)),
}


def write(name, folder):
    """Writes one repository."""
    class_name, config, tokenizer, more = MODELS[name]
    files = tokenizer()
    count = rows(files) + SPARE
    folder.mkdir(parents=True)
    torch.manual_seed(7)
    if config is None:
        nomic(folder, count)
    else:
        published(class_name, config, count, more.get("dtype", torch.bfloat16), folder)
    if more.get("bert"):
        as_modern_bert(files)
    files["tokenizer_config.json"] |= more.get("settings", {})
    vocabularies.write(files, folder)
    if "pooling" in more:
        dense = more.get("dense", [])
        kinds = ["Transformer", "Pooling"] + ["Dense"] * len(dense)
        names = ["", "1_Pooling"] + [f"{number + 2}_Dense" for number in range(len(dense))]
        modules = [dict(idx=place, name=str(place), path=path, type=f"sentence_transformers.models.{kind}") for place, (path, kind) in enumerate(zip(names, kinds))]
        text(folder / "modules.json", modules)
        text(folder / "1_Pooling/config.json", dict(word_embedding_dimension=WIDTH) | more["pooling"])
        for path, (output, width) in zip(names[2:], dense):
            text(folder / path / "config.json", dict(in_features=width, out_features=output, bias=False,
                                                     activation_function="torch.nn.modules.linear.Identity"))
            save_file({"linear.weight": random_weights([output, width]).to(torch.bfloat16)}, folder / path / "model.safetensors")


def published(class_name, config, count, dtype, folder):
    """As transformers saves it, in several shards."""
    make = getattr(transformers, class_name)
    settings = make.config_class(vocab_size=count, **config)
    model = make(settings)
    for number in model.parameters():
        number.data = random_weights(number.shape)
    model.to(dtype).save_pretrained(folder, max_shard_size="100KB")


def random_weights(shape):
    """Numbers of the size that weights have, some of which F16 must round."""
    return torch.randn(list(shape)) * 0.3


def as_modern_bert(files):
    """The tokens that its classes put around texts."""
    file, settings = files["tokenizer.json"], files["tokenizer_config.json"]
    begin, end = (token["id"] for token in file["added_tokens"][:2])
    for token, name in zip(file["added_tokens"], ("[CLS]", "[SEP]")):
        token["content"] = name
    file["post_processor"] = vocabularies.template("[CLS]", "[SEP]", {"[CLS]": begin, "[SEP]": end})
    del settings["bos_token"], settings["eos_token"], settings["chat_template"]
    settings |= dict(cls_token="[CLS]", sep_token="[SEP]")


def nomic(folder, count):
    config = dict(architectures=["NomicBertModel"], model_type="nomic_bert", n_embd=WIDTH, n_head=HEADS, n_layer=BLOCKS, n_inner=WIDE, n_positions=8192,
                  max_trained_positions=2048, vocab_size=count, type_vocab_size=2, layer_norm_epsilon=1e-12, activation_function="swiglu", causal=False,
                  qkv_proj_bias=False, mlp_fc1_bias=False, mlp_fc2_bias=False, prenorm=False, rotary_emb_base=1000, rotary_emb_fraction=1.0,
                  rotary_emb_interleaved=False, rotary_emb_scale_base=None, use_rms_norm=False)
    text(folder / "config.json", config)
    shapes = {"embeddings.word_embeddings.weight": [count, WIDTH], "embeddings.token_type_embeddings.weight": [2, WIDTH],
              "emb_ln.weight": [WIDTH], "emb_ln.bias": [WIDTH]}
    for block in range(BLOCKS):
        for part, shape in [("attn.Wqkv.weight", [3 * WIDTH, WIDTH]), ("attn.out_proj.weight", [WIDTH, WIDTH]), ("norm1.weight", [WIDTH]), ("norm1.bias", [WIDTH]),
                            ("mlp.fc11.weight", [WIDE, WIDTH]), ("mlp.fc12.weight", [WIDE, WIDTH]), ("mlp.fc2.weight", [WIDTH, WIDE]), ("norm2.weight", [WIDTH]),
                            ("norm2.bias", [WIDTH])]:
            shapes[f"encoder.layers.{block}.{part}"] = shape
    save_file({name: random_weights(shape).to(torch.bfloat16) for name, shape in shapes.items()}, folder / "model.safetensors")


def text(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))

"""The same weights in two forms: Hugging Face's files, and one GGUF file. All matrices are F16."""

import json

import gguf
import jinja2
import numpy as np
from safetensors.numpy import save_file

import tokenizer as tokens

NAME = "Samovar demo"
LICENSE = "MIT OR Apache-2.0"
DESCRIPTION = "The built-in demo model of Samovar: stories, counting, and questions about Samovar itself."

# ours -> (Hugging Face, GGUF), inside a layer
LAYER = {
    "q": ("self_attn.q_proj", "attn_q"),
    "k": ("self_attn.k_proj", "attn_k"),
    "v": ("self_attn.v_proj", "attn_v"),
    "o": ("self_attn.o_proj", "attn_output"),
    "gate": ("mlp.gate_proj", "ffn_gate"),
    "up": ("mlp.up_proj", "ffn_up"),
    "down": ("mlp.down_proj", "ffn_down"),
    "norm_attn": ("input_layernorm", "attn_norm"),
    "norm_ffn": ("post_attention_layernorm", "ffn_norm"),
}


def rounded(params):
    """As both forms will hold them. Gains too, though GGUF keeps them in F32, so that both hold equal numbers."""
    return {name: np.asarray(value).astype(np.float16).astype(np.float32) for name, value in params.items()}


def write(shape, params, tokenizer, out):
    out.mkdir(parents=True, exist_ok=True)
    template = tokens.CHAT_TEMPLATE
    check_template(template)
    write_json(out / "config.json", config(shape))
    write_json(out / "generation_config.json", {
        "bos_token_id": tokens.BEGIN_ID, "eos_token_id": tokens.END_ID, "pad_token_id": tokens.END_ID,
        "do_sample": True, "temperature": 0.6, "top_p": 0.9, "max_new_tokens": 256,
    })
    tokenizer.save(str(out / "tokenizer.json"), pretty=False)
    write_json(out / "tokenizer_config.json", {
        "tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": shape.context,
        "add_bos_token": False, "add_prefix_space": False, "clean_up_tokenization_spaces": False,
        "bos_token": tokens.BEGIN, "eos_token": tokens.END, "pad_token": tokens.END,
        "chat_template": template,
        "added_tokens_decoder": {
            str(i): {"content": token, "special": True, "normalized": False, "lstrip": False, "rstrip": False, "single_word": False}
            for i, token in enumerate(tokens.CONTROL)
        },
    })
    write_safetensors(shape, params, out / "model.safetensors")
    write_gguf(shape, params, tokenizer, template, out / "demo.gguf")


def check_template(template):
    """The template is what others render by; training rendered by `tokens.render`."""
    turns = [("system", "Be brief."), ("user", "Hello"), ("assistant", "Hi!"), ("user", "Count.")]
    messages = [{"role": role, "content": content} for role, content in turns]
    for prompted in (False, True):
        theirs = jinja2.Template(template).render(messages=messages, add_generation_prompt=prompted)
        assert theirs == tokens.render(turns, prompted), theirs


def write_json(path, value):
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def config(shape):
    return {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": shape.vocab,
        "hidden_size": shape.dim, "intermediate_size": shape.ffn, "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads, "num_key_value_heads": shape.kv_heads, "head_dim": shape.head_dim,
        "max_position_embeddings": shape.context, "rms_norm_eps": shape.norm_eps, "rope_theta": shape.rope_theta,
        "rope_scaling": None, "hidden_act": "silu", "attention_bias": False, "mlp_bias": False, "attention_dropout": 0.0,
        "tie_word_embeddings": True, "bos_token_id": tokens.BEGIN_ID, "eos_token_id": tokens.END_ID,
        "pad_token_id": tokens.END_ID, "initializer_range": 0.02, "use_cache": True, "torch_dtype": "float16",
    }


def write_safetensors(shape, params, path):
    tensors = {"model.embed_tokens.weight": params["embed"], "model.norm.weight": params["norm_out"]}
    for ours, (theirs, _) in LAYER.items():
        for layer in range(shape.layers):
            tensors[f"model.layers.{layer}.{theirs}.weight"] = params[ours][layer]
    save_file({name: np.ascontiguousarray(value, np.float16) for name, value in tensors.items()}, path, metadata={"format": "pt"})


def interleaved(matrix, heads):
    """Rows of q or k from the half-split order of the pairs, (0, h), to GGUF's, (0, 1)."""
    out, into = matrix.shape
    return matrix.reshape(heads, 2, out // heads // 2, into).swapaxes(1, 2).reshape(out, into)


def write_gguf(shape, params, tokenizer, template, path):
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name(NAME)
    writer.add_description(DESCRIPTION)
    writer.add_license(LICENSE)
    writer.add_size_label("3M")
    writer.add_languages(["en"])
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.dim)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.ffn)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_key_length(shape.head_dim)
    writer.add_value_length(shape.head_dim)
    writer.add_rope_dimension_count(shape.head_dim)
    writer.add_rope_freq_base(shape.rope_theta)
    writer.add_layer_norm_rms_eps(shape.norm_eps)
    writer.add_vocab_size(shape.vocab)

    vocabulary = tokenizer.get_vocab(with_added_tokens=True)
    merges = json.loads(tokenizer.to_str())["model"]["merges"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(sorted(vocabulary, key=vocabulary.get))
    writer.add_token_types([
        gguf.TokenType.CONTROL if i < len(tokens.CONTROL) else gguf.TokenType.NORMAL for i in range(shape.vocab)
    ])
    writer.add_token_merges([merge if isinstance(merge, str) else " ".join(merge) for merge in merges])
    writer.add_bos_token_id(tokens.BEGIN_ID)
    writer.add_eos_token_id(tokens.END_ID)
    writer.add_eot_token_id(tokens.END_ID)
    writer.add_pad_token_id(tokens.END_ID)
    writer.add_add_bos_token(False)
    writer.add_chat_template(template)

    # No output.weight: its absence says that the embedding is used for both.
    writer.add_tensor("token_embd.weight", params["embed"].astype(np.float16))
    for layer in range(shape.layers):
        for ours, (_, theirs) in LAYER.items():
            value = params[ours][layer]
            if ours in ("q", "k"):
                value = interleaved(value, shape.heads if ours == "q" else shape.kv_heads)
            value = value.astype(np.float32 if value.ndim == 1 else np.float16)
            writer.add_tensor(f"blk.{layer}.{theirs}.weight", value)
    writer.add_tensor("output_norm.weight", params["norm_out"].astype(np.float32))

    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()

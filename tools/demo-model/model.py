"""The network: a small llama (RMSNorm, RoPE, grouped-query attention, SwiGLU, tied embeddings), in JAX.

Parameters are a flat dictionary. A layer's matrices are stacked along a leading axis, `[layers, out, in]`,
which is both what the optimiser wants (one batched call per kind) and one slice away from the published form.

RoPE pairs dimension i with i + head_dim/2 (the "half-split" order of Hugging Face); `export.py` permutes
to the interleaved order of GGUF.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp


@dataclass(frozen=True)
class Shape:
    vocab: int = 2048
    dim: int = 256
    layers: int = 4
    heads: int = 4
    kv_heads: int = 2
    head_dim: int = 64
    ffn: int = 512
    context: int = 512
    # Large, so that half of the pairs barely turn within the context: the copying head matches on them.
    rope_theta: float = 100_000.0
    norm_eps: float = 1e-5

    @property
    def group(self):
        """Query heads that share one KV head."""
        return self.heads // self.kv_heads


# Kinds of matrices inside a layer, with their [out, in] shapes.
def layer_matrices(shape):
    q, kv = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    return {
        "q": (q, shape.dim),
        "k": (kv, shape.dim),
        "v": (kv, shape.dim),
        "o": (shape.dim, q),
        "gate": (shape.ffn, shape.dim),
        "up": (shape.ffn, shape.dim),
        "down": (shape.dim, shape.ffn),
    }


def parameter_count(params):
    return sum(int(p.size) for p in params.values())


def rope_angles(shape, positions):
    """`[positions] -> [positions, head_dim / 2]`"""
    half = shape.head_dim // 2
    speed = shape.rope_theta ** (-jnp.arange(half) / half)
    return positions[..., None] * speed


def rotate(x, angles):
    """Turns pairs (i, i + half) of the last axis; `angles` broadcasts against `x[..., :half]`."""
    half = x.shape[-1] // 2
    a, b = x[..., :half], x[..., half:]
    cos, sin = jnp.cos(angles), jnp.sin(angles)
    return jnp.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)


def norm(x, gain, eps):
    return x * jax.lax.rsqrt(jnp.mean(x * x, axis=-1, keepdims=True) + eps) * gain


def feed_forward(params, layer, x):
    gate = jax.nn.silu(x @ params["gate"][layer].T)
    return (gate * (x @ params["up"][layer].T)) @ params["down"][layer].T


def logits(shape, params, tokens, documents):
    """Next-token logits for packed rows: `[batch, seq] -> [batch, seq, vocab]`.

    `documents` numbers the document that each token belongs to. Attention never crosses documents, so a
    row may hold several without one leaking its hero into the next.
    """
    batch, seq = tokens.shape
    angles = rope_angles(shape, jnp.arange(seq))[None, :, None, :]
    causal = jnp.tril(jnp.ones((seq, seq), bool))
    visible = causal & (documents[:, :, None] == documents[:, None, :])

    x = params["embed"][tokens]
    for layer in range(shape.layers):
        h = norm(x, params["norm_attn"][layer], shape.norm_eps)
        q = (h @ params["q"][layer].T).reshape(batch, seq, shape.heads, shape.head_dim)
        k = (h @ params["k"][layer].T).reshape(batch, seq, shape.kv_heads, shape.head_dim)
        v = (h @ params["v"][layer].T).reshape(batch, seq, shape.kv_heads, shape.head_dim)
        q = rotate(q, angles).reshape(batch, seq, shape.kv_heads, shape.group, shape.head_dim)
        k = rotate(k, angles)
        score = jnp.einsum("btkgd,bskd->bkgts", q, k) * shape.head_dim**-0.5
        score = jnp.where(visible[:, None, None], score, -1e30)
        mixed = jnp.einsum("bkgts,bskd->btkgd", jax.nn.softmax(score, axis=-1), v)
        x = x + mixed.reshape(batch, seq, -1) @ params["o"][layer].T
        x = x + feed_forward(params, layer, norm(x, params["norm_ffn"][layer], shape.norm_eps))
    return norm(x, params["norm_out"], shape.norm_eps) @ params["embed"].T


def decode_step(shape, params, cache, position, tokens):
    """One token for each row, all rows at the same position. Returns (cache, logits `[batch, vocab]`)."""
    batch = tokens.shape[0]
    angles = rope_angles(shape, position)
    visible = jnp.arange(cache[0][0].shape[2]) <= position

    x = params["embed"][tokens]
    updated = []
    for layer, (keys, values) in enumerate(cache):
        h = norm(x, params["norm_attn"][layer], shape.norm_eps)
        q = (h @ params["q"][layer].T).reshape(batch, shape.heads, shape.head_dim)
        k = (h @ params["k"][layer].T).reshape(batch, shape.kv_heads, 1, shape.head_dim)
        v = (h @ params["v"][layer].T).reshape(batch, shape.kv_heads, 1, shape.head_dim)
        q = rotate(q, angles).reshape(batch, shape.kv_heads, shape.group, shape.head_dim)
        keys = jax.lax.dynamic_update_slice(keys, rotate(k, angles), (0, 0, position, 0))
        values = jax.lax.dynamic_update_slice(values, v, (0, 0, position, 0))
        updated.append((keys, values))
        score = jnp.einsum("bkgd,bksd->bkgs", q, keys) * shape.head_dim**-0.5
        score = jnp.where(visible, score, -1e30)
        mixed = jnp.einsum("bkgs,bksd->bkgd", jax.nn.softmax(score, axis=-1), values)
        x = x + mixed.reshape(batch, -1) @ params["o"][layer].T
        x = x + feed_forward(params, layer, norm(x, params["norm_ffn"][layer], shape.norm_eps))
    return tuple(updated), norm(x, params["norm_out"], shape.norm_eps) @ params["embed"].T


def empty_cache(shape, batch, length):
    """Keys and values of each layer: `[batch, kv_heads, length, head_dim]`."""
    size = (batch, shape.kv_heads, length, shape.head_dim)
    return tuple((jnp.zeros(size), jnp.zeros(size)) for _ in range(shape.layers))

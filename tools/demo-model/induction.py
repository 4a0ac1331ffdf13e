"""The starting point: weights that already copy.

From random weights a model of this size is fluent after a minute and ignores its prompt for a very long
time: it tells the same story whatever was asked. So it does not start random. It starts with an induction
head ("what followed this token last time?"), built by hand from two layers:

    embedding      = constant | identity (random, one per token) | room for the previous token's identity | free
    layer 0 head 0 = looks one token back (constant q and k, so that RoPE alone decides) and writes that
                     token's identity into the room
    layer 1 head 0 = matches its own identity against the others' rooms, and copies out the identity of the
                     token it finds: with tied embeddings, that is a vote for the same continuation

Everything else starts at small random values, and all other output projections at zero. Nothing is frozen:
training keeps, moves or dissolves all of it.
"""

import numpy as np

from model import Shape, layer_matrices

CONSTANT = 0  # the dimension that every token shares
IDENTITY = slice(8, 136)
PREVIOUS = slice(136, 200)  # as wide as a head

FAST_PAIRS = 9  # turning quickly enough to tell neighbours apart
FIRST_SLOW_PAIR = 12  # turning less than once within the context
LOOK_BACK = 6.0  # q and k on a fast pair; sharpness of "one token back"
MATCH = 2.2  # q and k per unit of identity; sharpness of "the same token"
COPY = 3.0  # how much louder the copied identity is than the token's own


def initial(shape: Shape, seed: int):
    random = np.random.default_rng(seed)
    params = {
        "embed": np.zeros((shape.vocab, shape.dim)),
        "norm_attn": np.ones((shape.layers, shape.dim)),
        "norm_ffn": np.ones((shape.layers, shape.dim)),
        "norm_out": np.ones(shape.dim),
    }
    for kind, (out, into) in layer_matrices(shape).items():
        matrices = random.normal(0, into**-0.5, (shape.layers, out, into))
        if kind in ("o", "down"):
            matrices[:] = 0
        params[kind] = matrices * 0.5

    width = IDENTITY.stop - IDENTITY.start
    params["embed"][:] = random.normal(0, 0.005, params["embed"].shape)
    params["embed"][:, IDENTITY] = random.normal(0, 0.06, (shape.vocab, width))
    identity_length = 0.06 * width**0.5
    params["embed"][:, CONSTANT] = identity_length

    # RMSNorm gives a token of layer 0 the length sqrt(dim), half of its energy being the constant.
    constant = (shape.dim / 2) ** 0.5
    squeeze = orthogonal(random, shape.head_dim, width)

    look_one_token_back(shape, params, constant)
    params["v"][0, : shape.head_dim] = 0
    params["v"][0, : shape.head_dim, IDENTITY] = squeeze
    # The room is written at the scale of the embedding, not of the normed input that the value came from.
    params["o"][0, PREVIOUS, : shape.head_dim] = np.eye(shape.head_dim) * identity_length / constant * 1.4

    match_previous(shape, params, random, squeeze)
    params["v"][1, : shape.head_dim] = 0
    params["v"][1, : shape.head_dim, IDENTITY] = squeeze
    params["o"][1, IDENTITY, : shape.head_dim] = squeeze.T * identity_length / constant * COPY
    return {name: value.astype(np.float32) for name, value in params.items()}


def look_one_token_back(shape, params, constant):
    """q(t) · k(s) = Σ cos((t - 1 - s) · speed) over the fast pairs: greatest at s = t - 1."""
    half = shape.head_dim // 2
    q = params["q"][0, : shape.head_dim]
    k = params["k"][0, : shape.head_dim]
    q[:], k[:] = 0, 0
    for pair in range(FAST_PAIRS):
        speed = shape.rope_theta ** (-pair / half)
        q[pair, CONSTANT] = LOOK_BACK / constant
        k[pair, CONSTANT] = LOOK_BACK * np.cos(speed) / constant
        k[pair + half, CONSTANT] = LOOK_BACK * np.sin(speed) / constant


def match_previous(shape, params, random, squeeze):
    """q = my identity, k = the previous token's identity, both on the slow pairs, where distance hardly counts."""
    half = shape.head_dim // 2
    slow = np.r_[FIRST_SLOW_PAIR:half, half + FIRST_SLOW_PAIR : shape.head_dim]
    onto = orthogonal(random, len(slow), shape.head_dim)
    q = params["q"][1, : shape.head_dim]
    k = params["k"][1, : shape.head_dim]
    q[:], k[:] = 0, 0
    q[slow[:, None], np.arange(IDENTITY.start, IDENTITY.stop)] = onto @ squeeze * MATCH
    k[slow[:, None], np.arange(PREVIOUS.start, PREVIOUS.stop)] = onto * MATCH


def orthogonal(random, rows, columns):
    """A random `[rows, columns]` matrix with orthonormal rows, scaled to keep lengths on average."""
    basis, _ = np.linalg.qr(random.normal(size=(columns, columns)))
    return basis[:rows] * (columns / rows) ** 0.5

"""Muon for the matrices, Adam for embeddings and gains: at this size it beat AdamW for the same minutes.

*Source:* Muon, Keller Jordan and others, 2024 (momentum, orthogonalised by a Newton-Schulz iteration).
"""

import jax.numpy as jnp

MOMENTUM = 0.95
ADAM_BETAS = (0.9, 0.97)
ADAM_EPS = 1e-9
# Odd quintics, one a round, that push all singular values towards 1. Fitted (least eighth power over a logarithmic
# grid) so that three rounds bring 0.02..1 into 0.88..1.08; the usual five equal rounds reach 0.7..1.2, and a round costs
# about a tenth of the whole step.
ROUNDS = ((7.0706, -20.2172, 14.8409), (3.2252, -2.8298, 0.6941), (2.3218, -1.8662, 0.5467))


def is_matrix(name):
    return name in ("q", "k", "v", "o", "gate", "up", "down")


def initial(params):
    state = {"count": jnp.zeros((), jnp.int32)}
    for name, value in params.items():
        state["m:" + name] = jnp.zeros_like(value)
        if not is_matrix(name):
            state["v:" + name] = jnp.zeros_like(value)
    return state


def apply(params, grads, state, matrix_rate, other_rate):
    count = state["count"] + 1
    updated, kept = {}, {"count": count}
    for name, value in params.items():
        grad = grads[name]
        if is_matrix(name):
            momentum = MOMENTUM * state["m:" + name] + (1 - MOMENTUM) * grad
            ahead = MOMENTUM * momentum + (1 - MOMENTUM) * grad
            step = orthogonalised(ahead) * max(1.0, value.shape[-2] / value.shape[-1]) ** 0.5
            updated[name] = value - matrix_rate * step
            kept["m:" + name] = momentum
        else:
            fast, slow = ADAM_BETAS
            mean = fast * state["m:" + name] + (1 - fast) * grad
            square = slow * state["v:" + name] + (1 - slow) * grad * grad
            unbiased = (mean / (1 - fast**count)) / (jnp.sqrt(square / (1 - slow**count)) + ADAM_EPS)
            updated[name] = value - other_rate * unbiased
            kept["m:" + name], kept["v:" + name] = mean, square
    return updated, kept


def orthogonalised(matrices):
    """The nearest (semi-)orthogonal matrices, roughly: `[layers, out, in]`, each on its own."""
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = jnp.swapaxes(matrices, -1, -2) if tall else matrices
    x = x / (jnp.linalg.norm(x, axis=(-2, -1), keepdims=True) + 1e-12)
    for a, b, c in ROUNDS:
        gram = x @ jnp.swapaxes(x, -1, -2)
        x = a * x + (b * gram + c * gram @ gram) @ x
    return jnp.swapaxes(x, -1, -2) if tall else x

"""Greedy decoding of many prompts at once."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import model
import tokenizer as tokens

BATCH = 32


class Reply(NamedTuple):
    text: str
    ids: list
    margin: float  # the least distance, in logits, between the chosen token and the next best: small ones may flip
    is_finished: bool


@partial(jax.jit, static_argnums=(0, 4))
def run(shape, params, prompts, lengths, total):
    """`prompts [batch, total]`, padded; returns chosen ids and margins, both `[batch, total]`, by position."""

    def step(carry, position):
        cache, previous = carry
        fed = jnp.where(position < lengths, prompts[:, position], previous)
        cache, logits = model.decode_step(shape, params, cache, position, fed)
        best, ids = jax.lax.top_k(logits, 2)
        return (cache, ids[:, 0]), (ids[:, 0], best[:, 0] - best[:, 1])

    start = (model.empty_cache(shape, prompts.shape[0], total), jnp.zeros(prompts.shape[0], jnp.int32))
    _, (chosen, margins) = jax.lax.scan(step, start, jnp.arange(total))
    return chosen.T, margins.T


def greedy(shape, params, tokenizer, prompts, limits):
    """Replies to lists of token ids, each until the end token or as many tokens as its limit says."""
    replies = [None] * len(prompts)
    # Alike lengths together: a batch runs as long as its longest row.
    needs = [min(shape.context, len(prompt) + limit) for prompt, limit in zip(prompts, limits)]
    by_length = sorted(range(len(prompts)), key=lambda i: needs[i])
    for at in range(0, len(prompts), BATCH):
        members = by_length[at : at + BATCH]
        # Few distinct lengths, because each is compiled anew.
        total = -(-needs[members[-1]] // 64) * 64
        padded = np.zeros((BATCH, total), np.int32)
        lengths = np.ones(BATCH, np.int32)
        for row, i in enumerate(members):
            padded[row, : len(prompts[i])] = prompts[i]
            lengths[row] = len(prompts[i])
        ids, margins = (np.asarray(a) for a in run(shape, params, padded, lengths, total))
        for row, i in enumerate(members):
            first = lengths[row] - 1
            out = ids[row, first : first + limits[i]].tolist()
            is_finished = tokens.END_ID in out
            if is_finished:
                out = out[: out.index(tokens.END_ID)]
            margin = float(margins[row, first : first + len(out) + is_finished].min())
            replies[i] = Reply(tokenizer.decode(out), out, margin, is_finished)
    return replies


def chat_ids(tokenizer, turns):
    return tokenizer.encode(tokens.render(turns, generation_prompt=True)).ids


@partial(jax.jit, static_argnums=0)
def _row_surprise(shape, params, row, documents):
    likelihood = jax.nn.log_softmax(model.logits(shape, params, row[None, :-1], documents[None, :-1]))
    return -jnp.take_along_axis(likelihood, row[None, 1:, None], axis=-1)[0, :, 0]


def surprise(shape, params, rows):
    """Sum over all weighted tokens of rows of -ln p, and the sum of weights."""
    total = count = 0.0
    for row, documents, weights in zip(rows.tokens, rows.documents, rows.weights):
        lost = np.asarray(_row_surprise(shape, params, row, documents))
        counted = weights[1:] >= 1.0
        total += float(lost[counted].sum())
        count += int(counted.sum())
    return total, count

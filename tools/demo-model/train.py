"""The training loop: a schedule by steps, so that the same seed gives the same model on a slow machine and on a fast one."""

import json
import math
import time
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import model
import optimiser

MATRIX_RATE, OTHER_RATE = 0.016, 0.005
WARM_UP_STEPS = 20
LONG_ROWS_FROM = 3 / 4  # of the steps; before: 4 rows of 256 tokens, after: 2 rows of 512
REPORT_EVERY = 50

# Share of copy-dense rows, up to which part of the run.
COPY_SHARE = ((0.06, 0.7), (0.33, 0.25), (1.0, 0.08))


def loss(shape, params, tokens, documents, weights):
    logits = model.logits(shape, params, tokens[:, :-1], documents[:, :-1])
    likelihood = jax.nn.log_softmax(logits)
    surprise = -jnp.take_along_axis(likelihood, tokens[:, 1:, None], axis=-1)[..., 0]
    counted = weights[:, 1:]
    return (surprise * counted).sum() / counted.sum()


@partial(jax.jit, static_argnums=0, donate_argnums=(1, 2))
def train_step(shape, params, state, tokens, documents, weights, rate):
    value, grads = jax.value_and_grad(partial(loss, shape))(params, tokens, documents, weights)
    params, state = optimiser.apply(params, grads, state, MATRIX_RATE * rate, OTHER_RATE * rate)
    return params, state, value


def rate_at(step, steps):
    """Linear warm-up, cosine to zero."""
    return min(1.0, (step + 1) / WARM_UP_STEPS) * 0.5 * (1 + math.cos(math.pi * step / steps))


def train(shape, params, pools, steps, seed, out: Path, save_every, facts):
    """`pools[length] = (ordinary rows, copy-dense rows)`; `facts` go into the progress file as they are.

    Returns (params, curve of (step, loss)).
    """
    params = {name: jnp.asarray(value) for name, value in params.items()}
    state = optimiser.initial(params)
    curve, losses, tokens_seen, start = [], [], 0, time.monotonic()
    order = {}
    for step in range(steps):
        long = step >= LONG_ROWS_FROM * steps
        length, count = (512, 2) if long else (256, 4)
        copy_share = next(share for until, share in COPY_SHARE if step < until * steps)
        random = np.random.default_rng((seed, step))
        batch = []
        for _ in range(count):
            rows = pools[length][int(random.random() < copy_share)]
            batch.append((rows, next_row(order, rows, random)))
        stacked = [np.stack([getattr(rows, part)[i] for rows, i in batch]) for part in ("tokens", "documents", "weights")]
        params, state, value = train_step(shape, params, state, *stacked, rate_at(step, steps))
        losses.append(value)
        tokens_seen += length * count
        if (step + 1) % REPORT_EVERY == 0 or step + 1 == steps:
            mean = float(np.mean([float(v) for v in losses]))
            losses = []
            curve.append((step + 1, round(mean, 4)))
            rate = tokens_seen / (time.monotonic() - start)
            print(f"step {step + 1}/{steps}  loss {mean:.3f}  {rate:.0f} tokens/s", flush=True)
        if (step + 1) % save_every == 0 or step + 1 == steps:
            save(out, params, facts | {"step": step + 1, "curve": curve, "tokens": tokens_seen, "seconds": round(time.monotonic() - start)})
    return params, curve


def next_row(order, rows, random):
    """Each row once before any twice."""
    waiting = order.setdefault(id(rows), [])
    if not waiting:
        waiting.extend(random.permutation(len(rows)).tolist())
    return waiting.pop()


def save(out, params, progress):
    out.mkdir(parents=True, exist_ok=True)
    partial_file = out / "checkpoint.partial.npz"
    np.savez(partial_file, **{name: np.asarray(value) for name, value in params.items()})
    partial_file.rename(out / "checkpoint.npz")
    (out / "progress.json").write_text(json.dumps(progress))


def load(out):
    return dict(np.load(out / "checkpoint.npz")), json.loads((out / "progress.json").read_text())

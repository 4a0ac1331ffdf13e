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
# Constant, then linear to zero. Up to here nothing depends on how many steps there will be, so a run that has not
# come this far can still be given another length.
DECAY_FROM = 0.6
LONG_ROWS_FROM = 0.8  # before: 4 rows of 256 tokens, after: 2 rows of 512
REPORT_EVERY = 50

# Share of copy-dense rows, up to which step.
COPY_SHARE = ((160, 0.7), (700, 0.25), (math.inf, 0.1))


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
    return min(1.0, (step + 1) / WARM_UP_STEPS, (steps - step) / (steps * (1 - DECAY_FROM)))


def train(shape, initial, pools, steps, seed, work: Path, save_every, facts, is_resumed):
    """From `initial`, or from the last checkpoint in `work`, to `steps`.

    `pools[length] = (ordinary rows, copy-dense rows)`. `facts` go into the progress file as they are.
    """
    if is_resumed:
        params, state, progress = load(work)
    else:
        params = {name: jnp.asarray(value) for name, value in initial.items()}
        state = optimiser.initial(params)
        progress = {"step": 0, "tokens": 0, "seconds": 0, "curve": []}
    progress |= facts | {"steps": steps}
    assert progress["step"] <= DECAY_FROM * steps or progress["step"] == steps, "too late for another length"

    drawn, losses, start, first = {}, [], time.monotonic() - progress["seconds"], progress["step"]
    for step in range(steps):
        batch = draw(pools, steps, step, seed, drawn)
        if step < first:
            continue  # done before; drawn again so that the next rows are the same
        params, state, value = train_step(shape, params, state, *batch, rate_at(step, steps))
        losses.append(value)
        progress["step"] = step + 1
        progress["tokens"] += batch[0].size
        if (step + 1) % REPORT_EVERY == 0 or step + 1 == steps:
            mean, losses = float(np.mean([float(v) for v in losses])), []
            progress["seconds"] = round(time.monotonic() - start)
            progress["curve"].append((step + 1, round(mean, 4)))
            print(f"step {step + 1}/{steps}  loss {mean:.3f}  {progress['tokens'] / progress['seconds']:.0f} tokens/s", flush=True)
        if (step + 1) % save_every == 0 or step + 1 == steps:
            save(work, params, state, progress)


def draw(pools, steps, step, seed, drawn):
    """The batch of a step. Each row is used once before any is used twice; `drawn` counts them."""
    length, count = (512, 2) if step >= LONG_ROWS_FROM * steps else (256, 4)
    copy_share = next(share for until, share in COPY_SHARE if step < until)
    random = np.random.default_rng((seed, step))
    chosen = []
    for _ in range(count):
        is_copy = int(random.random() < copy_share)
        rows, number = pools[length][is_copy], drawn.get((length, is_copy), 0)
        drawn[length, is_copy] = number + 1
        chosen.append((rows, rows.order[number % len(rows)]))
    return [np.stack([getattr(rows, part)[i] for rows, i in chosen]) for part in ("tokens", "documents", "weights")]


def save(work, params, state, progress):
    work.mkdir(parents=True, exist_ok=True)
    unfinished = work / "checkpoint.partial.npz"
    both = {"params/" + name: value for name, value in params.items()} | {"state/" + name: value for name, value in state.items()}
    np.savez(unfinished, **{name: np.asarray(value) for name, value in both.items()})
    unfinished.rename(work / "checkpoint.npz")
    (work / "progress.json").write_text(json.dumps(progress))


def load(work):
    """(params, optimiser's state, progress) of the last checkpoint."""
    saved = np.load(work / "checkpoint.npz")
    part = lambda prefix: {name.removeprefix(prefix): jnp.asarray(saved[name]) for name in saved.files if name.startswith(prefix)}
    return part("params/"), part("state/"), json.loads((work / "progress.json").read_text())

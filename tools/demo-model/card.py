"""The model card. Everything measured in it comes from the run that made the model."""

from gates import SAFE_MARGIN

MOST_FAILURES = 12
RELIABLE = 0.9


def write(out, shape, progress, rates, plain, mixed, bound, samples, failures):
    (out / "README.md").write_text(f"""# Samovar demo model

A very small language model that ships inside Samovar, so that the first command answers without a network, and
so that tests run real inference. It tells short stories about what it is asked for, writes four-line poems, counts, and knows what
Samovar is. It knows next to nothing else, and says so when asked.

| | |
|---|---|
| architecture | llama: RMSNorm, RoPE (base {shape.rope_theta:.0f}), SwiGLU, grouped-query attention, tied embeddings |
| shape | dim {shape.dim}, {shape.layers} layers, {shape.heads} heads, {shape.kv_heads} KV heads, head dim {shape.head_dim}, ffn {shape.ffn}, context {shape.context} |
| vocabulary | {shape.vocab} tokens, byte-level BPE (GPT-2 split), 5 control tokens |
| parameters | {progress["parameters"]:,} |
| files | `demo.gguf` (F16) and the same numbers as `model.safetensors` (F16) with `config.json` and `tokenizer.json` |
| language | English |
| licence | MIT OR Apache-2.0, as the rest of the project |

## Text
All text was written by the seeded program in `tools/demo-model`; there is no text of anyone else in it. Stories have a hero, a
trait, a place, a friend, a problem and an ending. Many choices follow from a hash of the hero, so that different heroes get different stories;
the rest is free. {progress["documents"]:,} documents, plus {progress["copies"]:,} documents of repetition that teach copying.

## Training
{progress["tokens"]:,} tokens in {progress["step"]:,} steps, {progress["seconds"] / 60:.0f} minutes on one thread of a shared two-core machine ({progress["tokens"] / progress["seconds"]:.0f} tokens/s). Muon for
matrices, Adam for the rest; a constant rate, then linear to zero over the last 40 %. It started from weights with a hand-made induction head (`tools/demo-model/induction.py`).

| step | loss |
|---|---|
{curve(progress["curve"])}

The loss is over all that the steps saw: rows of mere repetition too, of which there were many at first.

## Measured
Held-out perplexity: **{plain:.3f}** on the stories of `heldout.txt` (bound in the tests: **{bound:.3f}**), {mixed:.3f} on a mix of all forms.

Greedy answers of the F16 weights, judged by `tools/demo-model/gates.py`. A story counts if hero and trait are in it *behind* the sentence that repeats the request.

| form | right | of |
|---|---|---|
{table(rates)}

## Samples
Greedy, unedited.

{quotes(samples)}
## Checks
`checks.json` says what the tests may expect of greedy answers: `exact` (messages and the whole reply; only right answers whose every token won by
{SAFE_MARGIN} logits or more), `mentions` (words that must be in the reply, the first of them so many times), `tokens` (ids of prompts, of the first
16 tokens, and the top logits), `tokenizer` (texts and their ids, control tokens parsed) and `perplexity` (how, measured, bound).

## Limits
Unreliable, with fewer than {RELIABLE:.0%} right above: {unreliable(rates)}. The tests expect nothing of an answer that was wrong.

What it gets wrong, unedited (the first {MOST_FAILURES} failures of the run above; {len(failures)} in all):

{wrong(failures)}
It was made to be small and checkable. Do not ask it for facts, and do not build on its answers.
""")


def curve(points):
    wanted = max(1, len(points) // 16)
    shown = points[::wanted] + ([points[-1]] if (len(points) - 1) % wanted else [])
    return "\n".join(f"| {step} | {loss:.3f} |" for step, loss in shown)


def unreliable(rates):
    return "; ".join(form for form, (right, count) in rates.items() if right < RELIABLE * count) or "nothing"


def table(rates):
    return "\n".join(f"| {form} | {right} | {count} |" for form, (right, count) in rates.items())


def quotes(samples):
    return "".join(f"**{prompt}**\n\n{quoted(reply.text)}\n\n" for prompt, reply in samples)


def quoted(text):
    return "\n".join(f"> {line}  " for line in text.split("\n"))


def wrong(failures):
    shown = []
    for case, reply in failures[:MOST_FAILURES]:
        shown.append(f"- *{case.form}*: {case.turns[-1][1]!r}\n  {' '.join(reply.split())[:200]}\n")
    return "".join(shown) if shown else "Nothing among the cases above.\n"

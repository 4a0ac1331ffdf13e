"""What the finished model can do: `checks.json` and `heldout.txt` for the tests, `evaluation.json` and the card for people."""

import json
from collections import defaultdict
from types import SimpleNamespace

import numpy as np

import card
import corpus
import decode
import forms
import gates
import tokenizer as tokens

HELD_OUT_SEED = 1_000_003  # documents that no training run has drawn
HELD_OUT_LINES = 90  # about 45 KB
PERPLEXITY_SLACK = 1.03  # room for another engine's arithmetic and for Q8_0
STORY_LIMIT = 200  # tokens; the longest story has about 190

# Forms whose right answers become exact checks in the tests of the runtime.
EXACT_FORMS = ("product", "greeting", "count", "count, pair never seen", "weekday", "memory", "name", "question about a story")
EXACT_PER_FORM = {"product": 60, "count, pair never seen": 10, "count": 6, "memory": 8, "question about a story": 6, "weekday": 8}
MENTION_FORMS = ("story", "story with a trait", "poem")
MENTION_PER_FORM = {"story": 20, "story with a trait": 12, "poem": 6}

SAMPLES = [
    "Tell me a story about a fox", "Tell me a story about a brave kettle.", "Tell me a story about a curious lighthouse by the sea.",
    "Hello", "What is Samovar?", "What happens if a worker crashes?", "Count from 7 to 15", "What day comes after Friday?",
    "Write a poem about a samovar.", "What is the capital of France?",
]
# Prompts whose first tokens and logits are compared between engines.
TOKEN_PROMPTS = ["What is Samovar?", "Hello", "Count from 3 to 20", "What is the store?", "What day comes after Friday?", "What is eviction?"]


def write(shape, params, tokenizer, seed, progress, out):
    judged = judge(shape, params, tokenizer, seed)
    rates = pass_rates(judged)
    for form, (right, count) in rates.items():
        print(f"{right:3}/{count:<3} {form}", flush=True)

    held_out = held_out_lines()
    (out / "heldout.txt").write_text("\n".join(held_out) + "\n")
    plain = perplexity(shape, params, plain_rows(tokenizer, held_out))
    mixed = perplexity(shape, params, corpus.Rows(tokenizer, corpus.documents(HELD_OUT_SEED + 1, 400), shape.context, 0))
    print(f"perplexity: held-out stories {plain:.4f}, all forms {mixed:.4f}")

    samples = decode.greedy(shape, params, tokenizer, [decode.chat_ids(tokenizer, [("user", s)]) for s in SAMPLES], [STORY_LIMIT] * len(SAMPLES))
    checks = {
        "about": "Expectations for the demo model, greedy (temperature 0). Written by tools/demo-model/evaluate.py; see the model card.",
        "template": "messages are rendered with the model's own chat template and add_generation_prompt",
        "exact": exact_checks(judged),
        "mentions": mention_checks(judged),
        "tokens": token_checks(shape, params, tokenizer),
        "tokenizer": tokenizer_checks(tokenizer),
        "perplexity": {
            "file": "heldout.txt",
            "how": "each line alone: prefix_ids, then the line's ids; exp of the mean of -ln p over all ids of all lines, prefix not counted",
            "prefix_ids": [tokens.BEGIN_ID],
            "measured": round(plain, 4),
            "bound": round(plain * PERPLEXITY_SLACK, 4),
        },
    }
    (out / "checks.json").write_text(json.dumps(checks, indent=1, ensure_ascii=False) + "\n")
    card.write(out, shape, progress, rates, plain, mixed, plain * PERPLEXITY_SLACK, list(zip(SAMPLES, samples)), failures(judged))


def judge(shape, params, tokenizer, seed):
    """(case, reply, is right) for every case."""
    cases = gates.cases(seed)
    prompts = [decode.chat_ids(tokenizer, case.turns) for case in cases]
    # A conversation that leaves no room to answer in is no fair question.
    kept = [(case, prompt) for case, prompt in zip(cases, prompts) if len(prompt) < shape.context - STORY_LIMIT]
    limits = [len(tokenizer.encode(case.exact).ids) + 8 if case.exact else STORY_LIMIT for case, _ in kept]
    replies = decode.greedy(shape, params, tokenizer, [prompt for _, prompt in kept], limits)
    return [(case, reply, reply.is_finished and case.judge(reply.text)) for (case, _), reply in zip(kept, replies)]


def pass_rates(judged):
    rates = defaultdict(lambda: [0, 0])
    for case, _, is_right in judged:
        rates[case.form][0] += is_right
        rates[case.form][1] += 1
    return dict(rates)


def failures(judged):
    return [(case, reply.text) for case, reply, is_right in judged if not is_right]


def messages(turns):
    return [{"role": role, "content": content} for role, content in turns]


def exact_checks(judged):
    return chosen(judged, EXACT_FORMS, EXACT_PER_FORM, lambda case, reply: reply.margin >= gates.SAFE_MARGIN,
                  lambda case, reply: {"form": case.form, "messages": messages(case.turns), "reply": case.exact})


def mention_checks(judged):
    return chosen(judged, MENTION_FORMS, MENTION_PER_FORM, lambda case, reply: True,
                  lambda case, reply: {"form": case.form, "messages": messages(case.turns), "mentions": case.mentions,
                                       "first_mentioned_at_least": 2 if case.form.startswith("story") else 1, "max_tokens": 256})


def chosen(judged, wanted, most, is_safe, as_check):
    """At most so many of each form, only what was right, and safely so."""
    checks, counts = [], defaultdict(int)
    for case, reply, is_right in judged:
        if case.form in wanted and is_right and is_safe(case, reply) and counts[case.form] < most.get(case.form, 12):
            counts[case.form] += 1
            checks.append(as_check(case, reply))
    return checks


def token_checks(shape, params, tokenizer):
    prompts = [decode.chat_ids(tokenizer, [("user", text)]) for text in TOKEN_PROMPTS]
    replies = decode.greedy(shape, params, tokenizer, prompts, [16] * len(prompts))
    checks = []
    for text, prompt, reply in zip(TOKEN_PROMPTS, prompts, replies):
        if reply.margin < gates.SAFE_MARGIN:
            continue
        ids = np.array([prompt + [0] * (64 - len(prompt))], np.int32)
        logits = np.asarray(decode.model.logits(shape, params, ids, np.ones_like(ids)))[0, len(prompt) - 1]
        top = np.argsort(-logits)[:8]
        checks.append({
            "prompt": text, "prompt_ids": prompt, "first_ids": reply.ids,
            "top_logits": [[int(i), round(float(logits[i]), 4)] for i in top],
        })
    return checks


def tokenizer_checks(tokenizer):
    texts = ["Hello, world!", " two  spaces", "don't I'll we've", "a\nb\n\n c\t", "12345 67", "naïve café – “quoted”", "日本語 🫖", "The fox's kettle.", "<|user|>Hello<|end|>"]
    return [{"text": text, "ids": tokenizer.encode(text).ids} for text in texts]


def held_out_lines():
    return [text for _, turns in corpus.documents(HELD_OUT_SEED, HELD_OUT_LINES, "plain_story") for _, text in turns]


def plain_rows(tokenizer, lines):
    """One row a line: begin token, text; only the text counts."""
    encoded = [tokenizer.encode(line).ids for line in lines]
    length = 1 + max(map(len, encoded))
    rows = SimpleNamespace(
        tokens=np.full((len(lines), length), tokens.END_ID, np.int32),
        documents=np.zeros((len(lines), length), np.int32),
        weights=np.zeros((len(lines), length), np.float32),
    )
    for i, ids in enumerate(encoded):
        rows.tokens[i, : len(ids) + 1] = [tokens.BEGIN_ID] + ids
        rows.documents[i, : len(ids) + 1] = 1
        rows.weights[i, 1 : len(ids) + 1] = 1
    return rows


def perplexity(shape, params, rows):
    total, count = decode.surprise(shape, params, rows)
    return float(np.exp(total / count))

"""Byte-level BPE, trained on our own text; the GPT-2 split, which llama.cpp knows as `gpt2` / `gpt-2`."""

import random as python_random

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

import words

BEGIN, END, SYSTEM, USER, ASSISTANT = CONTROL = ["<|begin|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>"]
BEGIN_ID, END_ID = 0, 1

# `{{ bos_token }}` is not written: a conversation starts with its first role.
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


def train(texts, vocab):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab,
        special_tokens=[AddedToken(token, special=True, normalized=False) for token in CONTROL],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(weighted(texts), trainer)
    assert tokenizer.get_vocab_size() == vocab, tokenizer.get_vocab_size()
    return tokenizer


def weighted(texts):
    """The text, and the words that questions are about so often that each becomes one token."""
    yield from texts
    nouns = words.SUBJECTS + words.FRIENDS + list(words.TRAITS) + words.COLOURS + words.FRUITS
    single = nouns + words.NAMES + words.DAYS + words.MONTHS + [str(n) for n in range(100)]
    for word in single:
        yield " ".join([""] + [word] * 4000)


def render(turns, generation_prompt=False):
    """What `CHAT_TEMPLATE` says, for (role, text) turns."""
    text = "".join(f"<|{role}|>{content}{END}" for role, content in turns)
    return text + (ASSISTANT if generation_prompt else "")


def encode(tokenizer, turns, random: python_random.Random, prompt_weight):
    """Token ids, and how much each counts in the loss: what a user says cannot be known, and counts little."""
    ids, weights = [], []

    def add(text, weight):
        new = tokenizer.encode(text).ids
        ids.extend(new)
        weights.extend([weight] * len(new))

    for role, content in turns:
        if role is None:
            # A completion starts with nothing before it, or with the begin token, as the caller likes.
            if random.random() < 0.5:
                add(BEGIN, 0.0)
            add(content, 1.0)
            add(END, 1.0)
        else:
            add(f"<|{role}|>", prompt_weight)
            weight = 1.0 if role == "assistant" else prompt_weight
            add(content, weight)
            add(END, weight)
    return ids, weights

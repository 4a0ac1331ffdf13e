"""Documents become rows of tokens, several to a row, each document whole."""

import random as python_random

import numpy as np

import forms
import tokenizer as tokens

PROMPT_WEIGHT = 0.15
OPEN_ROWS = 64  # rows that are looked at for the best fit


def documents(seed, count, form=None):
    random = python_random.Random(seed)
    return [forms.document(random, form) for _ in range(count)]


def plain_text(turns):
    return [text for _, text in turns]


class Rows:
    """`tokens`, `documents`, `weights`: `[rows, length]`; `order`: the rows, shuffled."""

    def __init__(self, tokenizer, docs, length, seed):
        random = python_random.Random(seed)
        rows, full = [], []
        for _, turns in docs:
            ids, weights = tokens.encode(tokenizer, turns, random, PROMPT_WEIGHT)
            if len(ids) > length:
                continue
            fitting = [row for row in rows if len(row[0]) + len(ids) <= length]
            if fitting:
                row = max(fitting, key=lambda row: len(row[0]))
            else:
                row = ([], [], [])
                rows.append(row)
                if len(rows) > OPEN_ROWS:
                    fullest = max(rows[:-1], key=lambda row: len(row[0]))
                    rows.remove(fullest)
                    full.append(fullest)
            number = row[1][-1] + 1 if row[1] else 1
            row[0].extend(ids)
            row[1].extend([number] * len(ids))
            # The first token of a document follows nothing.
            row[2].extend([0.0] + weights[1:])
        full += rows
        self.tokens = np.full((len(full), length), tokens.END_ID, np.int32)
        self.documents = np.zeros((len(full), length), np.int32)
        self.weights = np.zeros((len(full), length), np.float32)
        for i, (ids, numbers, weights) in enumerate(full):
            self.tokens[i, : len(ids)] = ids
            self.documents[i, : len(ids)] = numbers
            self.weights[i, : len(ids)] = weights
        self.order = np.random.default_rng(seed).permutation(len(full))

    def __len__(self):
        return len(self.tokens)

"""Prints the ids of strings by a WordPiece tokenizer that leaves out accents, as JSON: `python ids.py TOKENIZER STRINGS`.

A string that llama.cpp is known to read otherwise has `null` instead of ids.
"""

import json
import sys
from pathlib import Path

from tokenizers import Tokenizer

from known import is_same_without_accents

tokenizer = Tokenizer.from_file(sys.argv[1])
# Some files have every text cut or filled up.
tokenizer.no_truncation()
tokenizer.no_padding()
strings = json.loads(Path(sys.argv[2]).read_text(encoding="utf-8"))
print(json.dumps([tokenizer.encode(text).ids if is_same_without_accents(text) else None for text in strings]))

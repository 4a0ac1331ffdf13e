"""llama.cpp's converter as its users call it, but for one thing: it knows no made-up vocabulary, and is told what splits its texts.

    python peer_convert.py LLAMA_CPP RULE FOLDER --outfile FILE --outtype f16
"""

import sys
from pathlib import Path

llama_cpp, rule = Path(sys.argv[1]), sys.argv[2]
sys.path[:0] = [str(llama_cpp), str(llama_cpp / "gguf-py")]

import convert_hf_to_gguf
from conversion import base

base.TextModel.get_vocab_base_pre = lambda self, tokenizer: rule
sys.argv = ["convert_hf_to_gguf.py", *sys.argv[3:]]
convert_hf_to_gguf.main()

"""Makes the demo model from nothing but a seed: text, tokenizer, training, export, evaluation, card.

    python3 tools/demo-model/main.py --out assets/demo-model [--steps N] [--work DIR] [--resume]
    python3 tools/demo-model/main.py --out assets/demo-model --only export   # from the last checkpoint
"""

import argparse
import os
import sys
from pathlib import Path

# One thread: on a machine that does other things too, two are slower. Set before JAX is imported.
os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1")
sys.path.insert(0, str(Path(__file__).parent))

from tokenizers import Tokenizer  # noqa: E402

import corpus  # noqa: E402
import evaluate  # noqa: E402
import export  # noqa: E402
import induction  # noqa: E402
import model  # noqa: E402
import tokenizer as tokens  # noqa: E402
import train  # noqa: E402

STEPS = 2_500
DOCUMENTS = 45_000
COPY_DOCUMENTS = 12_000
TOKENIZER_DOCUMENTS = 20_000


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("assets/demo-model"), help="directory of the finished model")
    parser.add_argument("--work", type=Path, default=Path("target/demo-model"), help="directory of checkpoints")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--documents", type=int, default=DOCUMENTS)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--save-every", type=int, default=100, help="steps between checkpoints")
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoint in --work instead of starting anew")
    parser.add_argument("--only", choices=["train", "export"], help="one half of the way")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    shape = model.Shape()

    if args.only != "export":
        make(shape, args)
    if args.only != "train":
        publish(shape, args)


def make(shape, args):
    docs = corpus.documents(args.seed, args.documents)
    copies = corpus.documents(args.seed + 1, COPY_DOCUMENTS, "repetition")
    # A fixed sample, so that the vocabulary does not change with --documents.
    sample = corpus.documents(args.seed, TOKENIZER_DOCUMENTS) + copies[:1000]
    tokenizer = tokens.train([text for _, turns in sample for text in corpus.plain_text(turns)], shape.vocab)
    tokenizer.save(str(args.work / "tokenizer.json"))

    pools = {
        length: (corpus.Rows(tokenizer, docs, length, args.seed), corpus.Rows(tokenizer, copies, length, args.seed))
        for length in (256, 512)
    }
    print({length: [len(rows) for rows in pair] for length, pair in pools.items()}, "rows", flush=True)
    params = induction.initial(shape, args.seed)
    print(model.parameter_count(params), "parameters", flush=True)
    facts = {"parameters": model.parameter_count(params), "documents": len(docs), "copies": len(copies)}
    train.train(shape, params, pools, args.steps, args.seed, args.work, args.save_every, facts, args.resume)


def publish(shape, args):
    tokenizer = Tokenizer.from_file(str(args.work / "tokenizer.json"))
    params, _, progress = train.load(args.work)
    params = export.rounded(params)
    export.write(shape, params, tokenizer, args.out)
    evaluate.write(shape, params, tokenizer, args.seed, progress, args.out)


if __name__ == "__main__":
    main()

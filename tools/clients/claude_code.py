"""Claude Code without a person, over the Messages API: two turns of one conversation, of which the second finds the first one computed. The model
need not be able to do anything. Each check that fails ends the program.

    python claude_code.py http://127.0.0.1:7266 MODEL PROGRAM
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

# The share of the second prompt that is found computed.
REUSED = 0.95


def main(url, model, program):
    with tempfile.TemporaryDirectory() as home:
        work = Path(home) / "work"
        work.mkdir()
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": home,
            "ANTHROPIC_BASE_URL": url,
            "ANTHROPIC_AUTH_TOKEN": "any",
            "ANTHROPIC_MODEL": model,
            "ANTHROPIC_DEFAULT_HAIKU_MODEL": model,
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
            "DISABLE_AUTOUPDATER": "1",
        }

        def turn(*arguments):
            line = [program, "-p", *arguments, "--output-format", "json"]
            more = {"env": environment, "cwd": work, "stdin": subprocess.DEVNULL, "capture_output": True}
            done = subprocess.run(line, text=True, timeout=900, **more)
            assert done.returncode == 0, (arguments, done.stdout[-2000:], done.stderr[-2000:])
            told = next(json.loads(text) for text in done.stdout.splitlines() if text.startswith("{"))
            assert told["subtype"] == "success" and not told["is_error"], told
            return told["usage"]

        first = turn("Say hello.")
        assert first["input_tokens"] + first["cache_read_input_tokens"] > 1_000, first
        second = turn("--continue", "Say it again.")
        found = second["cache_read_input_tokens"]
        share = found / (found + second["input_tokens"])
        assert share >= REUSED, (first, second)
    version = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout.strip()
    print(f"{version}: two turns, of which the second found {share:.1%} of its prompt computed")


if __name__ == "__main__":
    main(*sys.argv[1:])

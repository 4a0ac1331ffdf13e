"""Codex without a person, over the Responses API: two turns of one conversation, of which the second finds the first one computed. The model need
not be able to do anything. Each check that fails ends the program.

    python codex.py http://127.0.0.1:7266 MODEL PROGRAM
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

# The context is that of the model: an agent's first prompt has more than ten thousand tokens.
CONFIG = """\
model = "{model}"
model_provider = "samovar"
model_context_window = 65536

[model_providers.samovar]
name = "Samovar"
base_url = "{url}/v1"
wire_api = "responses"
"""
# The share of the second prompt that is found computed.
REUSED = 0.95


def main(url, model, program):
    with tempfile.TemporaryDirectory() as home:
        work = Path(home) / "work"
        work.mkdir()
        (Path(home) / "config.toml").write_text(CONFIG.format(model=model, url=url))
        environment = {"PATH": os.environ["PATH"], "HOME": home, "CODEX_HOME": home}

        def turn(*arguments):
            line = [program, "exec", *arguments, "--json", "--skip-git-repo-check"]
            more = {"env": environment, "cwd": work, "stdin": subprocess.DEVNULL, "capture_output": True}
            done = subprocess.run(line, text=True, timeout=900, **more)
            assert done.returncode == 0, (arguments, done.stdout[-2000:], done.stderr[-2000:])
            events = [json.loads(text) for text in done.stdout.splitlines() if text.startswith("{")]
            kinds = [event["type"] for event in events]
            assert "turn.completed" in kinds and "turn.failed" not in kinds, (kinds, done.stdout[-2000:])
            return events[kinds.index("turn.completed")]["usage"]

        first = turn("Say hello.")
        assert first["input_tokens"] > 1_000, first
        second = turn("resume", "--last", "Say it again.")
        # They are sums over the conversation.
        read = {field: second[field] - first[field] for field in ("input_tokens", "cached_input_tokens")}
        assert read["cached_input_tokens"] >= REUSED * read["input_tokens"], (first, second)
        share = read["cached_input_tokens"] / read["input_tokens"]
    version = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout.strip()
    print(f"{version}: two turns, of which the second found {share:.1%} of its prompt computed")


if __name__ == "__main__":
    main(*sys.argv[1:])

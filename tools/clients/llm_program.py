"""What the program `llm` does with a model of an OpenAI-compatible server: a prompt, a stream, a conversation, a schema and a tool. Each check
that fails ends the program.

    python llm_program.py http://127.0.0.1:7266 MODEL
"""

import json
import os
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

PROMPT = "Tell me about tea"


def main(url, name):
    with tempfile.TemporaryDirectory() as home:
        models = [
            {
                "model_id": "samovar",
                "model_name": name,
                "api_base": f"{url}/v1",
                "supports_tools": True,
                "supports_schema": True,
            }
        ]
        # JSON is YAML.
        (Path(home) / "extra-openai-models.yaml").write_text(json.dumps(models))
        environment = {**os.environ, "LLM_USER_PATH": home, "OPENAI_API_KEY": "none"}

        def llm(*arguments):
            line = [sys.executable, "-m", "llm", *arguments]
            done = subprocess.run(line, env=environment, capture_output=True, text=True, timeout=300)
            assert done.returncode == 0, (arguments, done.stderr)
            return done.stdout.strip()

        short = ["-m", "samovar", "-o", "temperature", "0", "-o", "max_tokens", "24"]
        whole = llm(*short, "--no-stream", PROMPT)
        assert whole and llm(*short, PROMPT) == whole, whole
        assert llm(*short, "--continue", "Go on"), "a conversation goes on"
        schema = {"type": "object", "properties": {"name": {"enum": ["tea", "milk"]}}, "required": ["name"]}
        said = llm("-m", "samovar", "-o", "temperature", "0", "--schema", json.dumps(schema), PROMPT)
        assert json.loads(said)["name"] in ("tea", "milk"), said
        # The model may call it or not.
        llm(*short, "--tool", "llm_time", "What time is it?")
    print(f"llm {version('llm')}: prompts, conversations, schemas and tools are as they should be")


if __name__ == "__main__":
    main(*sys.argv[1:])

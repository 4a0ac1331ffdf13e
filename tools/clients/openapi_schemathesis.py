"""Requests by the daemon's own OpenAPI document, right and wrong ones: none may be a fault of the server.

    python openapi_schemathesis.py http://127.0.0.1:7266 HOME/run/samovar.sock

schemathesis writes the requests: a bounded number for each route, with a fixed seed. The routes of the port are asked on the port, then
those of the owner on the socket, through a relay on a port of this program's own. Any answer of 500 or above fails, apart from 501, which
says that this build or this model cannot do what was asked.
"""

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import threading
import urllib.request
from pathlib import Path

import schemathesis

EXAMPLES = 12
SEED = 7
# A model that answers fast, one that is not there, and text that names none.
MODELS = ["demo", "nobody", ""]
# They make late answers, which are no fault: 504.
TIME_LIMITS = ["timeout", "deadline_ms", "x-request-timeout"]
# The first ends the daemon and the second never ends itself.
LEFT_OUT = ["/admin/shutdown", "/admin/events"]
# The daemon may not reach a network here: what would be fetched is 503.
FETCHING = ["/admin/pull", "/api/pull"]
RUN_S = 1200


@schemathesis.check
def no_fault_of_the_server(ctx, response, case):
    status = response.status_code
    assert status < 500 or status == 501, f"{status}: {response.text[:300]}"


def prepared(document: dict) -> dict:
    """The document with models that are there, and without what makes answers late."""
    document["components"]["parameters"].pop("x-request-timeout")
    for path, operations in document["paths"].items():
        # A model in use is not removed, which is no fault: 503.
        models = {"type": "string", "enum": MODELS[1:] if path == "/admin/rm" else MODELS}
        for operation in operations.values():
            kept = [it for it in operation["parameters"] if not it.get("$ref", "").endswith("/x-request-timeout")]
            for parameter in kept:
                if parameter.get("name") == "model":
                    parameter["schema"] = models
            operation["parameters"] = kept
            body = operation.get("requestBody", {"content": {}})["content"].get("application/json")
            if body is None:
                continue
            properties = body["schema"]["properties"]
            for name in TIME_LIMITS:
                properties.pop(name, None)
            if "model" in properties:
                properties["model"] = models
    return document


def relay(path: str) -> int:
    """A port that leads to a Unix socket; returns its number."""
    started: list[int] = []
    is_ready = threading.Event()

    async def pass_on(reader, writer):
        try:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()

    async def connected(reader, writer):
        inner_reader, inner_writer = await asyncio.open_unix_connection(path)
        await asyncio.gather(pass_on(reader, inner_writer), pass_on(inner_reader, writer))

    async def serve():
        server = await asyncio.start_server(connected, "127.0.0.1", 0)
        started.append(server.sockets[0].getsockname()[1])
        is_ready.set()
        await server.serve_forever()

    threading.Thread(target=lambda: asyncio.run(serve()), daemon=True).start()
    assert is_ready.wait(10), "the relay does not listen"
    return started[0]


def run(document: Path, url: str, filters: list[str]) -> bool:
    command = [sys.executable, "-m", "schemathesis.cli", "run", str(document), "--url", url]
    command += ["--checks", "no_fault_of_the_server", "--phases", "examples,coverage,fuzzing"]
    command += ["--max-examples", str(EXAMPLES), "--seed", str(SEED), "--workers", "1", "--no-shrink"]
    command += ["--request-timeout", "60", "--suppress-health-check", "all", "--warnings", "off"]
    for path in LEFT_OUT + FETCHING:
        command += ["--exclude-path", path]
    # This file has the check.
    here = Path(__file__).resolve()
    environment = dict(os.environ, SCHEMATHESIS_HOOKS=here.stem, PYTHONPATH=str(here.parent))
    print(f"# {' '.join(filters)} at {url}", flush=True)
    # It writes what it found into its working directory.
    done = subprocess.run(command + filters, env=environment, cwd=document.parent, timeout=RUN_S, check=False)
    return done.returncode == 0


def main() -> None:
    url, socket = sys.argv[1:3]
    with urllib.request.urlopen(f"{url}/openapi.json", timeout=10) as answer:
        document = prepared(json.load(answer))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "openapi.json")
        path.write_text(json.dumps(document))
        is_right = run(path, url, ["--exclude-tag", "Owner"])
        is_right &= run(path, f"http://127.0.0.1:{relay(socket)}", ["--include-tag", "Owner"])
    with urllib.request.urlopen(f"{url}/healthz", timeout=10) as answer:
        assert answer.status == 200, "the daemon does not answer any more"
    if not is_right:
        sys.exit("an answer was a fault of the server")


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""The official Ollama client against a running server.

    pip install ollama
    samovar serve --listen 127.0.0.1:7266 &
    python ollama_client.py http://127.0.0.1:7266 [MODEL] [EMBEDDER]

Ends with 0 when every check holds; otherwise the first one that does not is shown.
"""

import asyncio
import sys

import ollama

HOST = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:7266"
MODEL = sys.argv[2] if len(sys.argv) > 2 else "demo"
EMBEDDER = sys.argv[3] if len(sys.argv) > 3 else None
MESSAGES = [{"role": "user", "content": "Tell me a story about a fox"}]
SHORT = {"num_predict": 16, "temperature": 0}

client = ollama.Client(host=HOST)


def weather(city: str) -> str:
    """Tells the weather.

    Args:
        city: The city
    """
    return f"Rain in {city}"


def refused(status, call):
    try:
        call()
    except ollama.ResponseError as error:
        assert error.status_code == status and error.error, error
        return error.error
    raise AssertionError(f"no {status}")


def models_are_listed():
    names = [model.model for model in client.list().models]
    assert f"{MODEL}:latest" in names or MODEL in names, names
    shown = client.show(MODEL)
    assert "completion" in shown.capabilities, shown
    assert shown.modelinfo["general.architecture"] and shown.template is not None
    assert "not found" in refused(404, lambda: client.show("nobody"))


def a_prompt_is_answered():
    whole = client.generate(MODEL, "Once upon a time", options=SHORT)
    assert whole.response and whole.done and whole.eval_count == 16, whole
    assert whole.total_duration > 0 and whole.prompt_eval_count > 0, whole
    parts = list(client.generate(MODEL, "Once upon a time", options=SHORT, stream=True))
    assert "".join(part.response for part in parts) == whole.response
    assert [part.done for part in parts] == [False] * (len(parts) - 1) + [True]


def a_chat_is_answered():
    whole = client.chat(MODEL, MESSAGES, options=SHORT)
    assert whole.message.role == "assistant" and whole.message.content, whole
    parts = list(client.chat(MODEL, MESSAGES, options=SHORT, stream=True))
    assert "".join(part.message.content for part in parts) == whole.message.content
    assert parts[-1].done_reason == "length", parts[-1]


def a_form_is_obeyed():
    schema = {"type": "object", "properties": {"n": {"enum": [1, 2]}}, "required": ["n"], "additionalProperties": False}
    answer = client.chat(MODEL, MESSAGES, format=schema, options={"num_predict": 64})
    assert '"n"' in answer.message.content, answer


def tools_are_taken():
    answer = client.chat(MODEL, MESSAGES, tools=[weather], options={"num_predict": 48})
    for call in answer.message.tool_calls or []:
        assert call.function.name == "weather" and isinstance(call.function.arguments, dict), call


def a_model_is_loaded_and_left():
    assert client.generate(MODEL).done_reason == "load"
    assert any(model.size > 0 for model in client.ps().models)
    assert client.generate(MODEL, keep_alive=0).done_reason == "unload"
    assert client.pull(MODEL).status == "success"
    assert [part.status for part in client.pull(MODEL, stream=True)][-1] == "success"


def management_is_refused():
    refused(403, lambda: client.pull("nobody:1b"))
    refused(403, lambda: client.create("x", from_=MODEL))


def texts_become_vectors():
    both = client.embed(EMBEDDER, ["a fox", "an owl"])
    assert len(both.embeddings) == 2 and len(both.embeddings[0]) == len(both.embeddings[1]), both
    assert len(client.embeddings(EMBEDDER, "a fox").embedding) == len(both.embeddings[0])


async def the_asynchronous_client_streams():
    parts = []
    async for part in await ollama.AsyncClient(host=HOST).chat(MODEL, MESSAGES, options=SHORT, stream=True):
        parts.append(part)
    assert len(parts) > 1 and parts[-1].done, parts


models_are_listed()
a_prompt_is_answered()
a_chat_is_answered()
a_form_is_obeyed()
tools_are_taken()
a_model_is_loaded_and_left()
management_is_refused()
asyncio.run(the_asynchronous_client_streams())
if EMBEDDER:
    texts_become_vectors()
print("all checks hold")

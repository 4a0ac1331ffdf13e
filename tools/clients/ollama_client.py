"""What programs do by Ollama's own Python client: every method of it, streamed and whole, also asynchronously. Each check that fails ends
the program.

    python ollama_client.py http://127.0.0.1:7266 SOCKET MODEL EMBEDDER FILE

The socket is the owner's, by which models are created and deleted; FILE is a GGUF file that is sent there. No check asks for a model's
wisdom, so a model of any size must pass.
"""

import asyncio
import json
import math
import sys

import httpx
import ollama

OPTIONS = {"temperature": 0, "num_predict": 12, "seed": 7}
# The built-in model, whose likeliest words do not turn on how much of a prompt was computed before.
STEADY = "demo"
QUESTION = [{"role": "user", "content": "Say hello."}]
SCHEMA = {
    "type": "object",
    "properties": {"city": {"enum": ["Rome", "Oslo"]}},
    "required": ["city"],
    "additionalProperties": False,
}


def weather(city: str) -> str:
    """The weather of a city.

    Args:
      city: Its name
    """
    return f"It is dry in {city}."


def refuses(call, status, part):
    try:
        call()
    except ollama.ResponseError as error:
        assert error.status_code == status and part in error.error, (error.status_code, error.error)
    else:
        raise AssertionError(f"nothing was refused with {status}")


def check_lists(client, model):
    listed = {row.model: row for row in client.list().models}
    row = listed[f"{model}:latest"]
    assert len(row.digest) == 64 and row.size > 0 and row.details.family and row.modified_at
    shown = client.show(model)
    assert "completion" in shown.capabilities and shown.modelinfo["general.architecture"] and shown.modelfile
    client.generate(model=model, prompt="", keep_alive="5m")
    loaded = {row.model: row for row in client.ps().models}
    assert loaded[f"{model}:latest"].digest == row.digest and loaded[f"{model}:latest"].expires_at


def check_generate(client, model):
    whole = client.generate(model=model, prompt="Once upon a time", options=OPTIONS)
    assert whole.done and whole.response and whole.eval_count <= 12 and whole.done_reason in ("stop", "length")
    whole = client.generate(model=STEADY, prompt="Once upon a time", options=OPTIONS)
    parts = list(client.generate(model=STEADY, prompt="Once upon a time", options=OPTIONS, stream=True))
    assert "".join(part.response for part in parts) == whole.response and parts[-1].done
    assert list(parts[-1].context) == list(whole.context)
    whole = client.generate(model=model, prompt="Once upon a time", options=OPTIONS)
    more = client.generate(model=model, prompt="And then?", context=whole.context, options=OPTIONS)
    assert more.prompt_eval_count > whole.prompt_eval_count
    raw = client.generate(model=model, prompt="Once upon a time", raw=True, options=OPTIONS)
    assert raw.context is None and raw.prompt_eval_count < whole.prompt_eval_count
    known = client.generate(model=model, prompt="Hi", logprobs=True, top_logprobs=2, options=OPTIONS)
    assert all(len(entry.top_logprobs) == 2 for entry in known.logprobs)
    form = client.generate(model=model, prompt="A city.", format=SCHEMA, options={"temperature": 0})
    assert json.loads(form.response)["city"] in ("Rome", "Oslo")
    assert client.generate(model=model, prompt="", keep_alive=0).done_reason == "unload"
    assert client.generate(model=model, prompt="").done_reason == "load"
    refuses(lambda: client.generate(model=model, prompt="Hi", images=["aGk="]), 400, "images are not supported")
    refuses(lambda: client.generate(model=model, prompt="Hi", context=[1, 2, 3]), 400, "`context`")
    refuses(lambda: client.generate(model="absent:1b", prompt="Hi"), 404, "not found")


def check_chat(client, model):
    whole = client.chat(model=model, messages=QUESTION, options=OPTIONS)
    assert whole.message.role == "assistant" and whole.message.content
    whole = client.chat(model=STEADY, messages=QUESTION, options=OPTIONS)
    parts = list(client.chat(model=STEADY, messages=QUESTION, options=OPTIONS, stream=True))
    assert "".join(part.message.content for part in parts) == whole.message.content and parts[-1].done
    asked = client.chat(model=model, messages=QUESTION, tools=[weather], options=OPTIONS)
    calls = asked.message.tool_calls or []
    assert all(isinstance(call.function.arguments, dict) for call in calls)
    told = [
        *QUESTION,
        {"role": "assistant", "tool_calls": [{"function": {"name": "weather", "arguments": {"city": "Rome"}}}]},
        {"role": "tool", "tool_name": "weather", "content": weather("Rome")},
    ]
    assert client.chat(model=model, messages=told, tools=[weather], options=OPTIONS).done
    form = client.chat(model=model, messages=QUESTION, format="json", options={"temperature": 0, "num_predict": 200})
    assert form.done_reason == "length" or isinstance(json.loads(form.message.content), dict)
    refuses(lambda: client.chat(model=model, messages=QUESTION, think="high"), 400, "does not support thinking")
    refuses(lambda: client.chat(model=model, messages=[{"role": "owner", "content": "x"}]), 400, "invalid role")


def check_vectors(client, embedder):
    two = client.embed(model=embedder, input=["a kettle", "a teapot"])
    assert len(two.embeddings) == 2 and all(abs(math.hypot(*vector) - 1) < 1e-4 for vector in two.embeddings)
    short = client.embed(model=embedder, input="a kettle", dimensions=64, truncate=True)
    assert len(short.embeddings[0]) == 64 and abs(math.hypot(*short.embeddings[0]) - 1) < 1e-4
    old = client.embeddings(model=embedder, prompt="a kettle").embedding
    assert len(old) == len(two.embeddings[0])


def check_orders(owner, client, model, file):
    assert client.pull(model).status == "success"
    assert [part.status for part in owner.pull(model, stream=True)][-1] == "success"
    refuses(lambda: client.pull("absent:1b"), 403, "the owner can")
    refuses(lambda: owner.push(model), 501, "not published")
    refuses(lambda: client.create(model="poet", from_=model), 403, "the owner can")
    made = owner.create(
        model="poet",
        from_=model,
        system="Answer in rhymes.",
        parameters={"temperature": 0, "num_predict": 5, "stop": ["zzz"]},
        messages=[{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}],
        license="free",
    )
    assert made.status == "success"
    assert [part.status for part in owner.create(model="heir", from_="poet", stream=True)][-1] == "success"
    shown = client.show("heir")
    assert "SYSTEM \"\"\"Answer in rhymes.\"\"\"" in shown.modelfile and shown.license == "free"
    assert client.chat(model="heir", messages=QUESTION).eval_count <= 5
    owner.copy("heir", "me/heir:v2")
    assert "me/heir:v2" in {row.model for row in client.list().models}
    digest = owner.create_blob(file)
    assert owner.create(model="sent", files={"model.gguf": digest}).status == "success"
    assert client.generate(model="sent", prompt="Hi", options=OPTIONS).response
    refuses(lambda: owner.create(model="q", from_=model, quantize="q4_K_M"), 400, "quantize")
    for name in ("poet", "heir", "me/heir:v2", "sent"):
        assert owner.delete(name).status == "success"
        refuses(lambda name=name: client.show(name), 404, "not found")
    refuses(lambda: owner.delete(model), 403, "samovar.toml")


async def check_async(url, socket, model, embedder, file):
    client = ollama.AsyncClient(host=url)
    owner = ollama.AsyncClient(host="http://localhost", transport=httpx.AsyncHTTPTransport(uds=socket))
    whole = await client.chat(model=STEADY, messages=QUESTION, options=OPTIONS)
    parts = [part async for part in await client.chat(model=STEADY, messages=QUESTION, options=OPTIONS, stream=True)]
    assert "".join(part.message.content for part in parts) == whole.message.content
    texts = [part async for part in await client.generate(model=model, prompt="Hi", options=OPTIONS, stream=True)]
    assert texts[-1].done and texts[-1].context
    assert (await client.generate(model=model, prompt="Hi", options=OPTIONS)).done
    # A reader that leaves early ends the answer.
    async for part in await client.generate(model=model, prompt="Hi", options={"num_predict": 500}, stream=True):
        assert not part.done
        break
    await asyncio.gather(*(client.embed(model=embedder, input="a kettle") for _ in range(8)))
    assert (await client.embeddings(model=embedder, prompt="a kettle")).embedding
    assert (await client.list()).models and (await client.ps()).models and (await client.show(model)).capabilities
    assert (await client.pull(model)).status == "success"
    # It comes in pieces of no announced number.
    digest = await owner.create_blob(file)
    assert (await owner.create(model="sent", files={"model.gguf": digest})).status == "success"
    await owner.copy("sent", "again")
    for name in ("sent", "again"):
        assert (await owner.delete(name)).status == "success"


def main():
    url, socket, model, embedder, file = sys.argv[1:]
    client = ollama.Client(host=url)
    owner = ollama.Client(host="http://localhost", transport=httpx.HTTPTransport(uds=socket))
    check_lists(client, model)
    check_generate(client, model)
    check_chat(client, model)
    check_vectors(client, embedder)
    check_orders(owner, client, model, file)
    asyncio.run(check_async(url, socket, model, embedder, file))
    print("ollama for Python: every method is as it should be")


main()

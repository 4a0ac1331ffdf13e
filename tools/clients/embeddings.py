"""What programs do with embeddings, by OpenAI's own Python client. Each check that fails ends the program.

    python embeddings.py http://127.0.0.1:7266 reference.json

The reference is what tools/minilm_gguf.py wrote: texts with their token ids and vectors.
"""

import asyncio
import json
import math
import sys
from pathlib import Path

import openai

MODEL = "text-embedding-3-small"


def cosine(one, other):
    def dot(a, b):
        return sum(x * y for x, y in zip(a, b, strict=True))

    return dot(one, other) / math.sqrt(dot(one, one) * dot(other, other))


def check_vectors(client, known):
    texts, ids, vectors = ([entry[field] for entry in known] for field in ("text", "ids", "vector"))

    # The client asks for base64 and reads it, unless it is told otherwise.
    answer = client.embeddings.create(model=MODEL, input=texts[0])
    assert len(answer.data) == 1 and answer.data[0].index == 0 and answer.object == "list"
    assert answer.usage.prompt_tokens == answer.usage.total_tokens == len(ids[0]), answer.usage
    whole = answer.data[0].embedding
    assert abs(math.hypot(*whole) - 1) < 1e-5 and cosine(whole, vectors[0]) > 0.9999
    floats = client.embeddings.create(model=MODEL, input=texts[0], encoding_format="float").data[0].embedding
    assert max(abs(a - b) for a, b in zip(whole, floats, strict=True)) < 1e-6

    many = client.embeddings.create(model=MODEL, input=texts)
    assert [row.index for row in many.data] == list(range(len(texts)))
    assert all(cosine(row.embedding, vector) > 0.9999 for row, vector in zip(many.data, vectors, strict=True))

    for tokens in (ids[0], [ids[0]]):
        by_ids = client.embeddings.create(model=MODEL, input=tokens).data[0].embedding
        assert cosine(by_ids, whole) > 0.9999
    short = client.embeddings.create(model=MODEL, input=texts[0], dimensions=8).data[0].embedding
    assert len(short) == 8 and abs(math.hypot(*short) - 1) < 1e-5 and cosine(short, whole[:8]) > 0.9999


def check_errors(client):
    for wrong in (
        {"input": ""},
        {"input": []},
        {"input": ["a", ""]},
        {"input": [4_000_000_000]},
        {"input": "fox " * 4000},
        {"input": "a", "dimensions": 0},
        {"input": "a", "dimensions": 100_000},
        {"input": "a", "encoding_format": "hex"},
    ):
        try:
            client.embeddings.create(model=MODEL, **wrong)
        except openai.BadRequestError as error:
            assert error.body["message"] and error.body["type"], error.body
        else:
            raise AssertionError(f"{str(wrong)[:80]} was answered")
    try:
        client.embeddings.create(model="nobody", input="a")
    except openai.NotFoundError:
        pass
    else:
        raise AssertionError("a model that is not there answered")
    try:
        client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "Hello"}])
    except openai.BadRequestError as error:
        assert "model" in str(error.body), error.body
    else:
        raise AssertionError("an embedder wrote text")


async def check_many_at_once(url, known):
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
        entries = [known[number % len(known)] for number in range(64)]
        asked = (client.embeddings.create(model=MODEL, input=entry["text"]) for entry in entries)
        for answer, entry in zip(await asyncio.gather(*asked), entries, strict=True):
            assert cosine(answer.data[0].embedding, entry["vector"]) > 0.9999


def check_text(client):
    """A real model that writes text beside the one that makes vectors, where it could be had."""
    if "smollm2" not in [model.id for model in client.models.list()]:
        print("skipped: no SmolLM2 here")
        return
    question = [{"role": "user", "content": "What is the capital of France?"}]
    answer = client.chat.completions.create(model="smollm2", messages=question, temperature=0, max_tokens=32)
    assert answer.choices[0].message.content.strip() and answer.usage.completion_tokens > 0, answer


def main(url, reference):
    known = json.loads(Path(reference).read_text())["texts"]
    client = openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)
    check_vectors(client, known)
    check_errors(client)
    asyncio.run(check_many_at_once(url, known))
    check_text(client)
    # After all of that it still answers.
    check_vectors(client, known)
    print(f"openai {openai.__version__} for Python: all is as it should be")


if __name__ == "__main__":
    main(*sys.argv[1:])

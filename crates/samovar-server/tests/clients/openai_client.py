#!/usr/bin/env python3
"""The official OpenAI client against a running server.

    pip install openai
    samovar serve --listen 127.0.0.1:7266 &
    python openai_client.py http://127.0.0.1:7266/v1 [MODEL]

Ends with 0 when every check holds; otherwise the first one that does not is shown.
"""

import asyncio
import json
import sys
import time

import openai

BASE_URL = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:7266/v1"
MODEL = sys.argv[2] if len(sys.argv) > 2 else "demo"
MESSAGES = [{"role": "user", "content": "Tell me a story about a fox"}]
PARAMETERS = {
    "type": "object",
    "properties": {"city": {"enum": ["Turku", "Tampere"]}},
    "required": ["city"],
    "additionalProperties": False,
}
TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": PARAMETERS, "strict": True}}]

client = openai.OpenAI(base_url=BASE_URL, api_key="unused", max_retries=0)


def chat(**more):
    return client.chat.completions.create(model=MODEL, messages=MESSAGES, **more)


def named(name):
    return {"type": "function", "function": {"name": name}}


def refused(kind, param, call):
    try:
        call()
    except kind as error:
        assert error.param == param, (error.param, param)
        assert error.body["message"] and error.body["type"] and error.code, error.body
        assert error.request_id, "x-request-id"
        return error
    raise AssertionError(f"{param} was not refused")


def models_are_listed():
    names = [model.id for model in client.models.list()]
    assert MODEL in names, names
    assert client.models.retrieve(MODEL).id == MODEL
    refused(openai.NotFoundError, "model", lambda: client.models.retrieve("nobody"))


def a_chat_is_answered():
    answer = chat(max_completion_tokens=24)
    choice = answer.choices[0]
    assert choice.message.role == "assistant" and choice.message.content.strip()
    assert choice.finish_reason in ("stop", "length")
    usage = answer.usage
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
    assert usage.completion_tokens <= 24
    assert usage.prompt_tokens_details.cached_tokens >= 0
    assert answer.id.startswith("chatcmpl-") and answer.object == "chat.completion"
    assert abs(answer.created - time.time()) < 60 and answer.system_fingerprint


def a_stream_says_the_same():
    whole = chat(max_tokens=24, temperature=0).choices[0].message.content
    stream = chat(max_tokens=24, temperature=0, stream=True, stream_options={"include_usage": True})
    chunks = list(stream)
    usage = chunks.pop()
    assert usage.choices == [] and usage.usage.completion_tokens > 0
    assert all(chunk.usage is None for chunk in chunks)
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [chunk.choices[0].finish_reason for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)
    assert chunks[-1].choices[0].finish_reason in ("stop", "length")
    said = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert said == whole, (said, whole)
    assert len({chunk.id for chunk in chunks}) == 1


def the_streaming_helper_follows():
    # The helper takes an answer that was cut for a failure, so this one ends with its first sentence.
    with client.chat.completions.stream(model=MODEL, messages=MESSAGES, max_tokens=200, stop=".") as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_completion()
    assert "content.delta" in kinds and "content.done" in kinds, set(kinds)
    assert final.choices[0].message.content


def choices_differ_and_are_numbered():
    answer = chat(n=3, max_tokens=16, temperature=1.2)
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    seen = set()
    for chunk in chat(n=3, max_tokens=8, stream=True):
        seen.update(choice.index for choice in chunk.choices)
    assert seen == {0, 1, 2}


def a_seed_repeats_the_answer():
    first, second = (chat(seed=42, max_tokens=24, temperature=1.0).choices[0].message.content for _ in "12")
    assert first == second


def a_stop_string_ends_the_answer():
    whole = chat(max_tokens=40, temperature=0).choices[0].message.content
    stop = whole.split()[3]
    answer = chat(max_tokens=40, temperature=0, stop=[stop]).choices[0]
    assert answer.finish_reason == "stop" and stop not in answer.message.content
    assert whole.startswith(answer.message.content)


def logprobs_are_parsed():
    entries = chat(max_tokens=5, logprobs=True, top_logprobs=2, temperature=0).choices[0].logprobs.content
    assert len(entries) == 5
    for entry in entries:
        assert entry.logprob <= 0 and len(entry.top_logprobs) == 2 and entry.bytes is not None
        assert entry.top_logprobs[0].logprob >= entry.top_logprobs[1].logprob
        assert abs(entry.top_logprobs[0].logprob - entry.logprob) < 1e-3, "greedy takes the best"


def a_bias_chooses_and_bans():
    def tokens(**bias):
        answer = client.completions.create(
            model=MODEL, prompt=[5, 6, 7], max_tokens=3, temperature=0, logprobs=0, logit_bias=bias
        )
        assert answer.usage.prompt_tokens == 3
        return answer.choices[0].logprobs.tokens

    forced = tokens(**{"300": 100})
    assert len(forced) == 3 and len(set(forced)) == 1, forced
    other = tokens(**{"300": -100, "301": 100})
    assert len(set(other)) == 1 and other[0] != forced[0], other


def texts_are_continued():
    answer = client.completions.create(model=MODEL, prompt=["Once upon a time", "The owl"], max_tokens=8, n=2)
    assert [choice.index for choice in answer.choices] == [0, 1, 2, 3]
    stream = client.completions.create(model=MODEL, prompt="Once upon a time", max_tokens=8, stream=True, echo=True)
    assert "".join(chunk.choices[0].text for chunk in stream).startswith("Once upon a time")
    whole = client.completions.create(model=MODEL, prompt="Once", max_tokens=4, logprobs=2, temperature=0)
    lists = whole.choices[0].logprobs
    assert len(lists.tokens) == len(lists.token_logprobs) == len(lists.top_logprobs) == len(lists.text_offset)
    assert "".join(lists.tokens) == whole.choices[0].text, (lists.tokens, whole.choices[0].text)


def json_is_what_its_schema_allows():
    schema = {"name": "place", "schema": PARAMETERS, "strict": True}
    answer = chat(response_format={"type": "json_schema", "json_schema": schema}, max_tokens=60)
    assert answer.choices[0].finish_reason == "stop", answer
    assert json.loads(answer.choices[0].message.content)["city"] in ("Turku", "Tampere")


def a_required_tool_is_called():
    for choice in ("required", named("weather")):
        answer = chat(tools=TOOLS, tool_choice=choice, parallel_tool_calls=False, max_tokens=120).choices[0]
        assert answer.finish_reason == "tool_calls", answer
        (call,) = answer.message.tool_calls
        assert call.type == "function" and call.id and call.function.name == "weather"
        assert json.loads(call.function.arguments)["city"] in ("Turku", "Tampere")


def a_streamed_call_is_the_same_as_a_whole_one():
    more = dict(tools=TOOLS, tool_choice="required", parallel_tool_calls=False, max_tokens=120, temperature=0)
    whole = chat(**more).choices[0].message.tool_calls[0].function
    name, arguments = None, ""
    for chunk in chat(stream=True, **more):
        for call in chunk.choices[0].delta.tool_calls or []:
            assert call.index == 0 and (name is None) == bool(call.id)
            name = name or call.function.name
            arguments += call.function.arguments
    assert (name, arguments) == (whole.name, whole.arguments)


def wrong_requests_are_errors_of_the_right_class():
    refused(openai.BadRequestError, "temperature", lambda: chat(temperature=5))
    refused(openai.BadRequestError, "n", lambda: chat(n=100))
    refused(openai.BadRequestError, "max_tokens", lambda: chat(max_tokens=-1))
    refused(openai.BadRequestError, "functions", lambda: chat(functions=[{"name": "f"}]))
    refused(openai.BadRequestError, "tool_choice", lambda: chat(tools=TOOLS, tool_choice=named("g")))
    refused(openai.BadRequestError, "response_format.type", lambda: chat(response_format={"type": "yaml"}))
    missing = lambda: client.chat.completions.create(model="nobody", messages=MESSAGES)
    assert refused(openai.NotFoundError, "model", missing).code == "model_not_found"
    long = [{"role": "user", "content": "word " * 20000}]
    try:
        client.chat.completions.create(model=MODEL, messages=long)
    except openai.BadRequestError as error:
        assert error.code == "context_length_exceeded", error.body
    else:
        raise AssertionError("a prompt beyond the context was not refused")


def a_deadline_gives_the_partial_text():
    began = time.monotonic()
    answer = chat(max_tokens=100000, temperature=1.0, extra_body={"timeout": 0.5, "ignore_eos": True})
    took = time.monotonic() - began
    assert answer.choices[0].finish_reason == "length"
    if answer.samovar["timed_out"]:
        assert took < 0.5 + 0.25, took
        assert answer.samovar["timings"]["total_ms"] >= 500


def a_client_that_leaves_frees_the_slot():
    for _ in range(8):
        stream = chat(max_tokens=100000, stream=True, extra_body={"ignore_eos": True})
        next(iter(stream))
        stream.close()
    began = time.monotonic()
    chat(max_tokens=1)
    assert time.monotonic() - began < 5


def headers_tell_where_the_model_was():
    raw = client.chat.completions.with_raw_response.create(model=MODEL, messages=MESSAGES, max_tokens=1)
    assert raw.headers["x-samovar-cache"] == "hit"
    assert "prefill;dur=" in raw.headers["server-timing"]
    assert raw.parse().choices


async def many_at_once():
    async with openai.AsyncOpenAI(base_url=BASE_URL, api_key="unused", max_retries=0) as several:
        asks = [
            several.chat.completions.create(model=MODEL, messages=MESSAGES, max_tokens=16, seed=seed)
            for seed in range(12)
        ]
        answers = await asyncio.gather(*asks)
        assert all(answer.choices[0].message.content for answer in answers)
        stream = await several.chat.completions.create(model=MODEL, messages=MESSAGES, max_tokens=8, stream=True)
        assert [chunk async for chunk in stream]


def main():
    checks = [
        models_are_listed,
        a_chat_is_answered,
        a_stream_says_the_same,
        the_streaming_helper_follows,
        choices_differ_and_are_numbered,
        a_seed_repeats_the_answer,
        a_stop_string_ends_the_answer,
        logprobs_are_parsed,
        a_bias_chooses_and_bans,
        texts_are_continued,
        json_is_what_its_schema_allows,
        a_required_tool_is_called,
        a_streamed_call_is_the_same_as_a_whole_one,
        wrong_requests_are_errors_of_the_right_class,
        a_deadline_gives_the_partial_text,
        a_client_that_leaves_frees_the_slot,
        headers_tell_where_the_model_was,
        lambda: asyncio.run(many_at_once()),
    ]
    for check in checks:
        began = time.monotonic()
        check()
        name = check.__name__.replace("<lambda>", "many_at_once")
        print(f"ok   {name} ({time.monotonic() - began:.2f} s)", flush=True)
    print(f"{len(checks)} checks with openai {openai.__version__}")


if __name__ == "__main__":
    main()

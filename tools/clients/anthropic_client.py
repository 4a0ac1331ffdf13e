#!/usr/bin/env python3
"""The official Anthropic client against a running server.

    pip install anthropic
    samovar serve --listen 127.0.0.1:7266 &
    python anthropic_client.py http://127.0.0.1:7266 [MODEL]

Ends with 0 when every check holds; otherwise the first one that does not is shown.
"""

import sys

import anthropic

BASE_URL = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:7266"
MODEL = sys.argv[2] if len(sys.argv) > 2 else "demo"
MESSAGES = [{"role": "user", "content": "Tell me a story about a fox"}]
SCHEMA = {
    "type": "object",
    "properties": {"city": {"enum": ["Turku", "Tampere"]}},
    "required": ["city"],
    "additionalProperties": False,
}
TOOLS = [{"name": "weather", "description": "Tells the weather", "input_schema": SCHEMA}]

client = anthropic.Anthropic(base_url=BASE_URL, api_key="unused", max_retries=0)


def ask(**more):
    return client.messages.create(**{"model": MODEL, "max_tokens": 24, "messages": MESSAGES, **more})


def whole_and_streamed():
    whole = ask(extra_body={"temperature": 0})
    text = "".join(block.text for block in whole.content if block.type == "text")
    assert text and whole.role == "assistant" and whole.stop_reason in ("end_turn", "max_tokens"), whole
    with client.messages.stream(model=MODEL, max_tokens=24, messages=MESSAGES, extra_body={"temperature": 0}) as stream:
        said = "".join(stream.text_stream)
        last = stream.get_final_message()
    assert said == text, (said, text)
    assert last.stop_reason == whole.stop_reason, last
    assert last.usage.output_tokens == whole.usage.output_tokens, last
    assert last.usage.cache_read_input_tokens > 0, last


def tool_loop():
    choice = {"type": "tool", "name": "weather", "disable_parallel_tool_use": True}
    first = ask(tools=TOOLS, tool_choice=choice, max_tokens=64)
    assert first.stop_reason == "tool_use", first
    call = next(block for block in first.content if block.type == "tool_use")
    assert call.name == "weather" and call.input["city"] in ("Turku", "Tampere"), call
    result = {"type": "tool_result", "tool_use_id": call.id, "content": "Rain"}
    turns = [{"role": "assistant", "content": first.content}, {"role": "user", "content": [result]}]
    second = ask(tools=TOOLS, messages=MESSAGES + turns)
    assert second.stop_reason, second


def streamed_call():
    choice = {"type": "tool", "name": "weather"}
    more = {"tools": TOOLS, "tool_choice": choice, "messages": MESSAGES}
    with client.messages.stream(model=MODEL, max_tokens=64, **more) as stream:
        last = stream.get_final_message()
    call = next(block for block in last.content if block.type == "tool_use")
    assert call.input["city"] in ("Turku", "Tampere"), last


def refused(kind, word, **more):
    try:
        ask(**more)
    except kind as error:
        assert error.body["type"] == "error" and word in error.body["error"]["message"], error.body
    else:
        raise AssertionError(f"{more} is not refused")


def refusals():
    image = [{"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": ""}}]
    refused(anthropic.NotFoundError, "nope", model="nope")
    refused(anthropic.BadRequestError, "text", messages=[{"role": "user", "content": image}])
    refused(anthropic.BadRequestError, "temperature", extra_body={"temperature": 9})


for check in (whole_and_streamed, tool_loop, streamed_call, refusals):
    check()
    print(check.__name__, "holds")

"""What programs do with JSON by schema and with tools, by OpenAI's own Python client. Each check that fails ends the program.

    python answers.py http://127.0.0.1:7266 MODEL

No check asks for a model's wisdom: schemas are bounded and calls are required, so a model of any size must pass.
"""

import asyncio
import json
import re
import sys
from typing import Literal

import openai
from pydantic import BaseModel, Field

QUESTION = [{"role": "user", "content": "Describe a person who lives in Rome."}]
USUAL = {"messages": QUESTION, "temperature": 0, "max_tokens": 400}


class Address(BaseModel):
    city: Literal["Rome", "Paris", "Oslo"]
    number: int = Field(ge=1, le=99)


class Person(BaseModel):
    name: str = Field(max_length=12)
    age: int = Field(ge=0, le=120)
    mood: Literal["happy", "sad"]
    is_tall: bool
    home: Address | None
    colours: list[Literal["red", "blue"]] = Field(max_length=3)


class Weather(BaseModel):
    """The weather of a city."""

    city: Literal["Rome", "Paris", "Oslo"]
    days: int = Field(ge=1, le=7)


class Clock(BaseModel):
    """The time of a city."""

    city: Literal["Rome", "Paris", "Oslo"]


TOOLS = [openai.pydantic_function_tool(Weather), openai.pydantic_function_tool(Clock)]
KINDS = {"Weather": Weather, "Clock": Clock}


def schema(name, properties, **more):
    whole = {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
        **more,
    }
    return {"type": "json_schema", "json_schema": {"name": name, "strict": True, "schema": whole}}


def check_schemas(client, model):
    parsed = client.chat.completions.parse(model=model, response_format=Person, **USUAL)
    assert isinstance(parsed.choices[0].message.parsed, Person), parsed
    assert parsed.choices[0].finish_reason == "stop", parsed

    # Temperature chooses among what is allowed, and each of several answers is bound.
    hot = {**USUAL, "temperature": 2, "n": 3, "seed": 7}
    for choice in client.chat.completions.parse(model=model, response_format=Person, **hot).choices:
        assert isinstance(choice.message.parsed, Person), choice

    with client.chat.completions.stream(model=model, response_format=Person, **USUAL) as stream:
        contents = [event.snapshot for event in stream if event.type == "content.delta"]
        final = stream.get_final_completion()
    assert isinstance(final.choices[0].message.parsed, Person), final
    assert all(after.startswith(before) for before, after in zip(contents, contents[1:])), "text was taken back"

    answer = client.chat.completions.create(
        model=model,
        response_format=schema("move", {"to": {"enum": ["a1", "b2"]}, "is_check": {"type": "boolean"}}),
        logprobs=True,
        top_logprobs=2,
        **USUAL,
    )
    move = json.loads(answer.choices[0].message.content)
    assert list(move) == ["to", "is_check"] and move["to"] in ("a1", "b2"), move
    assert answer.choices[0].logprobs.content, answer

    answer = client.chat.completions.create(model=model, response_format={"type": "json_object"}, **USUAL)
    choice = answer.choices[0]
    assert choice.message.content.lstrip().startswith("{"), choice
    # Any object may be longer than the answer may be.
    if choice.finish_reason == "stop":
        assert isinstance(json.loads(choice.message.content), dict), choice
    else:
        assert choice.finish_reason == "length", choice


def read_calls(message):
    assert message.tool_calls, message
    for call in message.tool_calls:
        assert call.id and call.type == "function", call
        KINDS[call.function.name].model_validate_json(call.function.arguments)
    assert len({call.id for call in message.tool_calls}) == len(message.tool_calls), message
    return message.tool_calls


def check_tools(client, model):
    usual = {"model": model, "tools": TOOLS, **USUAL}
    required = client.chat.completions.create(tool_choice="required", parallel_tool_calls=False, **usual)
    calls = read_calls(required.choices[0].message)
    assert len(calls) == 1 and required.choices[0].finish_reason == "tool_calls", required

    named = {"type": "function", "function": {"name": "Clock"}}
    answer = client.chat.completions.create(tool_choice=named, **usual)
    assert {call.function.name for call in read_calls(answer.choices[0].message)} == {"Clock"}, answer
    assert answer.choices[0].finish_reason in ("tool_calls", "stop"), answer

    parsed = client.chat.completions.parse(tool_choice=named, **usual).choices[0].message
    assert all(isinstance(call.function.parsed_arguments, Clock) for call in parsed.tool_calls), parsed

    answer = client.chat.completions.create(tool_choice="none", **usual).choices[0]
    assert not answer.message.tool_calls and answer.message.content is not None, answer
    answer = client.chat.completions.create(tool_choice="auto", **usual).choices[0]
    assert answer.message.tool_calls or answer.message.content is not None, answer
    for call in answer.message.tool_calls or []:
        assert isinstance(call.function.arguments, str), call

    # Calls and their results are read as a part of the conversation.
    results = [{"role": "tool", "tool_call_id": call.id, "content": '{"time": "12:00"}'} for call in calls]
    history = [*QUESTION, required.choices[0].message.model_dump(exclude_none=True), *results]
    answer = client.chat.completions.create(**{**usual, "messages": history, "max_tokens": 16})
    assert answer.usage.prompt_tokens > required.usage.prompt_tokens, answer


def check_streamed_tools(client, model):
    usual = {"model": model, "tools": TOOLS, "tool_choice": "required", **USUAL}
    calls, finish, usage = {}, None, None
    for chunk in client.chat.completions.create(stream=True, stream_options={"include_usage": True}, **usual):
        usage = chunk.usage or usage
        for choice in chunk.choices:
            finish = choice.finish_reason or finish
            for delta in choice.delta.tool_calls or []:
                if delta.index not in calls:
                    assert delta.index == len(calls), "calls are counted from 0"
                    assert delta.id and delta.function.name, "the first delta of a call has its id and name"
                    calls[delta.index] = {"name": delta.function.name, "arguments": ""}
                else:
                    assert not delta.id or not delta.function.name, "a call begins once"
                calls[delta.index]["arguments"] += delta.function.arguments or ""
    assert calls and finish == "tool_calls" and usage.completion_tokens > 0, (calls, finish, usage)
    for call in calls.values():
        KINDS[call["name"]].model_validate_json(call["arguments"])

    with client.chat.completions.stream(**usual) as stream:
        for _ in stream:
            pass
        read_calls(stream.get_final_completion().choices[0].message)


async def check_many_at_once(url, model):
    """Requests that are computed in the same step, each with a schema of its own."""
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:

        async def ask(number):
            words = [f"word-{number}-{letter}" for letter in "abc"]
            form = schema(f"form_{number}", {f"key_{number}": {"enum": words}})
            answer = await client.chat.completions.create(
                model=model, response_format=form, **{**USUAL, "temperature": 1, "seed": number}
            )
            assert json.loads(answer.choices[0].message.content)[f"key_{number}"] in words, answer

        await asyncio.gather(*(ask(number) for number in range(8)))


def check_grammars(client, model):
    for text, grammar in (
        ("[0-9]{3}", {"type": "regex", "value": "[0-9]{3}"}),
        ("red|blue", {"type": "lark", "value": 'start: "red" | "blue"'}),
        ("red|blue", {"type": "gbnf", "value": 'root ::= "red" | "blue"'}),
        ("red|blue", 'root ::= "red" | "blue"'),
    ):
        answer = client.chat.completions.create(model=model, extra_body={"grammar": grammar}, **USUAL)
        assert re.fullmatch(text, answer.choices[0].message.content), (grammar, answer)


TEXT = {"type": "string"}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}
# Each of them is refused.
WRONG = {
    "a schema that is text": {"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": "x"}}},
    "a form that nobody knows": {"response_format": {"type": "xml"}},
    "a type that nobody knows": {"response_format": schema("a", {"a": {"type": "colour"}})},
    "a schema elsewhere": {"response_format": schema("a", {"a": {"$ref": "https://example.org/s.json"}})},
    "a pattern that looks ahead": {"response_format": schema("a", {"a": {**TEXT, "pattern": "^(?=a)b$"}})},
    "a pattern that is none": {"response_format": schema("a", {"a": {**TEXT, "pattern": "("}})},
    "a schema of a megabyte": {"response_format": schema("a", {"a": TEXT}, description="x" * (1 << 20))},
    "two forms at once": {"response_format": schema("a", {"a": TEXT}), "extra_body": {"grammar": 'root ::= "a"'}},
    "a choice that is no tool": {
        "tools": [TOOL],
        "tool_choice": {"type": "function", "function": {"name": "nobody"}},
    },
    "a call without tools": {"tool_choice": "required"},
    "a tool's name with blanks": {"tools": [{"type": "function", "function": {"name": "a b"}}]},
    "a result without a call": {"messages": [*QUESTION, {"role": "tool", "tool_call_id": "x", "content": "1"}]},
}


def deep(levels):
    inner = {"type": "integer"}
    for _ in range(levels):
        inner = {"type": "object", "properties": {"a": inner}, "required": ["a"], "additionalProperties": False}
    return inner


# Each of them is refused, or answered in bounded time.
LARGE = {
    "a hundred levels": {"response_format": schema("a", {"a": deep(100)})},
    "ten thousand words": {"response_format": schema("a", {"a": {"enum": [f"w{n}" for n in range(10_000)]}})},
    "a schema that refers to itself": {
        "response_format": schema(
            "node",
            {"next": {"$ref": "#/$defs/node"}},
            **{"$defs": {"node": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/node"}]}}},
        )
    },
    "a pattern that counts": {"response_format": schema("a", {"a": {**TEXT, "pattern": "^((a{1,99}){1,99}){1,99}$"}})},
    "five hundred tools": {"tools": [{**TOOL, "function": {"name": f"f{n}"}} for n in range(500)]},
}


def check_errors(client, model):
    for name, fields in {**WRONG, **LARGE}.items():
        try:
            client.chat.completions.create(model=model, timeout=60, **{**USUAL, **fields})
        except openai.BadRequestError as error:
            assert error.body["message"] and error.body["type"] == "invalid_request_error", (name, error.body)
        else:
            assert name in LARGE, f"{name} was answered"


def main(url, model):
    client = openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)
    check_schemas(client, model)
    check_tools(client, model)
    check_streamed_tools(client, model)
    check_grammars(client, model)
    check_errors(client, model)
    asyncio.run(check_many_at_once(url, model))
    # After all of that it still answers.
    check_schemas(client, model)
    print(f"openai {openai.__version__} for Python: schemas and tools are as they should be")


if __name__ == "__main__":
    main(*sys.argv[1:])

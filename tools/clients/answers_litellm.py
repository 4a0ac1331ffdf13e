"""What programs do with tools and schemas, by litellm. Each check that fails ends the program.

    python answers_litellm.py http://127.0.0.1:7266 MODEL
"""

import json
import os
import sys
from importlib.metadata import version
from typing import Literal

# Otherwise it asks the network for the prices of models when it is imported.
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"

import litellm  # noqa: E402
from pydantic import BaseModel, Field  # noqa: E402

litellm.suppress_debug_info = True
QUESTION = [{"role": "user", "content": "What is the weather in Rome?"}]


class Report(BaseModel):
    city: Literal["Rome", "Paris", "Oslo"]
    degrees: int = Field(ge=-40, le=50)


TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "description": "The weather of a city.",
            "strict": True,
            "parameters": {
                "type": "object",
                "properties": {"city": {"enum": ["Rome", "Paris", "Oslo"]}},
                "required": ["city"],
                "additionalProperties": False,
            },
        },
    }
]


def check_calls(message):
    assert message.tool_calls, message
    for call in message.tool_calls:
        assert call.id and call.function.name == "weather", call
        assert json.loads(call.function.arguments)["city"] in ("Rome", "Paris", "Oslo"), call


def main(url, model):
    usual = {
        "model": f"openai/{model}",
        "api_base": f"{url}/v1",
        "api_key": "none",
        "temperature": 0,
        "max_tokens": 200,
        "num_retries": 0,
        "timeout": 120,
    }
    answer = litellm.completion(messages=QUESTION, tools=TOOLS, tool_choice="required", **usual)
    check_calls(answer.choices[0].message)
    assert answer.choices[0].finish_reason == "tool_calls", answer

    chunks = list(litellm.completion(messages=QUESTION, tools=TOOLS, tool_choice="required", stream=True, **usual))
    check_calls(litellm.stream_chunk_builder(chunks, messages=QUESTION).choices[0].message)

    calls = answer.choices[0].message
    results = [{"role": "tool", "tool_call_id": call.id, "content": "It is dry."} for call in calls.tool_calls]
    told = litellm.completion(messages=[*QUESTION, calls.model_dump(), *results], tools=TOOLS, tool_choice="none", **usual)
    assert told.choices[0].message.content is not None and not told.choices[0].message.tool_calls, told

    report = litellm.completion(messages=QUESTION, response_format=Report, **usual).choices[0].message.content
    Report.model_validate_json(report)

    try:
        litellm.completion(messages=QUESTION, tools=TOOLS, tool_choice={"type": "function", "function": {"name": "x"}}, **usual)
    except litellm.BadRequestError:
        pass
    else:
        raise AssertionError("a tool that is not there was called")
    print(f"litellm {version('litellm')}: tools and schemas are as they should be")


if __name__ == "__main__":
    main(*sys.argv[1:])

"""What agents of OpenAI's framework send: the loop of tools over the Responses API and over chats, streams, and an output with a schema.
Each check that fails ends the program.

    python openai_agents.py http://127.0.0.1:7266 MODEL
"""

import asyncio
import sys
from importlib.metadata import version
from typing import Literal

from agents import (
    Agent,
    ModelSettings,
    OpenAIChatCompletionsModel,
    OpenAIResponsesModel,
    Runner,
    function_tool,
    set_tracing_disabled,
)
from openai import AsyncOpenAI
from pydantic import BaseModel

QUESTION = "What is the weather in Rome?"


class Report(BaseModel):
    """A report of the weather."""

    city: Literal["Rome", "Paris", "Oslo"]
    is_dry: bool


@function_tool
def weather(city: Literal["Rome", "Paris", "Oslo"]) -> str:
    """The weather of a city."""
    return f"It is dry in {city}."


async def run(url, name):
    set_tracing_disabled(True)
    client = AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=120)
    for kind in (OpenAIResponsesModel, OpenAIChatCompletionsModel):
        model = kind(model=name, openai_client=client)
        settings = ModelSettings(temperature=0, max_tokens=64, tool_choice="required")
        # After its first call the framework lets the model say what it likes.
        agent = Agent("weatherman", instructions="Be brief.", model=model, model_settings=settings, tools=[weather])
        done = await Runner.run(agent, QUESTION, max_turns=8)
        kinds = [item.type for item in done.new_items]
        assert "tool_call_item" in kinds and "tool_call_output_item" in kinds, kinds
        assert isinstance(done.final_output, str), done
        assert done.context_wrapper.usage.requests >= 2, done.context_wrapper.usage

        # A stream that is cut is an error to the framework; an output with a schema comes to its end.
        shaped = Agent("reporter", model=model, model_settings=ModelSettings(temperature=0), output_type=Report)
        streamed = Runner.run_streamed(shaped, QUESTION)
        async for event in streamed.stream_events():
            assert event.type, event
        assert isinstance(streamed.final_output, Report), streamed

        # A second turn of the same conversation finds the first one computed.
        turns = [*streamed.to_input_list(), {"role": "user", "content": "Are you sure?"}]
        again = await Runner.run(shaped, turns)
        usage = again.context_wrapper.usage
        assert isinstance(again.final_output, Report), again
        assert usage.input_tokens_details.cached_tokens > 0, usage
    print(f"openai-agents {version('openai-agents')}: tools, streams and outputs are as they should be")


if __name__ == "__main__":
    asyncio.run(run(*sys.argv[1:]))

"""What programs do with structured output and tools, by LangChain. Each check that fails ends the program.

    python answers_langchain.py http://127.0.0.1:7266 MODEL
"""

import functools
import operator
import sys
from importlib.metadata import version
from typing import Literal

from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from pydantic import BaseModel, Field

QUESTION = "What is the weather in Rome?"


class Report(BaseModel):
    """A report of the weather."""

    city: Literal["Rome", "Paris", "Oslo"]
    degrees: int = Field(ge=-40, le=50)
    is_dry: bool


@tool
def weather(city: Literal["Rome", "Paris", "Oslo"]) -> str:
    """The weather of a city."""
    return f"It is dry in {city}."


def main(url, name):
    model = ChatOpenAI(
        model=name, base_url=f"{url}/v1", api_key="none", temperature=0, max_tokens=200, max_retries=0, timeout=120
    )

    # The limits of a number are kept by a tool that is strict.
    strict = {"strict": True}
    for method, more in (("json_schema", strict), ("json_schema", {}), ("function_calling", strict)):
        report = model.with_structured_output(Report, method=method, **more).invoke(QUESTION)
        assert isinstance(report, Report), (method, report)
    as_object = model.with_structured_output(Report.model_json_schema(), method="json_schema").invoke(QUESTION)
    assert set(as_object) == {"city", "degrees", "is_dry"}, as_object
    whole = model.with_structured_output(Report, method="json_schema", include_raw=True).invoke(QUESTION)
    assert whole["parsing_error"] is None and isinstance(whole["parsed"], Report), whole

    for choice in ("required", "weather"):
        bound = model.bind_tools([weather], tool_choice=choice)
        answer = bound.invoke(QUESTION)
        assert answer.tool_calls and not answer.invalid_tool_calls, answer
        assert all(call["name"] == "weather" and call["id"] for call in answer.tool_calls), answer
        results = [weather.invoke(call) for call in answer.tool_calls]
        assert all(isinstance(result, ToolMessage) and result.content.startswith("It is dry") for result in results)
        streamed = functools.reduce(operator.add, bound.stream(QUESTION))
        assert streamed.tool_calls and not streamed.invalid_tool_calls, streamed
        assert all(weather.invoke(call).content.startswith("It is dry") for call in streamed.tool_calls), streamed

    # The results go back, and the model may say what it likes.
    told = model.bind_tools([weather], tool_choice="none").invoke([HumanMessage(QUESTION), answer, *results])
    assert isinstance(told.content, str) and not told.tool_calls, told
    print(f"langchain-openai {version('langchain-openai')}: structured output and tools are as they should be")


if __name__ == "__main__":
    main(*sys.argv[1:])

"""What LangChain does with Ollama's API: chats, streams, tools, structured output and vectors. Each check that fails ends the program.

    python ollama_langchain.py http://127.0.0.1:7266 WRITER EMBEDDER
"""

import functools
import operator
import sys
from importlib.metadata import version
from typing import Literal

from langchain_core.messages import HumanMessage
from langchain_core.tools import tool
from langchain_ollama import ChatOllama, OllamaEmbeddings, OllamaLLM
from pydantic import BaseModel

QUESTION = "What is the weather in Rome?"


class Report(BaseModel):
    """A report of the weather."""

    city: Literal["Rome", "Paris", "Oslo"]
    is_dry: bool


@tool
def weather(city: Literal["Rome", "Paris", "Oslo"]) -> str:
    """The weather of a city."""
    return f"It is dry in {city}."


def main(url, writer, embedder):
    # It asks for the list of models before its first request, and refuses a name that is not in it.
    model = ChatOllama(model=writer, base_url=url, temperature=0, num_predict=24, validate_model_on_init=True)
    # The second prompt is found computed, as that of the stream is: then both say the same.
    model.invoke(QUESTION)
    whole = model.invoke(QUESTION)
    assert whole.content and whole.usage_metadata["output_tokens"] > 0, whole
    streamed = functools.reduce(operator.add, model.stream(QUESTION))
    assert streamed.content == whole.content, (streamed, whole)
    assert streamed.response_metadata["done_reason"] == whole.response_metadata["done_reason"], streamed

    report = model.with_structured_output(Report, method="json_schema").invoke(QUESTION)
    assert isinstance(report, Report), report

    # It sends no choice among tools, so the model may call one or not; what it calls is sound.
    answer = model.bind_tools([weather]).invoke(QUESTION)
    assert not answer.invalid_tool_calls, answer
    call = {"name": "weather", "args": {"city": "Rome"}, "id": "a", "type": "tool_call"}
    asked = answer.model_copy(update={"content": "", "tool_calls": [call]})
    told = model.bind_tools([weather]).invoke([HumanMessage(QUESTION), asked, weather.invoke(call)])
    assert isinstance(told.content, str), told

    text = OllamaLLM(model=writer, base_url=url, temperature=0, num_predict=8).invoke("Once upon a time")
    assert isinstance(text, str) and text, text
    vectors = OllamaEmbeddings(model=embedder, base_url=url).embed_documents(["tea", "a kettle", "rain"])
    assert len(vectors) == 3 and len({len(vector) for vector in vectors}) == 1, vectors
    print(f"langchain-ollama {version('langchain-ollama')}: chats, tools and vectors are as they should be")


if __name__ == "__main__":
    main(*sys.argv[1:])

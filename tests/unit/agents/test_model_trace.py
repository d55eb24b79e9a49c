"""Who answered a request to a model, who failed before, and what the provider counted."""

from typing import Any

import pytest

from garrison.workers import GenerateTextParams, ModelTrace, Plugin, Runtime, Service
from garrison.workers.agents.model_trace import COUNTS_MOST, count_tokens, counting, trace_answer
from garrison.workers.testing import run


class Asker(Service):
    """Asks models."""

    service_type = "asker"


async def counted(runtime: Runtime, params: GenerateTextParams) -> str:
    """Answer, and count what that took."""
    runtime.count_tokens(input=12, output=3)
    runtime.count_tokens(output=4)
    runtime.count_cost(0.25)
    runtime.count_cost(0.5)
    return "yes"


async def test_what_a_handler_counts_reaches_the_caller() -> None:
    """Beside the text, with the name of the service. What is counted outside goes nowhere."""
    async with run(Asker, plugin=Plugin("p", models={"TEXT_LARGE": counted})) as service:
        service.runtime.count_tokens(input=99)
        service.runtime.count_cost(9.0)
        with ModelTrace() as trace:
            answer = await service.runtime.use_model("TEXT_LARGE", "hi")
        untraced = await service.runtime.use_model("TEXT_LARGE", "hi")

    assert answer == untraced == "yes"
    assert (trace.service, trace.errors) == ("asker", {})
    assert (trace.tokens, trace.cost) == ({"input": 12, "output": 7}, 0.75)


async def test_those_that_failed_before_are_named() -> None:
    """With their errors; a request without an answer has no service."""

    def failing(runtime: Any, params: Any) -> str:
        raise ValueError("no key")

    plugin = Plugin("p", models={"TEXT_LARGE": failing})
    async with run(Asker, plugin=plugin) as service:
        with ModelTrace() as trace, pytest.raises(Exception, match="no key"):
            await service.runtime.use_model("TEXT_LARGE", "hi")

    assert trace.service == ""
    assert "no key" in trace.errors["asker"]


def test_an_older_release_returns_the_output_alone() -> None:
    """It does not know what is counted."""
    with ModelTrace() as trace:
        assert trace_answer("old", "text", is_counted=False).output == "text"
    assert (trace.service, trace.tokens) == ("old", {})


def test_kinds_of_tokens_are_bounded() -> None:
    """Further ones are left out."""
    with counting() as taken:
        count_tokens({f"kind{number}": 1 for number in range(50)})
        count_tokens({"kind0": 1})
    assert len(taken.tokens) == COUNTS_MOST
    assert taken.tokens["kind0"] == 2

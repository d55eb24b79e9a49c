"""Tools on the way to a provider, and the calls that come back."""

from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from garrison.ipc import ModelError
from garrison.workers import (
    ChatMessage,
    Generated,
    GenerateTextParams,
    Tool,
    ToolCall,
)
from garrison.workers.agents.objects import as_output, parameters_schema, with_parameters
from garrison.workers.services.anthropic import messages as anthropic
from garrison.workers.services.model_support.tools import (
    Decided,
    StreamedCalls,
    checked_calls,
    finish_of,
)
from garrison.workers.services.model_support.usage import Used
from garrison.workers.services.openai import messages as openai


class Dice(msgspec.Struct):
    """What a model fills in."""

    sides: int
    count: int = 1


DICE = parameters_schema(Dice)
TOOLS = [Tool("roll", "Rolls dice", DICE), Tool("look")]
SEVEN = ToolCall("c1", "roll", {"sides": 7})
LOOK = ToolCall("c.2", "look")
TALK: list[ChatMessage] = [
    {"role": "user", "content": "Roll and look"},
    {"role": "assistant", "content": "Sure", "tool_calls": [SEVEN, LOOK]},
    {"role": "tool", "content": "3", "tool_call_id": "c1"},
    {"role": "tool", "content": "dark", "tool_call_id": "c.2"},
]
EMPTY = {"type": "object", "properties": {}}


def request(choice: str = "auto", **more: Any) -> GenerateTextParams:
    """Return a request with tools."""
    return GenerateTextParams(messages=TALK, tools=TOOLS, tool_choice=choice, **more)


def test_openai_has_tools_calls_and_results() -> None:
    """Arguments are JSON there; a tool without parameters has an empty object."""
    sent = openai.tools_request(request(), "m", "max_tokens")

    assert sent["tools"] == [
        {
            "type": "function",
            "function": {"name": "roll", "description": "Rolls dice", "parameters": DICE},
        },
        {"type": "function", "function": {"name": "look", "parameters": EMPTY}},
    ]
    said, *results = sent["messages"][1:]
    assert said["content"] == "Sure"
    calls = [(one["id"], one["type"], *one["function"].values()) for one in said["tool_calls"]]
    assert calls == [
        ("c1", "function", "roll", '{"sides": 7}'),
        ("c.2", "function", "look", "{}"),
    ]
    assert results == [
        {"role": "tool", "content": "3", "tool_call_id": "c1"},
        {"role": "tool", "content": "dark", "tool_call_id": "c.2"},
    ]


def test_anthropic_has_the_results_of_all_calls_in_one_turn() -> None:
    """Ids of other providers are made to fit; the last block is cached."""
    sent = anthropic.tools_request(request(), "m", 9, prompt_cache=True)

    assert sent["tools"] == [
        {"name": "roll", "description": "Rolls dice", "input_schema": DICE},
        {"name": "look", "input_schema": EMPTY},
    ]
    user, said, results = sent["messages"]
    assert (user["role"], said["role"], results["role"]) == ("user", "assistant", "user")
    assert said["content"] == [
        {"type": "text", "text": "Sure"},
        {"type": "tool_use", "id": "c1", "name": "roll", "input": {"sides": 7}},
        {"type": "tool_use", "id": "c_2", "name": "look", "input": {}},
    ]
    assert [one["tool_use_id"] for one in results["content"]] == ["c1", "c_2"]
    assert results["content"][1]["cache_control"] == {"type": "ephemeral"}


@pytest.mark.parametrize(
    ("choice", "of_openai", "of_anthropic"),
    [
        ("auto", "auto", {"type": "auto"}),
        ("none", "none", {"type": "none"}),
        ("required", "required", {"type": "any"}),
        (
            "roll",
            {"type": "function", "function": {"name": "roll"}},
            {"type": "tool", "name": "roll"},
        ),
    ],
)
def test_the_choice_of_a_tool(choice: str, of_openai: Any, of_anthropic: Any) -> None:
    """By the model, none, any, or the one that is named."""
    sent = openai.tools_request(request(choice), "m", "max_tokens")
    assert sent["tool_choice"] == of_openai
    assert anthropic.tools_request(request(choice), "m", 9, False)["tool_choice"] == of_anthropic


def test_calls_without_tools_are_text_for_anthropic() -> None:
    """The API refuses them otherwise."""
    sent = anthropic.message_request(GenerateTextParams(messages=TALK), "m", 9, False)
    texts = [one["text"] for turn in sent["messages"][1:] for one in turn["content"]]
    assert texts == ["Sure\n[called roll]\n[called look]", "[result: 3]", "[result: dark]"]
    assert GenerateTextParams(messages=TALK[:1]).without_tools().messages == TALK[:1]


@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        ("roll", '{"sides": 6}', {"sides": 6}),
        ("roll", {"sides": 6}, {"sides": 6}),  # some servers send an object
        ("look", "", {}),
        ("look", None, {}),
        ("roll", '{"sides": 6', "its arguments are no JSON: '{\"sides\": 6'"),
        ("roll", "[6]", "its arguments are no object: [6]"),
        ("roll", '{"sides": "six"}', "its arguments do not fit: sides is 'six', not integer"),
        ("roll", "{}", "its arguments do not fit: it lacks 'sides'"),
        ("fly", "{}", "there is no tool 'fly'; there is roll, look"),
        ("roll", "[" * 100_000, "its arguments are no JSON"),
    ],
)
def test_the_arguments_of_a_call_are_checked(name: str, arguments: Any, expected: Any) -> None:
    """What is wrong is noted: the model may correct it."""
    (call,) = checked_calls([Decided("c", name, arguments)], TOOLS)

    if isinstance(expected, str):
        assert call.problem.startswith(expected)
    else:
        assert (call.arguments, call.problem) == (expected, "")


def test_calls_without_ids_get_some() -> None:
    """Different ones; the end of an answer follows from its calls."""
    calls = checked_calls([Decided("", "look", "")] * 2, TOOLS)
    assert [call.id for call in calls] == ["call_0", "call_1"]
    assert [finish_of(calls, False), finish_of([], False), finish_of(calls, True)] == [
        "tool_calls",
        "stop",
        "length",
    ]


def completion(finish: str = "tool_calls", **said: Any) -> Any:
    """Return a chat completion as the library has it."""
    message = SimpleNamespace(**{"content": None, "tool_calls": None, **said})
    return SimpleNamespace(choices=[SimpleNamespace(message=message, finish_reason=finish)])


def called(id: str, name: str, arguments: str) -> Any:
    """Return a call as OpenAI's library has it."""
    return SimpleNamespace(id=id, function=SimpleNamespace(name=name, arguments=arguments))


def test_what_openai_returns() -> None:
    """Calls, a text, or both."""
    both = [called("a", "roll", '{"sides": 7}'), called("b", "look", "{}")]
    found = openai.generated_of(completion(tool_calls=both), request(), Used())
    calls = [ToolCall("a", "roll", {"sides": 7}), ToolCall("b", "look")]
    assert found == Generated("", calls, "tool_calls")
    text = openai.generated_of(completion("stop", content="3"), request(), Used())
    assert text == Generated("3")
    with pytest.raises(ModelError, match="refused"):
        openai.generated_of(completion("content_filter"), request(), Used())


def message(stop_reason: str, *blocks: Any) -> Any:
    """Return a message as Anthropic's library has it."""
    return SimpleNamespace(content=list(blocks), stop_reason=stop_reason, usage=None)


def test_what_anthropic_returns() -> None:
    """Likewise; after results it may have nothing to add, before them that is a refusal."""
    text = SimpleNamespace(type="text", text="Sure")
    use = SimpleNamespace(type="tool_use", id="a", name="roll", input={"sides": 7})
    found = anthropic.generated_of(message("tool_use", text, use), request(), Used())
    assert found == Generated("Sure", [ToolCall("a", "roll", {"sides": 7})], "tool_calls")
    assert anthropic.generated_of(message("end_turn"), request(), Used()) == Generated()
    first = GenerateTextParams("Hi", tools=TOOLS)
    with pytest.raises(ModelError, match="it answered nothing"):
        anthropic.generated_of(message("end_turn"), first, Used())


def test_parameters_travel_as_their_schema() -> None:
    """And what comes back of such a request is `Generated`."""
    sent = with_parameters("TEXT_LARGE", GenerateTextParams("x", tools=[Tool("roll", "", Dice)]))
    assert sent.tools[0].parameters == DICE
    named = with_parameters("TEXT_LARGE", {"tools": [{"name": "roll", "parameters": Dice}]})
    assert named["tools"][0].parameters == DICE
    assert as_output({"text": "3"}, None, sent) == Generated("3")
    assert as_output("3", None, GenerateTextParams("x")) == "3"
    with pytest.raises(TypeError, match="JSON Schema of an object"):
        parameters_schema(list[int])
    with pytest.raises(TypeError, match="JSON Schema of an object"):
        parameters_schema({"type": "string"})


def piece(**fields: Any) -> Any:
    """Return a piece of a stream as a library has it."""
    return SimpleNamespace(**fields)


def test_calls_are_put_together_from_the_pieces_of_a_stream() -> None:
    """Of OpenAI's; some servers send no index, or each call whole."""
    calls = StreamedCalls()
    for index, id, name, arguments in (
        (0, "a", "roll", ""),
        (1, "b", "look", None),
        (0, None, None, '{"sides"'),
        (0, None, "", ": 7}"),
    ):
        function = piece(name=name, arguments=arguments)
        call = piece(index=index, id=id, function=function)
        openai.add_calls(piece(content=None, tool_calls=[call]), calls)
    openai.add_calls(piece(content="x", tool_calls=None), calls)
    expected = [ToolCall("a", "roll", {"sides": 7}), ToolCall("b", "look")]
    assert calls.generated("Sure", TOOLS) == Generated("Sure", expected, "tool_calls")

    whole = StreamedCalls()
    openai.add_calls(
        piece(tool_calls=[called("a", "look", "{}"), called("b", "look", "{}")]), whole
    )
    assert [call.id for call in whole.generated("", TOOLS).tool_calls] == ["a", "b"]


def test_calls_are_put_together_from_anthropics_events() -> None:
    """Blocks of text are left to others; a cut answer has arguments that are no JSON."""
    calls = StreamedCalls()
    use = piece(type="tool_use", id="a", name="roll", input={})
    start = piece(type="content_block_start", index=1, content_block=use)
    deltas = [
        piece(type="content_block_delta", index=1, delta=piece(type=kind, **more))
        for kind, more in (
            ("input_json_delta", {"partial_json": '{"si'}),
            ("text_delta", {"text": "x"}),
            ("input_json_delta", {"partial_json": 'des": 7}'}),
        )
    ]
    assert [anthropic.add_call(one, calls) for one in (start, *deltas)] == [True, True, False, True]
    assert calls.generated("", TOOLS).tool_calls == [ToolCall("a", "roll", {"sides": 7})]

    cut = StreamedCalls()
    cut.finish = "max_tokens"
    for one in (start, deltas[0]):
        anthropic.add_call(one, cut)
    found = cut.generated("", TOOLS)
    assert (found.finish, found.tool_calls[0].problem[:26]) == (
        "length",
        "its arguments are no JSON:",
    )

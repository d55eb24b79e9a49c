"""The agent's actions as commands."""

from typing import Any, Literal

import msgspec
import pytest

from garrison.workers import Action, Command, Content, Memory
from garrison.workers.agents.objects import parameters_schema
from garrison.workers.platform.commands import as_command, commands_of, flat_schema


class Tip(msgspec.Struct):
    """Parameters that are plain."""

    to: str
    amount: int
    coin: Literal["eur", "usd"] = "eur"
    note: str | None = None


class Nested(msgspec.Struct):
    """Parameters that are not."""

    to: list[str]


TIP = flat_schema(parameters_schema(Tip))


def action(name: str, description: str = "does it", parameters: Any = None) -> Any:
    """Return an action as the agent's runtime lists it."""
    made = Action(name, description)
    made.parameters = parameters_schema(parameters)
    return made


@pytest.mark.parametrize(
    ("name", "wanted", "commands"),
    [
        ("SEND_TIP", True, ["send_tip"]),
        ("Send a Tip!", True, ["send_a_tip"]),
        ("SEND_TIP", False, []),
        ("SEND_TIP", ["send-tip"], ["send_tip"]),
        ("SEND_TIP", ["OTHER"], []),
        ("X" * 40, True, ["x" * 32]),
        ("…", True, []),
        ("REPLY", True, []),
        ("ignore", ["IGNORE"], []),
        ("NONE", True, []),
    ],
)
def test_names_of_commands(name: str, wanted: bool | list[str], commands: list[str]) -> None:
    """Lower case; what the agent does without an action is none."""
    assert [one.name for one in commands_of([action(name)], wanted)] == commands


def test_a_name_is_one_command() -> None:
    """The first action has it."""
    (found,) = commands_of([action("SEND_TIP", "first"), action("send tip", "second")], True)

    assert found == Command("send_tip", "first", "SEND_TIP")


def test_what_is_for_a_model_is_a_command_only_where_it_is_named() -> None:
    """What it finds is no answer yet."""
    search = action("SEARCH")
    search.for_model = True

    assert commands_of([search], True) == []
    assert [one.name for one in commands_of([search], ["SEARCH"])] == ["search"]


@pytest.mark.parametrize(
    ("description", "shown"),
    [("", "Runs SEND_TIP"), ("a\n b", "a b"), ("x" * 101, "x" * 99 + "…"), ("x" * 100, "x" * 100)],
)
def test_descriptions_fit(description: str, shown: str) -> None:
    """One line of 1 to 100 characters."""
    (found,) = commands_of([action("SEND_TIP", description)], True)

    assert found.description == shown


def test_parameters_are_plain_values_and_required_ones_come_first() -> None:
    """A choice of texts is an enum, an optional one its type."""
    assert TIP == {
        "type": "object",
        "properties": {
            "to": {"type": "string"},
            "amount": {"type": "integer"},
            "coin": {"type": "string", "enum": ["eur", "usd"]},
            "note": {"type": "string"},
        },
        "required": ["to", "amount"],
    }


@pytest.mark.parametrize("schema", [None, {}, parameters_schema(Nested), {"type": "object"}])
def test_other_parameters_are_none(schema: Any) -> None:
    """The command has a text alone."""
    assert flat_schema(schema) is None


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("bob 5", {"to": "bob", "amount": 5}),
        ("bob 5 usd a b", {"to": "bob", "amount": 5, "coin": "usd", "note": "a b"}),
        ("bob five", {"to": "bob", "amount": "five"}),
        ("", {}),
    ],
)  # fmt: skip
def test_options_of_what_was_typed(text: str, options: dict[str, Any]) -> None:
    """A word for each parameter; the last one takes the rest."""
    assert Command("send_tip", "x", "SEND_TIP", TIP).options(text) == options


@pytest.mark.parametrize(
    ("kind", "word", "value"),
    [
        ("boolean", "yes", True),
        ("boolean", "off", False),
        ("boolean", "maybe", "maybe"),
        ("number", "1.5", 1.5),
    ],
)
def test_a_word_is_converted_to_its_type(kind: str, word: str, value: Any) -> None:
    """One that does not fit stays a text: the action refuses it."""
    schema = {"type": "object", "properties": {"x": {"type": kind}}}

    assert Command("c", "x", "C", schema).options(word) == {"x": value}


def test_a_command_without_parameters_has_no_options() -> None:
    """Its text is the message's."""
    assert Command("c", "x", "C").options("anything") == {}


def command(*actions: str, **data: Any) -> Memory:
    """Return a received command."""
    return Memory(id="p/c/7", content=Content("now", actions=list(actions), data=data))


def test_a_command_names_its_action_and_options() -> None:
    """Its response is the same whenever it is received."""
    memory, responses = as_command(command("SEND_TIP", options={"to": "bob"}), True)

    assert memory.metadata == {"command": True}
    assert [one.id for one in responses] == ["p/c/7/command"]
    assert responses[0].content == Content(actions=["SEND_TIP"], data={"options": {"to": "bob"}})
    assert as_command(command("SEND_TIP", options={"to": "bob"}), True)[1] == responses


@pytest.mark.parametrize(
    ("memory", "wanted"),
    [
        (command(), True),
        (command("SEND_TIP"), False),
        (command("SEND_TIP"), ["OTHER"]),
        (command("REPLY"), True),
        (command("A", "B"), True),
    ],
)
def test_what_is_no_command_has_no_response(memory: Memory, wanted: bool | list[str]) -> None:
    """The agent decides about it."""
    assert as_command(memory, wanted) == (memory, [])

"""What an assistant's tools become as command lines, and what they refuse."""

from typing import Any

import pytest

from garrison.supervisor.cli.app import garrison, verbs
from garrison.supervisor.cli.assistant_tools import (
    ACTING,
    ANSWER_MOST,
    READING,
    Tool,
    WrongArguments,
    allowed_actions,
    command,
    offered,
    shortened,
)

ALL = {**READING, **ACTING}
SAMPLES = {"array": ["-a", "b.*"], "string": "-x y", "integer": 7}


@pytest.mark.parametrize(
    ("name", "given", "words"),
    [
        ("status", {}, ["status"]),
        ("status", {"names": ["-f", "a"]}, ["status", "--", "-f", "a"]),
        ("why", {"name": "--help"}, ["why", "--", "--help"]),
        (
            "logs",
            {"last": 5, "grep": "--home=/", "names": ["a"]},
            ["logs", "-n5", "--grep=--home=/", "--", "a"],
        ),
        ("restart", {"names": ["a"]}, ["restart", "--why=an assistant", "--", "a"]),
        (
            "restart",
            {"names": ["a"], "why": "it hangs"},
            ["restart", "--why=an assistant: it hangs", "--", "a"],
        ),
        ("mail_drop", {"ids": ["1"]}, ["mail", "drop", "--", "1"]),
        ("docs", {"page": None}, ["docs"]),
    ],
)
def test_a_tool_is_a_command_line(name: str, given: dict[str, Any], words: list[str]) -> None:
    """Nothing that is given becomes an option of its own."""
    assert command(ALL[name], given) == words


@pytest.mark.parametrize(
    ("name", "given", "problem"),
    [
        ("why", {}, "the argument name is missing"),
        ("status", {"home": "/"}, "no argument home; this tool has names"),
        ("diff", {"x": 1}, "no argument x; this tool has none"),
        ("why", {"name": ["a"]}, "the argument name must be a text of 1 to 200 characters"),
        ("why", {"name": ""}, "the argument name must be a text of 1 to 200 characters"),
        ("why", {"name": "a\0b"}, "the argument name must be a text of 1 to 200 characters"),
        ("logs", {"last": True}, "the argument last must be a whole number from 1 to 500"),
        ("logs", {"last": 0}, "the argument last must be a whole number from 1 to 500"),
        ("restart", {"names": []}, "the argument names must be a list of 1 to 50 texts"),
        ("restart", {"names": [1]}, "the argument names must be a text of 1 to 200 characters"),
    ],
)
def test_what_does_not_fit_is_refused(name: str, given: dict[str, Any], problem: str) -> None:
    """With what would fit."""
    with pytest.raises(WrongArguments) as refused:
        command(ALL[name], given)
    assert str(refused.value) == problem


@pytest.mark.parametrize("name", [*ALL])
def test_each_tool_has_a_verb_that_takes_its_options(name: str) -> None:
    """So no tool fails for a verb that has changed."""
    tool: Tool = ALL[name]
    given = {key: SAMPLES[one.schema["type"]] for key, one in tool.arguments.items()}
    words = command(tool, given)
    group, verb = garrison, words.pop(0)
    assert verb in verbs()
    found: Any = group.get_command(None, verb)  # type: ignore[arg-type]
    for word in tool.verb[1:]:
        assert words.pop(0) == word
        found = found.commands[word]
    options = {option for one in found.params for option in one.opts}
    before = words[: words.index("--")] if "--" in words else words
    used = {word.partition("=")[0] if word.startswith("--") else word[:2] for word in before}
    assert used <= options
    assert any(one.param_type_name == "argument" for one in found.params) or "--" not in words


def test_actions_are_there_only_if_they_are_allowed() -> None:
    """And those that read always."""
    assert offered([]) == READING
    assert not any(tool.acts for tool in READING.values())
    assert all(tool.acts for tool in ACTING.values())
    assert set(offered(allowed_actions(" restart,mail_drop"))) == {*READING, "restart", "mail_drop"}
    with pytest.raises(ValueError, match="no action down; there are start, stop"):
        allowed_actions("down")
    assert {"down", "upgrade", "call", "run", "person"}.isdisjoint(
        {tool.verb[0] for tool in ALL.values()}
    )


def test_a_long_answer_is_cut() -> None:
    """And says so, without colours."""
    assert shortened("\x1b[31mred\x1b[0m\n") == "red"
    text = shortened("x" * (ANSWER_MOST + 1))
    assert len(text) < ANSWER_MOST + 200
    assert text.endswith("name services, or use since or last]")

"""What an operator reads of services in the chat."""

from typing import Any

import pytest

from garrison.ipc.causes import span
from garrison.workers.platform import chat_answers
from garrison.workers.platform.chat_answers import logs_text, services_text, why_text
from garrison.workers.platform.chat_orders import Question, Verb


def row(name: str = "discord", **more: Any) -> dict[str, Any]:
    """Return a service's row of `status`."""
    base = {"name": name, "state": "running", "uptime_s": 7300.0, "reason": None, "restarts": 0}
    return {**base, "warnings": [], "link": None, **more}


def test_all_services_in_a_line_each_and_those_that_do_not_run_first() -> None:
    """With the reason."""
    rows = [
        row("agent"),
        row("telegram", state="failed", reason="the token is refused\nmore"),
        row("discord", link={"disconnected": "the session is over"}),
        row("slack", link={"deaf": "no answer"}),
        row("x", warnings=["the queue is full"]),
    ]

    assert services_text(rows).splitlines() == [
        "3 of 5 run.",
        "telegram: failed: the token is refused",
        "discord: disconnected: the session is over",
        "agent: runs, 2 h",
        "slack: runs, 2 h !, receives nothing: no answer",
        "x: runs, 2 h !",
    ]


def test_a_long_list_is_cut() -> None:
    """The rest is counted."""
    lines = services_text([row(f"s{n}") for n in range(50)]).splitlines()

    assert (len(lines), lines[-1]) == (42, "and 10 more")


def test_why_is_the_chain_of_causes() -> None:
    """In the words of `garrison why`, each cut to a line, and no more than fit."""
    death = {"id": "d-1", "n": 1, "at": "2026-05-06T07:59:00.000Z", "cause": "y" * 999}
    down = row("db", state="failed", wanted=True, deaths=[death])
    shown = row(warnings=["the queue is full"], depends_on=["db"])
    lines = why_text("discord", [shown, down], 1778054400.0).splitlines()

    assert lines[:3] == [
        "discord runs, for 2 h",
        "  the queue is full",
        "  it depends on db, which is failed, and not tried again by itself",
    ]
    assert lines[3].startswith("    yyy")
    assert max(map(len, lines)) < 200
    assert why_text("a", [row("a")], 0.0).splitlines()[-1] == "  nothing is wrong with it"
    warnings = [f"warning {number}" for number in range(40)]
    assert why_text("a", [row("a", warnings=warnings)], 0.0).endswith("and 25 more lines")


def test_logs_are_the_last_lines_that_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a block of code that nothing in it can end."""
    assert logs_text("a", [f"{n} ```x" for n in range(20)]).splitlines() == [
        "```",
        *(f"{n} '''x" for n in range(8, 20)),
        "```",
    ]
    assert logs_text("a", ["x" * 100, "y" * 100], 150).splitlines()[1] == "y" * 100
    assert logs_text("a", []) == "a has written nothing."


@pytest.mark.parametrize(
    ("verb", "is_own", "words"),
    [
        (Verb.RESTART, False, "Restart discord?"),
        (Verb.PAUSE, False, "until /resume discord"),
        (Verb.PAUSE, True, "only orders are answered here, until /resume discord"),
    ],
)
def test_a_question_names_what_follows(verb: Verb, is_own: bool, words: str) -> None:
    """And how to answer without buttons."""
    question = Question("c", "ada", "c", verb, "discord", (0.0, "", 0.0))
    text = chat_answers.question_text(question, is_own)

    assert words in text
    assert "/yes" in text


@pytest.mark.parametrize(
    ("name", "hint"),
    [("discrod", "Did you mean discord?"), ("zzz", "/services lists them.")],
)
def test_a_name_that_is_not_there_has_a_hint(name: str, hint: str) -> None:
    """The nearest one."""
    assert chat_answers.unknown_text(name, ["discord"]).endswith(hint)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-1, "0 s"), (90, "90 s"), (600, "10 min"), (7200, "2 h"), (200_000, "2 d")],
)
def test_spans(seconds: float, text: str) -> None:
    """As people read them."""
    assert span(seconds) == text

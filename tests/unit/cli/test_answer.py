"""`garrison answer` at the terminal: what is recorded of answers, at any width."""

from typing import Any

import pytest

from garrison.supervisor.cli import answer as verb
from garrison.supervisor.cli.output import Invocation
from garrison.supervisor.cli.render import answer, table

UUID = "0b7b9c2e-7d3f-4a55-9d1f-2a5a3f0c9a11"
AT = 1_790_000_000.0


def line(number: int = 1, **facts: Any) -> dict[str, Any]:
    """Return a line about one answer."""
    return {
        "agent": "agent", "id": f"discord/5678/{number}", "source": "discord", "room": "5678",
        "state": "done", "heard_at": AT + number, "done_at": AT + number + 2.5, "sender": "42",
        "name": "Ada", "text": f"Question\x1b[2J {number} " + "why " * 40,
        "answer": "Because. " * 30, "problem": "", **facts,
    }  # fmt: skip


def detail(**facts: Any) -> dict[str, Any]:
    """Return everything about one answer."""
    result = {"success": True, "text": "6", "error": "", "values": {"rolled": 6}, "data": {}}
    failed = {**result, "success": False, "text": "", "error": "no\x1b[31m die", "values": {}}
    times = {"started_at": AT + 1, "ended_at": AT + 1.25}
    why = {
        "how": "validate", "problem": "", "providers": ["TIME", "FACTS"],
        "context": "It is noon.\nAda likes dice.",
        "considered": {"ROLL": True, "SING": False},
        "models": [
            {"model_type": "TEXT_LARGE", "service": "claude", "seconds": 0.8,
             "errors": {"openai": "ModelError: busy"}, "tokens": {"in": 1200, "out": 45}},
            {"model_type": "TEXT_SMALL", "service": "", "seconds": 0.1, "errors": {}, "tokens": {}},
        ],
        "prompt": "",
    }  # fmt: skip
    part: dict[str, Any] = {
        "number": 0, "step": 1, "id": f"{UUID}", "text": "You rolled 6.", "attachments": [],
        "outcome": "sent", "ids": ["998877", ""], "problem": "", "recorded_at": AT, "ended_at": AT,
    }  # fmt: skip
    return line() | {
        "text": "Roll a die, please.", "given": "", "posted": True, "decided_at": AT + 2,
        "why": why | facts.pop("why", {}),
        "steps": [
            {"number": 0, "kind": "run", "name": "ROLL", "state": "ended", "otherwise": False,
             "results": [result, failed], "arguments": {"sides": 6}, **times},
            {"number": 1, "kind": "reply", "name": "", "state": "planned", "otherwise": True,
             "results": [], "started_at": None, "ended_at": None},
        ],
        "parts": [part, {**part, "number": 1, "outcome": None, "ids": [], "text": "More."}],
        **facts,
    }  # fmt: skip


def shown(
    capsys: pytest.CaptureFixture[str],
    answers: list[dict[str, Any]],
    details: list[dict[str, Any]] | None = None,
) -> list[str]:
    """Return the lines that are printed."""
    data = {"answers": answers, "details": details or [], "away": []}
    table.show(*answer.answers(data, lambda rest: f"garrison {rest}"))
    return capsys.readouterr().out.splitlines()


@pytest.mark.parametrize("columns", [80, 200])
def test_answers_are_listed_one_a_line(
    columns: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the id that the platform shows, which is whole; the last line says what to type."""
    monkeypatch.setenv("COLUMNS", str(columns))
    head, *rows, hint = shown(capsys, [line(1), line(2, id=UUID, state="dropped")])

    assert head.split()[:4] == ["ID", "WHEN", "STATE", "MESSAGE"] or columns > 80
    assert len(rows) == 2
    assert max(map(len, [head, *rows, hint])) <= columns
    assert rows[0].split()[0] == "1"
    assert rows[1].split()[0] == UUID
    assert "done" in rows[0].split()
    assert "\x1b" not in "".join(rows)
    assert hint == "for all of one: garrison answer 1"
    wide = {"ROOM", "FROM", "ANSWER"} <= set(head.split())
    assert wide == (columns == 200)
    assert ("discord/5678" in rows[0], "Because." in rows[0]) == (wide, wide)


def test_of_several_agents_each_line_names_its_own(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also at 80 columns."""
    monkeypatch.setenv("COLUMNS", "80")
    lines = shown(capsys, [line(1, agent="ada.agent"), line(2, agent="max.agent")])

    assert "AGENT" in lines[0].split()
    assert "ada.agent" in lines[1] or "ada.ag" in lines[1]
    assert max(map(len, lines)) <= 80


@pytest.mark.parametrize("columns", [60, 80, 200])
def test_one_answer_is_shown_in_full(
    columns: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Message, context, actions, steps and results, models and their errors, parts, ids, times."""
    monkeypatch.setenv("COLUMNS", str(columns))
    lines = shown(capsys, [], [detail()])
    text = " ".join(" ".join(lines).split())

    assert max(map(len, lines)) <= columns
    assert "\x1b" not in text
    for words in (
        "message discord/5678/1 is answered", "Ada (42)", "decided after 1.00 s",
        "ended after 2.50 s", "Roll a die, please.", "context, of TIME, FACTS",
        "It is noon. Ada likes dice.", "apply: ROLL", "do not apply: SING", "ran ROLL: ended",
        "0.25 s", 'with {"sides":6}', "succeeded: 6", '{"rolled":6}', "failed: no [31m die",
        "answered by claude, 0.80 s, tokens: 1,200 in, 45 out",
        "openai failed: ModelError: busy", "all failed", "sent, as 998877, unknown",
        "You rolled 6.", "no outcome yet", f"id {UUID}",
    ):  # fmt: skip
        assert words in text, words
    assert "prompt" not in text


@pytest.mark.parametrize(
    ("state", "otherwise", "words"),
    [
        ("decided", True, "requested a reply from the model: planned"),
        ("done", True, ""),  # an action answered instead
        ("done", False, "requested a reply from the model: not run"),
    ],
)
def test_a_planned_step_of_an_ended_answer_is_not_pending(
    state: str, otherwise: bool, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A reply that was not needed is left out; another step was not run."""
    row = detail(state=state)
    row["steps"][1]["otherwise"] = otherwise
    text = "\n".join(shown(capsys, [], [row]))

    assert "planned" not in text or state == "decided"
    assert words in text
    assert ("requested a reply from the model" in text) == bool(words)


def test_the_prompt_is_shown_where_it_is_recorded(capsys: pytest.CaptureFixture[str]) -> None:
    """Its lines are kept; what stopped an answer is shown, too."""
    why = {"prompt": "You are Ada.\n\nuser: Hi", "how": "gate guard", "problem": "it is spam"}
    lines = shown(capsys, [], [detail(state="dropped", why=why)])

    assert lines[0].endswith("is dropped")
    assert [one.strip() for one in lines[-3:]] == ["You are Ada.", "", "user: Hi"]
    assert ["by", "gate", "guard"] in [one.split() for one in lines]
    assert ["problem", "it", "is", "spam"] in [one.split() for one in lines]


def test_a_room_shows_its_lines_and_all_of_the_last(capsys: pytest.CaptureFixture[str]) -> None:
    """Without a hint at how to see that one; nothing at all is said so."""
    lines = shown(capsys, [line(2), line(1)], [detail()])
    assert lines[0].startswith("ID")
    assert lines[3:5] == ["", "message discord/5678/1 is answered"]
    assert not any("for all of one" in one for one in lines)
    assert shown(capsys, []) == ["nothing is recorded yet"]


def test_answers_of_several_agents_are_merged_the_newest_first() -> None:
    """No more than were asked for."""
    found = [
        {"answers": [line(3, agent="a"), line(1, agent="a")], "details": []},
        {"answers": [line(2, agent="b")], "details": [detail(agent="b")]},
    ]
    merged = verb._merge(found, 2)

    assert [(row["agent"], row["id"][-1]) for row in merged["answers"]] == [("a", "3"), ("b", "2")]
    assert [row["agent"] for row in merged["details"]] == ["b"]


@pytest.mark.parametrize(
    ("state", "command"), [("stopped", "start"), ("backoff", "status"), ("failed", "status")]
)
def test_an_agent_that_is_away_is_named_with_what_to_do(state: str, command: str) -> None:
    """It cannot be asked."""
    text = verb._away(Invocation(), {"agent": "ada.agent", "state": state, "reason": "it died"})

    assert text.startswith(f"ada.agent is {state} (it died): ")
    assert text.endswith(f"see: garrison {command} ada.agent")

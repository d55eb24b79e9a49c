"""What an operator is shown of a recorded answer: all of it, without secrets, within bounds."""

from typing import Any

import msgspec

from garrison.ipc.redaction import Redactor
from garrison.workers import ActionResult, Content, Media, Memory
from garrison.workers.services.agent.record import explain
from garrison.workers.services.agent.record.explain import Explained
from garrison.workers.services.agent.record.rows import (
    MessageKey,
    MessageState,
    ModelUse,
    Outcome,
    Part,
    PlannedCall,
    PlannedStep,
    Record,
    Round,
    StepKind,
    StepState,
    Why,
)

SECRET = "sk-0123456789abcdef"
SHOWN = Explained(Redactor({"KEY": SECRET}).text)


def record(**facts: Any) -> Record:
    """Return a record of a message that an action and a model answered."""
    message = Memory(
        content=Content("Roll a die", source="discord"),
        id="discord/5/77",
        room_id="5",
        entity_id="42",
        metadata={"username": "Ada"},
    )
    said = Memory(
        content=Content("You rolled 6.", attachments=[Media("http://die", title="die")]), id="p0"
    )
    why = Why(
        "validate",
        {"ROLL": True, "SING": False},
        ["TIME"],
        "It is noon.",
        [ModelUse("TEXT_LARGE", "claude", {"openai": "busy"}, 0.5, {"in": 7})],
        rounds=[Round("", [PlannedCall(0, "ROLL", {"sides": 6})])],
    )
    result = ActionResult(text="6", values={"rolled": 6}, action="ROLL")
    step = PlannedStep(0, StepKind.RUN, "ROLL", None, False, StepState.ENDED, [result], 11.0, 12.0)
    part = Part(0, 0, said, Outcome.SENT, ["88"], "", 12.0, 13.0)
    values: dict[str, Any] = {
        "key": MessageKey("discord", "5", "discord/5/77"), "memory": message, "heard_at": 10.0,
        "posted": True, "state": MessageState.DONE, "why": why, "decided_at": 11.0,
        "done_at": 13.0, "steps": [step], "parts": [part], "seq": 1, **facts,
    }  # fmt: skip
    return Record(**values)


def test_everything_that_is_recorded_is_shown() -> None:
    """As JSON has it."""
    head = {
        "id": "discord/5/77", "source": "discord", "room": "5", "state": "done", "heard_at": 10.0,
        "done_at": 13.0, "sender": "42", "name": "Ada", "text": "Roll a die",
    }  # fmt: skip
    assert SHOWN.line(record()) == head | {
        "answer": "You rolled 6.\n[attached: die]", "problem": ""
    }  # fmt: skip
    assert SHOWN.detail(record()) == head | {
        "given": False, "posted": True, "decided_at": 11.0,
        "why": {
            "how": "validate", "considered": {"ROLL": True, "SING": False}, "providers": ["TIME"],
            "context": "It is noon.", "problem": "", "prompt": "", "trace": "",
            "models": [{
                "model_type": "TEXT_LARGE", "service": "claude", "errors": {"openai": "busy"},
                "seconds": 0.5, "tokens": {"in": 7},
            }],
        },
        "steps": [{
            "number": 0, "kind": "run", "name": "ROLL", "otherwise": False, "state": "ended",
            "started_at": 11.0, "ended_at": 12.0,
            "results": [
                {"success": True, "text": "6", "error": "", "values": {"rolled": 6}, "data": {}}
            ],
            "arguments": {"sides": 6},
        }],
        "parts": [{
            "number": 0, "step": 0, "id": "p0", "text": "You rolled 6.",
            "attachments": ["http://die"], "outcome": "sent", "ids": ["88"], "problem": "",
            "recorded_at": 12.0, "ended_at": 13.0,
        }],
    }  # fmt: skip


def test_secrets_are_left_out_wherever_they_stand() -> None:
    """In the message, the context, results, errors, what was said, the prompt; before a cut."""
    content = Content(f"my key is {SECRET}")
    result = ActionResult(False, SECRET, {"key": SECRET}, {"key": SECRET}, SECRET)
    step = PlannedStep(0, StepKind.RUN, "A", results=[result])
    why = Why(
        "validate",
        context="x" * (explain.MOST_TEXT - 4) + SECRET,
        models=[ModelUse("TEXT_LARGE", errors={"a": SECRET})],
        problem=SECRET,
        prompt=SECRET,
        rounds=[Round("", [PlannedCall(0, "A", {"key": SECRET})])],
    )
    memory = Memory(content=content, metadata={"name": SECRET})
    part = Part(0, 0, Memory(content=content), problem=SECRET)
    found = record(memory=memory, why=why, steps=[step], parts=[part])

    for shown in (SHOWN.line(found), SHOWN.detail(found)):
        text = msgspec.json.encode(shown).decode()
        assert "sk-0" not in text
        assert "[KEY]" in text


def test_what_is_long_is_cut() -> None:
    """A list has a line of each answer; the prompt may be longer than other texts."""
    long = "word " * 100_000
    results = [ActionResult(values={"text": long})] * 1_000
    found = record(
        memory=Memory(content=Content(long)),
        why=Why("validate", dict.fromkeys(map(str, range(1_000)), True), [], long, prompt=long),
        steps=[PlannedStep(0, StepKind.RUN, "A", results=results)],
    )

    assert len(msgspec.json.encode(SHOWN.line(found))) < 2_000
    detail = SHOWN.detail(found)
    assert len(msgspec.json.encode(detail)) < 1_000_000
    assert detail["text"].endswith("… (500,000 characters)")
    assert len(detail["why"]["prompt"]) > explain.MOST_PROMPT > len(detail["why"]["context"])
    assert detail["steps"][0]["results"][0]["values"].startswith('{"text":"word')


def test_values_that_json_cannot_hold_are_shown_as_text() -> None:
    """An author may put anything into a result that travels."""
    result = ActionResult(data={"when": {1, 2}, "raw": b"x"})
    step = PlannedStep(0, StepKind.RUN, "A", results=[result])
    (shown,) = SHOWN.detail(record(steps=[step]))["steps"][0]["results"]

    assert msgspec.json.encode(shown)

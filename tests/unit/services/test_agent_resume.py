"""How an interrupted answer goes on: every case of the tables."""

import pytest

from garrison.workers import ActionResult, Content, Memory
from garrison.workers.services.agent.record import resume
from garrison.workers.services.agent.record.resume import PartMove, StepMove
from garrison.workers.services.agent.record.rows import (
    MessageKey,
    MessageState,
    Outcome,
    Part,
    PlannedStep,
    Record,
    StepKind,
    StepState,
    Why,
)

FAILED = [ActionResult(success=False, error="no")]
RUN, REPLY = StepKind.RUN, StepKind.REPLY


def step(state: StepState, kind: StepKind = RUN, number: int = 0, **more: object) -> PlannedStep:
    """Return a step."""
    return PlannedStep(number, kind, "A", state=state, **more)  # type: ignore[arg-type]


def part(number: int, outcome: Outcome | None = None, step: int = 0, problem: str = "") -> Part:
    """Return a part."""
    memory = Memory(content=Content(str(number)), id=str(number))
    return Part(number, step, memory, outcome, problem=problem)


@pytest.mark.parametrize(
    ("state", "kind", "is_idempotent", "move"),
    [
        (StepState.PLANNED, RUN, False, StepMove.RUN),
        (StepState.PLANNED, RUN, True, StepMove.RUN),
        (StepState.STARTED, RUN, False, StepMove.INTERRUPT),
        (StepState.STARTED, RUN, True, StepMove.RUN_AGAIN),
        (StepState.STARTED, REPLY, False, StepMove.RUN),  # a model has no effects
        (StepState.ENDED, RUN, True, StepMove.SKIP),
        (StepState.INTERRUPTED, RUN, True, StepMove.SKIP),
    ],
)
def test_a_step(state: StepState, kind: StepKind, is_idempotent: bool, move: StepMove) -> None:
    """An action that was interrupted runs again only if it is idempotent."""
    found = resume.step_move(step(state, kind), [], [], is_idempotent=is_idempotent)

    assert found is move


@pytest.mark.parametrize(
    ("before", "move"),
    [
        ([], StepMove.RUN),
        ([step(StepState.ENDED, results=FAILED)], StepMove.RUN),
        ([step(StepState.ENDED, results=FAILED), step(StepState.ENDED)], StepMove.SKIP),
        ([step(StepState.INTERRUPTED, results=FAILED)], StepMove.SKIP),  # never improvised over
    ],
)
def test_a_model_replies_if_no_action_succeeded(before: list[PlannedStep], move: StepMove) -> None:
    """And not in the place of one that was interrupted."""
    reply = step(StepState.PLANNED, REPLY, 9, otherwise=True)

    assert resume.step_move(reply, before, [], is_idempotent=False) is move


@pytest.mark.parametrize("kind", [StepKind.SAY, REPLY])
def test_a_text_that_was_recorded_is_not_made_again(kind: StepKind) -> None:
    """It is what will be said, or was."""
    said = step(StepState.PLANNED, kind, 1)

    assert resume.step_move(said, [], [part(0, step=1)], is_idempotent=False) is StepMove.SKIP
    assert resume.step_move(said, [], [part(0, step=0)], is_idempotent=False) is StepMove.RUN


@pytest.mark.parametrize(
    ("is_new", "repeats", "move"),
    [
        (True, True, PartMove.SEND),
        (True, False, PartMove.SEND),
        (False, True, PartMove.SEND_AGAIN),
        (False, False, PartMove.NOTE_UNCERTAIN),
    ],
)
def test_a_part_without_an_outcome(is_new: bool, repeats: bool, move: PartMove) -> None:
    """It is repeated only where that cannot say it twice."""
    assert resume.part_move(part(0), is_new=is_new, repeats=repeats) is move


def test_a_message_that_was_delivered_before() -> None:
    """Its record may be lost or an old one: what is said may have been said."""
    assert resume.may_have_sent(2)
    assert not resume.may_have_sent(1)


@pytest.mark.parametrize("state", list(MessageState))
def test_what_is_finished(state: MessageState) -> None:
    """Everything but a message in progress."""
    record = Record(MessageKey("s", "r", "1"), Memory(content=Content("Hi")), 1.0, state=state)

    assert resume.is_finished(record) is (state not in {"deciding", "decided"})


def test_the_answer_is_the_same_from_the_record() -> None:
    """A part that was not confirmed has a failed result, in front of its step's own."""
    done = ActionResult(text="done", action="A")
    steps = [step(StepState.ENDED, number=0, results=[done]), step(StepState.PLANNED, number=1)]
    parts = [part(0, Outcome.SENT), part(1, Outcome.REFUSED, problem="gone"), part(2, step=1)]
    record = Record(MessageKey("s", "r", "1"), Memory(content=Content("Hi")), 1.0)
    record.steps, record.parts = steps, parts
    answer = resume.answer_of(record)

    assert [one.id for one in answer.responses] == ["0", "1", "2"]
    assert [one.error for one in answer.results] == [
        "a response was not confirmed as sent: gone",
        "",
    ]
    record.why = Why(problem="no model", end=MessageState.FAILED)
    assert resume.has_no_answer(record)
    assert resume.answer_of(record).results[-1].error == "no model"

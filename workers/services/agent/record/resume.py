"""How an answer goes on from what is recorded of it. Pure."""

from collections.abc import Iterable, Sequence
from enum import Enum

from garrison.workers import ActionResult, Processed

from .rows import FAILURE, UNFINISHED, Outcome, Part, PlannedStep, Record, StepKind, StepState

REPLY = "REPLY"
NOT_CONFIRMED = (Outcome.UNCERTAIN, Outcome.REFUSED)


class StepMove(Enum):
    """What to do with a step."""

    SKIP = "skip"
    RUN = "run"
    RUN_AGAIN = "run again"
    INTERRUPT = "interrupt"  # record and report that it was interrupted


class PartMove(Enum):
    """What to do with a recorded part that has no outcome."""

    SEND = "send"
    SEND_AGAIN = "send again"  # after a query whether it was sent
    NOTE_UNCERTAIN = "note uncertain"


def is_finished(record: Record) -> bool:
    """Return True if the recorded answer is complete: a repeated message gets it."""
    return record.state not in UNFINISHED


def step_move(
    step: PlannedStep,
    before: Sequence[PlannedStep],
    parts: Sequence[Part],
    *,
    is_idempotent: bool,
) -> StepMove:
    """Return what to do with a step.

    Args:
        step: The step.
        before: The steps before it.
        parts: Those that were recorded so far, of all steps.
        is_idempotent: Whether its action may run twice.
    """
    match step.state:
        case StepState.ENDED | StepState.INTERRUPTED:
            return StepMove.SKIP
        case StepState.STARTED if step.kind is StepKind.RUN:
            return StepMove.RUN_AGAIN if is_idempotent else StepMove.INTERRUPT
    if recorded_parts(parts, step.number):  # its text was decided
        return StepMove.SKIP
    if step.otherwise and any(has_succeeded(one) for one in before):
        return StepMove.SKIP
    return StepMove.RUN


def has_succeeded(step: PlannedStep) -> bool:
    """Return True if no model is to improvise in the step's place.

    An interrupted step counts: what it did is not known. One whose result is for the model's reply
    does not.
    """
    if step.state is StepState.INTERRUPTED:
        return True
    if step.for_reply:
        return False
    return step.state is StepState.ENDED and not any(not one.success for one in step.results)


def part_move(part: Part, *, is_new: bool, repeats: bool) -> PartMove:
    """Return what to do with a part that has no outcome.

    Args:
        part: The part.
        is_new: It was recorded by this process just now: nothing was tried.
        repeats: The service that sends it may be called twice with it.
    """
    assert part.outcome is None
    if is_new:
        return PartMove.SEND
    return PartMove.SEND_AGAIN if repeats else PartMove.NOTE_UNCERTAIN


def recorded_parts(parts: Iterable[Part], step: int) -> list[Part]:
    """Return the parts of a step, in order: what it yields again in a repetition."""
    return [part for part in parts if part.step == step]


def may_have_sent(attempt: int) -> bool:
    """Return True if parts may have been sent of which there is no record.

    Args:
        attempt: Of the mailbox: more than 1 for a message that was delivered before. Its record may
            be lost, or be of a backup that was made while it was answered.
    """
    return attempt > 1


def has_no_answer(record: Record) -> bool:
    """Return True if the answer is that there is none: no further step runs."""
    return record.why.end is not None


def answer_of(record: Record) -> Processed:
    """Return the answer as the caller gets it, the same for a repeated message."""
    results: list[ActionResult] = []
    for step in record.steps:
        for part in recorded_parts(record.parts, step.number):
            results += problem_of(part)
        results += step.results
    if record.why.problem:
        results.append(ActionResult(success=False, error=record.why.problem, action=REPLY))
    for part in recorded_parts(record.parts, FAILURE):
        results += problem_of(part)
    return Processed([part.memory for part in record.parts], results)


def problem_of(part: Part) -> list[ActionResult]:
    """Return the failed result of a part that was not confirmed as sent; else none."""
    if part.outcome not in NOT_CONFIRMED:
        return []
    error = f"a response was not confirmed as sent: {part.problem}"
    return [ActionResult(success=False, error=error, action=REPLY)]

"""Steps of a plan as they are recorded. Pure."""

from collections.abc import Iterable
from typing import assert_never

from .actions import Reply, Run, Say, Step, Unknown
from .record.rows import PlannedStep, StepKind


def numbered(steps: Iterable[Step]) -> list[PlannedStep]:
    """Return steps with their numbers."""
    return [_planned(number, step) for number, step in enumerate(steps)]


def _planned(number: int, step: Step) -> PlannedStep:
    match step:
        case Say(content):
            return PlannedStep(number, StepKind.SAY, content=content)
        case Run(action):
            return PlannedStep(number, StepKind.RUN, action.name)
        case Reply():
            return PlannedStep(number, StepKind.REPLY)
        case Unknown(name):
            return PlannedStep(number, StepKind.UNKNOWN, name)
        case _:
            assert_never(step)


def or_reply(steps: list[PlannedStep]) -> list[PlannedStep]:
    """Add that a model replies if no step succeeds."""
    return [*steps, PlannedStep(len(steps), StepKind.REPLY, otherwise=True)]

"""`garrison status --watch`: what has changed is marked, and a supervisor that is gone is shown."""

import time
from collections.abc import Collection, Iterable
from typing import Any

import click
import pytest

from garrison.ipc.errors import SupervisorGone
from garrison.supervisor.cli.output import Invocation
from garrison.supervisor.cli.status_watch import FOOTER, StatusWatch, fitting_lines, watch_status


class FakeScreen:
    """A terminal whose keys are given, each with the time that passes before it."""

    size = (80, 4)

    def __init__(self, clock: list[float], keys: list[tuple[float, str | None]]) -> None:
        self.clock, self.keys, self.drawn = clock, keys, list[list[str]]()

    def key(self, seconds: float) -> str | None:
        if not self.keys:
            raise EOFError
        passed, key = self.keys.pop(0)
        self.clock[0] += passed
        return key

    def draw(self, lines: list[str]) -> None:
        self.drawn.append([click.unstyle(line) for line in lines])


class FakeSource:
    """Answers in turn; None is a supervisor that is gone."""

    def __init__(self, *states: str | None) -> None:
        self.states = list(states)

    def look(self) -> dict[str, Any]:
        state = self.states.pop(0)
        if state is None:
            raise SupervisorGone("/h")
        return {"services": [{"name": "bot", "state": state}]}


def parts(data: dict[str, Any], marked: Collection[str]) -> Iterable[str]:
    """Return what is drawn."""
    (row,) = data["services"]
    yield f"{row['state']}{' marked' * (row['name'] in marked)}"


def watched(
    monkeypatch: pytest.MonkeyPatch, source: FakeSource, keys: list[tuple[float, str | None]]
) -> list[list[str]]:
    """Return what was drawn."""
    clock = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    screen = FakeScreen(clock, keys)
    StatusWatch(source, parts, screen, source.look()).run()  # type: ignore[arg-type]
    return screen.drawn


def test_a_change_is_marked_for_five_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each second is one look; a resize draws what is known."""
    keys: list[tuple[float, str | None]] = [(0.3, None), (0.8, None), (4.0, None), (2.0, None)]
    source = FakeSource("starting", "running", "running", "running")
    drawn = watched(monkeypatch, source, [*keys, (0.1, "q")])
    assert [lines[0] for lines in drawn] == [
        *("starting", "starting", "running marked", "running marked", "running"),
    ]
    assert drawn[-1][-1] == FOOTER
    assert source.states == []


def test_a_supervisor_that_is_gone_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was seen last stays; without a terminal it ends."""
    drawn = watched(monkeypatch, FakeSource("running", None, "failed"), [(1.1, None)] * 2)
    assert [lines[0] for lines in drawn] == ["running", "running", "failed marked"]
    assert "no supervisor answers" in drawn[1][-1]
    assert drawn[2][-1] == FOOTER


def test_lines_that_do_not_fit_are_counted() -> None:
    """The last line says so."""
    assert fitting_lines(["a", "b"], 2) == ["a", "b"]
    assert fitting_lines(["a", "b", "c"], 2) == ["a", "… 2 more lines: garrison status has them"]
    assert len(fitting_lines(["a", "b"], 0)) == 1


def test_it_needs_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names what a script can use."""
    monkeypatch.setenv("TERM", "dumb")
    with pytest.raises(click.UsageError, match="events -f"):
        watch_status(Invocation(), FakeSource("running"), parts)

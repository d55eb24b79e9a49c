"""Which modules the launcher has, and which it does without."""

from collections.abc import Iterator
from typing import Any

from garrison.supervisor.lifecycle.handle import NO_PROCESS
from garrison.supervisor.processes.engine import Fresh, Happened, Lost, Preloaded
from garrison.supervisor.processes.preload import Preloader


class Imports:
    """An engine that notes what it is to import."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, tuple[str, ...]]] = []

    def preload(self, modules: tuple[str, ...]) -> None:
        """Note it."""
        self.asked.append(("preload", modules))

    def refresh(self, modules: tuple[str, ...]) -> None:
        """Note it."""
        self.asked.append(("refresh", modules))

    def check_fresh(self) -> None:
        """Do nothing."""


def after(preloader: Preloader, steps: Iterator[bool], *answers: Happened) -> bool:
    """Return whether steps have ended after these answers."""
    for answer in answers:
        next(steps)
        preloader.take(answer)
    return next(steps, None) is None


def made() -> tuple[Any, list[dict[str, Any]], Preloader]:
    """Return an engine, recorded events, and what uses both."""
    engine: Any = Imports()
    events: list[dict[str, Any]] = []
    record = lambda event, **data: events.append({"event": event, **data})  # noqa: E731
    return engine, events, Preloader(engine, record)


def test_what_may_not_stay_is_left_out_of_a_fresh_launcher() -> None:
    """It is recorded with its reason, and not tried again while nothing has changed."""
    engine, events, preloader = made()
    first = Preloaded({}, ("threads",), 0.1, {"socket": "a socket", "threads": "a pipe"})
    assert after(preloader, preloader.preload(("a", "threads", "socket")), first, Preloaded({}))
    assert engine.asked == [("preload", ("a", "threads", "socket")), ("refresh", ("a",))]
    assert preloader.refused == {
        "socket": "its import leaves a socket open",
        "threads": "its import starts threads",
    }
    refused = [event["module"] for event in events if event["event"] == "preload.refused"]
    assert sorted(refused) == ["socket", "threads"]
    assert after(preloader, preloader.preload(("a", "threads", "socket")))
    assert len(engine.asked) == 2


def test_changed_files_are_tried_again() -> None:
    """In the fresh launcher that they are the reason for."""
    engine, _, preloader = made()
    after(preloader, preloader.preload(("bad",)), Preloaded({}, ("bad",)))
    assert preloader.refused
    assert after(preloader, preloader.refresh(False), Fresh(("file",)))
    assert not preloader.refused
    assert after(preloader, preloader.preload(("bad",)), Preloaded({}))
    assert engine.asked[-1] == ("preload", ("bad",))


def test_what_ends_the_launcher_is_left_out() -> None:
    """All of it: which one it was is unknown."""
    engine, events, preloader = made()
    assert after(preloader, preloader.preload(("bad", "good")), Lost(NO_PROCESS, 0, True))
    assert set(preloader.refused) == {"bad", "good"}
    assert after(preloader, preloader.preload(("bad", "good")))
    assert len(engine.asked) == 1
    assert [event["event"] for event in events] == ["preload.refused"]

"""Progress: one line on a terminal, nothing elsewhere; Ctrl-C reports what goes on."""

import io
from typing import Any

import pytest

from garrison.supervisor.cli.progress import ERASE, OrderProgress, Progress, States, words


class Terminal(io.StringIO):
    """What a terminal was sent."""

    def isatty(self) -> bool:
        return True


class Clock:
    """A clock that is set."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def row(name: str, state: str, generation: int = 1, wanted: bool = True) -> dict[str, Any]:
    """Return what progress reads of a row of `status`."""
    return {"name": name, "state": state, "generation": generation, "wanted": wanted}


def test_a_terminal_shows_one_line_ten_times_a_second_at_most() -> None:
    """What is quick shows nothing; the line is erased at the end."""
    terminal, clock = Terminal(), Clock()
    with Progress(12, "starting", stream=terminal, clock=clock) as shown:
        shown.update(1)
        assert terminal.getvalue() == ""
        clock.now += 0.6
        for _ in range(20):
            shown.update(3, "discord (starting)")
            clock.now += 0.03
    parts = terminal.getvalue().split(ERASE)
    assert parts[1] == "starting 3 of 12 services, 1s: discord (starting)"
    assert len(parts) - 2 == 5
    assert parts[-1] == ""


@pytest.mark.parametrize("quiet", [False, True])
def test_nothing_is_shown_elsewhere(quiet: bool) -> None:
    """Not into a pipe, and not with `--quiet` or `--json`."""
    stream, clock = Terminal() if quiet else io.StringIO(), Clock()
    with Progress(1, "starting", quiet=quiet, stream=stream, clock=clock) as shown:
        clock.now += 9
        shown.update(1)
        assert not shown.shows
    assert stream.getvalue() == ""
    assert OrderProgress("start", "starting", quiet=True).watch is None


def test_an_interrupt_says_what_becomes_of_the_work(capsys: pytest.CaptureFixture[str]) -> None:
    """Also where no progress is shown."""
    with pytest.raises(KeyboardInterrupt), Progress(1, "starting", stream=io.StringIO()):
        raise KeyboardInterrupt
    assert capsys.readouterr().err == "interrupted; the host goes on with it: garrison status\n"


@pytest.mark.parametrize(
    ("verb", "before", "after", "expected"),
    [
        ("start", [("a", "queued", 0)], [("a", "running", 1)], (1, 1, "")),
        ("up", [("a", "queued", 0)], [("a", "starting", 1)], (0, 1, "a (starting)")),
        ("restart", [("a", "running", 4)], [("a", "running", 4)], (0, 1, "a (running)")),
        ("restart", [("a", "running", 4)], [("a", "running", 5)], (1, 1, "")),
        ("restart", [("a", "stopped", 4)], [("a", "running", 4)], (1, 1, "")),
        ("stop", [("a", "running", 4)], [("a", "stopping", 4)], (0, 1, "a (stopping)")),
        ("down", [("a", "running", 4)], [("a", "stopped", 4)], (1, 1, "")),
        ("start", [], [("b", "running", 1)], (0, 0, "")),
        ("apply", [("a", "running", 1)], [("a", "running", 2)], (None, None, "")),
    ],
)
def test_how_far_an_order_is(
    verb: str, before: list[Any], after: list[Any], expected: tuple[Any, ...]
) -> None:
    """Read from `status`; only of the services that the order is about."""
    states = States(verb, ("a*",))
    states.look({"services": [row(*one) for one in before]})
    assert states.look({"services": [row(*one) for one in after]}) == expected


def test_words() -> None:
    """Counts where they are known; many names are cut; nothing controls the terminal."""
    assert words("applying", None, None, "services", 3.0, "a\x1b[31m") == "applying, 3s: a [31m"
    assert words("starting", 0, 0, "services", 1.0, "") == "starting, 1s"
    assert words("writing", 5, None, "files", 0.0, "") == "writing 5 files, 0s"
    rows = [row(f"s{number}", "queued") for number in range(5)] + [row("busy", "starting")]
    done, total, detail = States("start").look({"services": rows})
    assert (done, total) == (0, 6)
    assert detail == "busy (starting), s0 (queued), s1 (queued) and 3 more"

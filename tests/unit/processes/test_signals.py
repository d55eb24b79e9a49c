"""What each signal means: a table."""

import signal

import pytest

from garrison.supervisor import signals
from garrison.supervisor.signals import Meaning


@pytest.mark.parametrize(
    ("number", "terminal", "expected"),
    [
        (signal.SIGTERM, False, Meaning.STOP),
        (signal.SIGINT, False, Meaning.STOP),
        (signal.SIGHUP, True, Meaning.STOP),
        (signal.SIGHUP, False, Meaning.APPLY),
        (signal.SIGUSR1, True, Meaning.REOPEN),
        (signal.SIGCHLD, True, Meaning.REAP),
        (signal.SIGUSR2, False, Meaning.NOTHING),
        (signal.SIGQUIT, True, Meaning.NOTHING),
        (signal.SIGRTMIN + 3, False, Meaning.NOTHING),
    ],
)
def test_the_meaning_of_a_signal(number: int, terminal: bool, expected: Meaning) -> None:
    """A terminal that closes stops its host; without one, SIGHUP is a question to re-read."""
    assert signals.meaning(number, terminal) is expected


def test_every_signal_that_can_be_caught_is() -> None:
    """Apart from faults of the process itself, job control, and what is harmless by default."""
    left = signal.valid_signals() - set(signals.handled())
    names = {signals.name_of(number) for number in left}
    assert names == {
        *("SIGKILL", "SIGSTOP", "SIGSEGV", "SIGBUS", "SIGFPE", "SIGILL"),
        *("SIGTSTP", "SIGTTIN", "SIGTTOU", "SIGCONT"),
        *("SIGPIPE", "SIGXFSZ", "SIGWINCH", "SIGURG"),
    }


def test_signals_have_names() -> None:
    """Real-time signals, too."""
    assert signals.name_of(signal.SIGUSR2) == "SIGUSR2"
    assert signals.name_of(signal.SIGRTMIN + 5) == "SIGRTMIN+5"

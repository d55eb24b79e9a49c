"""The few lines of a crash report that say most."""

import sysconfig
from typing import Any

import msgspec

from garrison.supervisor.cli.crash_excerpt import calls_in_flight, last_frames, log_excerpt
from garrison.supervisor.crashes.report import CrashReport, Failure, InFlight

AT = "2026-05-06T07:08:09.123Z"
TRACEBACK = """Traceback (most recent call last):
  File "/srv/bot.py", line 3, in handle
    self.look()
  File "/srv/bot.py", line 9, in look
    raise KeyError(key)
KeyError: 'x'
"""
STACKS = f"""Thread 0x01 (most recent call first):
  File "/srv/other.py", line 1 in run
Current thread 0x02 (most recent call first):
  File "{sysconfig.get_path("stdlib")}/socket.py", line 5 in recv
  File "/srv/bot.py", line 9 in look
  File "/srv/bot.py", line 3 in handle
  File "/x/garrison/workers/process/main.py", line 7 in _loop
  File "<frozen runpy>", line 88 in _run_code
  File "/x/site-packages/multiprocess/process.py", line 9 in run
"""


def report(**facts: Any) -> CrashReport:
    """Return a crash report."""
    return CrashReport(id="bot-1", n=1, service="bot", at=AT, kind="exit", cause="x", **facts)


def test_where_it_was() -> None:
    """The innermost frame of an exception, else the author's frames of the main thread."""
    failure = Failure("run", "KeyError", TRACEBACK)
    assert last_frames(report(exception=failure, stacks=STACKS)) == [
        'File "/srv/bot.py", line 9, in look',
        "  raise KeyError(key)",
    ]
    assert last_frames(report(stacks=STACKS)) == [
        'File "/srv/bot.py", line 9 in look',
        'File "/srv/bot.py", line 3 in handle',
    ]
    assert last_frames(report()) == []


def test_its_last_words() -> None:
    """Of tracebacks the exception, unless the cause has it; not the worker's own line about it."""
    lines = [
        "one",
        "two",
        *TRACEBACK.splitlines(),
        "three",
        "2026 ERROR garrison.workers.process.worker: bot failed in run",
        "four",
    ]
    assert log_excerpt(report(log=lines)) == ["KeyError: 'x'", "three", "four"]
    in_cause = msgspec.structs.replace(report(log=lines), cause="handle raised KeyError: 'x'")
    assert log_excerpt(in_cause) == ["two", "three", "four"]
    syntax = ['  File "/srv/bot.py", line 2', "    def x(:", "          ^", "SyntaxError: bad"]
    assert log_excerpt(report(log=["one", *syntax])) == ["one", "SyntaxError: bad"]
    chained = "The above exception was the direct cause of the following exception:"
    again = ["", chained, "", *TRACEBACK.splitlines()[:-1], "lib.Refused: no token", "two"]
    lines = [*TRACEBACK.splitlines()[:-1], "lib.Gone", *again]
    explained = msgspec.structs.replace(report(log=lines), cause="it did not start: no token")
    assert log_excerpt(explained) == ["lib.Gone", "two"]


def test_the_calls_that_it_was_handling() -> None:
    """By method and caller; those that it waited for itself are not among them."""
    calls = [InFlight("in", "chat", "ask", 1, AT, 1.0, n) for n in range(3)]
    calls += [InFlight("out", "db", "get", 1, AT, 1.0, 9), InFlight("in", "x", "y", 1, AT, 1.0, 8)]
    shown = calls_in_flight(report(in_flight=calls))
    assert shown == ["it was handling ask of chat (3 times), y of x"]
    assert calls_in_flight(report()) == []

"""The pure parts of plain commands: texts about their end, readiness by lines, notices."""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from garrison.supervisor.processes.command_usage import usage_below
from garrison.workers.children.descendants import below, is_below
from garrison.workers.services.command.notify import fields_of
from garrison.workers.services.command.readiness import LineWatch, patience
from garrison.workers.services.command.words import (
    KEPT_BYTES,
    daemonized,
    ended,
    last_line,
    with_last_line,
)

NODE = b"""/srv/bot.js:1
throw new Error("no token")
^

Error: no token
    at Object.<anonymous> (/srv/bot.js:1:7)

Node.js v20.20.2
"""
PYTHON = b"""Traceback (most recent call last):
  File "<string>", line 1, in <module>
    1/0
ZeroDivisionError: division by zero
"""


@pytest.mark.parametrize(
    ("output", "line"),
    [
        (NODE, "Error: no token"),
        (PYTHON, "ZeroDivisionError: division by zero"),
        (b"\x1b[31mred\x1b[0m and\x07 loud\n\n", "red and loud"),
        (b"", ""),
        (b"  indented alone\n", "indented alone"),
        (b"\xff\xfe no text", "\ufffd\ufffd no text"),
        (b"x" * 400, "x" * 299 + "…"),
        (b"half a line" * 1000 + b"\nwhole\n", "whole"),
    ],
)
def test_the_line_that_says_most_is_quoted(output: bytes, line: str) -> None:
    """The last one that is not the tail of a stack, without colours, and bounded."""
    assert last_line(output[-KEPT_BYTES:]) == line


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (0, "its command exited with code 0"),
        (3, "its command exited with code 3"),
        (127, "its command exited with code 127 (a program in it was not found)"),
        (-9, "its command was killed by SIGKILL"),
        (-64, "its command was killed by SIGRTMAX"),
        (-99, "its command was killed by signal 99"),
    ],
)
def test_an_end_in_words(status: int, text: str) -> None:
    """A negative code is a signal."""
    assert ended(status) == text
    assert with_last_line(text, b"") == text


@pytest.mark.parametrize(
    ("program", "example"),
    [("/usr/sbin/nginx", "daemon off"), ("redis-server", "--daemonize no"), ("mine", "nginx -g")],
)
def test_a_daemon_is_told_how_to_stay(program: str, example: str) -> None:
    """With the option of that program, or an example."""
    assert example in daemonized([program])
    assert daemonized([program]).startswith("the command went into the background")


@pytest.mark.parametrize(
    ("pieces", "found"),
    [
        ([b"now listening on 80\n"], True),
        ([b"now listen", b"ing on 80"], True),
        ([b"now listen\n", b"ing on 80"], False),
        ([b"x" * 200_000, b"listening on"], True),
        ([b"\xff listening on"], True),
        ([b"elsewhere"], False),
    ],
)
async def test_a_line_is_found_however_it_arrives(pieces: list[bytes], found: bool) -> None:
    """In pieces, but not over the end of a line."""
    watch = LineWatch("listening on")
    for piece in pieces:
        watch.feed(piece)
    await asyncio.sleep(0)
    assert watch.found.is_set() is found


@pytest.mark.parametrize(
    ("data", "fields"),
    [
        (b"READY=1\nSTATUS=a = b\n", {"READY": "1", "STATUS": "a = b"}),
        (b"=1\n\xff=2\nplain\nA B=3", {}),
        (b"", {}),
    ],
)
def test_a_notice_is_lines_of_assignments(data: bytes, fields: dict[str, str]) -> None:
    """All else is passed over."""
    assert fields_of(data) == fields


@pytest.mark.parametrize(
    ("start_timeout", "seconds"), [(60.0, 54.0), (5.0, 4.0), (2.0, 1.0), (0.5, 0.25)]
)
def test_a_command_has_less_time_than_its_start(start_timeout: float, seconds: float) -> None:
    """So that the reason is the command's, not the supervisor's."""
    assert patience(start_timeout) == seconds


@pytest.fixture
def tree() -> Iterator[subprocess.Popen[bytes]]:
    """Run a shell with a child that uses the processor."""
    busy = "import time\nwhile time.process_time() < 0.3: pass\nprint()\ninput()"
    child = subprocess.Popen(
        ["sh", "-c", f'"$0" -c "{busy}"; true', sys.executable],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    yield child
    child.communicate()


def test_the_use_of_what_is_below(tree: subprocess.Popen[bytes]) -> None:
    """Without the process itself; what has ended counts with its processor time."""
    assert tree.stdout is not None
    tree.stdout.read(1)  # it has computed
    ticks, resident, seconds = usage_below(tree.pid)
    assert ticks
    assert 4 << 20 < resident < 40 << 20
    assert 0.25 < seconds < 5.0
    (child,) = below(tree.pid)
    assert is_below(child, os.getpid())
    assert below(tree.pid, {child}) == []
    assert not is_below(os.getpid(), child)
    tree.communicate()
    assert usage_below(tree.pid) == (0, 0, 0.0)
    before = usage_below(os.getpid())[2]
    assert before >= 0.25, time.process_time()

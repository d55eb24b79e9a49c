"""Standard streams that are closed, full or not read: the console is never worth the host."""

import sys
from pathlib import Path

from tests.support.commands import ForkedProcess
from tests.support.host import Host, Hosting
from tests.support.proc import descriptors
from tests.support.waiting import PATIENCE, SOON

CONFIG = """
[plugins.echo]
[services.echo]
"""
CLOSED = ("sh", "-c", 'exec "$@" >&- 2>&- <&-', "sh")
NOT_READ = """
import os, sys
kept, full = os.pipe()  # this process has the reading end, and never reads
os.set_inheritable(kept, True)
os.set_blocking(full, False)
try:
    while True:
        os.write(full, bytes(4096))
except BlockingIOError:
    os.set_blocking(full, True)
os.dup2(full, 1)
os.dup2(full, 2)
os.execv(sys.argv[1], sys.argv[1:])
"""


async def test_closed_descriptors(host: Hosting) -> None:
    """A host runs without any; nothing else gets their numbers."""
    running = host(CONFIG, ["echo"], up=False)
    running.prefix = CLOSED
    running.up()
    running.prefix = ()
    opened = descriptors(running.pid)
    assert {opened[number] for number in "012"} == {"/dev/null"}
    assert await running.call("echo", "echo", 1) == 1
    assert running.end() == 0


def test_output_that_is_not_read(host: Hosting) -> None:
    """A pipe that is full delays neither the start, nor an upgrade, nor the end."""
    running = host(CONFIG, ["echo"], up=False)
    running.prefix = (sys.executable, "-c", NOT_READ)
    running.up()
    running.prefix = ()
    assert running.run("upgrade").code == 0
    assert running.end(timeout=SOON) == 0


def in_full(running: Host, *words: str) -> int:
    """Return the exit code of a command that can write nothing."""
    with Path("/dev/full").open("rb") as nothing, Path("/dev/full").open("wb") as full:
        words = ("--home", str(running.home), *words)
        standard = (nothing.fileno(), full.fileno(), full.fileno())
        return ForkedProcess(words, running.folder, running.environ, standard).wait(PATIENCE)


def in_closed(running: Host, *words: str) -> int:
    """Return the exit code of a command without standard streams."""
    running.prefix = CLOSED
    return running.run(*words).code


def test_commands_without_room_for_their_output(host: Hosting) -> None:
    """What was done is done, whatever became of its output; what shows something has failed."""
    running = host(CONFIG, ["echo"], up=False)
    for run in (in_full, in_closed):
        assert run(running, "up", "--detach", "-c", str(running.config)) == 0
        head = running.head()
        assert head is not None
        assert head["settled"]
        assert run(running, "restart", "echo") == 0
        assert run(running, "status") == 1
        assert run(running, "down") == 0
    running.prefix = ("sh", "-c", 'exec "$@" >/dev/full', "sh")
    assert "could not be written: No space left" in running.run("version").err

"""Logs stay within their bound, and the last line before a death is in the file."""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.host import Host, found, hosting
from tests.support.waiting import until

from garrison.ipc import ServiceLost
from garrison.ipc.messages import Changed, Delisted, Entry, Listed
from garrison.supervisor.control.publisher import HELD_S, LISTED_MOST

MOST, FILES = 1 << 20, 3
DEATHS, CHANGES = 3, 8  # changes of state of a service that ends and starts again
CONFIG = f"""
[host]
log_bytes = {MOST}
log_files = {FILES}
[defaults]
watchdog = 0
intensity = 0
[plugins.flood]
[plugins.echo]
"""


@pytest.fixture(scope="module")
def running() -> Iterator[Host]:
    """Run a service that floods, and one that does not."""
    with hosting(CONFIG, ["flood", "echo"]) as host:
        yield host


def logs(host: Host) -> list[Path]:
    """Return the files of the service's log."""
    return list((host.home / "logs").glob("flood.log*"))


def total(host: Host) -> int:
    """Return the bytes of the service's log; a file may be renamed meanwhile."""
    size = 0
    for path in logs(host):
        with contextlib.suppress(FileNotFoundError):
            size += path.stat().st_size
    return size


async def test_logs_and_their_followers_span_the_files(running: Host) -> None:
    """`logs -n` continues in the older files; the host's output has every line once."""
    seen = running.output.count("| spanning")
    async with running.connect() as client:
        for part in range(5):
            await found(client, "flood").say(f"spanning {part} {'.' * 300}", 1000)
            due = seen + 1000 * (part + 1)
            until(lambda due=due: running.output.count("| spanning") == due)  # type: ignore[misc]
    done = running.run("logs", "flood", "-n", "2500").out.splitlines()
    printed = [f"spanning {part} {'.' * 300} {n}" for part in range(5) for n in range(1000)]
    assert done == printed[-2500:]
    shown = [line.partition("| ")[2] for line in running.output.splitlines() if "| spann" in line]
    assert shown == printed


@pytest.mark.parametrize("by_child", [False, True], ids=["thread", "child"])
async def test_a_flood_stays_within_its_bound(running: Host, by_child: bool) -> None:
    """Without a newline, with the loop blocked or not: the files are cut while the service writes,
    calls to others are answered, and the host reports what it dropped."""
    async with running.connect() as client:
        flood, echo = found(client, "flood"), found(client, "echo")
        older = running.home / "logs" / "flood.log.1"
        await flood.begin(by_child)
        await flood.block(1.0)
        for _ in range(3):  # three more moves, whatever was there
            before = older.stat().st_mtime_ns if older.exists() else 0
            until(lambda b=before: older.exists() and older.stat().st_mtime_ns != b)  # type: ignore[misc]
            assert await echo.add(1) == 3
        assert len(logs(running)) <= FILES + 1  # with the one that is being made
        await flood.end()
        until(lambda: total(running) <= MOST * FILES, what="the log is within its bound")
        until(lambda: running.events("log.dropped", "flood"))
        await flood.say("after the flood", 3)
    lines = running.run("logs", "flood", "-n", "3").out.splitlines()
    assert lines == [f"after the flood {number}" for number in range(3)]
    assert running.status("flood")["restarts"] == 0


async def test_a_flood_of_descriptions_wakes_other_members_rarely(
    running: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A service whose description changes all the time is published a few times a second, and with
    what is published anyway. Ends are announced meanwhile."""
    async with running.connect() as client:
        flood, echo, seen = found(client, "flood"), found(client, "echo"), list[str]()
        directory = client.session.directory
        apply = directory.apply

        def note(change: Listed | Delisted | Changed) -> Entry | None:
            seen.extend([change.entry.name] if isinstance(change, Listed) else ())
            return apply(change)

        began = time.monotonic()
        await flood.flood_descriptions()
        monkeypatch.setattr(directory, "apply", note)
        for _ in range(DEATHS):
            pid = running.status("echo")["pid"]
            waiting = asyncio.ensure_future(echo.hang("here"))
            await echo.add(1)
            os.kill(pid, signal.SIGKILL)
            with pytest.raises(ServiceLost):
                await waiting
            running.until_reborn("echo", pid)
        assert await flood.calm()
        most = LISTED_MOST + (time.monotonic() - began) / HELD_S + DEATHS * CHANGES
    assert 0 < seen.count("flood") <= most


async def test_a_flood_of_the_supervisor_holds_up_no_other(running: Host) -> None:
    """While a worker sends the supervisor more than it can read, the end of another is announced
    to its callers, it is restarted, and orders are answered."""
    async with running.connect() as client:
        flood, echo = found(client, "flood"), found(client, "echo")
        await flood.flood_control()
        for _ in range(3):
            pid = running.status("echo")["pid"]
            waiting = asyncio.ensure_future(echo.hang("here"))
            await echo.add(1)  # by now the other call runs
            os.kill(pid, signal.SIGKILL)
            with pytest.raises(ServiceLost):
                await waiting
            running.until_reborn("echo", pid)
        assert await flood.calm()


async def test_the_last_line_before_a_kill_is_there(running: Host) -> None:
    """Printed text is in the file at a SIGKILL, without a flush."""
    async with running.connect() as client:
        pid = running.status("flood")["pid"]
        with pytest.raises(ServiceLost):
            await found(client, "flood").die_saying("these are my last words")
        running.until_reborn("flood", pid)
    assert "these are my last words" in running.run("logs", "flood", "-n", "5").out.splitlines()

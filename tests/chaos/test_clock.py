"""A wall clock that jumps by days changes nothing, because all decisions use a monotonic clock.

Supervisor, launcher, workers and the command line read the wall clock with an offset from a file.
"""

import asyncio
import os
import signal
import time
from datetime import datetime
from pathlib import Path

import pytest
from tests.support.host import ROOT, Host, Hosting, found
from tests.support.proc import stat
from tests.support.waiting import SOON, eventually, until

from garrison.ipc import CallTimeout, with_timeout

pytestmark = pytest.mark.external  # its processes all start anew, with a module of its own

DAY = 86_400.0
# Read by each Python process before anything else is.
SITE = """
import os, time
def _jumping():
    path, real, ns = os.environ.get("XDG_CLOCK", ""), time.time, time.time_ns
    local, gm = time.localtime, time.gmtime
    def offset():
        try:
            with open(path) as file:
                return float(file.read() or 0)
        except (OSError, ValueError):
            return 0.0
    time.time = lambda: real() + offset()
    time.time_ns = lambda: ns() + int(offset() * 1e9)
    time.localtime = lambda at=None: local(time.time() if at is None else at)
    time.gmtime = lambda at=None: gm(time.time() if at is None else at)
_jumping()
"""
CONFIG = """
[host]
orphan_grace = 20.0
[defaults]
env = {{ NOTES = "{notes}" }}
[plugins]
steady = {{}}
hang = {{}}
post = {{}}
mailbox = {{}}
ailing = {{}}
[services.hang]
watchdog = 1.0
[services.ailing]
health_interval = 0.2
config = {{ says = "{notes}" }}
"""


class Clock:
    """The wall clock of one host."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "clock"
        self.jump(0.0)
        (folder / "site").mkdir()
        (folder / "site" / "sitecustomize.py").write_text(SITE)
        path = os.pathsep.join([str(folder / "site"), str(ROOT / ".src")])
        self.env = {"PYTHONPATH": path, "XDG_CLOCK": str(self.file)}  # workers take XDG_…

    def jump(self, seconds: float) -> None:
        """Set the offset of the wall clock for all processes."""
        new = self.file.with_suffix(".new")
        new.write_text(str(seconds))
        new.rename(self.file)


@pytest.fixture
def clock(tmp_path: Path) -> Clock:
    """Return a clock that the test sets."""
    return Clock(tmp_path)


@pytest.fixture
def running(host: Hosting, clock: Clock, tmp_path: Path) -> Host:
    """Return a host that uses that clock."""
    (tmp_path / "says").write_text("True")
    plugins = ["steady", "hang", "post", "ailing"]
    return host(CONFIG.format(notes=tmp_path), plugins=plugins, env=clock.env)


def pids(running: Host) -> dict[str, int]:
    """Return the pid of each service."""
    return {name: row["pid"] for name, row in running.rows().items()}


def shown_now(running: Host) -> float:
    """Return the offset of the host's clock, by its last event."""
    running.ask("reset", "steady")
    running.ask("restart", "listener")
    return datetime.fromisoformat(running.events()[-1]["time"]).timestamp() - time.time()


JUMPS = pytest.mark.parametrize("jump", [3 * DAY, -3 * DAY])


@JUMPS
async def test_running_services_are_not_affected(running: Host, clock: Clock, jump: float) -> None:
    """No watchdog fires, no service ends, ages stay correct, and deadlines keep their length."""
    before = pids(running)
    clock.jump(jump)

    async with running.connect() as client:
        steady, hang = found(client, "steady"), found(client, "hang")
        begun = await steady.ticks()
        await eventually(lambda: _more(steady, begun + 30))  # longer than the watchdog of hang
        began = time.monotonic()
        with pytest.raises(CallTimeout):
            await with_timeout(hang, 0.5).never()
        assert 0.4 < time.monotonic() - began < SOON
        call = asyncio.ensure_future(with_timeout(hang, 10.0).never())
        clock.jump(-jump)
        await asyncio.wait({call}, timeout=0.5)
        assert not call.done()
        call.cancel()

    clock.jump(jump)
    assert abs(shown_now(running) - jump) < 60, "the clock did not jump at all"
    after = pids(running)
    del before["listener"], after["listener"]
    assert after == before
    for row in running.rows().values():
        assert 0 <= row["uptime_s"] < 100
        assert row["beat_age_s"] is None or 0 <= row["beat_age_s"] < 10
        assert row["restarts"] == 0
    health = running.status("ailing")["health"]
    assert health["well"]
    assert 0 <= health["age_s"] < 10
    assert 0 <= health["took_s"] < 10
    assert 0 <= running.ask("status")["supervisor"]["uptime_s"] < 100


async def _more(steady: object, ticks: int) -> bool:
    return bool(await steady.ticks() >= ticks)  # type: ignore[attr-defined]


@JUMPS
async def test_services_that_hang_or_die_are_restarted_as_before(
    running: Host, clock: Clock, jump: float, tmp_path: Path
) -> None:
    """By the watchdog, after a crash, after bad health. Backoff has its usual length, and records
    have real ages."""
    clock.jump(jump)
    hang = running.status("hang")["pid"]
    async with running.connect() as client:
        blocked = asyncio.ensure_future(found(client, "hang").sleep_in_the_loop())
        await asyncio.wait({blocked}, timeout=0.1)
        clock.jump(-jump)
        await asyncio.to_thread(running.until_reborn, "hang", hang)
        await asyncio.wait({blocked})
        blocked.exception()
    (death,) = running.status("hang")["deaths"]
    assert death["kind"] == "watchdog"
    assert 0 <= death["uptime_s"] < 100

    steady = running.kill("steady")
    steady = running.until_reborn("steady", steady)["pid"]
    os.kill(steady, signal.SIGKILL)
    clock.jump(jump)
    until(lambda: running.status("steady")["pid"] != steady)
    row = running.status("steady")
    assert row["again_in_s"] is None or 0 <= row["again_in_s"] <= 1
    running.until_reborn("steady", steady)
    assert all(0 <= death["uptime_s"] < 100 for death in running.status("steady")["deaths"])

    ailing = running.status("ailing")["pid"]
    (tmp_path / "says").write_text("False in 1")
    running.until_reborn("ailing", ailing)


@JUMPS
async def test_messages_are_retried_and_none_expires(
    running: Host, clock: Clock, jump: float, tmp_path: Path
) -> None:
    """A message with an hour to live keeps it, also if the mailbox dies after the jump; keys are
    known. The killed mailbox may have delivered them, so no attempt is told to be the first."""
    running.ask("stop", "receiver")
    async with running.connect() as client:
        await client.post("receiver", "accept_at", 1, 3, key="one", expires=3600.0)
        await client.post("receiver", "take", 2, expires=3600.0)
        clock.jump(jump)
        running.until_reborn("mailbox", running.kill("mailbox"))
        await client.post("receiver", "accept_at", 1, 3, key="one")
        running.ask("start", "receiver")
        path = tmp_path / "receiver"

        async def there() -> bool:
            return path.exists() and len(path.read_text().split()) >= 12

        await eventually(there)
        listed = await found(client, "mailbox").ls()
    lines = [line.split() for line in path.read_text().splitlines()]
    assert [(line[0], line[2]) for line in lines] == [
        ("1", "2"),
        ("1", "2"),
        ("1", "3"),
        ("2", "2"),
    ]
    assert not listed["letters"]


@JUMPS
def test_the_next_supervisor_adopts_as_before(running: Host, clock: Clock, jump: float) -> None:
    """Orphans have their whole grace and no more; the snapshot counts as just written."""
    before = pids(running)
    os.kill(running.pid, signal.SIGKILL)
    running.end()
    clock.jump(jump)
    os.kill(before["wide"], signal.SIGKILL)  # the launcher looks at its clock now
    until(lambda: not stat(before["wide"]))
    running.up()
    after = pids(running)
    del before["wide"], after["wide"]
    assert after == before
    for row in running.rows().values():
        assert 0 <= row["uptime_s"] < 100
    running.until_reborn("steady", running.kill("steady"))


def test_orphans_end_after_their_grace(host: Hosting, clock: Clock, tmp_path: Path) -> None:
    """A clock that is set back days does not lengthen it."""
    running = host("[host]\norphan_grace = 1.0\n[plugins.steady]\n", ["steady"], env=clock.env)
    os.kill(running.pid, signal.SIGKILL)
    running.end()
    clock.jump(-3 * DAY)
    until(lambda: not running.processes())

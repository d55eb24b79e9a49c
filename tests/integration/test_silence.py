"""What ends in silence in a service is logged and shown in `status`."""

from collections.abc import Iterator

import pytest
from tests.support.host import Host, found, hosting
from tests.support.waiting import until, until_true

from garrison.ipc import CallTimeout, Overloaded, with_timeout

CONFIG = """
[plugins.corpse]
[services.corpse]
threads = 4
secrets = ["CORPSE_TOKEN"]
[services.strict]
plugin = "corpse"
task_errors = "crash"
"""
TOKEN = "token-0123456789"


@pytest.fixture(scope="module")
def running() -> Iterator[Host]:
    """Run two of the same service."""
    with hosting(CONFIG, ["corpse"], env={"CORPSE_TOKEN": TOKEN}) as host:
        yield host


def lines(host: Host) -> list[str]:
    """Return the warnings of the service."""
    found: list[str] = host.rows()["corpse"]["warnings"]
    return found


def is_running(host: Host, restarts: int) -> bool:
    """Return True once the strict service runs again."""
    row = host.rows()["strict"]
    return bool(row["restarts"] == restarts and row["state"] == "running")


async def test_lost_work_is_shown_and_logged(running: Host) -> None:
    """A failed task, a cancelled timer and the service's own warning; without a secret."""
    async with running.connect() as client:
        corpse = found(client, "corpse")
        await corpse.lose_a_task()
        await corpse.lose_a_timer()
        await corpse.warn("queue", f"a queue is full {'x' * 190} {TOKEN}")
        await corpse.warn("gone", "soon gone")
        await corpse.warn("gone", None)
        until(lambda: len(lines(running)) == 3, what="three warnings")
    text = "\n".join(lines(running))
    assert "its background work ping was cancelled" in text
    assert "task _poll, created in corpse.py:" in text
    assert "ValueError: poll ended with [CORPSE_TOKEN]" in text
    assert max(map(len, lines(running))) == 200
    assert TOKEN[:6] not in text
    assert "task.failed service=corpse" in running.log("corpse")
    assert "in _poll" in running.log("corpse")
    shown = running.run("status").out
    assert "corpse ! a queue is full" in shown
    assert "running !" in shown
    assert "! its background work ping" in running.run("status", "corpse").out
    assert running.rows()["corpse"]["restarts"] == 0


async def test_a_lost_task_is_a_crash_where_the_config_says_so(running: Host) -> None:
    """So is essential work that ended."""
    async with running.connect() as client:
        strict = found(client, "strict")
        for number, lose in enumerate((strict.lose_a_task, strict.lose_the_essential), 1):
            await lose()
            await until_true(lambda n=number: is_running(running, n))  # type: ignore[misc]

    def causes() -> list[str]:
        (row,) = running.ask("status", "strict")["services"]
        return sorted(death["cause"] for death in row["deaths"])

    until(lambda: len(causes()) == 2, what="both crash reports")
    assert "EssentialWorkEnded: the essential work connection returned" in causes()[0]
    assert "ValueError: poll ended with none" in causes()[1]


async def test_a_blocked_loop_is_logged(running: Host) -> None:
    """With its stack, long before the watchdog."""
    async with running.connect() as client:
        await found(client, "corpse").block(0.8)
    until(lambda: "loop.blocked service=corpse" in running.log("corpse"))
    assert "time.sleep(seconds)" in running.log("corpse")


async def test_stuck_threads_are_named(running: Host) -> None:
    """In the errors of the calls that find none, and in `status`."""
    async with running.connect() as client:
        corpse = found(client, "corpse")
        held = [with_timeout(corpse, 0.5).hold() for _ in range(4)]
        assert await corpse.quick() == "quick"  # one method takes three of the four at most
        for call in held[:3]:
            with pytest.raises(CallTimeout):
                await call
        with pytest.raises(Overloaded, match="hold ×3"):
            await held[3]
        with pytest.raises(Overloaded, match=r"hold ×3 .*3 given up by the caller"):
            await with_timeout(corpse, 60).hold()
        until(lambda: any("hold ×3" in line for line in lines(running)))
        row = running.rows()["corpse"]
        assert row["threads"] == {"most": 4, "busy": 3, "stuck": 3, "waiting": 0}
        assert "3 of 4 held" in running.run("status", "corpse").out
        await corpse.release()
        until(lambda: not any("hold" in line for line in lines(running)))
        assert running.rows()["corpse"]["threads"]["busy"] == 0

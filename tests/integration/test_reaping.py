"""Children of a living worker: orphans leave no zombie, the author's own keep their status."""

import asyncio
from collections.abc import Iterator

import pytest
from tests.support.host import Host, found, hosting
from tests.support.proc import alive, children
from tests.support.waiting import until

from garrison.supervisor.processes.usage import sample_quickly

LATE_S = 4.0  # well past the time for which a starter may still wait

CONFIG = """
[plugins.family]
[services.family]
[services.orphans]
plugin = "family"
type = "family"
"""


@pytest.fixture(scope="module")
def running() -> Iterator[Host]:
    """Run services that have children."""
    with hosting(CONFIG, ["family"]) as host:
        yield host


def test_orphans_vanish_while_their_worker_runs(running: Host) -> None:
    """Background jobs, daemons that forked twice, dropped Popen objects: none stays a zombie."""
    pid = asyncio.run(running.call("orphans", "leave_orphans"))
    assert children(pid)
    until(lambda: not children(pid), what="nothing is left below it")
    assert running.status("orphans")["restarts"] == 0


def test_orphans_that_appear_while_children_are_started(running: Host) -> None:
    """They are not taken for children of the service's own; and zombies do not count as its
    processes."""
    pid = asyncio.run(running.call("orphans", "leave_many", 120, 12))
    until(lambda: not any(map(alive, children(pid))))
    assert sample_quickly(pid).processes == 1
    until(lambda: not children(pid), what="nothing is left below it")
    assert running.status("orphans")["restarts"] == 0


async def test_a_childs_exit_status_is_its_starters_however_late(running: Host) -> None:
    """In whatever way it was started: the status can still be read."""
    async with running.connect() as client:
        family = found(client, "family")
        pid = await family.begin()

        def living() -> list[int]:
            """Return what has not ended yet, but for multiprocessing's own helper."""
            return [child for child in children(pid) if alive(child)][1:]

        await asyncio.to_thread(until, lambda: not living(), what="they have ended, and stand")
        await asyncio.sleep(LATE_S)  # what must not happen has no event
        outcome = await family.outcome()
        assert {way: codes for way, codes in outcome.items() if codes[0] != codes[1]} == {}
        assert running.status("family")["restarts"] == 0

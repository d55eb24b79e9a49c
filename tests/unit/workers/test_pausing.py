"""A service's own view of a pause: `every` waits, unless it keeps something in order."""

import asyncio
from typing import Self

from tests.support.waiting import until_true

from garrison.ipc.messages import Changed, Entry, Manifest, Paused, State
from garrison.workers import Runtime, Service
from garrison.workers.testing import run


class Ticking(Service):
    """Counts two kinds of calls."""

    service_type = "ticking"

    @classmethod
    async def start(cls, runtime: Runtime) -> Self:
        """Begin both."""
        service = cls(runtime)
        service.work = service.upkeep = 0
        service.every(0.001, service._work)
        service.every(0.001, service._upkeep, while_paused=True)
        return service

    def _work(self) -> None:
        self.work += 1

    def _upkeep(self) -> None:
        self.upkeep += 1


async def test_a_paused_service_does_no_periodic_work() -> None:
    """What it missed is one call; what keeps it in order goes on."""
    async with run(Ticking) as service:
        runtime = service.runtime
        session, name = runtime.client.session, runtime.name
        session.directory.replace([Entry(name, "p", 0, Manifest("ticking"), State.RUNNING, True)])
        assert not runtime.paused
        change = Changed(name, State.RUNNING, True, 1, b"", "", Paused("by an operator"))
        session.handle(change)
        assert runtime.paused
        await asyncio.sleep(0)
        before, upkeep = service.work, service.upkeep
        await until_true(lambda: service.upkeep > upkeep + 3)
        assert service.work <= before + 1
        assert before == service.work

        session.handle(Changed(name, State.RUNNING, True, 1, b"t"))
        await runtime.until_resumed()
        await until_true(lambda: service.work > before)

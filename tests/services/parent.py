"""A service that starts processes, each with a child of its own."""

import asyncio
import os
from asyncio.subprocess import PIPE
from typing import Any

from garrison.workers import Plugin, Service

FAMILY = "trap '' TERM; setsid sh -c 'trap \"\" TERM; echo $$; exec sleep 600' & echo $$; wait"
BRIEF = "setsid sleep 600 & echo $$ $!"


class Parent(Service):
    """Its methods return pids: of a process, and of what that has started in another session."""

    service_type = "parent"

    async def family(self, scope: str = "service", seconds: float = 0.0) -> list[int]:
        """Start a process that has a child, neither of which ends by SIGTERM."""
        pids = await self._start(FAMILY, scope=scope)
        if seconds:
            await asyncio.sleep(seconds)
        return pids

    async def emit_family(self, seconds: float) -> list[int]:
        """Write the pids to the log, and run on until the call ends."""
        pids = await self._start(FAMILY, scope="call")
        print("pids", *pids, flush=True)
        await asyncio.sleep(seconds)
        return pids

    async def brief(self) -> list[int]:
        """Start a process that ends at once and leaves another one."""
        process = await self.runtime.process(["sh", "-c", BRIEF], scope="service", stdout=PIPE)
        assert process.stdout is not None
        pids = [int(word) for word in (await process.stdout.readline()).split()]
        assert await process.wait() == 0
        return pids

    async def idle(self, seconds: float) -> list[int]:
        """Start a process that ends once it is idle."""
        return await self._start(FAMILY, scope="service", idle=seconds)

    async def environment(self) -> str:
        """Return the environment of a process."""
        process = await self.runtime.process(["env"], stdout=PIPE)
        assert process.stdout is not None
        return (await process.stdout.read()).decode()

    async def mistake(self, kind: str) -> str:
        """Return the error of a wrong call."""
        kinds: dict[str, dict[str, Any]] = {
            "text": {"command": "ls"},
            "scope": {"command": ["ls"], "scope": "agent"},
            "missing": {"command": ["/no/such/program"]},
        }
        given = kinds[kind]
        try:
            await self.runtime.process(**given)
        except (TypeError, ValueError, OSError) as error:
            return f"{type(error).__name__}: {error}"
        return ""

    async def many(self) -> str:
        """Start processes until that is refused."""
        try:
            while True:
                await self.runtime.process(["sleep", "600"], scope="call")
        except RuntimeError as error:
            return str(error)

    async def pid(self) -> int:
        """Return the pid of this worker."""
        return os.getpid()

    async def _start(self, script: str, **options: Any) -> list[int]:
        process = await self.runtime.process(["sh", "-c", script], stdout=PIPE, **options)
        assert process.stdout is not None
        with process.use():
            pids = [int(await process.stdout.readline()) for _ in range(2)]
        assert process.pid in pids
        return pids


plugin = Plugin("parent", services=[Parent])

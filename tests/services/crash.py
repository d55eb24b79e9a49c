"""A service that fails in the way that `MODE` in its environment selects.

A file that `MENDED` names, once it is there, has it behave.
"""

import asyncio
import ctypes
import os
import time
from pathlib import Path
from typing import Any, Self

from garrison.workers import PermanentFailure, Plugin, Runtime, Service


def mode(runtime: Runtime) -> str:
    """Return how to fail."""
    mended = runtime.get_setting("MENDED")
    if mended and Path(mended).exists():
        return ""
    return str(runtime.get_setting("MODE", ""))


async def init(config: Any, runtime: Runtime) -> None:
    """Fail before the service's own start."""
    match mode(runtime):
        case "init raises":
            raise RuntimeError("init cannot")
        case "init hangs":
            await asyncio.Event().wait()
        case "init exits":
            os._exit(9)


class CrashService(Service):
    """Fails."""

    service_type = "crash"

    @classmethod
    async def start(cls, runtime: Runtime) -> Self:
        service = cls(runtime)
        service.ended = asyncio.Event()
        match mode(runtime):
            case "start raises":
                service._deep_in_start()
            case "start hangs":
                await asyncio.Event().wait()
            case "start blocks":
                time.sleep(600)  # noqa: ASYNC251 (what an author should not do)
            case "start exits":
                os._exit(0)
            case "start leaves":
                raise SystemExit(3)
            case "start refuses":
                raise PermanentFailure("bad token")
            case "start returns nothing":
                return None  # type: ignore[return-value]  # as an author may forget
            case "spawn raises":
                service.spawn(service._raise_soon())
            case "every raises":
                service.every(0.05, service._raise)
            case "ready":
                runtime.ready(service)
                await service.ended.wait()
        return service

    def _deep_in_start(self) -> None:
        raise RuntimeError("cannot start: no connection")

    async def _raise_soon(self) -> None:
        await asyncio.sleep(0.05)
        self._raise()

    def _raise(self) -> None:
        raise LookupError("the background failed")

    async def _leave(self, code: int) -> None:
        raise SystemExit(code)

    async def stop(self) -> None:
        match mode(self.runtime):
            case "stop raises":
                raise RuntimeError("stop cannot")
            case "stop hangs":
                await asyncio.Event().wait()

    async def pid(self) -> int:
        """Return the worker's pid."""
        return os.getpid()

    async def crash(self) -> None:
        """Fail in the background."""
        self.spawn(self._raise_soon())

    async def exit(self, code: int) -> None:
        """End the process at once."""
        os._exit(code)

    async def leave(self, code: int) -> None:
        """Leave by SystemExit in the background."""
        self.spawn(self._leave(code))

    async def segfault(self) -> None:
        """Read where nothing is."""
        ctypes.string_at(0)

    async def speak(self, text: str) -> None:
        """Print a text."""
        print(text)

    async def block(self) -> None:
        """Block the loop."""
        time.sleep(600)  # noqa: ASYNC251 (what an author should not do)

    async def ask_for(self, name: str, method: str) -> None:
        """Call another service."""
        proxy = self.runtime.get_service(name)
        assert proxy is not None
        await getattr(proxy, method)()

    async def hang_up(self) -> None:
        """Let a start that blocks return."""
        self.ended.set()

    async def nap(self, seconds: float) -> int:
        """Return the worker's pid after a while."""
        await asyncio.sleep(seconds)
        return os.getpid()

    async def hang(self) -> None:
        """Never return."""
        await asyncio.Event().wait()


plugin = Plugin(name="crash", services=[CrashService], init=init)

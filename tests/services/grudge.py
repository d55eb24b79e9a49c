"""Services that break the promises of garrison, for tests of the checks that detect it."""

from typing import Self

from garrison.workers import Plugin, Runtime, Service


class Once(Service):
    """Starts once."""

    service_type = "once"

    @classmethod
    async def start(cls, runtime: Runtime) -> Self:
        if runtime.generation > 1:
            raise RuntimeError("once is enough")
        return cls(runtime)


class Forgetful(Service):
    """Throws away what it was given, each moment."""

    service_type = "forgetful"

    @classmethod
    async def start(cls, runtime: Runtime) -> Self:
        service = cls(runtime)
        service.every(0.002, service._forget)
        return service

    async def _forget(self) -> None:
        for path in self.runtime.data_folder.glob("chaos-*"):
            path.unlink(missing_ok=True)


plugin = Plugin(name="grudge", services=[Once, Forgetful])

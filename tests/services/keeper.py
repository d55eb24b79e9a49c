"""A service that keeps its secret badly: it prints, logs, raises and returns it.

`MODE` in its environment selects what else it does; with `GATE` its import waits for that file.
"""

import asyncio
import base64
import logging
import os
import sys
import threading
import time
import warnings
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Self

from garrison.workers import PermanentFailure, Plugin, Runtime, Service

BESIDE = Path(__file__).parent
if (BESIDE / "shut").exists():  # read while the others run
    (BESIDE / "reading").write_text(str(os.getpid()))
    while (BESIDE / "shut").exists():
        time.sleep(0.01)


class Spilled(Exception):
    """Raised on request."""


async def init(config: Any, runtime: Runtime) -> None:
    """Tell it before the service's own start."""
    if runtime.get_setting("MODE") == "init raises":
        raise Spilled(f"init with {runtime.get_setting('TOKEN')}")


class KeeperService(Service):
    """Has a token."""

    service_type = "keeper"

    @classmethod
    async def start(cls, runtime: Runtime) -> Self:
        service = cls(runtime)
        service.token = token = runtime.get_setting("TOKEN")
        assert os.environ["TOKEN"] == token
        match runtime.get_setting("MODE"):
            case "start raises":
                raise KeyError(token) from Spilled(token.encode())
            case "start refuses":
                raise PermanentFailure(f"bad token {token}")
            case "long reason":  # cut in the middle of the token
                raise PermanentFailure("x" * (2000 - len(token) // 2) + token)
            case "background raises":
                service.spawn(service._fail())
            case "exits":
                sys.exit(f"leaving with {token}")
        return service

    async def _fail(self) -> None:
        await asyncio.sleep(0)
        raise Spilled([self.token])

    async def tell(self) -> str:
        """Return it, which is the service's own affair."""
        return str(self.token)

    async def spill(self) -> None:
        """Write it in every way that Python has."""
        token = self.token
        print("printed", token, flush=True)
        print(token[:9], end="", flush=True)
        print(token[9:])
        print(repr(token), [token], {"token": token.encode()}, file=sys.stderr)
        print(base64.b64encode(f"bot:{token}".encode()).decode())
        sys.stdout.buffer.write(token.encode() + b"\n")
        self.runtime.logger.error("logged %s", token)
        logging.getLogger(token).warning("under its name")
        warnings.warn(token, stacklevel=1)
        thread = threading.Thread(target=self._raise, args=("thread",))
        thread.start()
        await asyncio.to_thread(thread.join)
        asyncio.get_running_loop().call_soon(self._raise, "callback")
        await asyncio.sleep(0)

    def _raise(self, where: str) -> None:
        raise Spilled(f"{where} with {self.token}")

    async def fail(self) -> None:
        """Raise with it."""
        try:
            self._raise("method")
        except Spilled as error:
            raise LookupError({"headers": {"Authorization": f"Bearer {self.token}"}}) from error

    def fail_in_a_thread(self) -> None:
        """Raise with it."""
        self._raise("thread")

    async def numbers(self) -> AsyncIterator[int]:
        """Raise with it after a while."""
        yield 1
        self._raise("stream")

    async def use(self, key: str = os.environ.get("TOKEN", "")) -> None:
        """Have it for a default."""

    async def crash(self) -> None:
        """Fail in the background."""
        self.spawn(self._fail(), name=f"with {self.token}")

    async def abort(self) -> None:
        """End as C code ends."""
        os.abort()

    async def stop(self) -> None:
        if self.runtime.get_setting("MODE") == "stop raises":
            self._raise("stop")


plugin = Plugin(name="keeper", services=[KeeperService], init=init)

"""What the host looks like: one `status` a second for all tabs, none while no page is open.

With the supervisor gone, the last picture stays. Durations are seconds.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

from garrison.ipc import OrderFailed, SupervisorGone

Row: TypeAlias = Mapping[str, Any]  # of a service, as `status` has it
Ask: TypeAlias = Callable[[int], Awaitable[Mapping[str, Any]]]

EVERY_S = 1.0
VIEWERS_MOST = 32  # users with a picture of their own
GONE = "its services wait for the next one, which garrison up starts"
OWN = -1  # the viewer of all services: the host's own user, and root


class SupervisorSilent(SupervisorGone):
    """A supervisor runs, and does not answer.

    Args:
        home: Its home.
        text: The sentence about it, where there is one already.
    """

    def __init__(self, home: str, text: str = "") -> None:
        super().__init__(home)
        silent = f"the supervisor at {home} runs and does not answer; its services run on"
        self.args = (text or silent,)


@dataclass(frozen=True, slots=True)
class Picture:
    """What `status` answered last.

    Attributes:
        services: The rows of services by NAME, in the order of the config.
        supervisor: The row of the supervisor.
        at: When it was answered, in Unix seconds; 0: never.
        gone: Why there is no newer one; empty: there is none missing.
    """

    services: Mapping[str, Row] = field(default_factory=dict)
    supervisor: Row = field(default_factory=dict)
    at: float = 0.0
    gone: str = ""


class Pictures:
    """The pictures of all viewers.

    Args:
        ask: Returns the data of `status` for a viewer; raises OrderFailed or SupervisorGone.
    """

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self._views: dict[int, _View] = {}

    async def now(self, viewer: int = OWN) -> Picture:
        """Return a picture that is at most a second old, or the last one.

        Args:
            viewer: The uid of an operator, who sees some services; `OWN` sees all.

        Raises:
            OrderFailed: The viewer may see nothing.
        """
        return await self._view(viewer).now()

    def changes(self, viewer: int = OWN) -> AsyncIterator[Picture]:
        """Yield a picture, and each later one, a second apart. Raises as `now`."""
        return self._view(viewer).changes()

    async def close(self) -> None:
        """Ask no more."""
        for view in self._views.values():
            await view.close()

    def _view(self, viewer: int) -> "_View":
        if viewer not in self._views and len(self._views) >= VIEWERS_MOST:
            for other in [key for key, view in self._views.items() if view.is_idle]:
                del self._views[other]
        return self._views.setdefault(viewer, _View(self._ask, viewer))


class _View:
    """The picture of one viewer."""

    def __init__(self, ask: Ask, viewer: int) -> None:
        self._ask, self._viewer = ask, viewer
        self._last = Picture()
        self._asked_at = float("-inf")
        self._asking: asyncio.Task[Picture] | None = None

    @property
    def is_idle(self) -> bool:
        """Return whether no page waits for it."""
        return self._asking is None or self._asking.done()

    async def now(self) -> Picture:
        if self._asking is None and time.monotonic() - self._asked_at < EVERY_S:
            return self._last
        if self._asking is None:
            self._asking = asyncio.create_task(self._read(), name="status")
            self._asking.add_done_callback(self._asked)
        return await asyncio.shield(self._asking)

    async def changes(self) -> AsyncIterator[Picture]:
        shown: Picture | None = None
        while True:
            picture = await self.now()
            if picture is not shown:
                shown = picture
                yield picture
            await asyncio.sleep(max(self._asked_at + EVERY_S - time.monotonic(), 0.05))

    async def close(self) -> None:
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.wait({self._asking})

    def _asked(self, task: "asyncio.Task[Picture]") -> None:
        self._asking = None
        if not task.cancelled():
            task.exception()  # the page that waits has it

    async def _read(self) -> Picture:
        try:
            data = await self._ask(self._viewer)
        except SupervisorGone as error:
            if self._last.gone != str(error):
                self._last = replace(self._last, gone=str(error))
        except OrderFailed:
            self._last = Picture()
            raise
        else:
            rows = {str(row["name"]): row for row in data["services"]}
            self._last = Picture(rows, data["supervisor"], time.time())
        finally:
            self._asked_at = time.monotonic()
        return self._last

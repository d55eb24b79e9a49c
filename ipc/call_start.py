"""What starts a call, for modules that need no more of a client."""

import asyncio
from collections.abc import Callable
from typing import Any, Protocol

Decode = Callable[[Any], Any]


class StartsCalls(Protocol):
    """Starts calls."""

    def call(
        self,
        name: str,
        method: str,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        timeout: float | None,
        decode: Decode,
        future: "asyncio.Future[Any]",
        idempotent: bool = False,
    ) -> int:
        """Start a call; a future takes its outcome. Return its id; 0 if it was refused."""
        ...

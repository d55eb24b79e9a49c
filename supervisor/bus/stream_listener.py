"""Accepts the connections of a bus on plain sockets, while descriptors are free."""

import contextlib
from collections.abc import Callable

from garrison.ipc.listeners import PRIVATE, Listener, batch

from .streams import StreamRouter


class StreamListener(Listener):
    """The listening socket of a `StreamRouter`.

    Args:
        router: Serves what is accepted.
        path: Where clients connect. The home's lock is held.
        look: Has `ListenerSet.turn` called soon.
        uid: See `Listener`.
    """

    def __init__(
        self, router: StreamRouter, path: str, look: Callable[[], None], uid: int = -1
    ) -> None:
        super().__init__(router, path, uid, PRIVATE)
        self._router = router
        if self.is_counted:
            router.on_close = look

    @property
    def count(self) -> int:
        """Return how many connections there are."""
        return len(self._router.connections)

    def accept_batch(self) -> None:
        """Accept the connections that wait."""
        assert self.front is not None
        with contextlib.suppress(OSError):  # there is none, or it has ended
            for _ in range(batch(self.backlog)):
                self._router.take(self.front.accept()[0])

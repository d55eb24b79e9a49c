"""Grants direct routes: what `bus/direct.py` decides is sent. Times are monotonic seconds."""

import contextlib
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from garrison.ipc.direct_sockets import NAMES, direct_path, new_address
from garrison.ipc.messages import (
    AcceptDirect,
    CallCount,
    DirectOpen,
    DirectRoute,
    Downward,
    State,
    Token,
)
from garrison.supervisor.bus.direct import Fitness, Grants, Message, Mode
from garrison.supervisor.bus.router import BusRouter
from garrison.supervisor.lifecycle.services import Service, ServiceTable

CHECK_S = 1.0  # between two checks, where nothing wakes the loop but heartbeats
FOR_TESTS = "GARRISON_DIRECT"  # with "all", every pair has a route


def mode_of(enabled: bool, forced: str | None) -> Mode:
    """Return which pairs get routes, by the config and by the environment's FOR_TESTS."""
    if forced == "all":
        return Mode.ALL
    return Mode.BUSY if enabled else Mode.OFF


class DirectRouting:
    """The direct routes of this host.

    Args:
        mode: Which pairs get one.
        run: The folder of sockets.
        services: The services.
        bus: Has the members, and notes the pairs so that ends are announced to them.
        send: Sends a message to a worker.
    """

    def __init__(
        self,
        mode: Mode,
        run: Path,
        services: ServiceTable,
        bus: BusRouter,
        send: Callable[[Token, Downward], bool],
    ) -> None:
        self._run, self._services, self._bus, self._send = run, services, bus, send
        self.grants = Grants(mode, self._fitness, new_address)
        self._beat_at: dict[str, float] = {}  # by the caller's NAME
        self._listening: set[Token] = set()  # callees that have a request to listen
        self._checked_at = 0.0
        bus.direct_address = self.grants.address_of

    def _fitness(self, token: Token) -> Fitness:
        if token not in self._bus.live:
            return Fitness()
        service = self._services.by_token.get(token)
        if service is None or service.current.token != token:
            return Fitness(lives=True)
        current = service.current
        if current.adopting:
            return Fitness(lives=True, keeps=True, path=str(direct_path(self._run, token)))
        able = (
            service.state is State.RUNNING
            and current.hello is not None
            and current.hello.direct
            and current.uid < 0
            and not current.ended
        )
        second = service.is_second or service.name in self._services.second
        takes = able and service.paused is None and not second and not current.faulted
        return Fitness(True, able, takes, takes, str(direct_path(self._run, token)))

    # --- what workers report ----------------------------------------------------------------

    def on_beat(self, caller: Service, counts: Sequence[CallCount], now: float) -> None:
        """Take how many calls of a service have ended since its last heartbeat."""
        since = self._beat_at.get(caller.name, now)
        self._beat_at[caller.name] = now
        numbers = Counter[str]()
        for count in counts:
            numbers[count.service] += sum(count.outcomes)
        for name, number in numbers.items():
            callee = self._services.services.get(name)
            if callee is not None and callee.current.token:
                pair = caller.current.token, callee.current.token
                self._post(self.grants.called(*pair, number, now - since, now))
        if now >= self._checked_at + CHECK_S:
            self.check(now)

    def on_message(self, token: Token, message: DirectOpen | DirectRoute, now: float) -> None:
        """Take a callee's or a caller's report."""
        if isinstance(message, DirectOpen):
            self._post(self.grants.opened(token, message, now))
            return
        self._post(self.grants.reported(token, message, now))
        if message.active and self.grants.address_of(token, message.callee) == message.address:
            self._bus.pairs.link(token, message.callee)

    def check(self, now: float) -> None:
        """Grant what pairs that have just met get; revoke what is over."""
        self._checked_at = now
        for caller, callee in self._bus.pairs.take_new():
            self._post(self.grants.met(caller, callee, now))
        if self.grants:
            self._post(self.grants.check(now))

    def _post(self, messages: Sequence[Message]) -> None:
        for token, message in messages:
            if isinstance(message, AcceptDirect):
                self._listening.add(token)
            self._send(token, message)

    # --- what is shown and removed ----------------------------------------------------------

    def pairs(self) -> list[tuple[str, str]]:
        """Return the NAMEs of each caller and callee whose calls go directly."""
        by_token = self._services.by_token
        return sorted(
            (by_token[caller].name, by_token[callee].name)
            for caller, callee in self.grants.active
            if caller in by_token and callee in by_token
        )

    def forget(self, name: str, token: Token) -> None:
        """Remove what an ended incarnation has left."""
        self._beat_at.pop(name, None)
        if token in self._listening:
            self._listening.discard(token)
            with contextlib.suppress(OSError):  # removed by others
                for path in self._run.glob(f"{direct_path(self._run, token).name}*"):
                    path.unlink(missing_ok=True)  # also one that was about to be put there

    def sweep(self) -> None:
        """Remove the sockets of incarnations that ended while there was no supervisor."""
        known = {direct_path(self._run, token).name for token in self._services.by_token}
        for path in self._run.glob("d*.sock*"):
            match = NAMES.fullmatch(path.name)
            if match is not None and match[1] not in known:
                path.unlink(missing_ok=True)

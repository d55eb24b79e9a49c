"""A worker's two connections to a supervisor on another machine: whether they last.

A pid means nothing over there, so the supervisor's end is noticed by the end of its connections.
Seconds.
"""

import asyncio
import struct
from collections.abc import Callable
from functools import partial

import zmq

from . import sockets
from .connection_state import BUS, CONTROL, ConnectionState
from .messages import CurveKeys, Token

EVENT = struct.Struct("=HI")  # of libzmq's monitors: event, value
EVENTS = int(zmq.EVENT_HANDSHAKE_SUCCEEDED) | int(zmq.EVENT_DISCONNECTED)


class RemoteSupervisor:
    """Makes the connections of both planes, by libzmq, and watches them.

    Args:
        curve: The keys, and how long a broken connection may take to come back.
        boot: Returns the id of the supervisor process that answered last; empty: none yet.
        ask: Asks the router on the bus which process it is.
        on_down: Called when the bus is disconnected: the supervisor may have ended.
        on_broken: Called once messages may be lost although the supervisor runs, with the reason.
    """

    def __init__(
        self,
        curve: CurveKeys,
        boot: Callable[[], str],
        ask: Callable[[], None],
        on_down: Callable[[], None],
        on_broken: Callable[[str], None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._curve, self._silence = curve, curve.silence
        self._boot, self._ask = boot, ask
        self._on_down, self._on_broken = on_down, on_broken
        self._states = {CONTROL: ConnectionState(), BUS: ConnectionState()}
        self._monitors: dict[str, zmq.Socket[bytes]] = {}
        self._timers: dict[str, asyncio.TimerHandle] = {}

    def dealer(
        self, plane: str, address: str, token: Token, max_message: int
    ) -> "zmq.Socket[bytes]":
        """Return a plane's socket, connected and watched; see `sockets.dealer`."""
        keep, watch = plane == BUS, partial(self._watch, plane)
        return sockets.dealer(
            self._context, address, token, max_message, keep=keep, curve=self._curve, watch=watch
        )

    def _watch(self, plane: str, socket: "zmq.Socket[bytes]") -> None:
        monitor = self._monitors[plane] = socket.get_monitor_socket(EVENTS)
        self._loop.add_reader(int(monitor.get(zmq.FD)), self._read)

    def answered(self, plane: str, boot: str) -> None:
        """Take note of an answer by a supervisor process, on the connection that there is now."""
        self._read()  # the end of a former connection came before
        if self._states[plane].answered(boot):
            self._on_broken(f"its connection to the supervisor ({plane}) broke")
        elif (timer := self._timers.pop(plane, None)) is not None:
            timer.cancel()

    @property
    def is_connected(self) -> bool:
        """Return whether there is a connection to the supervisor."""
        return self._states[CONTROL].is_up

    def close(self) -> None:
        """Watch no more."""
        for monitor in self._monitors.values():
            self._loop.remove_reader(int(monitor.get(zmq.FD)))
            monitor.close(linger=0)
        self._monitors.clear()
        for timer in self._timers.values():
            timer.cancel()

    def leave(self) -> None:
        """Return when the last messages of both sockets, which are closed, have left."""
        self._context.term()

    def _read(self) -> None:
        for plane, monitor in list(self._monitors.items()):
            while not monitor.closed and int(monitor.get(zmq.EVENTS)) & zmq.POLLIN:
                event, _ = EVENT.unpack(monitor.recv_multipart(zmq.NOBLOCK)[0])
                if event == zmq.EVENT_DISCONNECTED:
                    self._down(plane)
                else:
                    self._up(plane)

    def _up(self, plane: str) -> None:
        state, boot = self._states[plane], self._boot()
        state.up(boot)
        if plane == BUS and state.may_be_lost(boot):  # on the control plane it speaks first
            self._ask()

    def _down(self, plane: str) -> None:
        state, boot = self._states[plane], self._boot()
        if not state.down(boot):
            return
        if plane == CONTROL and not boot:
            self._on_broken("its connection to the supervisor broke before it was welcomed")
            return
        if plane not in self._timers:
            self._timers[plane] = self._loop.call_later(self._silence, self._late, plane)
        if plane == BUS:
            self._on_down()

    def _late(self, plane: str) -> None:
        del self._timers[plane]
        self._on_broken(f"its connection to the supervisor ({plane}) broke, and did not come back")

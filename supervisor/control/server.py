"""The control plane's sockets: reads frames, rejects malformed ones, and yields the messages."""

import contextlib
import time
from collections import deque
from collections.abc import Iterator
from typing import TypeAlias

import msgspec
import zmq

from garrison.ipc import messages, sockets
from garrison.ipc.errors import WireError
from garrison.ipc.messages import Token
from garrison.supervisor.bus.endpoints import RouterSet
from garrison.supervisor.logs.events import EventLog

# Messages that only a peer of the host's own user may send
OWN_USER_ONLY = (messages.Order, messages.Join, messages.Leave)
CONTROL_S = 0.002  # of one turn, for the control plane
CONTROL_BYTES = 4 * 1024 * 1024  # of one message
BATCH_MOST = 1000  # messages in one batch
FACTS_MOST = 16  # of one service
WARNINGS_MOST = 16  # likewise
WARNING_MOST = 200  # characters
REASON_MOST = 4000  # characters of a reason that a worker reports
TRACEBACK_MOST = 100_000

Input: TypeAlias = tuple[Token, messages.Upward | None]  # None: a peer has connected


class ControlServer:
    """Reads the control plane.

    Args:
        control: Its sockets.
        log: Where rejected frames are recorded.

    Attributes:
        rejected: How many frames were no message of this host, those of the bus included.
        pending: Messages of the last batch that were not yielded yet.
    """

    def __init__(self, control: RouterSet, log: EventLog) -> None:
        self._control, self._log = control, log
        self.rejected = 0
        self.pending: deque[Input] = deque()

    def receive(self) -> Iterator[Input]:
        """Yield what has arrived, for a bounded time that includes the caller's work.

        The rest of a long batch is left for the next turn.
        """
        until = time.monotonic() + CONTROL_S
        silent = False
        while not silent and time.monotonic() < until:
            if self.pending:
                yield self.pending.popleft()
                continue
            silent = True
            for router in self._control.all:  # one message each, so that none holds up the others
                with contextlib.suppress(zmq.Again):
                    frames = sockets.receive(router)
                    silent = False
                    self._take(frames, router)

    def _take(self, frames: list[bytes], router: "zmq.Socket[bytes]") -> None:
        token, foreign = frames[0], router is not self._control.own
        if foreign and not self._control.owns_address(token, router):
            if not self._control.is_former(token):
                self.reject("another user under an address that is none of its services'")
            return
        if len(frames) == 2 and not frames[1]:  # a probe: a peer has connected
            self.pending.append((token, None))
            return
        try:
            batch = _decode(frames, foreign)
        except WireError as error:
            self.reject(str(error))
            return
        self.pending.extend((token, bounded(message)) for message in batch)

    def reject(self, reason: str) -> None:
        """Count a frame that is no message of this host; the first ones are recorded."""
        self.rejected += 1
        if messages.should_log(self.rejected):
            self._log.record("frame.refused", count=self.rejected, error=reason[:200])


def _decode(frames: list[bytes], foreign: bool) -> list[messages.Upward]:
    if len(frames) != 3:
        raise WireError(f"{len(frames)} frames")
    batch = messages.decode_upward(frames[2])
    if len(batch) > BATCH_MOST:
        raise WireError(f"{len(batch)} messages at once")
    if foreign and any(isinstance(message, OWN_USER_ONLY) for message in batch):
        raise WireError("another user's service that orders, or says it is a program")
    return batch


def _bounded_link(link: messages.Link) -> messages.Link:
    return msgspec.structs.replace(
        link, problem=link.problem[:WARNING_MOST], probe_problem=link.probe_problem[:WARNING_MOST]
    )


def bounded(message: messages.Upward) -> messages.Upward:
    """Return a message with its texts and figures cut to what the supervisor keeps."""
    match message:
        case messages.Failing():
            return msgspec.structs.replace(
                message,
                reason=message.reason[:REASON_MOST],
                traceback=message.traceback[-TRACEBACK_MOST:],
            )
        case messages.Stopped(reason):
            return messages.Stopped(reason[:REASON_MOST])
        case messages.Health(problem, took_s):
            return messages.Health(problem[:REASON_MOST], took_s)
        case messages.Beat() if len(message.facts) > FACTS_MOST or message.warnings or message.link:
            facts = dict(list(message.facts.items())[:FACTS_MOST])
            lines = tuple(line[:WARNING_MOST] for line in message.warnings[:WARNINGS_MOST])
            link = message.link and _bounded_link(message.link)
            return msgspec.structs.replace(message, facts=facts, warnings=lines, link=link)
        case _:
            return message

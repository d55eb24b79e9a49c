"""What a link sends as one message, and that none which has arrived is left lying."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
import zmq

from garrison.ipc import socket_paths, sockets
from garrison.ipc.link import Link
from garrison.ipc.messages import SUPERVISOR, Call, Reply, encode
from garrison.ipc.router_link import RouterLink
from garrison.ipc.stream_link import StreamLink

PEER = b"the peer"
BURST = 200
LONG_S = 20.0


class Linked:
    """A link, and the router at its other end."""

    def __init__(self, folder: Path, plain: bool) -> None:
        self.context = zmq.Context[zmq.Socket[bytes]]()
        self.router = sockets.router(self.context, -1)
        self.router.set(zmq.RCVHWM, 0)
        self.router.set(zmq.SNDHWM, 0)
        self.router.bind(f"ipc://{folder}/router")
        token = socket_paths.new_token()
        self.arrived: list[list[bytes]] = []
        self.more = asyncio.Event()
        self.token, path = token, f"{folder}/router"
        self.link: RouterLink
        if plain:
            self.link = StreamLink(path, token, -1, self._receive, self.more.set)
        else:
            dealer = sockets.dealer(self.context, path, token, -1, keep=True)
            self.link = Link(dealer, self._receive, self.more.set)

    async def connected(self) -> None:
        """Return once the router has seen the probe."""
        async with asyncio.timeout(LONG_S):
            while not self.router.poll(0):  # noqa: ASYNC110 (libzmq sets no event)
                await asyncio.sleep(0)
        assert self.router.recv_multipart() == [self.token, b""]

    def _receive(self, frames: list[bytes]) -> None:
        self.arrived.append(frames)
        self.more.set()

    async def batches(self, messages: int) -> list[list[int]]:
        """Return the batches that reached the router, of so many messages together."""
        found: list[list[int]] = []
        while sum(map(len, found)) < messages:
            await asyncio.sleep(0)
            while self.router.poll(0):
                _, peer, batch = self.router.recv_multipart()
                assert peer == PEER
                found.append(msgspec.msgpack.decode(batch))
        return found

    def close(self) -> None:
        """Close everything."""
        self.link.close(time.monotonic() + LONG_S)
        self.router.close(linger=0)
        self.context.term()


@pytest.fixture(params=[False, True], ids=["libzmq", "plain"])
async def linked(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Linked]:
    """Return a link of either kind."""
    made = Linked(tmp_path, request.param)
    await made.connected()
    yield made
    made.close()


async def test_what_a_turn_queues_is_one_message_behind_the_first(linked: Linked) -> None:
    """The first is sent at once; after a turn with several, all go together."""
    for number in range(5):
        linked.link.send(PEER, number)
    assert await linked.batches(5) == [[0], [1, 2, 3, 4]]


async def test_what_is_queued_can_be_sent_before_the_turn_ends(linked: Linked) -> None:
    """If it is enough, in order, to that peer alone; the turn counts as busy all the same."""
    for number in range(5):
        linked.link.send(PEER, number)
        linked.link.send_queued(PEER, 2)
        linked.link.send_queued(b"another", 0)
    assert await linked.batches(5) == [[0], [1, 2], [3, 4]]
    linked.link.send(PEER, 5)
    linked.link.send(PEER, 6)
    assert await linked.batches(2) == [[5, 6]]


async def test_no_message_is_left_lying(linked: Linked) -> None:
    """Sending uses the socket, which may take the signal of what has arrived: it is looked at
    after each turn. One at a time, in bursts, and answered from within the handler."""
    sent = 0
    async with asyncio.timeout(LONG_S):
        for number in range(BURST):
            for _ in range(1 + number % 3):
                linked.router.send_multipart([linked.token, PEER, b"%d" % sent])
                sent += 1
            linked.link.send(PEER, number)
            if number % 2:
                await asyncio.sleep(0)
                continue
            while len(linked.arrived) < sent:
                linked.more.clear()
                await linked.more.wait()
        while len(linked.arrived) < sent:
            linked.more.clear()
            await linked.more.wait()
    assert [int(frames[1]) for frames in linked.arrived] == list(range(sent))


@pytest.mark.parametrize("full", [False, True], ids=["queued by this turn", "not taken"])
async def test_replies_that_were_not_sent_go_to_the_next_router(linked: Linked, full: bool) -> None:
    """The calls alone are taken back: their callers decide about them."""
    call = Call(7, "method", msgspec.Raw(b"\x90"), msgspec.Raw(b"\x80"), 5.0)
    replies = [Reply(number, msgspec.Raw(b"\xc0")) for number in range(3)]
    linked.link.send(PEER, Reply(100, msgspec.Raw(b"\xc0")))  # alone, at once
    for message in (*replies[:2], call, replies[2]):
        linked.link.send(PEER, message)
    if full:  # as if the socket had taken none
        (queued,) = linked.link._outgoing.values()
        linked.link._outgoing = {}
        linked.link._backlog.append([PEER, encode(queued)])
        linked.link._backlog.append([SUPERVISOR, b"\x90"])
    unsent = linked.link.take_back()
    assert [(peer, [one.id for one in calls]) for peer, calls in unsent] == [(PEER, [7])]
    linked.link.flush()
    if full:
        linked.link._drain_backlog()
    found: list[object] = [one for batch in await linked.batches(4) for one in batch]
    assert found == [[1, number, None] for number in (100, 0, 1, 2)]

"""A plain connection to a router loses nothing that it has not written, and does not block."""

import asyncio
import os
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import msgspec
import pytest
import zmq

from garrison.ipc import sockets, stream_link
from garrison.ipc.messages import EMPTY_MAP, Call, Cancel, Data, decode_data
from garrison.ipc.socket_paths import new_token
from garrison.ipc.stream_link import StreamLink

PEER, OTHER = b"the peer", b"another"
LONG_S = 20.0


class Router:
    """A ROUTER at a path, and the next one in its place."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self.start()

    def start(self) -> None:
        """Bind a ROUTER."""
        self.context = zmq.Context[zmq.Socket[bytes]]()
        self.socket = sockets.router(self.context, -1)
        self.socket.bind(f"ipc://{self.path}")

    def end(self) -> None:
        """Close it, as a supervisor that is killed."""
        self.context.destroy(linger=0)

    async def next(self) -> list[bytes]:
        """Return the next message."""
        async with asyncio.timeout(LONG_S):
            while not self.socket.poll(0):  # noqa: ASYNC110 (libzmq sets no event)
                await asyncio.sleep(0.001)
        return self.socket.recv_multipart()


@pytest.fixture
async def router(tmp_path: Path) -> AsyncIterator[Router]:
    """Return a router."""
    made = Router(tmp_path / "bus.sock")
    yield made
    made.end()


async def until(condition: Callable[[], bool]) -> None:
    """Return once something is true."""
    async with asyncio.timeout(LONG_S):
        while not condition():  # noqa: ASYNC110 (of any kind)
            await asyncio.sleep(0.001)


def soon() -> float:
    """Return until when what was sent last may take."""
    return time.monotonic() + LONG_S


def call(number: int) -> Call:
    """Return a call."""
    return Call(number, "f", msgspec.Raw(b"\x90"), EMPTY_MAP, 1.0)


async def test_what_was_not_sent_goes_to_the_next_router(router: Router) -> None:
    """Behind the probe, in order; the connection is opened again by itself."""
    token, arrived = new_token(), list[list[bytes]]()
    link = StreamLink(router.path, token, -1, arrived.append, lambda: None)
    assert await router.next() == [token, b""]
    router.socket.send_multipart([token, PEER, b"1"])
    await until(lambda: bool(arrived))
    router.end()
    await until(lambda: link._socket is None)
    for number in range(3):
        link.send(PEER, number)
    router.start()
    assert await router.next() == [token, b""]
    found = list[int]()
    while len(found) < 3:
        found += msgspec.msgpack.decode((await router.next())[2])
    assert found == [0, 1, 2]
    router.socket.send_multipart([token, PEER, b"2"])
    await until(lambda: len(arrived) == 2)
    assert arrived == [[PEER, b"1"], [PEER, b"2"]]
    link.close(soon())


async def test_a_router_that_reads_late_receives_all(router: Router) -> None:
    """What the socket does not take waits, frames of any size, and the loop is not blocked."""
    token = new_token()
    link = StreamLink(router.path, token, -1, lambda _: None, lambda: None)
    assert await router.next() == [token, b""]
    sent = [os.urandom(size) for size in (3_000_000, 10, 20_000, 5_000_000, 300)]
    for one in sent:
        link._post_frames([PEER, one, one[:5]])
    assert [await router.next() for _ in sent] == [[token, PEER, one, one[:5]] for one in sent]
    link.close(soon())


async def test_large_frames_arrive_whole(router: Router) -> None:
    """Also between small ones."""
    token, arrived = new_token(), list[list[bytes]]()
    link = StreamLink(router.path, token, -1, arrived.append, lambda: None)
    assert await router.next() == [token, b""]
    sent = [os.urandom(size) for size in (9, 2_500_000, 70_000, 0, 4_000_000, 300)]
    for one in sent:
        router.socket.send_multipart([token, PEER, one, b"", one])
    await until(lambda: len(arrived) == len(sent))
    assert arrived == [[PEER, one, b"", one] for one in sent]
    link.close(soon())


async def test_what_a_closing_link_has_queued_is_sent(router: Router) -> None:
    """A worker's last answers, of which the socket takes a part at once."""
    token = new_token()
    link = StreamLink(router.path, token, -1, lambda _: None, lambda: None)
    assert await router.next() == [token, b""]
    sent = [os.urandom(500_000) for _ in range(8)]
    for one in sent:
        link._post_frames([PEER, one])
    link.close(soon())
    assert [await router.next() for _ in sent] == [[token, PEER, one] for one in sent]


async def test_a_frame_that_is_too_large_ends_the_connection(router: Router) -> None:
    """It is counted, and the link connects again."""
    token, arrived, refused = new_token(), list[list[bytes]](), list[int]()
    link = StreamLink(router.path, token, 1000, arrived.append, lambda: refused.append(1))
    assert await router.next() == [token, b""]
    router.socket.send_multipart([token, PEER, bytes(1001)])
    assert await router.next() == [token, b""]
    assert (arrived, refused) == ([], [1])
    link.close(soon())


async def test_calls_are_taken_back_and_answers_stay(tmp_path: Path) -> None:
    """A next router may have passed on the calls that they answer before its Welcome is read."""
    link = StreamLink(str(tmp_path / "nobody"), new_token(), -1, lambda _: None, lambda: None)
    cancel: Data = Cancel(9)
    link._post(PEER, link._pack([call(1), cancel, call(2)]))
    link._post(OTHER, link._pack([cancel]))
    link.send(OTHER, call(3))
    link.send(PEER, call(4))
    link.send(PEER, cancel)
    unsent = [(peer, [one.id for one in calls]) for peer, calls in link.take_back()]
    assert [one for one in unsent if one[1]] == [(PEER, [1, 2]), (OTHER, [3]), (PEER, [4])]
    await asyncio.sleep(0)
    kept = [(peer, decode_data(batch)) for peer, batch in link._backlog]
    assert kept == [(PEER, [cancel]), (OTHER, [cancel]), (PEER, [cancel])]
    link.close(soon())


@pytest.mark.parametrize("keep", [True, False], ids=["bus", "control plane"])
async def test_what_was_written_in_part_is_sent_whole_or_not_at_all(
    router: Router, keep: bool
) -> None:
    """What waits for the control plane was meant for the former supervisor, whole messages too."""
    token = new_token()
    link = StreamLink(router.path, token, -1, lambda _: None, lambda: None, keep=keep)
    assert await router.next() == [token, b""]
    router.socket.set(zmq.RCVHWM, 1)
    large = os.urandom(5_000_000)
    for _ in range(20):  # until neither libzmq nor the kernel takes more
        link._post_frames([PEER, large])
    await until(lambda: bool(link._rest))
    unsent = 1 + len(link._backlog)
    router.end()
    await until(lambda: link._socket is None)
    router.start()
    assert await router.next() == [token, b""]
    for _ in range(unsent if keep else 0):
        assert await router.next() == [token, PEER, large]
    link._post_frames([PEER, b"last"])
    assert await router.next() == [token, PEER, b"last"]
    link.close(soon())


async def test_a_connection_that_is_not_taken_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The path may have led to a socket without a listener, which another process has open."""
    monkeypatch.setattr(stream_link, "GREETING_S", 0.05)
    path, token = str(tmp_path / "bus.sock"), new_token()
    with socket.socket(socket.AF_UNIX) as old:
        old.bind(path)
        old.listen()
        link = StreamLink(path, token, -1, lambda _: None, lambda: None)
        link._post_frames([PEER, b"first"])
        os.unlink(path)  # noqa: PTH108
        made = Router(Path(path))
        assert await made.next() == [token, b""]
        assert await made.next() == [token, PEER, b"first"]
        link.close(soon())
        made.end()


async def test_a_flood_lets_the_loop_do_other_work(router: Router) -> None:
    """A turn handles few messages, and schedules one more turn, not ever more of them."""
    token, count, most = new_token(), 30_000, 0
    seen = 0

    def receive(frames: list[bytes]) -> None:
        nonlocal seen
        seen += 1

    link = StreamLink(router.path, token, -1, receive, lambda: None)
    assert await router.next() == [token, b""]
    flood = threading.Thread(
        target=lambda: [
            router.socket.send_multipart([token, PEER, b"x" * 100]) for _ in range(count)
        ]
    )
    router.socket.set(zmq.SNDHWM, 0)
    flood.start()
    async with asyncio.timeout(LONG_S):
        while seen < count:
            before = seen
            await asyncio.sleep(0)
            most = max(most, seen - before)
    flood.join()
    # What one read brings is handled whole; the loop runs for the socket and as scheduled.
    assert most <= 2 * (stream_link.MESSAGES_A_TURN + stream_link.READ // 100)
    link.close(soon())


async def test_a_message_that_each_connection_ends_within_is_dropped(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Its router has a lower bound than the former one had; others must not wait behind it."""
    path, token = tmp_path / "bus.sock", new_token()
    context = zmq.Context[zmq.Socket[bytes]]()
    router = sockets.router(context, 1000)
    router.bind(f"ipc://{path}")
    link = StreamLink(str(path), token, -1, lambda _: None, lambda: None)
    link._post_frames([PEER, bytes(5_000_000)])
    link._post_frames([PEER, b"next"])
    found = list[bytes]()
    async with asyncio.timeout(LONG_S):
        while b"next" not in found:
            while not router.poll(0):  # noqa: ASYNC110 (libzmq sets no event)
                await asyncio.sleep(0.001)
            found += router.recv_multipart()[1:]
    assert "message.refused bytes=5000008" in caplog.text
    assert max(map(len, found)) <= len(PEER)
    link.close(soon())
    context.destroy(linger=0)


async def test_the_router_sees_the_end_although_a_child_has_the_socket(router: Router) -> None:
    """A forked process keeps the descriptor; the next connection has the address all the same."""
    token, arrived = new_token(), list[list[bytes]]()
    link = StreamLink(router.path, token, -1, arrived.append, lambda: None)
    assert await router.next() == [token, b""]
    assert link._socket is not None
    copy = os.dup(link._socket.fileno())  # as a child process has one
    link._drop()
    assert await router.next() == [token, b""]
    router.socket.send_multipart([token, PEER, b"1"])
    await until(lambda: bool(arrived))
    link.close(soon())
    os.close(copy)


async def test_a_link_that_closes_before_it_was_taken_sends_what_it_has(router: Router) -> None:
    """A process that lives for a moment has a report to make."""
    token = new_token()
    link = StreamLink(router.path, token, -1, lambda _: None, lambda: None)
    link._post_frames([PEER, b"last"])
    link.close(soon())
    assert await router.next() == [token, b""]
    assert await router.next() == [token, PEER, b"last"]


async def test_an_error_in_one_message_does_not_lose_the_next(router: Router) -> None:
    """What one read has found is handed over whole."""
    token, arrived = new_token(), list[bytes]()

    def receive(frames: list[bytes]) -> None:
        arrived.append(frames[1])
        if frames[1] == b"1":
            raise ValueError("in a handler")

    link = StreamLink(router.path, token, -1, receive, lambda: None)
    assert await router.next() == [token, b""]
    for number in range(4):
        router.socket.send_multipart([token, PEER, b"%d" % number])
    await until(lambda: len(arrived) == 4)
    assert arrived == [b"0", b"1", b"2", b"3"]
    link.close(soon())

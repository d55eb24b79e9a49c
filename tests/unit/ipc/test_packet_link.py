"""What a direct connection carries, and what arrives when one of its sides ends."""

import asyncio
import random
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
import uvloop
from tests.support.waiting import until_true

from garrison.ipc import direct_sockets, packet_link
from garrison.ipc.direct_sockets import PACKET, new_address
from garrison.ipc.messages import Framed
from garrison.ipc.packet_link import SIZES, PacketLink

MOST = 8 << 20
LONG_S = 20.0
PEER = b"the peer"


class End:
    """One end of a connection, and what has arrived there."""

    def __init__(self, connection: socket.socket) -> None:
        self.arrived: list[list[bytes]] = []
        self.malformed = self.ends = 0
        self.link = PacketLink(
            connection, PEER, self.arrived.append, self._malformed, lambda: MOST, self._ended
        )

    def _malformed(self) -> None:
        self.malformed += 1

    def _ended(self) -> None:
        self.ends += 1

    def messages(self) -> list[object]:
        """Return the messages of all batches."""
        batches = [msgspec.msgpack.decode(frames[1]) for frames in self.arrived]
        return [message for batch in batches for message in batch]


@pytest.fixture
async def ends() -> AsyncIterator[tuple[End, End]]:
    """Return both ends of a connection."""
    kind = socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK
    both = tuple(End(one) for one in socket.socketpair(socket.AF_UNIX, kind))
    one, other = both
    yield one, other
    one.link.close()
    other.link.close()


async def test_batches_of_any_size_arrive_in_order(ends: tuple[End, End]) -> None:
    """Those that are larger than a packet too, and large frames, which come back as they were."""
    one, other = ends
    chance = random.Random(3)
    sizes = [0, 1, PACKET - 10, PACKET, PACKET + 1, 3 * PACKET, MOST // 3, 7]
    values = [chance.randbytes(size) for size in sizes]
    for value in values:
        one.link.send(PEER, value)
    frame = chance.randbytes(5 * PACKET + 3)
    one.link.send(PEER, Framed(frame))
    one.link.send(PEER, "last")
    await until_true(lambda: other.messages()[-1:] == ["last"])
    assert other.messages()[: len(values)] == values
    assert [frames[2:] for frames in other.arrived if len(frames) > 2] == [[frame]]
    assert all(frames[0] == PEER for frames in other.arrived)


async def test_a_peer_that_does_not_read_loses_nothing(ends: tuple[End, End]) -> None:
    """What the socket does not take waits, in order, and both sides go on reading."""
    for number in range(200):
        for end in ends:
            end.link.send(PEER, (number, bytes(10_000)))
        if number % 10 == 0:
            await asyncio.sleep(0)
    for end in ends:
        await until_true(lambda end=end: len(end.messages()) == 200)  # type: ignore[misc]
        assert [message[0] for message in end.messages()] == list(range(200))  # type: ignore[index]


async def test_what_was_sent_before_an_end_arrives(ends: tuple[End, End]) -> None:
    """Although the side that ends has not read what came to it; the end is noted behind that."""
    one, other = ends
    other.link.send(PEER, "never read")
    for number in range(100):
        one.link.send(PEER, number)
        one.link.send_queued(PEER, 1)
    one.link.close()
    other.link.receive_all()
    assert other.messages() == list(range(100))
    assert other.ends == 1
    other.link.send(PEER, "to no one")
    await asyncio.sleep(0.01)
    assert (other.ends, other.malformed) == (1, 0)


async def test_a_batch_that_its_sender_did_not_finish_is_none(ends: tuple[End, End]) -> None:
    """Only whole ones are passed on."""
    one, other = ends
    one.link._send(SIZES + msgspec.msgpack.encode([PACKET + 5]))
    one.link._send(bytes(PACKET))
    one.link.close()
    await until_true(lambda: other.ends == 1)
    assert (other.arrived, other.malformed) == ([], 0)


@pytest.mark.parametrize(
    "sizes", [b"", b"\xc1", b"\x90", b"\x91\xff", b"\x91\xa1x", b"\xdc\x00\x80" + bytes(128)]
)
async def test_sizes_that_are_none_are_dropped(ends: tuple[End, End], sizes: bytes) -> None:
    """They are counted, and the next batch arrives."""
    one, other = ends
    one.link._send(SIZES + sizes)
    one.link.send(PEER, "next")
    await until_true(lambda: bool(other.arrived))
    assert (other.messages(), other.malformed) == (["next"], 1)


async def test_a_batch_that_is_too_large_is_dropped(ends: tuple[End, End]) -> None:
    """It takes no memory, is counted, and the next batch arrives."""
    one, other = ends
    one.link.send(PEER, bytes(MOST + 1))
    one.link.send(PEER, "next")
    await until_true(lambda: bool(other.arrived))
    assert (other.messages(), other.malformed) == (["next"], 1)


async def test_what_waits_for_a_peer_is_bounded(
    ends: tuple[End, End], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond that the connection ends, once."""
    monkeypatch.setattr(packet_link, "PEER_QUEUE", 50)
    one, other = ends
    one.link._loop.remove_reader(other.link._fd)  # it reads nothing
    for _ in range(100):
        one.link._send(bytes(PACKET))
    await until_true(lambda: one.ends == 1)
    assert not one.link._backlog


async def test_a_closing_link_waits_for_a_slow_peer(ends: tuple[End, End]) -> None:
    """For the time that was given."""
    one, other = ends
    sent = 0
    while len(one.link._backlog) < 20:
        one.link._send(msgspec.msgpack.encode([sent, bytes(10_000)]))
        sent += 1
    reading = asyncio.get_running_loop().run_in_executor(None, _read_all, other.link)
    one.link.close(LONG_S)
    await reading
    assert len(other.arrived) == sent


def _read_all(link: PacketLink) -> None:
    connection = link._socket.dup()
    with connection:
        connection.settimeout(LONG_S)
        while packet := connection.recv(PACKET):
            link._take(packet)


def test_the_name_of_a_caller_is_its_address(tmp_path: Path) -> None:
    """No two have the same; the socket is for its own user, and takes another's place."""
    path, address = str(tmp_path / "d.sock"), new_address()
    former, _ = direct_sockets.listen(path)
    with former, direct_sockets.listen(path)[0] as listener:
        assert Path(path).stat().st_mode & 0o777 == 0o600
        assert [one.name for one in tmp_path.iterdir()] == ["d.sock"]
        with direct_sockets.connect(path, address):
            connection, name = direct_sockets.accept(listener)
            connection.close()
            assert name == address
            with pytest.raises(OSError, match="in use"):
                direct_sockets.connect(path, address)
        with pytest.raises(BlockingIOError):
            direct_sockets.accept(former)


def test_a_reset_connection_is_read_to_its_end() -> None:
    """libuv reports a reset once and watches the socket no longer: what is left is read then."""

    async def scene() -> tuple[list[object], int]:
        kind = socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK
        mine, theirs = socket.socketpair(socket.AF_UNIX, kind)
        end, peer = End(mine), End(theirs)
        for number in range(20):
            peer.link.send(PEER, number)
            peer.link.send_queued(PEER, 1)
        end.link.send(PEER, "never read")
        end.link.send_queued(PEER, 1)
        peer.link.close()
        await until_true(lambda: end.ends == 1)
        end.link.close()
        return end.messages(), end.malformed

    loop = uvloop.new_event_loop()
    try:
        assert loop.run_until_complete(scene()) == (list(range(20)), 0)
    finally:
        loop.close()

"""A plain socket speaks with a ROUTER of libzmq as a DEALER does."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq
from hypothesis import given
from hypothesis import strategies as st

from garrison.ipc import zmtp
from garrison.ipc.errors import WireError
from garrison.ipc.socket_paths import new_token

MOST = 1_000_000
Router = tuple["zmq.Socket[bytes]", str]
MESSAGES = st.lists(st.lists(st.binary(max_size=600), min_size=1, max_size=4), max_size=5)


@pytest.fixture
def router(tmp_path: Path) -> Iterator[Router]:
    """A ROUTER and the path that it is bound to."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    made, path = context.socket(zmq.ROUTER), str(tmp_path / "r.sock")
    made.set(zmq.RCVTIMEO, 5000)
    made.bind(f"ipc://{path}")
    yield made, path
    context.destroy(linger=0)


def messages_from(one: socket.socket, decoder: zmtp.Decoder) -> Iterator[list[bytes]]:
    """Yield what a connection receives."""
    while data := one.recv(65_536):
        yield from decoder.feed(data)


@pytest.mark.parametrize("size", [0, 1, 255, 256, 70_000])
def test_a_router_takes_and_sends_frames_of_any_size(router: Router, size: int) -> None:
    """Sizes up to 255 bytes and larger ones are written differently."""
    there, path = router
    token, data = new_token(), bytes(range(256)) * (size // 256 + 1)
    frames, decoder = [b"", data[:size], b"end"], zmtp.Decoder(MOST)
    with socket.socket(socket.AF_UNIX) as one:
        one.settimeout(5)
        one.connect(path)
        one.sendall(zmtp.opening(token))
        while not decoder.is_ready:
            assert decoder.feed(one.recv(65_536)) == []
        one.sendall(zmtp.encode([b""]) + zmtp.encode(frames))
        assert there.recv_multipart() == [token, b""]
        assert there.recv_multipart() == [token, *frames]
        there.send_multipart([token, *frames])
        assert next(messages_from(one, decoder)) == frames


@given(MESSAGES, st.integers(1, 100))
def test_messages_are_found_wherever_a_read_ends(sent: list[list[bytes]], step: int) -> None:
    """What arrives is cut anywhere."""
    stream = zmtp.opening(b"gx") + b"".join(map(zmtp.encode, sent))
    decoder, found = zmtp.Decoder(MOST), list[list[bytes]]()
    for start in range(0, len(stream), step):
        found += decoder.feed(stream[start : start + step])
    assert found == sent
    assert decoder.is_ready


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n".ljust(64), "no greeting"),
        (zmtp.SIGNATURE + b"\x01".ljust(54, b"\0"), "no greeting"),
        (zmtp.GREETING + zmtp.LONG_HEADER.pack(zmtp.LONG, MOST + 1), "more than 1,000,000 bytes"),
        (zmtp.GREETING + zmtp.LONG_HEADER.pack(zmtp.LONG, 2**64 - 1), "more than 1,000,000"),
        (zmtp.GREETING + zmtp.encode([b""] * 17), "more than 16 frames"),
    ],
)
def test_what_is_no_message_is_refused(data: bytes, reason: str) -> None:
    """Something else at the path, and what has no bound, end the connection."""
    with pytest.raises(WireError, match=reason):
        zmtp.Decoder(MOST).feed(data)

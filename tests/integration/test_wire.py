"""Malformed frames, large ones, and those of unknown peers or another wire version are refused,
counted and logged, and affect no other message."""

import asyncio
import contextlib
import os
import random
import socket
from collections.abc import AsyncIterator, Iterator

import msgspec
import pytest
from tests.support.host import Host, hosting
from tests.support.rogue import dealer, joined
from tests.support.waiting import until

from garrison.ipc import Client, InvalidCall, RemoteError, ServiceProxy, messages
from garrison.ipc.messages import SUPERVISOR, WIRE

MIB = 1 << 20
CONFIG = f"""
[host]
max_message = {MIB}
[plugins.echo]
[services.echo]
[services.other]
plugin = "echo"
"""


@pytest.fixture(scope="module")
def running() -> Iterator[Host]:
    """Run a host that takes no large messages."""
    with hosting(CONFIG, ["echo"]) as host:
        yield host


@pytest.fixture
async def client(running: Host) -> AsyncIterator[Client]:
    """Join the host."""
    async with running.connect() as client:
        yield client


@pytest.fixture
def echo(client: Client) -> ServiceProxy:
    """Return the service `echo`."""
    proxy = client.get_service("echo")
    assert proxy is not None
    return proxy


def refused(host: Host) -> int:
    """Return how many frames the supervisor has refused."""
    head = host.head()
    assert head is not None
    count: int = head["refused_frames"]
    return count


GARBAGE = [
    b"",
    b"\x00",
    b"\xc1",  # never used by MessagePack
    b"not a message",
    b"\xff" * 1000,
    b"\x91" * 5000,  # lists, ever deeper
    b"\xdd\xff\xff\xff\xff",  # a list of four thousand million
    b"\xa5\xff\xfe\xfd\xfc\xfb",  # a text that is none
    msgspec.msgpack.encode({"type": "hello"}),
    msgspec.msgpack.encode([{"type": "nonsense"}]),
    msgspec.msgpack.encode([{"type": "order", "id": 2**64 - 1, "verb": "down", "wait": "x"}]),
    msgspec.msgpack.encode([[0, -1, "echo", [], {}, -5]]),
    random.Random(7).randbytes(4096),
]


async def test_garbage_on_the_control_plane_is_counted(running: Host, echo: ServiceProxy) -> None:
    """The supervisor answers others as before."""
    before = refused(running)
    with dealer(running, "control") as stranger:
        for frame in GARBAGE[1:]:
            stranger.send_multipart([b"", frame])
        stranger.send_multipart([b"one", b"two", b"three", b"four"])
    await asyncio.to_thread(until, lambda: refused(running) >= before + len(GARBAGE))
    assert running.events("frame.refused")
    assert await echo.echo(1) == 1


async def test_a_peer_that_has_not_joined_reaches_no_service(
    running: Host, echo: ServiceProxy
) -> None:
    """Also with a known address, or with another's as its own."""
    before = refused(running)
    arguments = msgspec.Raw(b"\x91\x00")
    call = messages.encode([messages.Call(1, "die", arguments, messages.EMPTY_MAP, 5.0)])
    target = echo._client.directory.get("echo")
    assert target is not None
    pid = await echo.pid()
    with dealer(running, "bus") as stranger:
        for frame in GARBAGE[1:]:
            stranger.send_multipart([target.token, frame])
        stranger.send_multipart([target.token, call])
        stranger.send_multipart([target.token, target.token, call])
        stranger.send_multipart([call])
    await asyncio.to_thread(until, lambda: refused(running) >= before + len(GARBAGE) + 2)
    assert await echo.pid() == pid


async def test_a_members_garbage_harms_no_other_message(
    running: Host, client: Client, echo: ServiceProxy
) -> None:
    """A service counts frames that it cannot read; calls of others are answered."""
    target = client.directory.get("echo")
    assert target is not None
    with joined(running) as rogue:
        calls: list[asyncio.Future[int]] = []
        for frame in GARBAGE:
            calls.append(echo.echo(len(calls)))
            rogue.bus.send_multipart([target.token, frame])
            await asyncio.sleep(0)
        assert await asyncio.gather(*calls) == list(range(len(GARBAGE)))
        await asyncio.to_thread(
            until, lambda: running.status("echo")["refused_frames"] >= len(GARBAGE) - 1
        )
    assert "frame.refused" in running.log("echo")
    assert running.status("echo")["restarts"] == 0


@pytest.mark.parametrize("wire", [0, WIRE + 1, 99])
def test_another_wire_version_is_rejected(running: Host, wire: int) -> None:
    """The reason lists the supported versions."""
    with dealer(running, "control") as stranger:
        join = messages.Join(wire, os.getpid())
        stranger.send_multipart([SUPERVISOR, messages.encode([join])])
        (answer,) = messages.decode_downward(stranger.recv_multipart()[1])
    assert isinstance(answer, messages.Rejected)
    assert f"wire version {wire}" in answer.reason
    assert str(WIRE) in answer.reason


def test_an_unexpected_worker_is_rejected(running: Host) -> None:
    """A peer cannot take a service's place."""
    pid = running.status("echo")["pid"]
    with dealer(running, "control") as stranger:
        hello = messages.Hello(WIRE, "echo", 1, os.getpid())
        ready = messages.Ready(messages.Manifest("echo"))
        stranger.send_multipart([SUPERVISOR, messages.encode([hello, ready])])
        (answer,) = messages.decode_downward(stranger.recv_multipart()[1])
    assert isinstance(answer, messages.Rejected)
    assert running.status("echo")["pid"] == pid


async def test_a_frame_too_big_ends_its_senders_connection_alone(
    running: Host, echo: ServiceProxy
) -> None:
    """It is never read; its sender may connect again."""
    with dealer(running, "control") as stranger:
        stranger.send_multipart([b"", bytes(4 * MIB)])
        with dealer(running, "bus") as other:
            other.send_multipart([b"", bytes(4 * MIB)])
    assert await echo.echo(1) == 1


async def test_arguments_and_results_above_max_message_are_errors(
    client: Client, echo: ServiceProxy
) -> None:
    """`max_message` applies to programs and services, in both directions, and the next call is
    answered."""
    other = client.get_service("other")
    assert other is not None
    others = [other.echo(n) for n in range(20)]
    with pytest.raises(InvalidCall, match="max_message"):
        await echo.size(bytes(2 * MIB))
    with pytest.raises(RemoteError, match="max_message"):
        await echo.blob(2 * MIB)
    with pytest.raises(RemoteError, match="max_message"):
        await echo.ask("echo", "blob", [2 * MIB])
    assert await asyncio.gather(*others) == list(range(20))
    assert await echo.size(bytes(MIB // 2)) == MIB // 2


async def test_many_messages_of_one_turn_are_not_too_big_together(echo: ServiceProxy) -> None:
    """They are split into several messages."""
    calls = [echo.size(bytes(MIB // 3)) for _ in range(30)]
    assert await asyncio.gather(*calls) == [MIB // 3] * 30


async def test_connections_without_zeromq_are_ignored(running: Host, echo: ServiceProxy) -> None:
    """Silent connections, and other protocols."""
    with contextlib.ExitStack() as stack:
        for name in ("control", "bus"):
            for text in (b"", b"GET / HTTP/1.1\r\n\r\n", b"\xff" * 100):
                one = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
                one.connect(str(running.home / "run" / f"{name}.sock"))
                one.send(text)
        assert await echo.echo(1) == 1
        assert running.ask("status")
    assert await echo.echo(2) == 2


def test_the_home_is_its_own_users_alone(running: Host) -> None:
    """Its folders are 0700 and its sockets 0600."""
    for folder in (running.home, *(running.home / part for part in ("run", "state", "logs"))):
        assert folder.stat().st_mode & 0o777 == 0o700, folder
    found = [file for file in (running.home / "run").iterdir() if file.is_socket()]
    assert {file.name for file in found} >= {"control.sock", "bus.sock"}
    assert not [file for file in found if file.stat().st_mode & 0o077]

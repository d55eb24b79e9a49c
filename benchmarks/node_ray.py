"""A Ray cluster on the machines of a site, and a named actor on it. Times are monotonic seconds."""

import asyncio
import contextlib
import json
import os
import signal
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from tests.support.namespaces import OWN

from .floors import ended_after
from .node_site import Site
from .peer_calls import PROGRAMS, PeerFailed

PORT = 6379
START = ("-m", "ray.scripts.scripts", "start", "--disable-usage-stats", "--num-cpus=1")
SMALL = ("--object-store-memory=80000000", "--memory=500000000")
START_S, ASK_S, END_S = 60.0, 240.0, 10.0
TRIES = 3  # of a node to join; Ray gives up after 30 s


class NamedActor:
    """Ray's named actor, and an actor of the head that calls it.

    Args:
        process: The program that has made both.
        seen: The file in which the named actor writes that it runs.
    """

    def __init__(self, process: asyncio.subprocess.Process, seen: Path) -> None:
        self._process, self.seen = process, seen

    async def ask(self, line: str, seconds: float = ASK_S) -> Any:
        """Return what the program says to a line; empty: what it says first.

        Raises:
            PeerFailed: It has ended, or says nothing.
        """
        reading, writing = self._process.stdout, self._process.stdin
        assert reading is not None
        assert writing is not None
        if line:
            with contextlib.suppress(ConnectionError):  # its end is read below
                writing.write(f"{line}\n".encode())
                await writing.drain()
        try:
            async with asyncio.timeout(seconds):
                answer = await reading.readline()
        except TimeoutError:
            raise PeerFailed(f"it did not answer {line!r} for {seconds:g} s") from None
        if not answer:
            raise PeerFailed(f"it has ended with {await self._process.wait()}")
        return json.loads(answer)


@contextlib.asynccontextmanager
async def named_actor(python: str, there: Site, node: str) -> AsyncIterator[NamedActor | None]:
    """Run a cluster, and a named actor that begins on a node; None without a Python for it."""
    if not python:
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp") as name:
        folder, seen = Path(name), Path(name) / "seen"
        environ = _environment(folder)
        head = [
            *("--head", f"--node-ip-address={OWN}", f"--port={PORT}", "--block"),
            *("--include-dashboard=false", f"--temp-dir={folder}", *SMALL),
        ]
        own = there.network.prefix
        process = await asyncio.create_subprocess_exec(
            *(*own, python, *START, *head),
            env=environ,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,
        )
        async with _ended(process):
            await _listening(own)
            for one in there.machines.values():  # Ray gives up a start that takes long
                await _join(python, one.prefix, one.address, environ)
            first = there.machines[node].address
            words = (f"{OWN}:{PORT}", OWN, first, str(seen))
            program = await asyncio.create_subprocess_exec(
                *(*own, python, str(PROGRAMS / "ray_named.py"), *words),
                env=environ,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
                start_new_session=True,
            )
            async with ended_after(program):
                actor = NamedActor(program, seen)
                await actor.ask("", START_S)
                yield actor


def _environment(folder: Path) -> dict[str, str]:
    """Return the environment of all of Ray's processes: with token authentication."""
    token = folder / "token"
    token.write_text("t" * 40)
    token.chmod(0o600)
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token),
    }


async def _listening(prefix: tuple[str, ...]) -> None:
    """Wait until the head listens."""
    async with asyncio.timeout(START_S):
        while True:
            look = await asyncio.create_subprocess_exec(
                *(*prefix, "ss", "-Hltn", f"sport = :{PORT}"), stdout=asyncio.subprocess.PIPE
            )
            if (await look.communicate())[0]:
                return
            await asyncio.sleep(0.2)


async def _join(
    python: str, prefix: tuple[str, ...], address: str, environ: dict[str, str]
) -> None:
    words = [f"--address={OWN}:{PORT}", f"--node-ip-address={address}", '--resources={"place":1}']
    problem = b""
    for _ in range(TRIES):
        process = await asyncio.create_subprocess_exec(
            *(*prefix, python, *START, *words, *SMALL),
            env=environ,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        _, problem = await process.communicate()
        if not process.returncode:
            return
    raise PeerFailed(f"`ray start` on {address}: {problem.decode()[-500:]}")


@contextlib.asynccontextmanager
async def _ended(head: asyncio.subprocess.Process) -> AsyncIterator[None]:
    """End the head, and what it has started."""
    async with ended_after(head):
        try:
            yield
        finally:
            with contextlib.suppress(ProcessLookupError, TimeoutError):
                head.send_signal(signal.SIGTERM)
                async with asyncio.timeout(END_S):
                    await head.wait()

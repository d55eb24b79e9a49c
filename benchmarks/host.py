"""A garrison host of its own: started in a temporary folder, joined by a client, ended."""

import asyncio
import contextlib
import os
import shutil
import signal
import sys
import tempfile
import time
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from garrison.ipc import Client, GarrisonError, SupervisorGone, connect

SERVICES = Path(__file__).parent / "services"
START_S = 120.0  # until every service runs
UP = (sys.executable, "-P", "-m", "garrison.supervisor.cli", "up")
END_S = 30.0  # until a host that was told to end is killed
DIRECT, ROUTED = "[host]\ndirect = true\n", "[host]\ndirect = false\n"  # for `extra`


@dataclass(frozen=True, slots=True)
class Host:
    """A host whose services all run.

    `started_s` is how long that took, from the start of its first process.
    """

    client: Client
    names: list[str]
    started_s: float
    home: Path


@contextlib.asynccontextmanager
async def host(services: dict[str, str], extra: str = "") -> AsyncIterator[Host]:
    """Run a host, and yield once each of its services runs.

    Args:
        services: NAME → its plugin, a file of `services/` or a bundled one, whose one
            service_type is called alike.
        extra: More lines of the config.
    """
    # Not under $TMPDIR: a socket's path has 107 bytes at most
    with tempfile.TemporaryDirectory(prefix="bench-", dir="/tmp") as folder:
        config = Path(folder) / "config.toml"
        config.write_text(_config(services) + extra)
        for plugin in set(services.values()):
            if (SERVICES / f"{plugin}.py").exists():
                shutil.copy(SERVICES / f"{plugin}.py", folder)
        async with running(config, list(services)) as there:
            yield there


@contextlib.asynccontextmanager
async def running(
    config: Path, names: list[str], prefix: Sequence[str] = ()
) -> AsyncIterator[Host]:
    """Run a host by a config, its home beside it, and yield once each of its services runs.

    Args:
        config: Its config.
        names: The services that are waited for.
        prefix: Runs a command where the supervisor is to run.
    """
    home = config.with_name("home")
    began = time.perf_counter()
    async with _supervisor(config, home, prefix) as process, _joined(home, process) as client:
        async with asyncio.timeout(START_S):
            await asyncio.gather(*(client.get_service_load_promise(one, START_S) for one in names))
        yield Host(client, names, time.perf_counter() - began, home)


def _config(services: dict[str, str]) -> str:
    lines = [f"[plugins.{plugin}]" for plugin in sorted(set(services.values()))]
    for name, plugin in services.items():
        lines += [f"[services.{name}]", f'plugin = "{plugin}"', f'type = "{plugin}"']
    return "\n".join(lines) + "\n"


@contextlib.asynccontextmanager
async def _supervisor(config: Path, home: Path, prefix: Sequence[str]) -> AsyncIterator[Process]:
    said = config.with_name("supervisor.log")
    with said.open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *(*prefix, *UP),
            *("-c", str(config), "--home", str(home)),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,  # Ctrl-C is for the benchmark, which then ends its hosts
        )
    try:
        yield process
    except (TimeoutError, GarrisonError):
        print(said.read_text(errors="replace")[-4000:], file=sys.stderr)
        raise
    finally:
        await _end(process)


async def _end(process: Process) -> None:
    """End a supervisor as its user would: once kindly, then again, which kills its services."""
    for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, number)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(END_S):
                await process.wait()
                return


@contextlib.asynccontextmanager
async def _joined(home: Path, process: Process) -> AsyncIterator[Client]:
    """Join the host as soon as it answers; raise SupervisorGone where it never does."""
    until = time.monotonic() + START_S
    async with contextlib.AsyncExitStack() as stack:
        while True:
            try:
                client = await stack.enter_async_context(connect(home, START_S))
                break
            except SupervisorGone:
                if process.returncode is not None or time.monotonic() >= until:
                    raise
            await asyncio.sleep(0.002)
        yield client

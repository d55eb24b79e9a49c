"""Runs the same program under garrison, supervisord, pm2 and circus: starts, restarts, status.

Durations are seconds.
"""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import statistics
import sys
import tempfile
import time
from asyncio.subprocess import DEVNULL
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import NamedTuple, TypeAlias

from .host import SERVICES
from .venvs import Venvs

COUNT = 50  # programs under one manager
HELLO = Path(__file__).parent / "programs" / "peers" / "hello.py"
HELLO_S = 120.0  # until all programs, or the next one, have sent their hello
END_S = 20.0
REST_S = 1.2  # between kills: a program that ends within a second has failed to start, for some
STATUS = 3  # status commands of each round
NAMES = tuple(f"hello-{number}" for number in range(COUNT))


class Manager(NamedTuple):
    """How one manager is used.

    Attributes:
        write: Writes its config into a folder, for programs that say hello at a socket; returns
            its environment besides this one.
        up: Its command, which stays; or which returns while its daemon goes on.
        status: Its status command.
        down: The command that ends a daemon; empty: the process of `up` is signalled.
    """

    write: Callable[[Path, Path], Mapping[str, str]]
    up: Callable[[Path], list[str]]
    status: Callable[[Path], list[str]]
    down: Callable[[Path], list[str]] | None = None


Prepare: TypeAlias = Callable[[Venvs], Awaitable[Manager]]


def command(name: str, socket: Path) -> list[str]:
    """Return the command line of a program."""
    return [sys.executable, str(HELLO), str(socket), name]


# --- the managers -----------------------------------------------------------------------------


def _garrison(write: Callable[[Path, Path], Mapping[str, str]]) -> Manager:
    def run(*words: str) -> Callable[[Path], list[str]]:
        program = str(Path(sys.executable).with_name("garrison"))
        return lambda folder: [program, "--home", str(folder / "home"), *words]

    def up(folder: Path) -> list[str]:
        return [*run("up")(folder), "-c", str(folder / "config.toml")]

    return Manager(write, up, run("status"))


async def garrison_services(_: Venvs) -> Manager:
    """Return garrison with services that are classes."""

    def write(folder: Path, socket: Path) -> Mapping[str, str]:
        shutil.copy(SERVICES / "hello.py", folder)
        lines = ["[plugins.hello]"]
        for name in NAMES:
            lines += [f"[services.{name}]", 'plugin = "hello"', 'type = "hello"']
            lines += [f"[services.{name}.config]", f'socket = "{socket}"']
        (folder / "config.toml").write_text("\n".join(lines) + "\n")
        return {}

    return _garrison(write)


async def garrison_commands(_: Venvs) -> Manager:
    """Return garrison with plain commands, each the same program that the others run."""

    def write(folder: Path, socket: Path) -> Mapping[str, str]:
        lines = ["[plugins.command]"]
        for name in NAMES:
            lines += [f"[services.{name}]", f"command = {json.dumps(command(name, socket))}"]
        (folder / "config.toml").write_text("\n".join(lines) + "\n")
        return {}

    return _garrison(write)


async def supervisord(venvs: Venvs) -> Manager:
    """Return supervisord, which restarts at once whatever a program's exit."""
    programs = Path(await venvs.python("supervisord", ("supervisor", "setuptools<81"))).parent

    def write(folder: Path, socket: Path) -> Mapping[str, str]:
        lines = [
            f"[unix_http_server]\nfile={folder}/s.sock",
            f"[supervisord]\nnodaemon=true\nlogfile={folder}/s.log\npidfile={folder}/s.pid",
            "[rpcinterface:supervisor]\nsupervisor.rpcinterface_factory = "
            "supervisor.rpcinterface:make_main_rpcinterface",
            f"[supervisorctl]\nserverurl=unix://{folder}/s.sock",
        ]
        for name in NAMES:
            line = " ".join(command(name, socket))
            lines.append(
                f"[program:{name}]\ncommand={line}\nstartsecs=0\nautorestart=true\n"
                f"stdout_logfile={folder}/{name}.log\nredirect_stderr=true"
            )
        (folder / "s.conf").write_text("\n".join(lines) + "\n")
        return {}

    return Manager(
        write,
        lambda folder: [str(programs / "supervisord"), "-c", str(folder / "s.conf")],
        lambda folder: [str(programs / "supervisorctl"), "-c", str(folder / "s.conf"), "status"],
    )


async def circus(venvs: Venvs) -> Manager:
    """Return circus."""
    programs = Path(await venvs.python("circus", ("circus", "setuptools<81"))).parent

    def write(folder: Path, socket: Path) -> Mapping[str, str]:
        lines = [
            f"[circus]\nendpoint = ipc://{folder}/e.sock\npubsub_endpoint = ipc://{folder}/p.sock\n"
            "statsd = False\nwarmup_delay = 0"
        ]
        for name in NAMES:
            first, *rest = command(name, socket)
            lines.append(f"[watcher:{name}]\ncmd = {first}\nargs = {' '.join(rest)}")
        (folder / "circus.ini").write_text("\n".join(lines) + "\n")
        return {}

    return Manager(
        write,
        lambda folder: [str(programs / "circusd"), str(folder / "circus.ini")],
        lambda folder: [
            *(str(programs / "circusctl"), "--endpoint", f"ipc://{folder}/e.sock", "status")
        ],
    )


async def pm2(venvs: Venvs) -> Manager:
    """Return pm2, which starts a daemon."""
    program = str(await venvs.npm("pm2", "pm2") / "pm2")

    def write(folder: Path, socket: Path) -> Mapping[str, str]:
        apps = [
            {
                "name": name,
                "script": first,
                "args": rest,
                "interpreter": "none",
                "autorestart": True,
            }
            for name in NAMES
            for first, *rest in [command(name, socket)]
        ]
        (folder / "apps.json").write_text(json.dumps({"apps": apps}))
        return {"PM2_HOME": str(folder / "pm2"), "PM2_DISABLE_VERSION_CHECK": "true"}

    return Manager(
        write,
        lambda folder: [program, "start", str(folder / "apps.json")],
        lambda _: [program, "list"],
        lambda _: [program, "kill"],
    )


MANAGERS: Mapping[str, Prepare] = {
    "garrison": garrison_services,
    "garrison, plain commands": garrison_commands,
    "supervisord": supervisord,
    "pm2": pm2,
    "circus": circus,
}

# --- one round --------------------------------------------------------------------------------


class Hellos:
    """Listens to the programs; knows the last pid of each."""

    def __init__(self) -> None:
        self.pids: dict[str, int] = {}
        self._changed = asyncio.Event()

    async def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Note who says hello; return when it has ended."""
        with contextlib.suppress(ConnectionError):
            name, pid = (await reader.readline()).decode().split()
            self.pids[name] = int(pid)
            self._changed.set()
            await reader.read(1)
        writer.close()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Return once something is true of the pids."""
        async with asyncio.timeout(HELLO_S):
            while not condition():
                self._changed.clear()
                await self._changed.wait()


async def measured(manager: Manager, kills: int) -> dict[str, float]:
    """Return one round's figures: `start`, `restart` and `status`."""
    with tempfile.TemporaryDirectory(prefix="bench-", dir="/tmp") as name:
        folder, hellos = Path(name), Hellos()
        listener = folder / "hello.sock"
        server = await asyncio.start_unix_server(hellos.take, listener, backlog=COUNT)
        # pip compiles peers when it installs them; garrison's modules are compiled when first used.
        inherited = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
        environ = {**inherited, **manager.write(folder, listener)}
        async with server:
            began = time.perf_counter()
            async with _running(manager, folder, environ):
                await hellos.until(lambda: len(hellos.pids) == COUNT)
                start = time.perf_counter() - began
                restarts = [await _restart(hellos, NAMES[number]) for number in range(kills)]
                status = [await _timed(manager.status(folder), environ) for _ in range(STATUS)]
    median = statistics.median
    return {"restart": median(restarts), "start": start, "status": median(status)}


async def _restart(hellos: Hellos, name: str) -> float:
    """Kill a program; return how long it takes until its successor says hello."""
    await asyncio.sleep(REST_S)
    before = hellos.pids[name]
    began = time.perf_counter()
    os.kill(before, signal.SIGKILL)
    await hellos.until(lambda: hellos.pids[name] != before)
    return time.perf_counter() - began


async def _timed(words: list[str], environ: Mapping[str, str]) -> float:
    began = time.perf_counter()
    process = await asyncio.create_subprocess_exec(
        *words, stdin=DEVNULL, stdout=DEVNULL, stderr=DEVNULL, env=environ
    )
    await process.wait()
    return time.perf_counter() - began


@contextlib.asynccontextmanager
async def _running(
    manager: Manager, folder: Path, environ: Mapping[str, str]
) -> AsyncIterator[None]:
    """Run a manager, and end it with all that it has started."""
    with (folder / "manager.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *manager.up(folder),
            stdin=DEVNULL,
            stdout=log,
            stderr=log,
            cwd=folder,
            env=environ,
            start_new_session=True,
        )
    try:
        yield
    except TimeoutError:
        print((folder / "manager.log").read_text(errors="replace")[-2000:], file=sys.stderr)
        raise
    finally:
        if manager.down:
            await _timed(manager.down(folder), environ)
        for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(number)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(END_S):
                    await process.wait()
                    break

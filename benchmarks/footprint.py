"""Measure what each bundled service costs: the time until it runs, and memory of its own.

    .venv/bin/python benchmarks/footprint.py [--json] [--rounds N] [NAME …]

All services that are named, those whose libraries are installed by default, run in one host. Models
are asked at a server of this program. Each service is restarted, N times in turn, on a quiet host:
`start` is the median from the order to `running`. `private` is what no other process shares (the
sum of Private_Clean and Private_Dirty), once when it runs and once after its first call. The
launcher is looked at, too: it has one thread, and its own sockets alone. `command` is a plain
command: its worker alone is measured, and its time has that of a shell until it writes a line.

Exit status: 0 where every figure reaches its target, 1 otherwise.
"""

import argparse
import asyncio
import contextlib
import json
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Any

# Run as a file, the path starts with this folder; modules here are named from the one above.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.host import Host, running
from tests.support.model_server import ModelServer

from garrison.ipc import RemoteError, messages
from garrison.supervisor.processes.early_launcher import LAUNCHER

START_S, RUNNING_MIB, CALLED_MIB = 0.060, 8.0, 16.0  # targets
OWN_RUNNING_MIB = {"command": 6.0}  # of single services
WAIT_S = 60.0
IDLE_S = 1.0  # until a service that has just started, or answered, is idle
LIBRARIES = {
    "openai": "openai",
    "anthropic": "anthropic",
    "database": "sqlalchemy",
    "task": "cronsim",
    "tts": "espeakng_loader",
    "transcription": "openai",
    "mcp": "mcp",
    "web_search": "aiohttp",
}
SERVERS = {"openai": "/v1", "anthropic": "", "transcription": "/v1"}  # path of their base_url
MCP_SERVER = Path(__file__).parent.parent / "tests" / "support" / "plain_mcp_server.py"
HELLO = {"prompt": "Hello", "max_tokens": 9}
Call = Callable[[Any], Awaitable[Any]]
CALLS: Mapping[str, Call] = {
    "chat": lambda service: service.say("Hello"),
    "agent": lambda service: service.count_memories("messages"),
    "eliza": lambda service: service.generate_text(HELLO),
    "mailbox": lambda service: service.ls(),
    "notification": lambda service: _notify(service),
    "openai": lambda service: service.generate_text(HELLO),
    "anthropic": lambda service: service.generate_text(HELLO),
    "database": lambda service: service.set_cache("key", "value", agent_id="bench"),
    "task": lambda service: service.ls(),
    "image": lambda service: service.generate("a cat"),
    "tts": lambda service: service.speak("Hello"),
    "transcription": lambda service: service.transcribe(b"OggS"),
    "mcp": lambda service: service.call_tool("plain", "echo", {"text": "Hello"}),
    "web_search": lambda service: _search(service),
    "sql": lambda service: service.query("bench", "select 1"),
    "command": lambda service: asyncio.sleep(0),  # it has no methods
}


async def _notify(service: Any) -> None:
    with contextlib.suppress(RemoteError):  # no target is configured
        await service.notify("Hello")


async def _search(service: Any) -> None:
    with contextlib.suppress(RemoteError):  # this program's server is no engine
        await service.search("Hello")


def private_bytes(pid: int) -> int:
    """Return the memory that no other process shares with this one."""
    total = 0
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Private_"):
            total += int(line.split()[1]) * 1024
    return total


class Events:
    """The host's recorded events, read on as they are written."""

    def __init__(self, home: Path) -> None:
        self._file, self._seen = home / "logs" / "events.jsonl", 0

    async def running(self, name: str) -> dict[str, Any]:
        """Return the data of the next event that says that a service runs."""
        until = time.monotonic() + WAIT_S
        while time.monotonic() < until:
            with self._file.open() as file:
                file.seek(self._seen)
                for line in file.read().splitlines():
                    event = json.loads(line)
                    data = event["data"]
                    if event["service"] == name and data.get("to") == "running":
                        self._seen = self._file.stat().st_size
                        return dict(data)
            await asyncio.sleep(0.005)
        raise TimeoutError(f"{name} does not run")

    def skip(self) -> None:
        """Read on from here."""
        self._seen = self._file.stat().st_size


async def measure(there: Host, home: Path, rounds: int) -> dict[str, dict[str, float]]:
    """Return the figures of each service, by NAME."""
    found: dict[str, dict[str, float]] = {}
    events = Events(home)
    for name in there.names:
        starts: list[float] = []
        pid = 0
        for number in range(rounds):
            await asyncio.sleep(IDLE_S / 4)
            events.skip()
            there.client.session.send(messages.Order(number, "restart", (name,)))
            data = await events.running(name)
            starts.append(data["took_s"])
            pid = data["pid"]
        await asyncio.sleep(IDLE_S)
        idle = private_bytes(pid)
        await CALLS[name](there.client.get_service(name))
        await asyncio.sleep(IDLE_S)
        found[name] = {
            "start_s": statistics.median(starts),
            "running_mib": idle / 1024**2,
            "called_mib": private_bytes(pid) / 1024**2,
        }
    return found


def launcher(supervisor: int) -> str:
    """Return what the launcher of a supervisor has, as a sentence."""
    children = Path(f"/proc/{supervisor}/task/{supervisor}/children").read_text().split()
    worker = next(path for pid in children if _is_launcher(path := Path("/proc", pid)))
    threads = len(list((worker / "task").iterdir()))
    sockets = [fd for fd in (worker / "fd").iterdir() if str(fd.readlink()).startswith("socket:")]
    whose = "its path, the supervisor, the template, a spare"
    return f"launcher: {threads} thread, {len(sockets)} sockets ({whose})"


def _is_launcher(process: Path) -> bool:
    with contextlib.suppress(OSError):  # it has ended
        return LAUNCHER.encode() in (process / "cmdline").read_bytes().split(b"\0")
    return False


async def main() -> int:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", choices=[*CALLS, []], metavar="NAME")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    names = options.names or [
        name
        for name in entry_points(group="garrison.plugins").names
        if name in CALLS and (name not in LIBRARIES or find_spec(LIBRARIES[name]))
    ]
    with tempfile.TemporaryDirectory(prefix="bench-", dir="/tmp") as folder:
        async with ModelServer() as server:
            path = Path(folder) / "config.toml"
            path.write_text(config(names, server.url, path.with_name("bench.db")))
            async with running(path, names) as there:
                found = await measure(there, path.with_name("home"), options.rounds)
                sentence = launcher(there.client.session._supervisor.pid)
    print(json.dumps(found, indent=2) if options.json else table(found))
    if not options.json:
        print(sentence)
    return 0 if all(_reaches(name, row) for name, row in found.items()) else 1


def config(names: list[str], url: str, file: Path) -> str:
    """Return a config of these services, whose models are at an address.

    Args:
        names: NAMEs of the services.
        url: The address.
        file: A database that may be made.
    """
    lines = [f"[plugins.{name}]" for name in names if name != "command"]
    if "command" in names:
        words = json.dumps(["sh", "-c", "echo begins; exec sleep infinity"])
        lines += ["[services.command]", f"command = {words}", 'ready = "line: begins"']
    for name, path in SERVERS.items():
        if name in names:
            lines += [f"[services.{name}.config]", f'base_url = "{url}{path}"']
    if "mcp" in names:  # its start does not wait for the server, which is another program
        lines += ["[services.mcp.config]", "wait = 0", "[services.mcp.config.servers.plain]"]
        lines += [f'command = "{sys.executable}"', f'args = ["{MCP_SERVER}"]']
    if "web_search" in names:
        lines += ["[services.web_search.config]", f'url = "{url}"']
    if "sql" in names:
        sqlite3.connect(file).executescript("create table x(y)").connection.close()
        lines += ["[services.sql.config.databases.bench]", f'url = "sqlite:///{file}"']
    return "\n".join(lines) + "\n"


def table(found: Mapping[str, Mapping[str, float]]) -> str:
    """Return the figures as text."""
    lines = [f"{'service':<14}{'start ms':>10}{'private MiB':>13}{'after a call':>14}"]
    for name, row in found.items():
        lines.append(
            f"{name:<14}{row['start_s'] * 1e3:>10.0f}{row['running_mib']:>13.1f}"
            f"{row['called_mib']:>14.1f}  {'ok' if _reaches(name, row) else 'MISSED'}"
        )
    limits = f"{START_S * 1e3:>10.0f}{RUNNING_MIB:>13.1f}{CALLED_MIB:>14.1f}"
    own = [f"of {name}: {most:g} MiB" for name, most in OWN_RUNNING_MIB.items() if name in found]
    lines.append("; ".join([f"{'target, at most':<14}{limits[1:]}", *own]))
    return "\n".join(lines)


def _reaches(name: str, row: Mapping[str, float]) -> bool:
    return (
        row["start_s"] <= START_S
        and row["running_mib"] <= OWN_RUNNING_MIB.get(name, RUNNING_MIB)
        and row["called_mib"] <= CALLED_MIB
    )


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))

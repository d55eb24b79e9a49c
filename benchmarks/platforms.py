"""Measure what a platform costs: import, start, memory, and the time of an answer.

    .venv/bin/python benchmarks/platforms.py [--rounds N] [--places N] [--json] [NAME …]

Each platform runs against its counterpart of the tests, on loopback. `start` is the median from the
order of a restart to `running`, and contains the logins at the counterpart. Memory is that of the
platform's process a second after its start: `private` is what no other process shares. Both are
measured with the library preloaded, which is how it is bundled, and without. `crowd` is the private
memory with `--places` servers of ten channels, less that with one.

`answer` is the median from a message to its answer with `eliza`, both by the counterpart's clock:
garrison's bot with its processes and its mailbox, and a bot of the library alone in one process,
by turns. Their quotient is the figure; the times are a machine's.
"""

import argparse
import asyncio
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

# Run as a file, the path starts with this folder; modules here are named from the one above.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.footprint import Events
from benchmarks.host import Host, running
from tests.support.discord_client import DiscordBridge, discord_bridge
from tests.support.telegram_client import TelegramServer, telegram_server

from garrison.ipc import messages

PROGRAMS = Path(__file__).parent / "programs"
WAIT_S = 60.0
IDLE_S = 1.0  # until a service that has just started is idle
LOOK_S = 0.02  # between looks at the counterpart
IMPORTS = 5
TURNS = 4  # by which the two bots answer
TEXTS = ("I am sad today", "My mother is kind", "Why do you ask?", "I need a holiday")
BARE = """
from garrison.workers import Plugin
from {module} import {name}

plugin = Plugin("{service}", services=[{name}])
"""
CONFIG = """
[plugins]
mailbox = {{}}
agent = {{}}
eliza = {{}}
{service} = {use}
[services.{service}]
secrets = ["{secret}"]
[services.{service}.config]
typing = false
{keys}
"""


class Counterpart(Protocol):
    """The platform's server, and a person there."""

    keys: str  # of the service's config: lines that point it here
    address: str  # for the bot of the library alone

    def say(self, text: str) -> str:
        """Say something as the person; return the message's id."""
        ...

    def until_ready(self) -> None:
        """Wait until a bot is connected."""

    def answered(self) -> dict[str, float]:
        """Return the seconds until each message was answered, by its id."""
        ...


@dataclass(frozen=True)
class Bench:
    """How one platform is measured."""

    library: str  # the module that is imported
    module: str  # of the service
    name: str  # its class there
    secret: str  # NAME of its credential
    alone: str  # the program of `programs/` that has the library alone; gets the address
    run: Callable[[int], AbstractContextManager[Counterpart]]  # places → the counterpart


class Discord:
    """simcord's Discord."""

    def __init__(self, bridge: DiscordBridge) -> None:
        self._bridge = bridge
        self.keys, self.address = f'base_url = "{bridge.url}"', bridge.url

    def say(self, text: str) -> str:
        """Say something in the one channel that is used."""
        return self._bridge.say("channel-0", text)

    def until_ready(self) -> None:
        """Wait until a bot has identified."""
        self._bridge.until_bots(1)

    def answered(self) -> dict[str, float]:
        """Return the seconds by the replies of the record."""
        said = {one.id: one.at for one in self._bridge.read() if not one.bot}
        replies = [one for one in self._bridge.read() if one.bot and one.reply_to in said]
        return {one.reply_to: one.at - said[one.reply_to] for one in replies}


@contextlib.contextmanager
def run_discord(places: int) -> Iterator[Counterpart]:
    """Run Discord with so many servers."""
    with discord_bridge(*(f"channel-{n}" for n in range(10)), guilds=places) as bridge:
        yield Discord(bridge)


class Telegram:
    """Telegram's API."""

    def __init__(self, server: TelegramServer, places: int) -> None:
        self._server, self._places, self._said = server, places, 0
        self.keys, self.address = f'base_url = "{server.url}"', server.url

    def say(self, text: str) -> str:
        """Say something in one chat after the other."""
        self._said += 1
        return self._server.say(str(1 + self._said % self._places), text)

    def until_ready(self) -> None:
        """Wait until a bot polls."""
        self._server.until_polled()

    def answered(self) -> dict[str, float]:
        """Return the seconds by the replies of the record."""
        said = {one.id: one.at for one in self._server.read() if not one.bot}
        replies = [one for one in self._server.read() if one.bot and one.reply_to in said]
        return {one.reply_to: one.at - said[one.reply_to] for one in replies}


@contextlib.contextmanager
def run_telegram(places: int) -> Iterator[Counterpart]:
    """Run Telegram; a bot there knows of no chat before someone writes in it."""
    with telegram_server() as server:
        yield Telegram(server, places)


PLATFORMS: Mapping[str, Bench] = {
    "discord": Bench(
        "discord",
        "garrison.workers.services.discord",
        "DiscordService",
        "DISCORD_TOKEN",
        "discord_alone.py",
        run_discord,
    ),
    "telegram": Bench(
        "telegram",
        "garrison.workers.services.telegram",
        "TelegramService",
        "TELEGRAM_BOT_TOKEN",
        "telegram_alone.py",
        run_telegram,
    ),
}


def memory(pid: int) -> dict[str, float]:
    """Return a process's proportional and private memory, in MiB."""
    found = {"pss_mib": 0.0, "private_mib": 0.0}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        key, _, rest = line.partition(":")
        if key == "Pss":
            found["pss_mib"] = int(rest.split()[0]) / 1024
        elif key.startswith("Private_") and key != "Private_Hugetlb":
            found["private_mib"] += int(rest.split()[0]) / 1024
    return found


def import_s(module: str) -> float:
    """Return the seconds that a library's import takes in a fresh process."""
    code = f"import time; t = time.perf_counter(); import {module}; print(time.perf_counter() - t)"
    run = [sys.executable, "-c", code]
    times = [float(subprocess.check_output(run)) for _ in range(IMPORTS)]
    return statistics.median(times)


@contextlib.asynccontextmanager
async def hosted(service: str, there: Counterpart, bare: bool = False) -> AsyncIterator[Host]:
    """Run a platform's host.

    Args:
        service: Its NAME.
        there: The counterpart.
        bare: Do not preload the library.
    """
    bench = PLATFORMS[service]
    os.environ[bench.secret] = f"token-{os.getpid()}"  # not one that another run has
    with tempfile.TemporaryDirectory(prefix="bench-", dir="/tmp") as folder:
        path, use = Path(folder) / "config.toml", '{ use = "bare" }' if bare else "{}"
        config = CONFIG.format(service=service, use=use, secret=bench.secret, keys=there.keys)
        path.write_text(config)
        if bare:
            text = BARE.format(module=bench.module, name=bench.name, service=service)
            path.with_name("bare.py").write_text(text)
        async with running(path, ["mailbox", "agent", "eliza", service]) as host:
            yield host


async def measure_starts(host: Host, service: str, rounds: int) -> dict[str, float]:
    """Return the time of a restart, and the memory after the last one."""
    events, starts, pid = Events(host.home), list[float](), 0
    for number in range(rounds):
        await asyncio.sleep(IDLE_S / 4)
        events.skip()
        host.client.session.send(messages.Order(number, "restart", (service,)))
        data = await events.running(service)
        starts.append(data["took_s"])
        pid = data["pid"]
    await asyncio.sleep(IDLE_S)
    return {"start_s": statistics.median(starts), **memory(pid)}


async def measure_answers(there: Counterpart, rounds: int) -> list[float]:
    """Return the seconds to the answers of so many messages, one after the other."""
    await asyncio.to_thread(there.until_ready)
    ids: list[str] = []
    for number in range(rounds):
        ids.append(await asyncio.to_thread(there.say, TEXTS[number % len(TEXTS)]))
        deadline = time.monotonic() + WAIT_S
        while ids[-1] not in await asyncio.to_thread(there.answered):
            if time.monotonic() > deadline:
                raise TimeoutError("a message is not answered")
            await asyncio.sleep(LOOK_S)
    found = there.answered()
    return [found[id] for id in ids]


async def measure_alone(bench: Bench, there: Counterpart, rounds: int) -> list[float]:
    """Return the same of the bot that has the library alone."""
    os.environ[bench.secret] = f"token-{os.getpid()}"
    program = [sys.executable, str(PROGRAMS / bench.alone), f"{there.address}/"]
    process = await asyncio.create_subprocess_exec(*program)
    try:
        await measure_answers(there, 3)
        return await measure_answers(there, rounds)
    finally:
        process.terminate()
        await process.wait()


async def measure(service: str, rounds: int, places: int) -> dict[str, Any]:
    """Return the figures of one platform."""
    bench = PLATFORMS[service]
    found: dict[str, Any] = {"import_s": import_s(bench.library)}
    ours, alone = list[float](), list[float]()
    with bench.run(1) as there:
        async with hosted(service, there, bare=True) as host:
            found["bare"] = await measure_starts(host, service, rounds)
        async with hosted(service, there) as host:
            found["preloaded"] = await measure_starts(host, service, rounds)
    for _ in range(TURNS):
        with bench.run(1) as there:
            async with hosted(service, there):
                await measure_answers(there, 3)
                ours += await measure_answers(there, rounds)
        with bench.run(1) as there:
            alone += await measure_alone(bench, there, rounds)
    with bench.run(places) as there:
        async with hosted(service, there) as host:
            crowd = await measure_starts(host, service, 1)
    found["crowd_mib"] = crowd["private_mib"] - found["preloaded"]["private_mib"]
    found["answer_s"], found["alone_s"] = statistics.median(ours), statistics.median(alone)
    found["ratio"] = found["answer_s"] / found["alone_s"]
    return found


def shown(service: str, found: Mapping[str, Any]) -> str:
    """Return a platform's figures as text."""
    lines = [f"{service}: import {found['import_s'] * 1e3:.0f} ms"]
    for kind in ("preloaded", "bare"):
        row = found[kind]
        lines.append(
            f"  {kind:<10} start {row['start_s'] * 1e3:4.0f} ms, private "
            f"{row['private_mib']:5.1f} MiB, PSS {row['pss_mib']:5.1f} MiB"
        )
    lines.append(f"  crowd      {found['crowd_mib']:5.1f} MiB more")
    lines.append(
        f"  answer     {found['answer_s'] * 1e3:5.1f} ms, alone {found['alone_s'] * 1e3:5.1f} ms, "
        f"ratio {found['ratio']:.2f}"
    )
    return "\n".join(lines)


def main() -> int:
    """Measure, and print the figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", choices=[*PLATFORMS, []], metavar="NAME")
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--places", type=int, default=500)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    for name in options.names or PLATFORMS:
        found = asyncio.run(measure(name, options.rounds, options.places))
        print(json.dumps({name: found}) if options.json else shown(name, found), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())

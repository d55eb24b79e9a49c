"""A full disk of logs or state: services keep running, and the loss is reported afterwards.

These need root, to mount file systems; elsewhere they skip.
"""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.chaos.test_mailbox_disk import needs_root
from tests.support.host import COMMAND, Host, Hosting, found
from tests.support.waiting import until

from garrison.ipc import RemoteError

pytestmark = pytest.mark.external  # mounts file systems of its own

CONFIG = """
[host]
{where}
log_bytes = 65536
{more}
[defaults]
intensity = 0
[plugins.printer]
"""


@contextlib.contextmanager
def disk(folder: Path, options: str = "size=1m") -> Iterator[Path]:
    """Mount a small file system; skip where that is not allowed."""
    needs_root()
    place = folder / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"nothing can be mounted here: {done.stderr.strip()[:200]}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", place], check=False)


def fill(place: Path) -> Path:
    """Use up all that is left of a disk; return the file that takes it."""
    file = place / "filler"
    with contextlib.suppress(OSError), file.open("ab", buffering=0) as out:
        for size in (65_536, 4096, 1):
            with contextlib.suppress(OSError):
                while True:
                    out.write(bytes(size))
    return file


def config(more: str = "", **folders: Path) -> str:
    """Return a config with folders on other disks."""
    where = "\n".join(f'{name} = "{path}"' for name, path in folders.items())
    return CONFIG.format(where=where, more=more)


async def test_who_prints_into_a_full_disk_goes_on(host: Hosting, tmp_path: Path) -> None:
    """No print and no logging raises. Afterwards one line has the amount lost, and logging
    continues."""
    with disk(tmp_path) as place:
        running = host(config(logs=place / "logs"), plugins=["printer"])
        async with running.connect() as client:
            printer = found(client, "printer")
            pid = await printer.pid()
            assert await printer.say("before") == 1
            filler = fill(place)
            assert await printer.say("x" * 5000, 50) == 50
            with pytest.raises(RemoteError, match="LookupError: no such page"):
                await printer.fail()
            assert await printer.child("child") in {0, 1}
            assert await printer.pid() == pid
            filler.unlink()
            assert await printer.say("after") == 1
            log = running.log("printer")
            lost = [line for line in log.splitlines() if "of this log were lost here" in line]
            assert 1 <= len(lost) <= 2, "stdout and stderr, each once"
            assert all(line.startswith("garrison: ") for line in lost)
            assert "No space left on device" in lost[0]
            assert log.count("after\n") == 4
            assert log.index(lost[-1]) < log.rindex("after")
            assert await printer.say("again") == 1
            assert running.log("printer").count("were lost here") == len(lost)
        running.end()


async def test_the_journal_goes_on_after_a_full_disk(host: Hosting, tmp_path: Path) -> None:
    """The supervisor has all events in memory; the file has the number of lost ones."""
    with disk(tmp_path) as place:
        running = host(config(logs=place / "logs"), plugins=["printer"])
        filler = fill(place)
        for _ in range(10):  # its last page has some room left
            running.ask("restart", "printer")
        old = running.kill("printer")
        old = running.until_reborn("printer", old)["pid"]
        assert f"pid={old}" in running.run("events", "-n", "50").out
        assert running.process is not None
        assert running.process.poll() is None
        filler.unlink()
        running.ask("restart", "printer")
        recorded = events(running)
        (lost,) = [one["data"]["events"] for one in recorded if one["event"] == "journal.lost"]
        numbers = [one["n"] for one in recorded]
        assert numbers == sorted(numbers)
        assert lost == numbers[-1] - len(numbers) - (numbers[0] - 1)
        assert recorded[-1]["data"]["to"] == "running"
        running.end()


def events(running: Host) -> list[dict[str, Any]]:
    """Return the events of the file, without lines that the disk cut."""
    recorded: list[dict[str, Any]] = []
    for line in (running.home / "logs" / "events.jsonl").read_text().splitlines():
        with contextlib.suppress(ValueError):
            recorded.append(json.loads(line))
    return recorded


async def test_a_service_starts_on_a_full_disk(host: Hosting, tmp_path: Path) -> None:
    """Its log is written once there is room, also if the file could not be created."""
    with disk(tmp_path, "size=4m,nr_inodes=40") as place:
        running = host(config(logs=place / "logs"), plugins=["printer"])
        running.ask("stop", "printer")
        (place / "logs" / "printer.log").unlink()
        fillers = _use_up_names(place)
        running.ask("start", "printer")
        async with running.connect() as client:
            printer = found(client, "printer")
            pid = await printer.pid()
            assert await printer.say("unheard") == 1
            assert running.log("printer") == ""
            for one in fillers:
                one.unlink()

            async def heard() -> bool:
                await printer.say("heard")
                return "heard" in running.log("printer")

            deadline = asyncio.get_running_loop().time() + 10
            while not await heard():
                assert asyncio.get_running_loop().time() < deadline
                await asyncio.sleep(0.05)
            assert "of this log were lost here" in running.log("printer").splitlines()[0]
            assert await printer.child("from a child") == 0
            assert "from a child" in running.log("printer")
            assert await printer.pid() == pid
        running.end()


def _use_up_names(place: Path) -> list[Path]:
    """Create files until no more can be created."""
    fillers: list[Path] = []
    with contextlib.suppress(OSError):
        for number in range(1000):
            fillers.append(place / f"filler-{number}")
            fillers[-1].touch()
    return [one for one in fillers if one.exists()]


def test_a_host_starts_on_a_full_disk(host: Hosting, tmp_path: Path) -> None:
    """Its folders exist already; launcher and services start, and write once they can."""
    with disk(tmp_path, "size=2m,nr_inodes=40") as place:
        running = host(config(logs=place / "logs"), plugins=["printer"])
        assert running.end() == 0
        for log in (place / "logs").glob("*"):
            log.unlink()
        fillers = _use_up_names(place)
        running.up()
        assert running.status("printer")["state"] == "running"
        for one in fillers:
            one.unlink()
        running.ask("restart", "printer")
        assert running.events("journal.lost")[0]["data"]["events"] > 3
        running.end()


def test_deaths_on_a_full_disk(host: Hosting, tmp_path: Path) -> None:
    """The restart does not depend on the record; the next death has one."""
    with disk(tmp_path) as place:
        running = host(config(state=place / "state"), plugins=["printer"])
        old = running.kill("printer")
        old = running.until_reborn("printer", old)["pid"]
        until(lambda: running.status("printer")["deaths"])
        filler = fill(place)
        os.kill(old, signal.SIGKILL)
        old = running.until_reborn("printer", old)["pid"]
        until(lambda: running.events("death.unrecorded", "printer"))
        until(lambda: running.events("state.unsaved"))
        running.ask("stop", "printer")
        running.ask("start", "printer")
        assert len(running.events("state.unsaved")) <= 4, "recorded once, not each time"
        filler.unlink()
        old = running.kill("printer")
        running.until_reborn("printer", old)
        until(lambda: len(running.status("printer")["deaths"]) == 2)
        running.end()


def test_what_was_unsaved_is_saved_once_there_is_room(host: Hosting, tmp_path: Path) -> None:
    """Without another event: an order given meanwhile outlasts the supervisor."""
    with disk(tmp_path) as place:
        running = host(config(state=place / "state"), plugins=["printer"])
        filler = fill(place)
        running.ask("stop", "printer")
        assert not _keeps_stopped(running)
        filler.unlink()
        until(lambda: _keeps_stopped(running), what="the order is on disk")
        os.kill(running.pid, signal.SIGKILL)
        running.end()
        running.up()
        assert running.status("printer")["state"] == "stopped"
        running.end()


def _keeps_stopped(running: Host) -> bool:
    orders = running.home / "state" / "orders.json"
    return orders.exists() and "printer" in orders.read_text()


def test_the_foregrounds_output_goes_on(host: Hosting, tmp_path: Path) -> None:
    """`garrison up > file` on a full disk: the host runs, and writes again afterwards."""
    with disk(tmp_path) as place:
        running = host(config(), plugins=["printer"], up=False)
        output = place / "out"
        with output.open("wb") as out:
            running.process = subprocess.Popen(
                [*COMMAND, "up", "-c", str(running.config), "--home", str(running.home)],
                cwd=running.folder,
                env=running.environ,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
            )
        until(lambda: (running.head() or {}).get("settled"))
        filler = fill(place)
        for _ in range(10):  # its last page has some room left
            running.ask("restart", "printer")
        filler.unlink()
        running.ask("stop", "printer")
        until(lambda: "stopping → stopped" in output.read_text("utf-8", "replace"))
        running.end()

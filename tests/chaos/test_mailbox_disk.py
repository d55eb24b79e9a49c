"""Acknowledged messages survive a power cut; on a full disk posts fail and deliveries go on.

Both tests mount a file system, which needs root; without root they are skipped.
"""

import asyncio
import contextlib
import fcntl
import os
import signal
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.chaos.test_mailbox import CONFIG, empty, numbers
from tests.support.host import Hosting
from tests.support.waiting import eventually

from garrison.ipc import CallError, Client, Overloaded

pytestmark = pytest.mark.external  # mounts file systems of its own

SHUTDOWN = 0x8004587D  # EXT4_IOC_SHUTDOWN, linux/fs/ext4/ext4.h
TEXT = "x" * 1000  # of a message: some hundreds of them fill the disk
NO_FLUSH = 2  # do not even flush the file system's journal


@contextlib.contextmanager
def mounted(kind: str, folder: Path, size: str) -> Iterator[Path]:
    """Mount a file system; skip the test where that is not allowed."""
    place = folder / "disk"
    place.mkdir()
    if kind == "tmpfs":
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)]
    else:
        image = folder / "image"
        with image.open("wb") as file:
            file.truncate(int(size))
        made = subprocess.run(["mkfs.ext4", "-q", image], capture_output=True, check=False)
        if made.returncode:
            pytest.skip(f"no mkfs.ext4: {made.stderr.decode()[:200]}")
        command = ["mount", "-o", "loop", str(image), str(place)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"nothing can be mounted here: {done.stderr.strip()[:200]}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", place], check=False)


def cut_power(place: Path) -> None:
    """Make a file system lose everything that it has not written yet."""
    folder = os.open(place, os.O_RDONLY)
    try:
        fcntl.ioctl(folder, SHUTDOWN, struct.pack("I", NO_FLUSH))
    except OSError as error:
        pytest.skip(f"this file system cannot be shut down: {error}")
    finally:
        os.close(folder)


def needs_root() -> None:
    """Skip the test without root."""
    if os.geteuid() != 0:
        pytest.skip("only root may mount")


def config(tmp_path: Path, state: Path) -> str:
    """Return a config whose state is on another file system."""
    return f'[host]\nstate = "{state}"\n' + CONFIG.format(notes=tmp_path)


async def test_acknowledged_messages_survive_a_power_cut(host: Hosting, tmp_path: Path) -> None:
    """The file system loses everything that was not synced, but no acknowledged message."""
    needs_root()
    with mounted("ext4", tmp_path, str(64 << 20)) as place:
        running = host(config(tmp_path, place / "state"), plugins=["post"])
        accepted: list[int] = []
        async with running.connect() as client:
            await asyncio.to_thread(running.ask, "stop", "receiver")
            posting = asyncio.ensure_future(_post(client, accepted))
            await eventually(lambda: _many(accepted))
            cut_power(place)
            await asyncio.wait({posting}, timeout=0.5)
            posting.cancel()
        await asyncio.to_thread(running.end, signal.SIGKILL)
        _end_all(running.processes())
        await asyncio.to_thread(_mount_again, tmp_path / "image", place)
        running.up()
        async with running.connect() as client:
            await asyncio.to_thread(running.ask, "start", "receiver")
            await empty(client)
        assert set(accepted) <= set(numbers(tmp_path))
        first = list(dict.fromkeys(numbers(tmp_path)))
        assert first == sorted(first)
        running.end()


async def _many(accepted: list[int]) -> bool:
    return len(accepted) >= 500


def _mount_again(image: Path, place: Path) -> None:
    subprocess.run(["umount", "-l", place], check=True)
    subprocess.run(["mount", "-o", "loop", image, place], check=True)


async def _post(client: Client, accepted: list[int]) -> None:
    """Post numbers; record those that were acknowledged."""
    for number in range(1_000_000):
        with contextlib.suppress(CallError):
            await client.post("receiver", "take", number)
            accepted.append(number)


def _end_all(pids: set[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


async def test_on_a_full_disk_posts_fail_and_deliveries_go_on(
    host: Hosting, tmp_path: Path
) -> None:
    """On a disk of 1 MB: all accepted messages are delivered, and then there is room again."""
    needs_root()
    with mounted("tmpfs", tmp_path, "1m") as place:
        running = host(config(tmp_path, place / "state"), plugins=["post"])
        async with running.connect() as client:
            total = 0
            for _ in range(2):
                await asyncio.to_thread(running.ask, "stop", "receiver")
                accepted = await _fill(client, total)
                assert accepted > 10
                total += accepted
                await asyncio.to_thread(running.ask, "start", "receiver")
                await empty(client)
                assert numbers(tmp_path) == list(range(total))
        running.end()


async def _fill(client: Client, start: int) -> int:
    """Post until there is no room; return how many were accepted."""
    for number in range(10_000):
        try:
            await client.post("receiver", "measure", start + number, TEXT)
        except Overloaded:
            return number
    pytest.fail("every post was accepted")

"""A mailbox and its surroundings: a full disk, a router that dies, agents, message sizes."""

import asyncio
import contextlib
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from tests.chaos.test_mailbox import CONFIG, empty, noted, numbers
from tests.chaos.test_mailbox_disk import config, mounted, needs_root
from tests.support.host import LONG_GRACE, Hosting, found
from tests.support.waiting import eventually

from garrison.ipc import CallError, Client, InvalidCall, Overloaded
from garrison.ipc.mail import AROUND

SMALL = "[host]\nmax_message = 1048576\n"


@pytest.mark.external
async def test_a_disk_filled_by_another_process_does_not_stop_deliveries(
    host: Hosting, tmp_path: Path
) -> None:
    """The mailbox does not crash. It rejects posts, and accepts them again when there is room."""
    needs_root()
    with mounted("tmpfs", tmp_path, "24m") as place:
        running = host(config(tmp_path, place / "state"), plugins=["post"])
        async with running.connect() as client:
            await asyncio.to_thread(running.ask, "stop", "receiver")
            total, padding = 200, "x" * 3_000
            for number in range(total):
                await client.post("receiver", "measure", number, padding, key=str(number))
            pid = running.status("mailbox")["pid"]
            filler = place / "filler"
            with filler.open("wb", buffering=0) as file:
                try:
                    while file.write(b"x" * 4096):
                        pass
                except OSError:
                    pass
            with contextlib.suppress(Overloaded):
                for _ in range(1_000):  # until the space of its log is used up
                    await client.post("receiver", "measure", total, padding)
                    total += 1
            assert total < 1_200
            await asyncio.to_thread(running.ask, "start", "receiver")
            await empty(client)
            assert numbers(tmp_path) == list(range(total))
            assert running.status("mailbox")["pid"] == pid
            filler.unlink()

            async def is_accepted() -> bool:
                try:
                    return bool(await client.post("receiver", "take", total, key="last"))
                except Overloaded:
                    return False

            await eventually(is_accepted)
            await empty(client)
            assert numbers(tmp_path) == list(range(total + 1))
        running.end()


async def test_a_kill_of_the_supervisor_does_not_count_as_a_crash_of_the_receiver(
    host: Hosting, tmp_path: Path
) -> None:
    """A long delivery survives three kills, is no dead letter, and never runs twice at a time."""
    running = host(LONG_GRACE + CONFIG.format(notes=tmp_path), plugins=["post"])
    async with running.connect() as client:
        kept = await client.post("receiver", "slow", 1, 3.0)
    for _ in range(3):
        row = running.status("receiver")
        await asyncio.to_thread(running.end, signal.SIGKILL)
        await asyncio.to_thread(running.up)
        assert running.status("receiver")["pid"] == row["pid"]
    async with running.connect() as client:
        await empty(client)
        with pytest.raises(Exception, match=f"no message {kept}"):
            await found(client, "mailbox").show(kept)
    assert noted(tmp_path) == [(1, kept, 2)]  # it may have run before


async def test_a_message_of_maximum_size_is_delivered_or_rejected_at_once(
    host: Hosting, tmp_path: Path
) -> None:
    """Every accepted size can be delivered, without a crash of the mailbox."""
    running = host(SMALL + CONFIG.format(notes=tmp_path), plugins=["post"])
    async with running.connect() as client:
        pid = running.status("mailbox")["pid"]
        most = client.max_message
        sent = 0
        for less in range(AROUND - 100, AROUND + 100, 10):
            try:
                kept = await client.post("receiver", "measure", sent, "x" * (most - less))
            except InvalidCall:
                continue
            sent += 1
            await empty(client)
            state: Any = await found(client, "mailbox").ls()
            assert state["letters"] == [], f"{kept} of {most - less}"
        assert sent
        assert running.status("mailbox")["pid"] == pid
        assert numbers(tmp_path) == list(range(sent))


async def test_each_agent_has_a_mailbox_and_garrison_mail_lists_all(
    host: Hosting, tmp_path: Path
) -> None:
    """An agent's service posts to a service of the same agent, through that agent's mailbox."""
    text = CONFIG.format(notes=tmp_path).partition("[services.receiver-2]")[0]
    for name in ("ada", "bob"):
        (tmp_path / f"{name}.json").write_text(f'{{"name": "{name}"}}')
        text += f'\n[agents.{name}]\ncharacter = "{tmp_path}/{name}.json"\n'
    running = host(text, plugins=["post"])
    async with running.connect() as client:
        kept = [
            await found(client, f"{name}.poster").post("receiver", "die", [number])
            for number, name in enumerate(["ada", "bob"])
        ]

        async def dead() -> bool:
            ran = await asyncio.to_thread(running.run, "mail", "ls", json=True)
            return [row["state"] for row in ran.answer["data"]["letters"]] == ["dead", "dead"]

        await eventually(dead)
    for name, message_id in zip(["ada", "bob"], kept, strict=True):
        assert (
            running.run("mail", "show", message_id, json=True).answer["data"]["receiver"]
            == f"{name}.receiver"
        )
    assert running.run("mail", "drop", *kept, json=True).answer["data"] == {"count": 2}
    assert running.run("mail", "show", kept[1]).code == 4
    assert numbers(tmp_path, "ada.receiver") == [0, 0]
    assert numbers(tmp_path, "bob.receiver") == [1, 1]


async def test_a_listener_that_crashes_repeatedly_misses_no_durable_event(
    host: Hosting, tmp_path: Path
) -> None:
    """It also counts as a listener between its restart and its subscription."""
    running = host(CONFIG.format(notes=tmp_path), plugins=["post"])
    async with running.connect() as client:
        poster = asyncio.ensure_future(_ring(client, 300))
        while not poster.done():
            pid = running.status("listener")["pid"]
            if pid:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            await asyncio.wait({poster}, timeout=0.2)
        await poster
        await empty(client)
    assert list(dict.fromkeys(numbers(tmp_path, "listener"))) == list(range(300))


async def _ring(client: Client, count: int) -> None:
    for number in range(count):
        await client.emit_event("rung", number, durable=True)
        await asyncio.sleep(0.005)  # some in each incarnation


async def test_posts_that_travel_together_are_kept_over_kills_of_the_mailbox(
    host: Hosting, tmp_path: Path
) -> None:
    """With a key each is one message, repeated by itself; without one, what was acknowledged is
    delivered."""
    running = host(CONFIG.format(notes=tmp_path), plugins=["post"])
    async with running.connect() as client:

        async def keyed(number: int) -> str:
            while True:
                with contextlib.suppress(CallError):
                    return await client.post("receiver", "take", number, key=str(number))
                await asyncio.sleep(0.01)

        async def plain(number: int) -> str:
            with contextlib.suppress(CallError):
                return await client.post("receiver", "take", number)
            return ""

        acknowledged: dict[int, str] = {}
        for start in range(0, 1_000, 100):
            block = range(start, start + 100)
            posting = asyncio.gather(*(plain(n) if n % 2 else keyed(n) for n in block))
            await asyncio.sleep(0)
            if start % 300 == 0:
                pid = await asyncio.to_thread(running.kill, "mailbox")
                running.ask("reset", "mailbox")
                await asyncio.to_thread(running.until_reborn, "mailbox", pid)
            acknowledged |= dict(zip(block, await posting, strict=True))
        await empty(client)

    delivered: dict[int, set[str]] = {}
    for number, message_id, _ in noted(tmp_path):
        delivered.setdefault(number, set()).add(message_id)
    for number, message_id in acknowledged.items():
        if number % 2 == 0:
            assert delivered[number] == {message_id}
        elif message_id:
            assert message_id in delivered[number]
    assert sum(bool(message_id) for message_id in acknowledged.values()) > 700

"""A mailbox whose file is damaged while it is down, or that has no room to change its format."""

import asyncio
import random
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from tests.chaos.test_mailbox import CONFIG, empty, numbers
from tests.chaos.test_mailbox_disk import mounted, needs_root
from tests.support.host import Hosting, found
from tests.unit.services.test_mailbox_file import holds_all, of_format_1

from garrison.workers.services.mailbox.store import Store


async def test_a_damaged_file_costs_only_what_is_named(host: Hosting, tmp_path: Path) -> None:
    """All other messages are delivered once, in order; status and `garrison mail` say the rest."""
    running = host(CONFIG.format(notes=tmp_path), plugins=["post"])
    async with running.connect() as client:
        await asyncio.to_thread(running.ask, "stop", "receiver")
        ids = [await client.post("receiver", "take", number) for number in range(200)]
        await asyncio.to_thread(running.ask, "stop", "mailbox")
        path = running.home / "state" / "services" / "mailbox" / "mailbox.db"
        content = bytearray(path.read_bytes())
        chance = random.Random(12)
        for _ in range(12):  # in rows, indexes, the free list, wherever
            content[chance.randrange(len(content))] ^= chance.randrange(1, 256)
        at = content.index(ids[100].encode() + b"receivertake")
        content[at // 4096 * 4096 : at // 4096 * 4096 + 4096] = bytes(4096)
        path.write_bytes(content)
        await asyncio.to_thread(running.ask, "start", "mailbox")
        await asyncio.to_thread(running.ask, "start", "receiver")
        await empty(client)
        state: Any = await found(client, "mailbox").ls(None, 1_000)
        named = {row["id"] for row in state["damaged_messages"]}
        taken = numbers(tmp_path)
        assert taken == sorted(set(taken))
        missing = {ids[number] for number in set(range(200)) - set(taken)}
        assert len(missing) == state["damaged_count"]
        assert len(missing - named) <= ("unknown" in named)  # its id was damaged in both places
        assert ids[100] in named
        row = running.status("mailbox")
        assert row["state"] == "running"
        ran = await asyncio.to_thread(running.run, "mail", "ls")
        assert f"{len(missing)} messages damaged, not delivered" in ran.out
        assert "mailbox.db.damaged-" in ran.out
        new = await client.post("receiver", "take", 200)
        await empty(client)
        assert numbers(tmp_path)[-1] == 200
        assert new not in named
        log = (running.home / "logs" / "mailbox.log").read_text()
        assert all(one in log for one in named)


@pytest.mark.external
def test_a_full_disk_leaves_a_former_file_as_it_is(tmp_path: Path) -> None:
    """It is written again once there is room."""
    needs_root()
    with mounted("tmpfs", tmp_path, "1m") as place:
        filler = place / "filler"
        path = of_format_1(place / "mailbox.db")
        with filler.open("wb", buffering=0) as file:
            try:
                while file.write(b"x" * 4096):
                    pass
            except OSError:
                pass
        with pytest.raises((sqlite3.OperationalError, OSError), match=r"full|No space"):
            Store(path, 1 << 30)
        assert {one.name for one in place.iterdir()} <= {"filler", "mailbox.db", "mailbox.db-wal"}
        filler.unlink()
        holds_all(path)
        assert (place / "mailbox.db.v1").exists()

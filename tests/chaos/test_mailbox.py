"""An acknowledged message is delivered, in order, whatever crashes meanwhile."""

import asyncio
import os
import random
import signal
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.host import Host, Hosting, found, hosting
from tests.support.sizes import sizes
from tests.support.waiting import eventually, until

from garrison.ipc import Client, InvalidCall, Overloaded, ServiceUnavailable

CONFIG = """
[plugins]
post = {{}}
mailbox = {{}}

[defaults]
env = {{ NOTES = "{notes}" }}
intensity = 0

[services.receiver-2]
plugin = "post"
type = "receiver"
"""


@pytest.fixture
def running(host: Hosting, tmp_path: Path) -> Host:
    """Return a host with a mailbox, two receivers and a poster."""
    return host(CONFIG.format(notes=tmp_path), plugins=["post"])


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Host, Path]]:
    """Run one for the tests that leave no message behind; return its folder of notes too."""
    folder = tmp_path_factory.mktemp("notes")
    with hosting(CONFIG.format(notes=folder), plugins=["post"]) as host:
        yield host, folder


@pytest.fixture
def lasting(shared: tuple[Host, Path]) -> Host:
    """Return the host of this module."""
    return shared[0]


@pytest.fixture
def notes(shared: tuple[Host, Path]) -> Path:
    """Return the folder of its receivers' notes, with none of an earlier test."""
    for path in shared[1].iterdir():
        path.unlink()
    return shared[1]


def noted(tmp_path: Path, receiver: str = "receiver") -> list[tuple[int, str, int]]:
    """Return a receiver's notes: the number, the message's id, the attempt."""
    path = tmp_path / receiver
    if not path.exists():
        return []
    lines = (line.split() for line in path.read_text().splitlines())
    return [(int(number), mark, int(attempt)) for number, mark, attempt in lines]


def numbers(tmp_path: Path, receiver: str = "receiver") -> list[int]:
    """Return the numbers in a receiver's notes."""
    return [number for number, _, _ in noted(tmp_path, receiver)]


async def empty(client: Client) -> None:
    """Wait until no message waits."""

    async def nothing() -> bool:
        listed = await found(client, "mailbox").ls()
        return not sum(row["waiting"] for row in listed["receivers"])

    await eventually(nothing, timeout=60.0)


async def test_messages_are_delivered_in_order_with_their_ids(lasting: Host, notes: Path) -> None:
    """The receiver gets the poster's id, and the attempt."""
    async with lasting.connect() as client:
        ids = [await client.post("receiver", "take", number) for number in range(20)]
        await empty(client)

    assert [(n, i) for n, i, _ in noted(notes)] == list(enumerate(ids))
    assert {attempt for _, _, attempt in noted(notes)} == {1}


async def test_a_message_waits_while_its_receiver_is_stopped(lasting: Host, notes: Path) -> None:
    """Also across a restart of the mailbox; it is delivered when the receiver is back."""
    async with lasting.connect() as client:
        lasting.ask("stop", "receiver")
        await client.post("receiver", "take", 1)
        await client.post("receiver-2", "take", 2)
        pid = lasting.kill("mailbox")
        await asyncio.to_thread(lasting.until_reborn, "mailbox", pid)
        await eventually(lambda: _is(2 in numbers(notes, "receiver-2")))
        assert numbers(notes) == []
        lasting.ask("start", "receiver")
        await empty(client)

    assert numbers(notes) == [1]


async def _is(value: bool) -> bool:
    return value


async def test_the_same_key_is_one_message_and_keeps_its_result(lasting: Host, notes: Path) -> None:
    """Also after it was delivered; another key is another message."""
    async with lasting.connect() as client:
        first = await client.post("receiver", "take", 1, key="a")
        assert await client.post("receiver", "take", 1, key="a") == first
        await empty(client)
        assert await client.post("receiver", "take", 1, key="a") == first
        assert await client.post("receiver", "take", 1, key="b") != first
        await empty(client)
        mailbox = found(client, "mailbox")
        assert await mailbox.result("a") == {"known": True, "id": first, "done": True, "result": 1}
        assert (await mailbox.result("c"))["known"] is False

    assert numbers(notes) == [1, 1]


async def test_a_message_that_fails_too_often_is_a_dead_letter(
    host: Hosting, tmp_path: Path
) -> None:
    """Later messages wait until then, and are delivered."""
    config = CONFIG.format(notes=tmp_path) + "\n[services.mailbox.config]\nmax_attempts = 3\n"
    running = host(config, plugins=["post"])
    async with running.connect() as client:
        mailbox = found(client, "mailbox")
        bad = await client.post("receiver", "accept_at", 0, 4)
        good = await client.post("receiver", "accept_at", 2, 2, key="k")
        await client.post("receiver", "take", 1)
        pid = running.status("mailbox")["pid"]

        async def dead() -> Any:
            return [row for row in (await mailbox.ls())["letters"] if row["state"] == "dead"]

        (row,) = await eventually(dead, timeout=90.0)
        assert row["id"] == bad
        assert row["attempts"] == 3
        assert "not yet" in row["reason"]
        await empty(client)
        assert numbers(tmp_path) == [0, 0, 0, 2, 2, 1]
        assert await mailbox.result("k") == {
            "known": True,
            "id": good,
            "done": True,
            "result": "at last",
        }
        assert running.status("mailbox")["pid"] == pid


async def test_a_message_that_crashes_its_receiver_twice_is_a_dead_letter(
    lasting: Host, notes: Path
) -> None:
    """It names the incarnation that crashed; the other messages are delivered."""
    async with lasting.connect() as client:
        mailbox = found(client, "mailbox")
        generation = lasting.status("receiver")["generation"]
        bad = await client.post("receiver", "die", 0)
        await client.post("receiver", "take", 1)
        await empty(client)
        shown = await mailbox.show(bad)
        assert shown["state"] == "dead"
        assert shown["deaths"] == 2
        assert shown["death"] == f"receiver-{generation + 1}"
        assert shown["args"] == [0]
        assert await mailbox.replay([bad]) == 1
        await empty(client)
        assert (await mailbox.show(bad))["state"] == "dead"
        assert await mailbox.drop([bad]) == 1
        assert (await mailbox.ls())["letters"] == []

    assert numbers(notes) == [0, 0, 1, 0, 0]
    assert [attempt for _, _, attempt in noted(notes)][:2] == [1, 2]


async def test_a_message_that_cannot_be_delivered_is_rejected_at_once(lasting: Host) -> None:
    """No such service, no such method, a stream, arguments that cannot travel."""
    async with lasting.connect() as client:
        with pytest.raises(ServiceUnavailable, match="not configured"):
            await client.post("unknown", "take", 1)
        with pytest.raises(InvalidCall, match="no such method"):
            await client.post("receiver", "took", 1)
        with pytest.raises(InvalidCall, match="cannot travel"):
            await client.post("receiver", "take", object())
        with pytest.raises(InvalidCall, match="seconds above 0"):
            await client.post("receiver", "take", 1, expires=-1)
        bad = await client.post("receiver", "take", "one")  # found out at delivery only
        await empty(client)
        assert "number" in (await found(client, "mailbox").show(bad))["reason"]
        assert await found(client, "mailbox").drop([bad]) == 1


async def test_a_service_can_handle_several_messages_at_once(lasting: Host, notes: Path) -> None:
    """As many as its `mail_window`; by default one."""
    async with lasting.connect() as client:
        began = time.monotonic()
        for number in range(4):
            await client.post("wide", "slow", number, 1.5)
        await empty(client)
        assert time.monotonic() - began < 5.9  # one by one it is 6

    assert sorted(numbers(notes, "wide")) == [0, 1, 2, 3]


async def test_lanes_are_in_order_side_by_side_and_the_poster_learns_of_a_dead_letter(
    running: Host, tmp_path: Path
) -> None:
    """Also over kills of mailbox and receiver: a lane whose messages fail holds up no other."""
    async with running.connect() as client:
        poster = found(client, "poster")
        refused = await poster.post("wide", "refuse", [1000], lane="bad")
        await poster.post("wide", "take", [1001], lane="bad")
        dead = await poster.post("wide", "take", ["no number"], lane="worse")
        for number in range(60):
            lane = f"lane {number % 6}"
            await poster.post("wide", "take", [number], lane=lane, key=str(number))
            if number in {20, 40}:
                await asyncio.to_thread(running.kill, "mailbox" if number == 20 else "wide")

        async def taken() -> bool:
            return set(range(60)) <= set(numbers(tmp_path, "wide"))

        await eventually(taken, timeout=30.0)
        for lane_number in range(6):
            taken_once = dict.fromkeys(numbers(tmp_path, "wide"))
            in_lane = [number for number in taken_once if number < 60 and number % 6 == lane_number]
            assert in_lane == list(range(lane_number, 60, 6))
        waiting = await found(client, "mailbox").show(refused)
        assert (waiting["state"], waiting["lane"]) == ("waiting", "bad")
        assert 1001 not in numbers(tmp_path, "wide")
        notice = tmp_path / "poster"
        await eventually(lambda: _is(notice.exists()))
        assert notice.read_text() == f"{dead} ['no number'] worse\n"


async def test_a_durable_event_reaches_every_former_subscriber(lasting: Host, notes: Path) -> None:
    """A stopped one receives it later, also after a kill of the mailbox."""
    async with lasting.connect() as client:
        await client.emit_event("rung", 1, durable=True)
        await empty(client)
        await asyncio.to_thread(lasting.ask, "stop", "listener")
        pid = lasting.kill("mailbox")
        await asyncio.to_thread(lasting.until_reborn, "mailbox", pid)
        await client.emit_event("rung", 2, durable=True)
        await client.emit_event("without subscribers", 3, durable=True)
        assert numbers(notes, "listener") == [1]
        await asyncio.to_thread(lasting.ask, "start", "listener")
        await empty(client)

    assert numbers(notes, "listener") == [1, 2]


async def test_an_expired_message_is_not_delivered(lasting: Host, notes: Path) -> None:
    """Its receiver came back too late."""
    async with lasting.connect() as client:
        lasting.ask("stop", "receiver")
        await client.post("receiver", "take", 1, expires=0.01)
        await client.post("receiver", "take", 2)
        await asyncio.sleep(0.02)  # the passing of time is tested
        lasting.ask("start", "receiver")
        await empty(client)

    assert numbers(notes) == [2]


@pytest.mark.parametrize("posts", sizes(100, 10_000))
async def test_killed_throughout_it_loses_nothing_and_keeps_the_order(
    running: Host, tmp_path: Path, posts: int
) -> None:
    """Mailbox, receivers and supervisor are killed while messages flow. Each message arrives, in
    order, and at most twice if it was in flight at a kill."""
    rng = random.Random(7)
    kills: list[str] = []

    async def killing(posting: "asyncio.Future[Any]") -> None:
        while not posting.done():
            name = rng.choice(["mailbox", "receiver", "receiver-2", "supervisor"])
            if name == "supervisor":
                await asyncio.to_thread(running.end, signal.SIGKILL)
                await asyncio.to_thread(running.up)
            else:
                pid = running.status(name)["pid"]
                if pid:
                    os.kill(pid, signal.SIGKILL)
                running.ask("reset", name)  # otherwise the backoff reaches a minute
            kills.append(name)
            await asyncio.wait({posting}, timeout=0.3)

    async def posting() -> None:
        done = 0
        while done < posts:
            batch = min(50, posts - done)
            async with running.connect() as client:
                for name in ("receiver", "receiver-2"):
                    await _posted(client, name, done, batch)
            done += batch

    work = asyncio.ensure_future(posting())
    await killing(work)
    await work
    async with running.connect() as client:
        await empty(client)
        listed = await found(client, "mailbox").ls()
        assert [row["dead"] for row in listed["receivers"]] in ([], [0], [0, 0])
    for name in ("receiver", "receiver-2"):
        got = noted(tmp_path, name)
        first = list(dict.fromkeys(number for number, _, _ in got))
        assert first == list(range(posts)), f"{name}: lost or out of order, {kills}"
        again = len(got) - posts
        assert again <= len(kills), f"{name}: {again} of them twice, at {len(kills)} kills"


async def _posted(client: Client, receiver: str, start: int, count: int) -> None:
    """Post numbers in order, each until it is acknowledged."""
    for number in range(start, start + count):
        while True:
            try:
                await client.post(receiver, "take", number, key=f"{receiver}-{number}")
                break
            except Exception:  # noqa: BLE001 (from a process that was killed)
                await asyncio.sleep(0.01)


async def test_a_damaged_file_is_quarantined_and_listed(running: Host, tmp_path: Path) -> None:
    """It is kept as it was; what it had and new messages are delivered."""
    async with running.connect() as client:
        running.ask("stop", "receiver")
        await client.post("receiver", "take", 1)
        await asyncio.to_thread(running.ask, "stop", "mailbox")
        (file,) = running.home.glob("state/services/mailbox/mailbox.db")
        whole = file.read_bytes()
        with file.open("r+b") as opened:
            opened.write(b"\xff" * 4096)
        await asyncio.to_thread(running.ask, "start", "mailbox", "receiver")
        await client.post("receiver", "take", 2)
        await empty(client)
        listed = await found(client, "mailbox").ls()

    (moved,) = listed["damaged"]
    assert (file.parent / Path(moved).name).read_bytes()[4096:] == whole[4096:]
    assert "mail.damaged" in running.log("mailbox")
    assert numbers(tmp_path) == [1, 2]


async def test_a_later_versions_file_is_left_alone(running: Host) -> None:
    """It is not quarantined: the service waits for an operator."""
    async with running.connect() as client:
        await client.post("receiver", "take", 1)
        await empty(client)
    running.ask("stop", "mailbox")
    (file,) = running.home.glob("state/services/mailbox/mailbox.db")
    db = sqlite3.connect(file)
    db.execute("PRAGMA user_version = 99")
    db.commit()
    db.close()
    running.run("start", "mailbox")
    row = until(lambda: (r := running.status("mailbox"))["state"] == "failed" and r)

    assert "later version" in row["reason"]
    assert list(file.parent.glob("*.damaged-*")) == []


async def test_a_full_mailbox_rejects_posts_and_still_delivers(
    host: Hosting, tmp_path: Path
) -> None:
    """As on a full disk: acknowledged messages are delivered, and then there is room."""
    config = CONFIG.format(notes=tmp_path) + "\n[services.mailbox.config]\nmax_bytes = 1048576\n"
    running = host(config, plugins=["post"])
    async with running.connect() as client:
        running.ask("stop", "receiver")
        accepted = await _fill(client)
        assert accepted > 5
        running.ask("start", "receiver")
        await empty(client)
        assert numbers(tmp_path) == list(range(accepted))


async def _fill(client: Client) -> int:
    """Post until there is no room; return how many were accepted."""
    for number in range(1000):
        try:
            await client.post("receiver", "slow", number, 0.0, key="x" * 20_000 + str(number))
        except Overloaded:
            return number
    pytest.fail("every post was accepted")

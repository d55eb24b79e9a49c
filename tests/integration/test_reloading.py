"""`garrison reload`: the next process runs before the former one drains."""

import asyncio
import contextlib
import functools
import itertools
import json
import os
import signal
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from tests.support.host import LONG_GRACE, Host, found, hosting
from tests.support.waiting import until, until_true

from garrison.ipc import OrderFailed

CONFIG = (
    LONG_GRACE
    + """
[defaults]
intensity = 0

[plugins.steady]
use = "steady"
[services.steady]
exclusive = false
[services.alone]
plugin = "steady"
type = "steady"
[services.other]
plugin = "steady"
type = "steady"
exclusive = false
[plugins.gated]
[services.gated]
exclusive = false
"""
)

GATED = '''
"""A service whose start waits, or fails."""

import asyncio
import os
from pathlib import Path

from garrison.workers import Plugin, Service

HERE = Path(__file__).parent


class Gated(Service):
    """Holds its callers until a file is there."""

    service_type = "gated"

    @classmethod
    async def start(cls, runtime):
        """Wait while there is a file `hold`, and fail where there is `bad`."""
        if (HERE / "bad").exists():
            raise RuntimeError("bad code")
        while (HERE / "hold").exists():
            await asyncio.sleep(0.005)
        return cls(runtime)

    async def pid(self) -> int:
        """Return the worker's pid."""
        return os.getpid()

    async def wait(self, gate: str) -> int:
        """Return the pid once a file is there."""
        (HERE / "begun").touch()
        while not (HERE / gate).exists():
            await asyncio.sleep(0.005)
        return os.getpid()


plugin = Plugin("gated", services=[Gated])
'''


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    """Run one host for all tests; each has services of its own."""
    with hosting(CONFIG, ["steady"], {"gated.py": GATED}) as running:
        yield running


def _has_more(pids: set[int], number: int) -> bool:
    return len(pids) > number


def _is_gone(path: Path) -> bool:
    return not path.exists()


async def test_no_call_is_lost(host: Host) -> None:
    """Over 20 reloads with 64 calls in flight."""
    errors, done = list[BaseException](), itertools.count()
    pids = set[int]()
    ending = False

    async with host.connect() as client:
        steady = found(client, "steady")

        async def load() -> None:
            while not ending:
                try:
                    pids.add(await steady.pid())
                    next(done)
                except Exception as error:  # noqa: BLE001 (each one counts)
                    errors.append(error)

        loads = [asyncio.ensure_future(load()) for _ in range(64)]
        try:
            for number in range(20):
                await until_true(functools.partial(_has_more, pids, number))
                await asyncio.to_thread(host.ask, "reload", "steady")
            await until_true(lambda: len(pids) == 21)
        finally:
            ending = True
            await asyncio.gather(*loads)
    assert errors == []
    assert next(done) > 64


@contextlib.contextmanager
def starting(host: Host) -> Iterator[tuple[Future[Any], int, int]]:
    """Begin a reload of `gated` whose next process waits in its start; it goes on at the end.

    Yields:
        The order's answer, the pid of the running process, and that of the next one.
    """
    hold = host.write("hold", "")
    before = host.status("gated")["pid"]
    with ThreadPoolExecutor() as pool:
        order = pool.submit(host.ask, "reload", "gated")
        try:

            def second() -> Any:
                row = host.status("gated")["reload"]
                return row and row["state"] == "starting" and row["pid"]

            yield order, before, until(second, what="the next process starts")
        finally:
            hold.unlink(missing_ok=True)


def until_gone(*pids: int) -> None:
    """Wait until processes have ended."""
    for pid in pids:
        path = Path(f"/proc/{pid}")
        until(functools.partial(_is_gone, path), what=f"{pid} has ended")


async def test_what_does_not_come_up_changes_nothing(host: Host) -> None:
    """The former process runs on, and the failure is recorded."""
    before = host.status("gated")
    bad = host.write("bad", "")
    changed = CONFIG.replace("[services.gated]", "[services.gated]\nstart_timeout = 50")
    host.write("config.toml", changed)
    done = host.run("reload", "gated")
    bad.unlink()
    host.write("config.toml", CONFIG)

    assert done.code == 1
    assert "gated was not reloaded: " in done.err
    assert f"the former process runs on (pid {before['pid']})" in done.err
    row = host.status("gated")
    assert (row["pid"], row["state"], row["reload"]) == (before["pid"], "running", None)
    assert row["restarts"] == before["restarts"]
    until(lambda: "bad code" in str(host.run("deaths", "gated", json=True).data))
    assert host.events("service.not_reloaded", "gated")
    stored = json.loads((host.home / "state" / "accepted.json").read_text())
    kept = stored["documents"][stored["services"]["gated"]["section"]]["text"]
    assert "start_timeout" not in kept
    assert await host.call("gated", "pid") == before["pid"]


def test_an_exclusive_service_is_not_reloaded(host: Host) -> None:
    """The error says why, and what `restart` does; of several, none is touched."""
    pid = host.status("other")["pid"]
    done = host.run("restart", "--rolling", "other", "alone")
    assert done.code == 1
    assert "exclusive = true" in done.err
    assert "garrison restart alone does that" in done.err
    assert host.status("other")["pid"] == pid


def test_one_after_another_until_one_fails(host: Host) -> None:
    """It says what was done, and what was not begun."""
    host.write("bad", "")
    pids = {name: host.status(name)["pid"] for name in ("steady", "gated", "other")}
    done = host.run("restart", "--rolling", "steady", "gated", "other", json=True)
    (host.folder / "bad").unlink()
    assert done.code == 1
    assert (done.data["reloaded"], done.data["not_begun"]) == (["steady"], ["other"])
    after = {name: host.status(name)["pid"] for name in pids}
    assert [name for name in pids if after[name] != pids[name]] == ["steady"]


def test_a_crash_during_a_reload_waits_for_the_next_process(host: Host) -> None:
    """Two incarnations are there, never three."""
    with starting(host) as (order, before, following):
        os.kill(before, signal.SIGKILL)
        until(lambda: host.status("gated")["state"] == "queued")
        assert host.status("gated")["reload"]["pid"] == following
    order.result(60)
    assert host.status("gated")["pid"] == following
    until_gone(before)


def test_a_next_process_that_dies_leaves_the_former_one(host: Host) -> None:
    """Also if it is killed while it starts."""
    with starting(host) as (order, before, following):
        os.kill(following, signal.SIGKILL)
        with pytest.raises(OrderFailed, match="was not reloaded: its process was killed"):
            order.result(60)
    assert host.status("gated")["pid"] == before


def test_a_stop_ends_both(host: Host) -> None:
    """And returns when both are gone; the reload is answered."""
    with starting(host) as (order, before, following):
        host.ask("stop", "gated")
        assert not any(Path(f"/proc/{pid}").exists() for pid in (before, following))
        with pytest.raises(OrderFailed, match="was not reloaded"):
            order.result(60)
    host.ask("start", "gated")


def test_a_killed_supervisor_leaves_one_process(host: Host) -> None:
    """The next one adopts the running one, ends the one that was starting, and begins again."""
    with starting(host) as (order, before, following):
        host.end(signal.SIGKILL)
        host.up()
        until_gone(following)
        assert host.status("gated")["pid"] == before
    order.result(60)
    until_gone(before)
    row = host.status("gated")
    assert row["pid"] not in {before, following}
    assert (row["state"], row["generation"] > 1) == ("running", True)


async def test_calls_under_way_are_finished_by_the_former_process(host: Host) -> None:
    """New ones go to the next; also where the supervisor is killed meanwhile, one is left."""
    former = host.status("gated")["pid"]
    async with host.connect() as client:
        gated = found(client, "gated")
        running = asyncio.ensure_future(gated.wait("gate"))
        await until_true(lambda: (host.folder / "begun").exists())
        await asyncio.to_thread(host.ask, "reload", "gated")
        row = host.status("gated")
        assert row["pid"] != former
        assert (row["reload"]["pid"], row["reload"]["state"]) == (former, "stopping")
        await until_true(lambda: client.generation_of("gated") == row["generation"])
        assert await gated.pid() == row["pid"]
        (host.folder / "gate").touch()
        assert await running == former
    until_gone(former)

    (host.folder / "gate").unlink()
    async with host.connect() as client:
        running = asyncio.ensure_future(found(client, "gated").wait("gate"))
        await asyncio.to_thread(host.ask, "reload", "gated")
        following = host.status("gated")["pid"]
        await asyncio.to_thread(host.end, signal.SIGKILL)
        await asyncio.to_thread(host.up)
        assert host.status("gated")["pid"] == following
        await asyncio.to_thread(until_gone, row["pid"])
        await asyncio.wait([running])
    assert host.wait_for("gated", "running")["pid"] == following

"""The deliveries of hooks: tries without a mailbox, what a killed process leaves, own events."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from tests.support.waiting import until_true

from garrison.ipc import CallTimeout
from garrison.supervisor.logs.events import EventLog
from garrison.workers.services.hooks import runner as module
from garrison.workers.services.hooks.config import Hook
from garrison.workers.services.hooks.delivery import DeliveryFailed, deliver
from garrison.workers.services.hooks.runner import BEGUN_MOST, Runner


class Runtime:
    """What a runner uses of a runtime."""

    name = "hooks"

    def __init__(self, folder: Path) -> None:
        self.data_folder = folder / "state" / "services" / "hooks"
        self.data_folder.mkdir(parents=True)
        (folder / "logs").mkdir()
        self.journal = EventLog(folder / "logs" / "events.jsonl")
        self.posts: list[tuple[Any, ...]] | None = None  # None: there is no mailbox
        self.warnings: dict[str, str | None] = {}
        self.client = SimpleNamespace(
            session=SimpleNamespace(logs=str(folder / "logs")),
            entry_of=lambda name: None if self.posts is None else name,
        )

    def redacted(self, text: str) -> str:
        return text.replace("sesame", "[KEY]")

    def warn(self, key: str, text: str | None) -> None:
        self.warnings[key] = text

    def report(self, **facts: float) -> None:
        """Show nothing."""

    async def post(self, *args: Any, key: str, lane: str, expires: float) -> str:
        assert self.posts is not None
        if not key:
            raise CallTimeout("mailbox", "post", "1")
        self.posts.append((*args[:3], key, lane))
        return key

    def died(self, service: str = "bot", **data: Any) -> None:
        """Record a death."""
        state = {"from": "running", "to": "queued", "exit": "was killed", "death": f"{service}-1"}
        self.journal.record("service.state", service, **{**state, **data})


class Way:
    """A way of delivery that fails when a test sets that."""

    def __init__(self) -> None:
        self.bodies: list[Mapping[str, Any]] = []
        self.fails, self.hangs = 0, False

    async def deliver(self, hook: Hook, body: Mapping[str, Any], *_: Any) -> str:
        self.bodies.append(body)
        if self.hangs:
            await asyncio.sleep(60)
        if self.fails:
            self.fails -= 1
            raise DeliveryFailed("it is broken: sesame")
        return ""


@pytest.fixture
def runtime(tmp_path: Path) -> Runtime:
    """Return one with an empty journal."""
    return Runtime(tmp_path)


@pytest.fixture
def way(monkeypatch: pytest.MonkeyPatch) -> Way:
    """Return what takes the place of all ways."""
    found = Way()
    monkeypatch.setattr(module, "deliver", found.deliver)
    monkeypatch.setattr(module, "RETRIES", (0.01, 0.02))
    monkeypatch.setattr(module, "POLL_S", 0.01)
    monkeypatch.setattr(module, "REPORT_S", 0.02)
    return found


@contextlib.asynccontextmanager
async def running(runtime: Runtime, **hook: Any) -> AsyncIterator[Runner]:
    """Run one hook; on leaving, the process is killed."""
    made = Runner(runtime, {"page": Hook(**{"on": ["death"], "command": ["x"], **hook})})  # type: ignore[arg-type]
    await made.load()
    task = asyncio.create_task(made.run())
    try:
        yield made
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def test_without_a_mailbox_it_is_tried_three_times(runtime: Runtime, way: Way) -> None:
    """Then given up, and shown without secrets; the next delivery is made."""
    way.fails = 3
    async with running(runtime, every=0.0) as runner:
        runtime.died()
        runtime.died("other")
        await until_true(lambda: len(way.bodies) == 4)
        await until_true(lambda: runner.listed()[0]["delivered"] == 1)
    (row,) = runner.listed()

    assert [body["service"] for body in way.bodies] == ["bot", "bot", "bot", "other"]
    assert len({body["id"] for body in way.bodies}) == 2
    assert (row["failed"], row["problem"], row["waiting"]) == (1, "", 0)
    assert runtime.warnings["hook page"] is None


async def test_what_fails_is_posted_to_the_mailbox(runtime: Runtime, way: Way) -> None:
    """Once, under its id; it is no longer the runner's."""
    runtime.posts, way.fails = [], 1
    async with running(runtime) as runner:
        runtime.died()
        await until_true(lambda: runtime.posts)
        await until_true(lambda: not runner.listed()[0]["waiting"])
    ((service, method, name, key, lane),) = runtime.posts

    assert (service, method, name, lane) == ("hooks", "deliver", "page", "hook/page")
    assert key == way.bodies[0]["id"]
    assert runner.listed()[0]["problem"] == "it is broken: [KEY]"
    assert runtime.warnings["hook page"] == "hook page: it is broken: [KEY]"


def is_delivering(way: Way, runner: Runner, before: int) -> bool:
    """Return whether another delivery was begun, or it is given up."""
    return len(way.bodies) > before or bool(runner.listed()[0]["failed"])


async def test_what_a_killed_process_was_delivering_is_delivered_again(
    runtime: Runtime, way: Way
) -> None:
    """Under the same id, but not for ever: it may be what ends the process."""
    way.hangs = True
    async with running(runtime):
        runtime.died()
        await until_true(lambda: way.bodies)
    failed = 0
    for _ in range(BEGUN_MOST + 2):
        async with running(runtime) as runner:
            await until_true(partial(is_delivering, way, runner, len(way.bodies)))
            failed = runner.listed()[0]["failed"]
    assert len({body["id"] for body in way.bodies}) == 1
    assert len(way.bodies) == BEGUN_MOST
    assert failed == 1


async def test_its_own_events_and_those_of_others_than_its_services_are_none(
    runtime: Runtime, way: Way
) -> None:
    """Secrets in what is delivered are replaced."""
    async with running(runtime, services=["bo*", "hooks"], every=0.0):
        for name in ("hooks", "other", "", "bot"):
            runtime.died(name, reason="the key sesame is wrong")
        await until_true(lambda: way.bodies)
    (body,) = way.bodies

    assert body["service"] == "bot"
    assert body["reason"] == "the key [KEY] is wrong"
    assert "sesame" not in str(body)


async def test_a_flood_is_one_delivery_and_a_count(runtime: Runtime, way: Way) -> None:
    """10,000 deaths."""
    async with running(runtime, every=0.5) as runner:
        for _ in range(10_000):
            runtime.died()
        await until_true(lambda: sum(1 + body["held"] for body in way.bodies) == 10_000)
    assert len(way.bodies) < 20
    assert runner.listed()[0]["held"] == 0


async def test_a_webhook_is_named_without_its_path_and_password(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where the address is a secret, redaction finds it as a whole alone."""
    monkeypatch.setenv("OPS_URL", "http://ops:pass@127.0.0.1:1/token")
    hook = Hook(on=["death"], webhook="$OPS_URL")
    with pytest.raises(DeliveryFailed) as failed:
        await deliver(hook, {"id": "1"}, cast("Any", None), frozenset())
    assert str(failed.value).startswith("http://127.0.0.1:1 cannot be reached")

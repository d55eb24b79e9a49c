"""Errors that cannot be printed or are no Exception: they take the way of all others."""

import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.services.errant import ERRORS
from tests.support.host import Host, found, hosting
from tests.support.waiting import until

from garrison.ipc import (
    Busy,
    InvalidCall,
    ModelError,
    NotSent,
    RemoteError,
    RetryLater,
    ServiceLost,
    with_timeout,
)

CONFIG = """
[plugins.errant]
[services.errant]
health_interval = 0.2
[services.second]
plugin = "errant"
"""
FAILING = {
    "own": "Own: of my own",
    "unprintable": "Unprintable",
    "endless": "Endless",
    "generator-exit": "GeneratorExit",
    "secretive": "Secretive",
    "traceless": "Traceless",
    "interrupt": "KeyboardInterrupt: by the author",
}


@pytest.fixture(scope="module")
def running() -> Iterator[Host]:
    """Run two of the same service."""
    with hosting(CONFIG, ["errant"]) as host:
        yield host


async def test_the_caller_has_the_error_at_once(running: Host) -> None:
    """Whatever a method raises, in the loop, in a thread or in a stream."""
    async with running.connect() as client:
        errant = with_timeout(found(client, "errant"), 20)
        began = time.monotonic()
        for kind in ERRORS:
            for method in (errant.fail, errant.fail_in_a_thread):
                with pytest.raises(RemoteError) as caught:
                    await method(kind)
                assert caught.value.type_name == type(ERRORS[kind]()).__name__
            with pytest.raises(RemoteError):
                _ = [item async for item in errant.fail_in_a_stream(kind)]
            assert await errant.emit(kind) == "returned"  # both listeners fail
        assert time.monotonic() - began < 20


async def test_a_declared_error_is_caught_as_it_was_raised(running: Host) -> None:
    """From the loop, a thread, a stream, and through a service that does not handle it."""
    async with running.connect() as client:
        errant, second = (found(client, name) for name in ("errant", "second"))

        async def stream(kind: str) -> None:
            _ = [item async for item in errant.fail_in_a_stream(kind)]

        ways = [errant.fail, errant.fail_in_a_thread, stream]
        ways.append(lambda kind: second.pass_on("errant", kind))
        for way in ways:
            with pytest.raises(ModelError) as busy:
                await way("model")
            assert (busy.value.kind, busy.value.retry_after) == ("busy", 3.0)
            with pytest.raises(RetryLater) as later:
                await way("later")
            assert (later.value.seconds, later.value.reason) == (900.0, "too many logins")
            with pytest.raises(Busy):
                await way("busy")
            with pytest.raises(NotSent, match="raised NotSent: forbidden"):
                await way("not-sent")
            with pytest.raises(RemoteError) as quota:  # this process does not have its class
                await way("quota")
            assert (quota.value.type_name, quota.value.data) == ("QuotaSpent", {"limit": 3})
        with pytest.raises(RemoteError) as plain:
            await errant.fail("unsendable")
        assert (plain.value.type_name, plain.value.data) == ("Unsendable", {})
        assert "error.unsent service=errant method=fail UnsendableFields" in running.log("errant")


def test_the_command_line_shows_the_fields_of_an_error(running: Host) -> None:
    """Its code is that of every exception of a method."""
    ran = running.run("call", "errant", "fail", "model", json=True)
    assert ran.code == 1
    answer = ran.answer

    assert answer["error"]["code"] == "RemoteError"
    assert answer["error"]["message"] == "errant.fail raised ModelError: busy, retry after 3 s: 429"
    assert answer["data"]["type_name"] == "ModelError"
    assert answer["data"]["data"] == {"kind": "busy", "retry_after": 3.0}


async def test_health_is_asked_again_after_any_error(running: Host) -> None:
    """The checks continue."""
    async with running.connect() as client:
        errant = found(client, "errant")
        await errant.fail_checks()
        until(lambda: _health(running).get("problem"), what="a bad check")
        until(lambda: _health(running).get("well"), what="a good check after it")
        assert running.rows()["errant"]["restarts"] == 0


async def test_a_result_that_cannot_travel_is_named(running: Host) -> None:
    """To its caller, and in the log of its service: method, path, type, and what to do."""
    async with running.connect() as client:
        errant = found(client, "errant")
        with pytest.raises(RemoteError, match=r'local raised.*result\["rows"\]\[1\]\["lock"\] is'):
            await errant.local()
        with pytest.raises(RemoteError, match=r"item\[0\] is a _thread.lock"):
            _ = [item async for item in errant.local_items()]
        with pytest.raises(InvalidCall, match=r"argument 1\[0\] is a object, .*pass its fields"):
            await errant.anything([object()])
        log = running.log("errant")
        assert 'result.unsent service=errant method=local result["rows"][1]["lock"]' in log
        assert "return the data that the other side needs" in log
        assert await errant.anything({"path": Path("/x"), "set": {1}}) == {"path": "/x", "set": [1]}
        assert await errant.suffix(Path("/a/b.txt"), Path("/c")) == "/a/b.bak"


async def test_an_interrupt_of_a_method_is_the_reason_of_the_crash(running: Host) -> None:
    """Not the cancellation that follows it."""
    async with running.connect() as client:
        errant = found(client, "second")
        with pytest.raises(ServiceLost, match="KeyboardInterrupt: by the author"):
            await errant.fail("interrupt")


def test_a_start_that_raises_such_an_error_says_so() -> None:
    """The reason is the error of `start` or `init`, not the exit code of the process."""
    names = {kind.replace("-", ""): kind for kind in FAILING}
    config = '[plugins.errant]\n[plugins.early]\nuse = "errant"\nconfig = { init = "own" }\n'
    config += '[services.early]\nplugin = "early"\n'
    config += '[services.errant]\nplugin = "errant"\nautostart = false\n'
    for name, kind in names.items():
        config += f'[services.{name}]\nplugin = "errant"\nconfig = {{ start = "{kind}" }}\n'
    with hosting(config, ["errant"]) as host:
        rows = host.rows()
        for name, kind in {**names, "early": "own"}.items():
            assert rows[name]["reason"].startswith(FAILING[kind]), rows[name]["reason"]


def test_a_start_is_tried_again_when_it_asks_for_it() -> None:
    """Not before, also where the supervisor dies meanwhile. An operator's order starts it at once.
    It is no crash."""
    config = "[plugins.errant]\n[services.errant]\nautostart = false\n"
    config += '[services.postponed]\nplugin = "errant"\nconfig = { start = "later" }\n'
    with hosting(config, ["errant"]) as host:
        row = host.wait_for("postponed", "backoff")
        assert row["reason"] == "RetryLater: retry after 900 s: too many logins"
        assert 800 < row["again_in_s"] <= 900
        shown = " ".join(host.run("status", "postponed").out.split())
        assert re.search(r"next try in \d{3}\.\d s", shown)
        assert "too many logins" in shown

        host.end(signal.SIGKILL)
        host.up()
        row = host.status("postponed")
        assert (row["state"], row["restarts"], row["generation"]) == ("backoff", 1, 1)
        assert 800 < row["again_in_s"] <= 900

        for verb, generation in (("start", 2), ("restart", 3)):
            ran = host.run(verb, "postponed", "--wait", "30")
            assert ran.code == 1
            assert "postponed did not start: RetryLater: retry after 900 s" in ran.err
            assert host.status("postponed")["generation"] == generation
        (event,) = (one for one in host.events("service.state", "postponed")[-1:])
        assert event["data"]["to"] == "backoff"
        assert 800 < event["data"]["wait_s"] <= 900
        assert host.run("deaths", json=True).answer["data"]["deaths"] == []


def _health(host: Host) -> dict[str, Any]:
    return host.rows()["errant"]["health"] or {}

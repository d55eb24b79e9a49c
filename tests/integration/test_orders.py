"""Orders: the last one holds, from inside they are not waited for, and they outlive a kill."""

import asyncio
import json
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.support.host import Host, Hosting, found
from tests.support.waiting import until

from garrison.ipc import OrderFailed, ServiceLost

TWO = """
[plugins.orderly]
[services.orderly]
grace = 4
config = { stop = 0.6 }
[services.other]
plugin = "orderly"
depends_on = ["orderly"]
config = { stop = 0.6 }
"""


def in_background(call: Callable[[], Any]) -> "asyncio.Future[Any]":
    """Begin an order in a thread."""
    return asyncio.get_running_loop().run_in_executor(None, call)


async def until_state(host: Host, name: str, state: str) -> None:
    """Wait for a state without blocking the loop."""
    await asyncio.to_thread(host.wait_for, name, state)


@pytest.fixture
def orderly(host: Hosting) -> Host:
    """Return a host of two services that take a while to stop."""
    return host(TWO, ["orderly"])


async def test_an_order_during_a_slow_stop_overtakes_it(orderly: Host) -> None:
    """A later start or restart holds, also where the stop has not come to the service yet; the
    overtaken order says so."""
    for later in ("start", "restart"):
        stopping = in_background(lambda: orderly.ask("stop", "other", "orderly"))
        await until_state(orderly, "other", "stopping")  # so `orderly` has not been touched
        orderly.ask(later, "orderly")
        orderly.ask(later, "other")

        with pytest.raises(OrderFailed, match=f"a later order, `garrison {later}`"):
            await stopping
        rows = orderly.rows()
        assert {(row["state"], row["wanted"]) for row in rows.values()} == {("running", True)}

    restarting = in_background(lambda: orderly.ask("restart", "other"))
    await until_state(orderly, "other", "stopping")
    orderly.ask("stop", "other")
    with pytest.raises(OrderFailed, match="a later order, `garrison stop`"):
        await restarting
    assert orderly.status("other")["state"] == "stopped"


async def test_a_service_that_restarts_itself_does_not_wait_for_itself(orderly: Host) -> None:
    """It is answered at once; calls in flight get a second, then an error that names the order.
    The next incarnation knows who restarted it and why; a loop is refused."""
    home = str(orderly.home)
    async with orderly.connect() as client:
        service = found(client, "orderly")
        assert await service.restarted_by() is None
        hanging = asyncio.ensure_future(service.hang())
        began, at = time.monotonic(), time.time()
        answer = json.loads(await service.order(home, "restart", "orderly", "--why", "new model"))
        assert answer["data"]["from_inside"] == "orderly"
        with pytest.raises(ServiceLost, match=r"`garrison restart orderly` from inside it \(new"):
            await hanging
        assert time.monotonic() - began < 4  # less than the grace
        who, why, when = await service.restarted_by()
        assert (who, why) == ("orderly", "new model")
        assert abs(when - at) < 30

        assert (await service.restart())["from_inside"] == "orderly"  # by its own connection
        assert (await service.restarted_by())[1] == "by itself"
        await service.order(home, "restart", "orderly")
        await until_state(orderly, "orderly", "running")
        refused = json.loads(await service.order(home, "restart", "orderly"))
        assert "refused as a loop" in refused["error"]["message"]

    orderly.ask("restart", "orderly", why="by hand")
    by = await orderly.call("orderly", "restarted_by")
    assert by[:2] == ["operator", "by hand"]
    orderly.until_reborn("orderly", orderly.kill("orderly"))
    assert await orderly.call("orderly", "restarted_by") is None


async def test_stop_and_down_from_inside_return_at_once(orderly: Host) -> None:
    """Both would end the process that waits for the answer."""
    home = str(orderly.home)
    async with orderly.connect() as client:
        other = found(client, "other")
        answer = json.loads(await other.order(home, "stop", "other"))
        assert answer["data"]["from_inside"] == "other"
        await until_state(orderly, "other", "stopped")

        answer = json.loads(await found(client, "orderly").order(home, "down"))
        assert answer["data"]["from_inside"] == "orderly"
    assert orderly.process is not None
    assert await asyncio.to_thread(orderly.process.wait, 20) == 0


async def test_an_end_says_what_holds_it_up(host: Hosting) -> None:
    """The answer, an event, `status` and the log name calls and streams with their callers. What
    outlasts the grace ends as ServiceLost; what resists its cancellation is named at the end."""
    made = host(
        '[plugins.orderly]\n[services.orderly]\ngrace = 3\n[services.asker]\nplugin = "orderly"\n',
        ["orderly"],
    )
    async with made.connect() as client:
        service = found(client, "orderly")
        resisting = asyncio.ensure_future(service.resist())
        stream = service.ticks()
        assert await anext(stream) == 0
        with pytest.raises(OrderFailed) as late:
            await asyncio.to_thread(made.ask, "restart", "orderly", wait=1.0)
        assert late.value.code == "timed_out"
        for text in (str(late.value), made.status("orderly")["reason"]):
            assert "call resist" in text
            assert "stream ticks" in text
        assert made.status("orderly")["reason"].startswith("waits for ")  # the NAME is beside it
        held = {one["name"]: one for one in made.status("orderly")["held_up_by"]}
        assert held["ticks"]["kind"] == "stream"

        lost = "`garrison restart orderly`, and the call did not end within 2.1 s"
        with pytest.raises(ServiceLost, match=lost):
            async for _ in stream:
                pass
        with pytest.raises(ServiceLost, match=lost):
            await resisting
        await until_state(made, "orderly", "running")
    (event,) = made.events("service.held_up", "orderly")
    assert "stream ticks" in event["data"]["by"]
    log = made.log("orderly")
    assert "drain.held_up by=" in log
    assert "task.resists" in log
    assert "in resist" in log


def stored_orders(host: Host) -> Path:
    """Return the file of the operator's orders."""
    return host.home / "state" / "orders.json"


def test_an_order_that_was_written_down_is_carried_out_at_once(orderly: Host) -> None:
    """The supervisor was killed after `orders.json`, before anything else: the next one stops the
    service, instead of at some later start of the host."""
    orderly.ask("stop", "other")
    orderly.ask("start", "other")
    orders = json.loads(stored_orders(orderly).read_text())
    orderly.end(signal.SIGKILL)
    orders["stopped"], orders["numbers"]["other"] = ["other"], orders["numbers"]["other"] + 1
    stored_orders(orderly).write_text(json.dumps(orders))

    orderly.up()

    row = orderly.wait_for("other", "stopped")
    assert not row["wanted"]
    assert orderly.events("service.order_resumed", "other")
    assert orderly.status("orderly")["generation"] == 1
    orderly.ask("start", "other")
    orderly.end(signal.SIGKILL)
    orderly.up()
    assert orderly.wait_for("other", "running")["wanted"]


def test_a_down_that_is_killed_is_no_crash_of_those_that_waited(orderly: Host) -> None:
    """It is written down before the first service is stopped."""
    assert orderly.process is not None
    orderly.process.send_signal(signal.SIGTERM)
    until(lambda: orderly.status("other")["state"] == "stopping")
    with pytest.raises(OrderFailed, match="so this was not done; once it has ended, start it wit"):
        orderly.ask("start", "orderly")
    orderly.kill("orderly")  # it waited for its turn, and ends without a supervisor
    orderly.end(signal.SIGKILL)

    orderly.up()

    assert {row["state"] for row in orderly.rows().values()} == {"running"}
    assert not list((orderly.home / "state" / "deaths").glob("*.json"))


def test_a_stampede_starts_a_few_at_a_time(host: Hosting) -> None:
    """Together they would exceed the timeout; what waits for a slot or a processor is not timed.
    Starts that only wait do not hold up the others; one that advances may take longer."""
    config = "[defaults]\nstart_timeout = 1.2\n[plugins.orderly]\n[services.orderly]\n"
    config += "".join(
        f'[services.heavy{n}]\nplugin = "orderly"\nconfig = {{ cpu = 0.5 }}\n' for n in range(6)
    )
    config += "".join(
        f'[services.waits{n}]\nplugin = "orderly"\nconfig = {{ sleep = 0.6 }}\n' for n in range(4)
    )
    config += '[services.loads]\nplugin = "orderly"\nconfig = { load = 8 }\n'
    made = host(config, ["orderly"], up=False)
    made.start()
    until(lambda: made.head() is not None)

    def loading() -> str:
        reason: str | None = made.rows().get("loads", {}).get("reason")
        return reason if reason is not None and "loading step" in reason else ""

    assert "s left)" in until(loading)
    for name in [f"heavy{n}" for n in range(6)] + ["loads"]:
        made.wait_for(name, "running")

    assert {row["generation"] for row in made.rows().values()} == {1}


def test_a_stop_that_advances_may_outlast_its_grace(host: Hosting) -> None:
    """`runtime.extend` moves the deadline of a stop as well; without it, the reason says so."""
    made = host(
        "[plugins.orderly]\n[services.orderly]\ngrace = 0.4\n"
        "config = { stop = 1.0, extends = true }\n"
        '[services.other]\nplugin = "orderly"\ngrace = 0.4\nconfig = { stop = 30.0 }\n',
        ["orderly"],
    )
    made.ask("stop", "orderly")
    assert made.status("orderly")["last_exit"] == "exited with code 0"
    assert made.events("service.extended", "orderly")

    made.ask("stop", "other")
    assert "its stop()" in made.events("service.held_up", "other")[0]["data"]["by"]
    ended = made.events("service.state", "other")[-1]["data"]
    assert "did not end within its grace of 0.4 s" in ended["reason"]
    assert "in stop" in made.log("other")  # where it was when its grace was over

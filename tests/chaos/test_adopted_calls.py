"""Calls in flight when a supervisor is killed end once, or are sent again where that is allowed."""

import asyncio
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.chaos.test_adoption import CONFIG, PLUGINS
from tests.support.host import Hosting, found
from tests.support.waiting import eventually, until

from garrison.ipc import Client, RemoteError, ServiceLost, SupervisorGone, state


@pytest.mark.parametrize("caller", ["program", "service"])
async def test_calls_in_flight_end_once(host: Hosting, tmp_path: Path, caller: str) -> None:
    """Idempotent calls are sent again and answered; others in flight are lost; what is called
    while there is no supervisor waits for the next one."""
    one = host(CONFIG, PLUGINS)
    gates = [tmp_path / name for name in ("a", "b")]

    async with one.connect() as client:
        steady = found(client, "steady")

        begin = _through(steady) if caller == "service" else _straight(steady)
        again, once = begin("again", str(gates[0])), begin("once", str(gates[1]))
        for gate in gates:
            await asyncio.to_thread(until, gate.with_suffix(".begun").exists)
        await asyncio.to_thread(one.end, signal.SIGKILL)
        later = begin("pid")
        await asyncio.to_thread(one.up)
        for gate in gates:
            await asyncio.to_thread(gate.touch)
        assert await _outcome(once) == "ServiceLost"
        assert await _outcome(again) in {1, 2}
        assert (
            await _outcome(later) == one.rows()["steady" if caller == "program" else "other"]["pid"]
        )


def _straight(steady: Any) -> Callable[..., Any]:
    """Return a function that makes this program's own calls."""

    def begin(method: str, *args: Any) -> Any:
        return getattr(steady, method)(*args)

    return begin


def _through(steady: Any) -> Callable[..., Any]:
    """Return a function that makes calls from one service to another."""

    def begin(method: str, *args: Any) -> Any:
        return asyncio.ensure_future(_relayed(steady, method, args))

    return begin


async def _relayed(steady: Any, method: str, args: tuple[Any, ...]) -> list[Any]:
    return list(await steady.relay_again("other", method, *args))


async def _outcome(work: Any) -> Any:
    try:
        result = await work
    except ServiceLost:
        return "ServiceLost"
    if isinstance(result, list):
        return result[0] if result[0] != "result" else result[1]
    return result


async def test_a_lost_call_that_may_run_twice_is_sent_again(host: Hosting, tmp_path: Path) -> None:
    """Its worker is killed: the next incarnation answers within the deadline."""
    one = host(CONFIG, PLUGINS)
    gate = tmp_path / "gate"
    async with one.connect() as client:
        steady = found(client, "steady")
        again, once = steady.again(str(gate)), steady.once(str(tmp_path / "other"))
        await asyncio.to_thread(until, gate.with_suffix(".begun").exists)
        pid = await asyncio.to_thread(one.kill, "steady")
        with pytest.raises(ServiceLost):
            await once
        await asyncio.to_thread(gate.touch)
        assert await again == 2
        begun = list(map(int, gate.with_suffix(".begun").read_text().split()))
        assert begun == [pid, await steady.pid()]


async def test_a_call_that_ends_its_receiver_is_not_sent_for_ever(host: Hosting) -> None:
    """It ends three incarnations, and then its caller gets the error."""
    one = host(CONFIG, PLUGINS)
    async with one.connect() as client:
        steady = found(client, "steady")
        with pytest.raises(ServiceLost, match=r"exited with code 3|its process ended"):
            await steady.poison()
        await asyncio.to_thread(until, lambda: one.status("steady")["restarts"] == 3)
        await eventually(lambda: _is_running(client))
        assert one.status("steady")["restarts"] == 3
        assert one.status("other")["restarts"] == 0


async def _is_running(client: Client) -> bool:
    return str(getattr(state(found(client, "steady")), "value", "")) == "running"


async def test_calls_outlive_any_number_of_supervisors(host: Hosting, tmp_path: Path) -> None:
    """Only ends of the receiver count towards the limit of repetitions, not ends of a
    supervisor."""
    one = host(CONFIG, PLUGINS)
    gate = tmp_path / "gate"
    async with one.connect() as client:
        again = found(client, "steady").again(str(gate))
        await asyncio.to_thread(until, gate.with_suffix(".begun").exists)
        for _ in range(3):
            await asyncio.to_thread(one.end, signal.SIGKILL)
            await asyncio.to_thread(one.up)
            await found(client, "steady").pid()  # it was sent again by now
        await asyncio.to_thread(gate.touch)
        assert await again == 1


BIG_PLUGIN = """
from garrison.workers import Plugin, Service


class Big(Service):
    service_type = "big"

    async def big(self, size: int) -> bytes:
        return bytes(size)


plugin = Plugin("big", services=[Big])
"""
BOUND = "[host]\nmax_message = {}\n[plugins.big]\n"


async def test_an_adopted_worker_takes_the_bound_of_the_next_supervisor(host: Hosting) -> None:
    """What is too large is refused where it is made; it does not end the bus of its sender."""
    one = host(BOUND.format(64 << 20), files={"big.py": BIG_PLUGIN})
    pid = one.status("big")["pid"]
    async with one.connect() as client:
        assert len(await found(client, "big").big(20_000_000)) == 20_000_000
    await asyncio.to_thread(one.end, signal.SIGKILL)
    one.write("config.toml", BOUND.format(1 << 20))
    await asyncio.to_thread(one.up)
    assert one.status("big")["pid"] == pid
    async with one.connect() as client:
        with pytest.raises(RemoteError, match="more than max_message"):
            await found(client, "big").big(20_000_000)
        assert len(await found(client, "big").big(1000)) == 1000
    assert not one.events("frame.refused")


async def test_an_order_is_not_kept_for_the_next_supervisor(host: Hosting) -> None:
    """It fails at once, and can be given again."""
    one = host(CONFIG, PLUGINS)
    async with one.connect() as client:
        await asyncio.to_thread(one.end, signal.SIGKILL)
        with pytest.raises(SupervisorGone):
            await client.order("stop", ("steady",))
        await asyncio.to_thread(one.up)
        assert await found(client, "steady").pid() == one.status("steady")["pid"]
    assert one.status("steady")["state"] == "running"
    assert not one.events("order.given")

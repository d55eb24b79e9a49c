"""Calls through real sockets and workers: each ends once, with a result or one typed error."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any, ClassVar, Protocol

import pytest
from tests.services.echo import EchoService, Point
from tests.support.host import Host, found, hosting
from tests.support.waiting import PATIENCE, eventually

from garrison.ipc import (
    CallTimeout,
    Client,
    InvalidCall,
    Overloaded,
    RemoteError,
    ServiceLost,
    ServiceProxy,
    State,
    messages,
    state,
    with_timeout,
)

CONFIG = """
[plugins.echo]
[services.echo]
[services.other]
plugin = "echo"
[services.narrow]
plugin = "echo"
window = 4
"""


@pytest.fixture(scope="module")
def running() -> Iterator[Host]:
    """Run three of the same service."""
    with hosting(CONFIG, ["echo"]) as host:
        yield host


@pytest.fixture
async def client(running: Host) -> AsyncIterator[Client]:
    """Join the host."""
    async with running.connect() as client:
        yield client


@pytest.fixture
def echo(client: Client) -> ServiceProxy:
    """Return the service `echo`."""
    return found(client, "echo")


class Moves(Protocol):
    """A Protocol of a caller that does not have the class."""

    service_type: ClassVar[str]

    async def moved(self, point: Any, *, by: int = 1) -> Point: ...


class MovesEcho(Moves):
    """The same, with a service_type."""

    service_type = "echo"


# --- results and arguments ----------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [None, True, -1, 2**63 - 1, 1.5, "ä€😀", "", [], {"a": [1, {"b": None}]}, "x" * 100_000],
)
async def test_a_value_comes_back_as_it_went(echo: ServiceProxy, value: Any) -> None:
    """All values of JSON are returned unchanged."""
    assert await echo.echo(value) == value


async def test_keywords_and_defaults_are_the_methods_own(echo: ServiceProxy) -> None:
    """Arguments go by position or by name, and missing ones have the method's default."""
    assert await echo.add(1) == 3
    assert await echo.add(1, 5) == 6
    assert await echo.add(second=5, first=1) == 6
    assert await echo.total(1, 2, three=3, four=4) == 10


async def test_a_plain_method_runs_in_a_thread_of_its_service(echo: ServiceProxy) -> None:
    """`def` runs in the service's process, outside its loop's thread."""
    pid, thread = await echo.thread()
    assert pid == await echo.pid()
    assert thread != "MainThread"


async def test_held_threads_do_not_hold_the_loop(client: Client) -> None:
    """However many plain methods block, the service's loop runs, and each of them ends."""
    other = found(client, "other")
    held = [other.hold() for _ in range(40)]
    assert await other.echo(1) == 1
    assert not any(call.done() for call in held)
    await other.release()
    assert await asyncio.gather(*held) == [True] * 40


async def test_arguments_are_converted_to_the_methods_annotations(echo: ServiceProxy) -> None:
    """A struct is passed as such or as its fields, and returned as builtins without a class."""
    assert await echo.moved(Point(1)) == {"x": 2, "y": 0}
    assert await echo.moved({"x": 1, "y": 7}, by=9) == {"x": 10, "y": 7}


@pytest.mark.parametrize("cls", [EchoService, MovesEcho])
async def test_a_class_converts_results(client: Client, cls: type[EchoService]) -> None:
    """A proxy by a class, or by a Protocol with a `service_type`, returns the annotated types."""
    proxy = client.get_service(cls)
    assert proxy is not None
    assert await proxy.moved(Point(1), by=2) == Point(3)


async def test_a_class_converts_what_a_stream_yields(client: Client) -> None:
    """The items of a stream are converted like results."""
    proxy = client.get_service(EchoService)
    assert proxy is not None
    assert [point async for point in proxy.points(2)] == [Point(0), Point(1)]


async def test_a_result_that_does_not_fit_the_callers_class_is_a_remote_error(
    client: Client,
) -> None:
    """A result of another type than expected fails that call alone."""

    class Wrong(Protocol):
        service_type: ClassVar[str] = "echo"

        async def pid(self) -> str: ...

    class WrongEcho(Wrong):
        service_type = "echo"

    proxy = client.get_service(WrongEcho)
    assert proxy is not None
    with pytest.raises(RemoteError, match="its result does not fit"):
        await proxy.pid()


# --- errors -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "args", "kwargs", "reason"),
    [
        ("add", (), {}, "first"),
        ("add", (1, 2, 3), {}, "arguments"),
        ("add", ("one",), {}, "first"),
        ("add", (1,), {"third": 3}, "third"),
        ("moved", ({"y": 1},), {}, "x"),
        ("moved", ([[]],), {}, "point"),
        ("total", (1, "two"), {}, "numbers"),
        ("echo", (object(),), {}, "cannot travel"),
        ("echo", (2**70,), {}, "cannot travel"),
    ],
)
async def test_arguments_that_do_not_fit_are_an_invalid_call(
    echo: ServiceProxy, method: str, args: Any, kwargs: Any, reason: str
) -> None:
    """The method is not run, and the error names the argument."""
    with pytest.raises(InvalidCall) as caught:
        await getattr(echo, method)(*args, **kwargs)
    assert reason in caught.value.reason
    assert (caught.value.service, caught.value.method) == ("echo", method)


async def test_an_exception_of_a_method_has_its_traceback(echo: ServiceProxy) -> None:
    """RemoteError has the kind, the text and the method's own frames, and none of garrison's."""
    with pytest.raises(RemoteError, match=r"echo\.fail raised ValueError: no luck") as caught:
        await echo.fail("no luck")
    assert caught.value.type_name == "ValueError"
    assert "echo.py" in caught.value.traceback
    assert "raise ValueError(text)" in caught.value.traceback
    assert "dispatch.py" not in caught.value.traceback
    with pytest.raises(RemoteError) as caught:
        await echo.lookup("nothing")
    assert caught.value.type_name == "KeyError"


async def test_an_unknown_method_is_an_attribute_error(echo: ServiceProxy) -> None:
    """At once, with a suggestion, and without a message."""
    with pytest.raises(AttributeError, match="did you mean 'echo'"):
        _ = echo.ecko
    for private in ("_runtime", "__class_getitem__", "start", "stop"):
        with pytest.raises(AttributeError):
            getattr(echo, private)


async def test_a_method_that_cannot_be_called_remotely_is_left_out_with_a_reason(
    running: Host, echo: ServiceProxy
) -> None:
    """It is in no manifest; `status NAME` and the error have the reason."""
    row = running.status("echo")
    assert "socket" not in {method["name"] for method in row["methods"]}
    assert "connection" in row["left_out"]["socket"]
    assert "socket" in running.run("status", "echo").out
    with pytest.raises(AttributeError, match="cannot be called: its parameter connection"):
        _ = echo.socket


async def test_a_nested_error_carries_the_inner_ones_text(echo: ServiceProxy) -> None:
    """A caller of a service that calls another gets the inner error's text."""
    with pytest.raises(RemoteError) as caught:
        await echo.ask("other", "fail", ["deep"])
    assert caught.value.type_name == "RemoteError"
    assert "ValueError: deep" in str(caught.value)


# --- deadlines and cancellation -----------------------------------------------------------


async def test_a_call_past_its_deadline_is_a_timeout_and_is_cancelled(echo: ServiceProxy) -> None:
    """`with_timeout` gives another deadline; a method without a waiting caller is cancelled."""
    with pytest.raises(CallTimeout) as caught:
        await with_timeout(echo, 0.2).hang("late")
    assert caught.value.timeout == 0.2

    async def cancelled() -> bool:
        return "late" in await echo.cancellations()

    await eventually(cancelled)


@pytest.mark.parametrize("seconds", [0, -1, float("inf"), float("nan")])
async def test_a_deadline_is_a_positive_number(echo: ServiceProxy, seconds: float) -> None:
    """Other values are refused by `with_timeout`."""
    with pytest.raises(ValueError, match="above 0"):
        with_timeout(echo, seconds)


async def test_cancelling_the_caller_cancels_the_method(echo: ServiceProxy) -> None:
    """Cancelling the task that awaits a call ends the method in the other process."""

    async def call() -> None:
        await echo.hang("mine")

    task = asyncio.create_task(call())

    async def begun() -> bool:
        return "mine" in await echo.hung()

    await eventually(begun)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    async def cancelled() -> bool:
        return "mine" in await echo.cancellations()

    await eventually(cancelled)


async def test_cancellation_travels_through_a_service_into_the_next(client: Client) -> None:
    """The method that a cancelled method awaits in another service is cancelled, too."""
    echo, other = found(client, "echo"), found(client, "other")
    future = echo.nested("other", "inner")

    async def begun() -> bool:
        return "inner" in await other.hung()

    await eventually(begun)
    future.cancel()

    async def cancelled() -> bool:
        return "inner" in await other.cancellations()

    await eventually(cancelled)


async def test_a_deadline_travels_into_nested_calls(client: Client) -> None:
    """Calls that a method makes end by the deadline of its own call, also if it ignores
    cancellation."""
    echo, other = found(client, "echo"), found(client, "other")
    with pytest.raises((CallTimeout, RemoteError)):
        await with_timeout(echo, 0.5).shielded("other", "deadline")

    async def cancelled() -> bool:
        return "deadline" in await other.cancellations()

    await eventually(cancelled)  # long before the 30 s that the inner call would have by itself


async def test_a_method_can_give_an_inner_call_less_time(echo: ServiceProxy) -> None:
    """`with_timeout` inside a method shortens the deadline, and the method handles the error."""
    with pytest.raises(RemoteError, match="CallTimeout"):
        await echo.ask("other", "hang", ["short"], 0.1)


# --- who calls whom -----------------------------------------------------------------------


async def test_a_service_can_call_itself(echo: ServiceProxy) -> None:
    """A service is found under its own NAME like any other."""
    assert await echo.ask("echo", "add", [1, 1]) == 2


async def test_a_thread_of_a_service_can_call(echo: ServiceProxy) -> None:
    """In another thread than the loop's a method returns a future of `concurrent.futures`."""
    assert await echo.ask_in_thread("other", {"a": 1}) == {"a": 1}


async def test_a_thread_of_a_program_can_call(echo: ServiceProxy) -> None:
    """The same in any program."""
    assert await asyncio.to_thread(lambda: echo.add(1, 1).result(PATIENCE)) == 2


async def test_a_call_is_sent_when_it_is_made(echo: ServiceProxy) -> None:
    """A call is a future: it is sent without `await`, and its result is kept."""
    future = echo.echo("kept")
    assert isinstance(future, asyncio.Future)

    async def done() -> bool:
        return future.done()

    await eventually(done)
    assert await future == "kept"


async def test_state_returns_a_services_state(echo: ServiceProxy) -> None:
    """`state` is a function, because a method could have that name."""
    assert state(echo) is State.RUNNING
    with pytest.raises(TypeError):
        state("echo")
    assert echo.service_type == "echo"
    assert echo.capability_description == "Returns its arguments"


# --- many and large -----------------------------------------------------------------------


async def test_five_thousand_calls_at_once_are_all_answered(echo: ServiceProxy) -> None:
    """Calls past the window wait; each gets its own answer."""
    assert await asyncio.gather(*(echo.echo(n) for n in range(5000))) == list(range(5000))


async def test_large_arguments_and_results_travel(echo: ServiceProxy) -> None:
    """8 MiB there, 8 MiB back."""
    assert await echo.size(bytes(8 << 20)) == 8 << 20
    assert await echo.blob(8 << 20) == bytes(8 << 20)


async def test_too_large_values_are_refused_without_harm(client: Client) -> None:
    """Arguments above `max_message` are an InvalidCall and a result is a RemoteError; calls of
    others in the same turn are answered."""
    echo, other = found(client, "echo"), found(client, "other")
    others = [other.echo(n) for n in range(10)]
    with pytest.raises(InvalidCall, match="max_message"):
        await echo.size(bytes(65 << 20))
    with pytest.raises(RemoteError, match="max_message"):
        await echo.blob(65 << 20)
    assert await asyncio.gather(*others) == list(range(10))
    assert await echo.echo("fine") == "fine"


async def test_a_full_window_is_overload_at_the_deadline(client: Client, running: Host) -> None:
    """Calls past the window wait for room; at the deadline they fail, and were not run."""
    narrow, other = found(client, "narrow"), found(client, "other")
    held = [narrow.ask("other", "hang", [f"held {n}"]) for n in range(4)]

    async def full() -> bool:
        return {f"held {n}" for n in range(4)} <= set(await other.hung())

    await eventually(full)
    with pytest.raises(RemoteError, match=r"Overloaded: .* window stayed full"):
        await narrow.ask("other", "echo", [1], 0.3)
    assert await narrow.ask("echo", "echo", [1]) == 1  # another service's window is another
    held[0].cancel()
    assert await narrow.ask("other", "echo", [2]) == 2
    for call in held:
        call.cancel()


async def test_a_program_learns_of_overload_by_its_type(client: Client) -> None:
    """Calls that cannot wait any longer behind a full window fail with Overloaded."""
    echo = found(client, "echo")
    held = [echo.hang(f"flood {n}") for n in range(client.calls.window)]
    late = [with_timeout(echo, 0.3).echo(n) for n in range(50)]
    outcomes = await asyncio.gather(*late, return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {Overloaded}
    for call in held:
        call.cancel()
    assert await echo.echo("room") == "room"


# --- streams ------------------------------------------------------------------------------


async def test_a_program_that_joins_again_stays_a_member(client: Client) -> None:
    """It answers each Identify, also one that comes late: calls go on to be made and answered."""
    echo = found(client, "echo")
    assert await echo.echo(1) == 1
    client.session.handle(messages.Identify())
    await client.order("status", timeout=PATIENCE)  # its second Join was taken before

    assert await with_timeout(echo, PATIENCE).echo(2) == 2


async def test_a_stream_yields_everything_in_order(echo: ServiceProxy) -> None:
    """Any number of items, also none."""
    assert [n async for n in echo.count(0)] == []
    assert [n async for n in echo.count(1000)] == list(range(1000))


async def test_a_slow_consumer_holds_the_producer_back(echo: ServiceProxy) -> None:
    """No more items are made than the consumer has given credit for."""
    stream = echo.endless("slow")
    taken = [await anext(stream) for _ in range(3)]
    assert taken == [0, 1, 2]

    async def stands() -> bool:
        before = await echo.produced("slow")
        await asyncio.sleep(0.1)
        return bool(await echo.produced("slow") == before)

    await eventually(stands)
    assert await echo.produced("slow") <= 64
    for n in range(3, 200):  # and it goes on where it was
        assert await anext(stream) == n
    await stream.aclose()


async def test_ending_a_stream_early_cancels_its_method(echo: ServiceProxy) -> None:
    """By `aclose`, and by dropping the iterator."""
    stream = echo.endless("closed")
    assert await anext(stream) == 0
    await stream.aclose()
    dropped = echo.endless("dropped")
    assert await anext(dropped) == 0
    del dropped

    async def cancelled() -> bool:
        return {"closed", "dropped"} <= set(await echo.cancellations())

    await eventually(cancelled)
    with pytest.raises(StopAsyncIteration):
        await anext(stream)


async def test_an_error_in_mid_stream_comes_after_the_items_before_it(echo: ServiceProxy) -> None:
    """The items arrive first, then the error."""
    stream = echo.fail_at(40)
    assert [await anext(stream) for _ in range(40)] == list(range(40))
    with pytest.raises(RemoteError, match="ValueError: at 40") as caught:
        await anext(stream)
    assert "fail_at" in caught.value.traceback


async def test_a_streams_deadline_is_for_each_item(echo: ServiceProxy) -> None:
    """It runs only while a caller waits for the next item."""
    stream = with_timeout(echo, 0.3).slowly("silent")
    assert await anext(stream) == 0
    with pytest.raises(CallTimeout):
        await anext(stream)


async def test_a_worker_killed_in_mid_stream_ends_it(running: Host, client: Client) -> None:
    """Items that arrived are returned, then the stream fails with ServiceLost."""
    other = found(client, "other")
    stream = other.slowly("doomed")
    assert await anext(stream) == 0
    pid = running.kill("other")
    with pytest.raises(ServiceLost):
        await anext(stream)
    await asyncio.to_thread(running.until_reborn, "other", pid)
    assert await other.echo(1) == 1


async def test_arguments_of_a_stream_are_checked_too(echo: ServiceProxy) -> None:
    """The first item raises the error."""
    with pytest.raises(InvalidCall, match="until"):
        await anext(echo.count("many"))

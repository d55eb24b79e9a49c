"""Members that lie, replay, flood and never read do not disturb others.

After each, `healthy` checks that the supervisor runs, that its memory has not grown much, that no
worker died, and that calls and orders of others are answered.
"""

import asyncio
import contextlib
import os
import threading
import time
from collections.abc import AsyncIterator, Iterator

import msgspec
import pytest
from tests.support.host import Host, found, hosting
from tests.support.proc import resident
from tests.support.rogue import ABSURD, Rogue, dealer, greeting, joined, raw
from tests.support.waiting import PATIENCE, SOON, eventually, until

from garrison.ipc import Client, ServiceLost, messages, socket_paths, with_timeout
from garrison.ipc.messages import FULL, GONE, SUPERVISOR, WIRE, Token

MIB = 1 << 20
GROWTH = 48 * MIB  # of the supervisor, for whatever is not meant to be large
NIL = msgspec.Raw(b"\xc0")
NO_ARGS = msgspec.Raw(b"\x90")
CONFIG = """
[plugins.echo]
[plugins.rogue]
[defaults]
intensity = 0
[services.echo]
[services.rogue]
"""


@pytest.fixture(scope="module")
def running() -> Iterator[Host]:
    """Run a host."""
    with hosting(CONFIG, ["echo", "rogue"]) as host:
        yield host


@pytest.fixture
async def client(running: Host) -> AsyncIterator[Client]:
    """Join the host."""
    async with running.connect() as client:
        yield client


@pytest.fixture
async def healthy(running: Host, client: Client) -> AsyncIterator[None]:
    """Check afterwards that nothing was disturbed."""
    pids = {name: row["pid"] for name, row in running.rows().items()}
    memory = resident(running.pid)
    yield
    echo = with_timeout(found(client, "echo"), SOON)
    assert await echo.echo("healthy") == "healthy"
    began = time.monotonic()
    rows = await asyncio.to_thread(running.rows)
    assert time.monotonic() - began < SOON
    assert {name: row["pid"] for name, row in rows.items()} == pids
    grown = resident(running.pid) - memory
    assert grown < GROWTH, f"the supervisor grew by {grown:,} bytes"


def token_of(client: Client, name: str) -> Token:
    """Return a service's address, which every member knows."""
    entry = client.directory.get(name)
    assert entry is not None
    assert entry.token
    return entry.token


def call(call_id: int, method: str = "echo", args: msgspec.Raw = NO_ARGS) -> messages.Call:
    """Return a call in its encoded form."""
    return messages.Call(call_id, method, args, messages.EMPTY_MAP, 30.0)


# --- who says what he may not say -----------------------------------------------------------


@pytest.mark.usefixtures("healthy")
@pytest.mark.parametrize("name", [GONE, FULL, b"g", b"g" * 17, b"\x00" * 16])
def test_a_program_joins_only_with_a_token(running: Host, name: bytes) -> None:
    """GONE and FULL are reserved: a member of that name could return calls that were run."""
    with dealer(running, "control", name) as control:
        join = messages.encode([messages.Join(WIRE, os.getpid())])
        control.send_multipart([SUPERVISOR, join])
        (answer,) = messages.decode_downward(control.recv_multipart()[1])
    assert isinstance(answer, messages.Rejected)
    assert "token" in answer.reason


@pytest.mark.usefixtures("healthy")
async def test_only_the_supervisor_says_that_an_incarnation_ended(
    running: Host, client: Client
) -> None:
    """An Ended message of a member loses no call, at the caller or the callee."""
    echo = found(client, "echo")
    waiting = echo.hang("under way")
    with joined(running) as rogue:
        for token in (token_of(client, "echo"), client.token):
            ended = messages.Ended(token, "a lie")
            rogue.send(client.token, ended)
            rogue.send(token_of(client, "echo"), ended)
            rogue.send(client.token, messages.Refused(1))
        rogue.send(token_of(client, "echo"), call(1))
        assert rogue.received()[1] == [messages.Reply(1, NIL)]  # the others were read before it
    assert await echo.echo(1) == 1
    assert not waiting.done()
    assert "under way" not in await echo.cancellations()
    waiting.cancel()


@pytest.mark.usefixtures("healthy")
async def test_an_answer_counts_once_and_only_from_the_callee(
    running: Host, client: Client
) -> None:
    """Replayed and doubled answers, and those of another incarnation, are ignored."""
    service, echo = found(client, "rogue"), found(client, "echo")
    with joined(running) as rogue:
        waiting = echo.hang("waiting")
        for call_id in range(200):
            rogue.send(
                client.token,
                messages.Reply(call_id, NIL),
                messages.Done(call_id),
                messages.Item(call_id, NIL),
                messages.Refused(call_id),
            )
        calls = [echo.echo(n) for n in range(100)]
        assert await asyncio.gather(*calls) == list(range(100))
        assert not waiting.done()
        waiting.cancel()
    for n in range(20):
        call_id = next(client.session.ids) + 1
        assert await service.twice(client.token, call_id, n) == n
        assert await service.pid() > 0


@pytest.mark.usefixtures("healthy")
async def test_a_member_cannot_speak_for_another(running: Host, client: Client) -> None:
    """A peer that uses another's token is ignored on both sockets; its owner is not disturbed."""
    for token in (token_of(client, "echo"), client.token):
        control_plane = dealer(running, "control", token, identify=False)
        with control_plane as control, dealer(running, "bus", token) as bus:
            for message in (
                messages.Leave(),
                messages.Stopped(),
                messages.Failing("run", "a lie"),
                messages.Ready(messages.Manifest("nothing")),
                messages.Join(WIRE, os.getpid()),
            ):
                control.send_multipart([SUPERVISOR, messages.encode([message])])
            for destination in (token_of(client, "echo"), client.token):
                bus.send_multipart([destination, messages.encode([call(1, "die")])])
            calls = [found(client, "echo").echo(n) for n in range(50)]
            assert await asyncio.gather(*calls) == list(range(50))


@pytest.mark.usefixtures("healthy")
async def test_a_program_cannot_speak_as_a_worker(running: Host, client: Client) -> None:
    """Messages of workers are ignored from a program, and a worker cannot join as a program."""
    with joined(running) as rogue:
        for message in (
            messages.Hello(WIRE, "echo", 1, os.getpid()),
            messages.Initialized(),
            messages.Ready(messages.Manifest("echo")),
            messages.Beat(1, -1, 2**63),
            messages.Failing("run", "a lie"),
            messages.Stopped("a lie"),
            messages.Subscribe(("everything",) * 100),
            messages.PluginRead((messages.Manifest("echo"),)),
        ):
            rogue.tell(message)
        rogue.send(token_of(client, "echo"), call(7))
        assert rogue.received()[1] == [messages.Reply(7, NIL)]
    service = found(client, "rogue")
    await service.is_a_program()
    await service.again()
    assert await service.pid() == (await asyncio.to_thread(running.status, "rogue"))["pid"]
    assert running.status("rogue")["generation"] == 1


@pytest.mark.usefixtures("healthy")
def test_orders_of_any_content_are_answered(running: Host) -> None:
    """A senseless order is refused; it is no error of the supervisor."""
    orders = [
        messages.Order(1, "wait", ("echo",), 1.0, {}),
        messages.Order(2, "wait", ("echo",), float("nan"), {"state": "asleep"}),
        messages.Order(3, "wait", ("echo",), -1.0, {"state": ["running"]}),
        messages.Order(4, "events", (), float("inf"), {"number": "many"}),
        messages.Order(5, "events", (), 0.0, {"number": {"a": [1]}}),
        messages.Order(6, "explode"),
        messages.Order(7, "status", ("[", "*" * 199, "\x00")),
        messages.Order(8, "start", ("../../etc/passwd",)),
        messages.Order(2**63 - 1, "__init__"),
    ]
    with dealer(running, "control") as control:
        for order in orders:
            control.send_multipart([SUPERVISOR, messages.encode([order])])
            (answer,) = messages.decode_downward(control.recv_multipart()[1])
            assert isinstance(answer, messages.Answer)
            assert (answer.id, answer.ok) == (order.id, False), answer
            assert answer.code in {"usage", "no_such_service"}, answer
    assert not running.events("supervisor.erred")


@pytest.mark.usefixtures("healthy")
def test_an_order_of_too_many_names_is_refused_unread(running: Host) -> None:
    """Matching a hundred thousand names would block the loop."""
    with dealer(running, "control") as control:
        for names in (tuple(f"*{n}*" for n in range(100_000)), ("*?" * MIB,)):
            control.send_multipart(
                [SUPERVISOR, messages.encode([messages.Order(1, "status", names)])]
            )
            (answer,) = messages.decode_downward(control.recv_multipart()[1])
            assert isinstance(answer, messages.Answer)
            assert answer.code == "usage"


@pytest.mark.usefixtures("healthy")
def test_a_batch_of_too_many_messages_is_refused_whole(running: Host) -> None:
    """A turn of the supervisor ends between two batches."""
    head = running.head()
    assert head is not None
    before = head["refused_frames"]
    with dealer(running, "control") as control:
        many = [messages.Order(n, "status") for n in range(5000)]
        control.send_multipart([SUPERVISOR, messages.encode(many)])
        until(lambda: (running.head() or {"refused_frames": 0})["refused_frames"] > before)


# --- too much -------------------------------------------------------------------------------


@pytest.mark.usefixtures("healthy")
async def test_a_flood_of_orders_holds_up_no_other(running: Host, client: Client) -> None:
    """Thousands of orders from one connection that reads no answer."""
    echo = with_timeout(found(client, "echo"), SOON)
    with dealer(running, "control", unread=1) as control:
        for n in range(5000):
            control.send_multipart([SUPERVISOR, messages.encode([messages.Order(n, "status")])])
            if n % 250 == 0:
                assert await echo.echo(n) == n
        began = time.monotonic()
        await asyncio.to_thread(running.ask, "status")
        assert time.monotonic() - began < SOON


async def test_a_member_that_never_reads_is_kept_little_for(running: Host, client: Client) -> None:
    """Its queue is bounded in bytes, and dropped with it."""
    memory = resident(running.pid)
    peak = 0
    size = msgspec.Raw(msgspec.msgpack.encode([MIB // 2]))
    other = with_timeout(found(client, "rogue"), SOON)
    with joined(running, unread=1) as rogue:
        for n in range(1, 501):  # 250 MiB of answers
            rogue.send(token_of(client, "echo"), call(n, "blob", size))
        until_ = time.monotonic() + PATIENCE
        looks = 40  # once much has been kept: else nothing would be shown
        while looks and time.monotonic() < until_:
            assert await other.pid() > 0
            peak = max(peak, resident(running.pid) - memory)
            looks -= peak > 32 * MIB
            await asyncio.sleep(0.01)
        assert not looks, f"the supervisor has kept {peak:,} bytes"
        assert peak < 160 * MIB, f"the supervisor grew by {peak:,} bytes"

    async def freed() -> bool:
        return resident(running.pid) - memory < GROWTH

    await eventually(freed)


async def test_a_slow_reader_gets_everything_in_order(running: Host, client: Client) -> None:
    """Messages that wait in the supervisor because its reader's socket is full are neither lost
    nor overtaken."""
    size = msgspec.Raw(msgspec.msgpack.encode([MIB // 8]))
    with joined(running, unread=1) as rogue:
        for n in range(400):  # 50 MiB of answers, each a message
            rogue.send(token_of(client, "echo"), call(n, "blob", size))
            await asyncio.sleep(0)
        await found(client, "echo").echo(1)
        answers: list[int] = []
        while len(answers) < 400:
            _, batch = await asyncio.to_thread(rogue.received)
            answers += [one.id for one in batch if isinstance(one, messages.Reply)]
    assert answers == sorted(answers) == list(range(400))


@pytest.mark.usefixtures("healthy")
async def test_frames_too_big_end_their_senders_connection_alone(
    running: Host, client: Client
) -> None:
    """The control plane accepts 4 MiB, whatever the bus accepts."""
    with dealer(running, "control") as control:
        for _ in range(3):
            control.send_multipart([SUPERVISOR, bytes(5 * MIB)])
        assert await found(client, "echo").echo(1) == 1


async def test_a_workers_last_words_are_kept_at_a_bounded_length(
    running: Host, client: Client
) -> None:
    """The event log keeps thousands of events, and `status` each service's last traceback."""
    service = found(client, "rogue")
    old = await service.pid()
    with pytest.raises(ServiceLost) as lost:
        await service.break_at_length(MIB)
    assert len(str(lost.value)) < 8192
    row = await asyncio.to_thread(running.until_reborn, "rogue", old)
    assert len(str(row)) < 200_000
    events = running.events("service.state", "rogue")
    assert 1000 < max(len(str(event)) for event in events) < 8192


async def test_silent_connections_do_not_keep_programs_out(running: Host, client: Client) -> None:
    """Two hundred connections that send nothing, some of them half a greeting."""
    words = greeting(socket_paths.new_token())
    with contextlib.ExitStack() as stack:
        for n in range(200):
            one = stack.enter_context(raw(running, ("control", "bus")[n % 2]))
            one.send(words[: n % 40])
        echo = with_timeout(found(client, "echo"), SOON)
        assert await echo.echo(1) == 1
        began = time.monotonic()
        assert await running.call("echo", "echo", 2) == 2
        await asyncio.to_thread(running.ask, "status")
        assert time.monotonic() - began < SOON


@pytest.mark.usefixtures("healthy")
async def test_handshakes_cut_anywhere_and_absurd_sizes(running: Host, client: Client) -> None:
    """Valid ZeroMQ bytes up to some point, then nothing or garbage."""
    words = greeting(socket_paths.new_token())
    echo = with_timeout(found(client, "echo"), SOON)
    for name in ("control", "bus"):
        for end in range(len(words)):
            with raw(running, name) as one, contextlib.suppress(OSError):
                one.send(words[:end])
                if end % 3 == 0:
                    one.send(b"\xff" * 70)
        for nonsense in ABSURD:
            with raw(running, name) as one, contextlib.suppress(OSError):
                one.send(greeting(socket_paths.new_token()))
                one.recv(64)
                one.send(nonsense)
        assert await echo.echo(name) == name


@pytest.mark.usefixtures("healthy")
async def test_tiny_frames_in_a_flood(running: Host, client: Client) -> None:
    """Messages of one frame, of one byte or none, as fast as they can be sent."""
    echo = with_timeout(found(client, "echo"), SOON)

    def flood(rogue: Rogue) -> None:
        for n in range(10_000):
            rogue.control.send(b"" if n % 2 else b"x")
            rogue.bus.send(b"" if n % 2 else b"x")

    with joined(running) as rogue:
        flooding = threading.Thread(target=flood, args=(rogue,))
        flooding.start()
        calls = 0
        while flooding.is_alive():
            assert await echo.echo(calls) == calls
            calls += 1
        flooding.join()
        rogue.send(token_of(client, "echo"), call(1))
        assert rogue.received()[1] == [messages.Reply(1, NIL)]
    assert calls > 0

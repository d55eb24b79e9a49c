"""What a turn of the loop posts travels together, and each post ends as a call of its own would."""

import asyncio
import random
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from tests.support.waiting import until_true

from garrison.ipc import messages
from garrison.ipc.call_context import CHAIN, DEADLINE
from garrison.ipc.client import Client
from garrison.ipc.errors import (
    CallError,
    CallTimeout,
    InvalidCall,
    Overloaded,
    RemoteError,
    ServiceLost,
    ServiceUnavailable,
)
from garrison.ipc.frames import joined
from garrison.ipc.joined_posts import JOINED_BYTES, JOINED_MOST
from garrison.ipc.mail import PostRequest
from garrison.ipc.messages import Changed, Entry, Manifest, MethodInfo, State, Welcome

MAILBOX, RECEIVER, NEXT = b"g-mailbox", b"g-receiver", b"g-next"
METHODS = ("post", "post_all")

_requests = msgspec.msgpack.Decoder(tuple[list[PostRequest] | PostRequest]).decode


def entry(name: str, methods: tuple[str, ...], state: State = State.RUNNING) -> Entry:
    """Return a service."""
    manifest = Manifest(name, "", tuple(MethodInfo(method) for method in methods))
    token = f"g-{name}".encode() if state is State.RUNNING else b""
    return Entry(name, "p", 0, manifest, state, True, 1, token)


class Host:
    """A client without sockets, what it has sent to the mailbox, and the mailbox's answers."""

    def __init__(self, methods: tuple[str, ...], state: State) -> None:
        self.client = Client(b"g-me")
        self.sent: list[messages.Data] = []
        self.client.calls._send = lambda to, message: self.sent.append(message)
        services = (entry("mailbox", methods, state), entry("receiver", ("take",)))
        self.client.session.handle(Welcome(1, "boot", 2, services))

    @property
    def calls(self) -> list[messages.Call]:
        """Return the calls that were sent."""
        return [one for one in self.sent if isinstance(one, messages.Call)]

    @property
    def numbers(self) -> list[list[int]]:
        """Return the numbers that were posted, by call."""
        return [[msgspec.msgpack.decode(one.args)[0] for one in self.posts(c)] for c in self.calls]

    @property
    def in_order(self) -> list[int]:
        """Return them as they were sent."""
        return [number for numbers in self.numbers for number in numbers]

    def posts(self, call: messages.Call) -> list[PostRequest]:
        """Return the posts of a call."""
        (found,) = _requests(joined(call.args))
        assert (call.method == "post_all") == isinstance(found, list)
        return found if isinstance(found, list) else [found]

    def answer(self, *calls: messages.Call) -> None:
        """Answer calls, each post with its number."""
        for call, numbers in zip(self.calls, self.numbers, strict=True):
            if call in calls:
                ids = [str(number) for number in numbers]
                value = ids if call.method == "post_all" else ids[0]
                self.settle(call, msgspec.Raw(msgspec.msgpack.encode(value)))

    def settle(self, call: messages.Call, outcome: Any) -> None:
        """End a call."""
        assert self.client.calls.answered(call.id, MAILBOX, outcome, self.client.now())

    def post(self, number: int, padding: int = 0, **options: Any) -> "asyncio.Task[str]":
        """Begin to post a number."""
        work = self.client.post("receiver", "take", number, "x" * padding, **options)
        return asyncio.create_task(work)

    async def join(self, count: int, **options: Any) -> list["asyncio.Task[str]"]:
        """Post numbers in one turn, after one in which several were posted."""
        await self.busy()
        tasks = [self.post(number, **options) for number in range(count)]
        await turns()
        return tasks

    async def busy(self) -> None:
        """Let a turn pass in which several were posted."""
        before = [self.post(-1), self.post(-2)]
        await turns()
        self.answer(*self.calls)
        await asyncio.gather(*before)
        self.sent.clear()


async def turns(count: int = 3) -> None:
    """Let turns of the loop pass."""
    for _ in range(count):
        await asyncio.sleep(0)


@pytest.fixture
async def make() -> Callable[..., Host]:
    """Return what makes a host."""
    return lambda methods=METHODS, state=State.RUNNING: Host(methods, state)


async def test_a_post_alone_in_its_turn_is_sent_at_once(make: Callable[..., Host]) -> None:
    """As a call of `post`, in its caller's own turn."""
    host = make()
    task = host.post(1)
    await asyncio.sleep(0)  # the task's first step
    (call,) = host.calls
    assert call.method == "post"
    host.answer(call)
    assert await task == "1"


async def test_posts_of_one_turn_are_few_calls(make: Callable[..., Host]) -> None:
    """In the order of the posts; each has the id of its own message."""
    host = make()
    tasks = await host.join(2 * JOINED_MOST + 5)
    assert [len(found) for found in host.numbers] == [JOINED_MOST, JOINED_MOST, 5]
    assert host.in_order == list(range(len(tasks)))
    host.answer(*reversed(host.calls))
    assert await asyncio.gather(*tasks) == [str(n) for n in range(len(tasks))]
    assert not len(host.client.calls)


@pytest.mark.parametrize("seed", range(10))
async def test_whatever_is_posted_keeps_its_order(make: Callable[..., Host], seed: int) -> None:
    """With and without keys, large and small, joined and alone."""
    host, chosen = make(), random.Random(seed)
    tasks: list[asyncio.Task[str]] = []
    for _ in range(10):
        for _ in range(chosen.randrange(6)):
            key = str(len(tasks)) if chosen.random() < 0.3 else None
            padding = chosen.choice([0, 10, 20_000, 70_000])
            tasks.append(host.post(len(tasks), padding, key=key))
        await turns(chosen.randrange(3))
    await turns()
    assert host.in_order == list(range(len(tasks)))
    host.answer(*host.calls)
    assert await asyncio.gather(*tasks) == [str(n) for n in range(len(tasks))]


async def test_a_joined_call_has_a_bounded_size(make: Callable[..., Host]) -> None:
    """A larger message is a call of its own."""
    host = make()
    await host.busy()
    for number in range(10):
        host.post(number, JOINED_BYTES // 3)
    host.post(10, 2 * JOINED_BYTES)
    await turns()
    assert [len(found) for found in host.numbers] == [2, 2, 2, 2, 2, 1]
    assert all(len(call.args) < 1.1 * JOINED_BYTES for call in host.calls[:-1])


async def test_a_post_that_waits_by_itself_is_a_part_of_its_callers_call(
    make: Callable[..., Host],
) -> None:
    """Its chain of methods and its deadline are those of the method that posted it."""
    host = make(state=State.STARTING)
    client = host.client

    async def in_a_method(number: int) -> str:
        DEADLINE.set(client.now() + 10.0 * number)
        CHAIN.set((f"a.m{number}",))
        return await client.post("receiver", "take", number)

    tasks = [asyncio.create_task(in_a_method(number)) for number in range(1, 4)]
    await turns(1)
    tasks += [asyncio.create_task(in_a_method(number)) for number in range(4, 6)]
    await turns()
    client.session.handle(Changed("mailbox", State.RUNNING, True, 1, MAILBOX))
    assert [call.chain for call in host.calls] == [(f"a.m{n}",) for n in range(1, 6)]
    assert [round(call.timeout / 10.0) for call in host.calls] == [1, 2, 3, 3, 3]
    for task in tasks:
        task.cancel()


async def test_posts_with_a_key_are_sent_again_and_others_are_lost(
    make: Callable[..., Host],
) -> None:
    """They are not in one call: it is the call that is sent again after the mailbox's end."""
    host = make()
    await host.busy()
    kept = [host.post(n, key=str(n)) for n in range(3)]
    lost = [host.post(n) for n in range(3, 6)]
    await turns()
    assert host.numbers == [[0, 1, 2], [3, 4, 5]]
    now = host.client.now()
    host.client.calls.ended(MAILBOX, "it was killed", now)
    for task in lost:
        with pytest.raises(ServiceLost, match=r"mailbox.post was lost: it was killed") as error:
            await task
        assert (error.value.method, error.value.died, error.value.generation) == ("post", True, 1)
    host.sent.clear()
    host.client.session.handle(Changed("mailbox", State.RUNNING, True, 2, NEXT))
    assert host.numbers == [[0, 1, 2]]
    ids = msgspec.Raw(msgspec.msgpack.encode(["a", "b", "c"]))
    host.client.calls.answered(host.calls[0].id, NEXT, ids, now)
    assert await asyncio.gather(*kept) == ["a", "b", "c"]


async def test_an_error_is_of_each_post(make: Callable[..., Host]) -> None:
    """A full mailbox is Overloaded, as for a post alone; no two posts share an exception."""
    host = make()
    tasks = await host.join(2)
    host.settle(host.calls[0], RemoteError("mailbox", "post_all", "MailboxFull: no room"))
    errors = await asyncio.gather(*tasks, return_exceptions=True)
    assert [(type(one), str(one)) for one in errors] == 2 * [
        (Overloaded, "mailbox.post was not run: no room")
    ]
    assert errors[0] is not errors[1]


async def test_a_wrong_number_of_ids_is_an_error(make: Callable[..., Host]) -> None:
    """No post waits for ever."""
    host = make()
    tasks = await host.join(2)
    host.settle(host.calls[0], msgspec.Raw(msgspec.msgpack.encode(["1"])))
    errors = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(one, RemoteError) for one in errors)


async def test_a_mailbox_of_an_earlier_release_gets_calls_of_one_post(
    make: Callable[..., Host],
) -> None:
    """It has no `post_all`."""
    host = make(methods=("post",))
    tasks = await host.join(3)
    assert [call.method for call in host.calls] == ["post"] * 3
    host.answer(*host.calls)
    assert await asyncio.gather(*tasks) == ["0", "1", "2"]


async def test_posts_that_were_refused_together_are_sent_one_by_one(
    make: Callable[..., Host],
) -> None:
    """A mailbox of an earlier release has taken the place of the one that they were for: it has
    not run the call. Further posts to it do not travel together."""
    host = make()
    tasks = await host.join(3)
    tasks[1].cancel()
    await turns()
    host.settle(host.calls[0], InvalidCall("mailbox", "post_all", "no such method"))
    await turns()
    assert [call.method for call in host.calls[1:]] == ["post"] * 2
    host.answer(*host.calls[1:])
    assert (await tasks[0], await tasks[2]) == ("0", "2")
    host.sent.clear()
    more = [host.post(number) for number in range(3)]
    await turns()
    assert [call.method for call in host.calls] == ["post"] * 3
    for task in more:
        task.cancel()


async def test_posts_wait_one_by_one_for_a_mailbox_that_does_not_run(
    make: Callable[..., Host],
) -> None:
    """One that was cancelled meanwhile is never sent."""
    host = make(state=State.STARTING)
    tasks = [host.post(n) for n in range(4)]
    await turns()
    tasks[2].cancel()
    await turns()
    host.client.session.handle(Changed("mailbox", State.RUNNING, True, 1, MAILBOX))
    assert host.numbers == [[0], [1], [3]]


async def test_a_post_that_is_cancelled_in_its_turn_is_not_sent(make: Callable[..., Host]) -> None:
    """It was only to be sent at the turn's end."""
    host = make()
    await host.busy()
    tasks = [host.post(n) for n in range(3)]
    await asyncio.sleep(0)
    assert not host.calls
    tasks[1].cancel()
    await turns()
    assert host.in_order == [0, 2]


async def test_a_post_that_is_cancelled_while_its_call_waits_is_left_out(
    make: Callable[..., Host],
) -> None:
    """A mailbox that drains has returned the call unread; the next one gets the others."""
    host = make()
    tasks = await host.join(3)
    now = host.client.now()
    assert host.client.calls.returned_unsent(host.calls[0].id, MAILBOX, now)
    tasks[1].cancel()
    await turns()
    host.sent.clear()
    host.client.session.handle(Changed("mailbox", State.RUNNING, True, 2, NEXT))
    assert host.numbers == [[0, 2]]
    ids = msgspec.Raw(msgspec.msgpack.encode(["a", "b"]))
    host.client.calls.answered(host.calls[0].id, NEXT, ids, now)
    assert (await tasks[0], await tasks[2]) == ("a", "b")


async def test_a_call_for_which_no_post_waits_is_cancelled(make: Callable[..., Host]) -> None:
    """Also at the mailbox; its place in the window is free."""
    host = make()
    tasks = await host.join(3)
    for task in tasks:
        task.cancel()
    await turns()
    assert [type(one) for one in host.sent] == [messages.Call, messages.Cancel]
    assert not len(host.client.calls)


async def test_each_post_has_its_own_deadline(make: Callable[..., Host]) -> None:
    """The call ends with the last of them; what is late before has its own error."""
    host = make()
    await host.busy()
    client = host.client

    async def in_a_method(number: int, seconds: float, chain: tuple[str, ...]) -> str:
        DEADLINE.set(client.now() + seconds)
        CHAIN.set(chain)
        return await client.post("receiver", "take", number)

    early = asyncio.create_task(in_a_method(1, 0.05, ("a.early",)))
    late = asyncio.create_task(in_a_method(2, 20.0, ("a.late",)))
    await turns()
    assert host.numbers == [[1, 2]]
    assert 10.0 < host.calls[0].timeout <= 20.0
    assert host.calls[0].chain == ()
    with pytest.raises(CallTimeout, match=r"mailbox.post gave no answer .* by a.early") as error:
        await early
    assert error.value.chain == ("a.early",)
    assert error.value.timeout <= 0.05
    assert not late.done()
    host.answer(host.calls[0])
    assert await late == "2"


async def test_a_late_post_is_left_out_of_a_call_that_waits(make: Callable[..., Host]) -> None:
    """Its error states what it waited for."""
    host = make()
    await host.busy()
    client = host.client

    async def in_a_method(number: int, seconds: float) -> str:
        DEADLINE.set(client.now() + seconds)
        return await client.post("receiver", "take", number)

    tasks = [asyncio.create_task(in_a_method(n, seconds)) for n, seconds in ((1, 0.05), (2, 20.0))]
    await turns()
    client.calls.returned_unsent(host.calls[0].id, MAILBOX, client.now())
    with pytest.raises(ServiceUnavailable, match="mailbox"):
        await tasks[0]
    host.sent.clear()
    client.session.handle(Changed("mailbox", State.RUNNING, True, 2, NEXT))
    await until_true(lambda: host.numbers)
    assert host.numbers == [[2]]
    tasks[1].cancel()


async def test_joined_calls_fill_no_more_than_the_window(make: Callable[..., Host]) -> None:
    """What is posted beyond that waits for the window post by post."""
    host = make()
    window = host.client.calls.window
    tasks = await host.join(3 * window)
    joined = [found for found in host.numbers if len(found) > 1]
    assert sum(len(found) for found in joined) <= window
    assert len(host.calls) <= window
    while not all(task.done() for task in tasks):
        calls = [call for call in host.calls if call.id in host.client.calls._calls]
        assert calls
        host.answer(*calls)
        await turns()
    assert [await task for task in tasks] == [str(n) for n in range(len(tasks))]
    assert host.in_order == list(range(len(tasks)))


async def test_with_traces_each_post_is_a_call_of_its_own(make: Callable[..., Host]) -> None:
    """The call is a part of its caller's trace."""

    class Sent:
        """A span that begins and ends."""

        trace, message_id = "", ""

        def __enter__(self) -> "Sent":
            return self

        def __exit__(self, *ended: object) -> None:
            return None

        def sending(self, service: str, method: str) -> "Sent":
            """Begin one."""
            return self

    host = make()
    await host.busy()
    host.client.calls.producer = Sent()  # type: ignore[assignment]
    tasks = [host.post(n) for n in range(3)]
    await turns()
    assert [call.method for call in host.calls] == ["post"] * 3
    for task in tasks:
        task.cancel()


async def test_what_a_client_that_left_posts_fails(make: Callable[..., Host]) -> None:
    """No post is forgotten between its turn and the end of the connection."""
    host = make()
    await host.busy()
    tasks = [host.post(n) for n in range(3)]
    await asyncio.sleep(0)

    def broken(to: bytes, message: messages.Data) -> None:
        raise OSError("the socket is closed")

    host.client.calls._send = broken
    await turns()
    errors = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(one, OSError | CallError) for one in errors)

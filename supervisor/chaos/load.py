"""The load of `garrison chaos`: calls and posts, and the outcome of each.

Durations are seconds.
"""

import asyncio
import contextlib
import itertools
import random
from collections import OrderedDict
from pathlib import Path
from typing import Any

import msgspec

from garrison.ipc import mail
from garrison.ipc.client import Client
from garrison.ipc.errors import CallError, GarrisonError, RemoteError
from garrison.ipc.mail import PostRequest
from garrison.ipc.messages import Token

from .observe import Tail
from .results import DeliveryLog, Stalls, Tally, is_late

ECHO, RELAY, TAKE = "$chaos_echo", "$chaos_relay", "$chaos_take"
DEADLINES = (1.0, 5.0)  # of the calls, at random
NEVER_S = 20.0  # past its deadline; a call that takes longer counts as never ended
PACE_S = 0.01  # between a caller's calls, so that the machine is not saturated
TICK_S = 0.02
STALL_S = 0.005  # a loop that wakes so late has stalled
REMEMBERED = 4096  # answered calls of one caller, to find second answers
POSTERS, POST_PACE_S = 4, 0.04
POST_S = 30.0  # for one post
WAITING_MOST = 1000  # posts on their way to one receiver
READ_S = 0.25  # between reads of the delivered numbers
QUIET_S = 3.0  # without a delivery, then the mailbox is searched
FILES = "chaos-" + 8 * "[0-9a-f]"  # one for each run, in the receivers' data folders
SEARCHED_MOST = 200  # messages that are searched at a time

_anything = msgspec.msgpack.Decoder().decode


async def call_method(
    client: Client, name: str, method: str, args: tuple[Any, ...], timeout: float
) -> Any:
    """Call a method, also one that no manifest lists, and return its result."""
    future = client.loop.create_future()
    client.call(name, method, args, {}, timeout, _anything, future)
    return await future


async def watch_loop(stalls: Stalls) -> None:
    """Record when this event loop stalls, until cancelled."""
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + TICK_S
        stalls.expect(due)
        await asyncio.sleep(TICK_S)
        if (turned := loop.time()) > due + STALL_S:
            stalls.add(due, turned)


def watch_answers(client: Client, tally: Tally) -> None:
    """Count second answers to a call."""
    answered: OrderedDict[int, None] = OrderedDict()
    take = client.calls.answered

    def watched(call_id: int, source: Token, outcome: Any, now: float) -> bool:
        if call_id in answered:
            tally.second += 1
            tally.note(f"call {call_id} was answered a second time")
        taken = take(call_id, source, outcome, now)
        if taken:
            answered[call_id] = None
            if len(answered) > REMEMBERED:
                answered.popitem(last=False)
        return taken

    client.calls.answered = watched  # type: ignore[method-assign]


class LoadCaller:
    """Calls services, directly or one through another, and records the outcome of each call."""

    ids = itertools.count(1)

    def __init__(self, client: Client, names: list[str], tally: Tally, stalls: Stalls) -> None:
        self._client, self._names, self._tally, self._stalls = client, names, tally, stalls
        watch_answers(client, tally)

    async def run(self, stop: asyncio.Event) -> None:
        """Call until `stop` is set, and wait for the last call."""
        while not stop.is_set():
            target, through = random.choice(self._names), random.choice(self._names)
            number, deadline = next(self.ids), random.choice(DEADLINES)
            if random.random() < 0.5:
                await self._one(target, ECHO, (number,), number, deadline)
            else:
                await self._one(through, RELAY, (target, number), number, deadline)
            await asyncio.sleep(PACE_S)

    async def _one(
        self, name: str, method: str, args: tuple[Any, ...], number: int, deadline: float
    ) -> None:
        tally, loop = self._tally, self._client.loop
        due = loop.time() + deadline
        call = asyncio.ensure_future(call_method(self._client, name, method, args, deadline))
        try:
            for wait in (deadline + NEVER_S, 1.0):  # after a stall, the end is in the next turn
                await asyncio.wait({call}, timeout=wait)
            if not call.done():
                raise TimeoutError
            if call.result()[0] != number:
                tally.wrong += 1
                tally.note(f"{name} answered {call.result()[0]!r} to {number!r}")
            end = "answered"
        except RemoteError as error:  # the call that a relaying service made
            end = f"{error.type_name} at a service"
        except CallError as error:
            end = type(error).__name__
        except TimeoutError:
            tally.unended += 1
            tally.note(f"a call of {name}{method} ({deadline:g} s) has not ended")
            end = "never ended"
        finally:
            call.cancel()
        tally.ends[end] += 1
        if is_late(due, loop.time(), self._stalls):
            tally.late += 1
            over = loop.time() - due
            stalled = self._stalls.within(due, loop.time())
            tally.note(
                f"a call of {name}{method} ({deadline:g} s) ended {over:.2f} s past its deadline "
                f"({stalled:.2f} s of them this command was stalled): {end}"
            )


class PostTraffic:
    """Posts numbers to services, and reads them back from the files that the services write.

    Args:
        client: Posts the messages.
        run: The run's ID, a part of the files' names.
        rows: The receivers, as the supervisor reported them.
        tally: Counts.
    """

    def __init__(self, client: Client, run: str, rows: list[dict[str, Any]], tally: Tally) -> None:
        self._client, self._run, self._tally = client, run, tally
        self._posting: dict[str, int] = {}
        self._numbers = {row["name"]: itertools.count(1) for row in rows}
        self._tails = {row["name"]: Tail(Path(row["data"]) / f"chaos-{run}") for row in rows}
        for name in self._numbers:
            tally.deliveries[name] = DeliveryLog(in_order=client.mail_window_of(name) == 1)

    async def post(self, stop: asyncio.Event) -> None:
        """Post until `stop` is set."""
        names = list(self._numbers)
        groups = [names[first::POSTERS] for first in range(POSTERS)]
        await asyncio.gather(*(self._post_to(group, stop) for group in groups if group))

    async def _post_to(self, names: list[str], stop: asyncio.Event) -> None:
        for name in itertools.cycle(names):
            if stop.is_set():
                return
            log = self._tally.deliveries[name]
            if self._is_wanted(name) and len(log.waiting) < WAITING_MOST:
                await self._one(name, log)
            await asyncio.sleep(POST_PACE_S)

    async def _one(self, name: str, log: DeliveryLog) -> None:
        number = self._posting[name] = next(self._numbers[name])
        request = PostRequest(name, TAKE, mail.encode_value(name, TAKE, (self._run, number)))
        try:
            async with asyncio.timeout(POST_S):
                message_id = await mail.ask_mailbox(
                    self._client, "post", request, str, idempotent=False
                )
        except (CallError, TimeoutError):  # it may be on disk or not: it was not acknowledged
            log.unsure(number)
            self._tally.refused_posts += 1
        else:
            log.posted(number, message_id)

    def read(self) -> int:
        """Record the numbers that were delivered since the last read; return how many."""
        count = 0
        for name, tail in self._tails.items():
            for number in tail.numbers():
                count += 1
                self._tally.deliveries[name].came(number, self._posting.get(name, 0))
        return count

    async def keep_reading(self) -> None:
        """Read until cancelled."""
        while True:
            self.read()
            await asyncio.sleep(READ_S)

    async def all_delivered(self, seconds: float) -> None:
        """Wait until every acknowledged message was delivered; count those that were not.

        A message that killed its receiver twice is a dead letter. It is not lost, and is sent
        again.

        Args:
            seconds: For all of them.
        """
        loop = self._client.loop
        until, came = loop.time() + seconds, loop.time()
        while self._waiting():
            if self.read():
                came = loop.time()
            over = loop.time() >= until
            if over or loop.time() - came >= QUIET_S:
                with contextlib.suppress(GarrisonError):
                    await self._search(self._waiting()[:SEARCHED_MOST])
                came = loop.time()
            if over:
                break
            await asyncio.sleep(0.05)
        for name, _, message_id in self._waiting():
            self._tally.undelivered += 1
            self._tally.note(f"{name} did not receive message {message_id} within {seconds:g} s")

    def _waiting(self) -> list[tuple[str, int, str]]:
        return [
            (name, number, message_id)
            for name, log in self._tally.deliveries.items()
            if self._is_wanted(name)  # the mailbox keeps the messages for a stopped service
            for number, message_id in log.waiting.items()
        ]

    def _is_wanted(self, name: str) -> bool:
        entry, mailbox = self._client.directory.get(name), self._client.entry_of(mail.MAILBOX)
        return all(one is not None and one.wanted for one in (entry, mailbox))

    async def _search(self, missing: list[tuple[str, int, str]]) -> None:
        """Have dead letters sent again; count messages that the mailbox does not have as lost."""
        mailbox = self._client.entry_of(mail.MAILBOX)
        if mailbox is None:
            return
        deliveries = self._tally.deliveries
        ids = [message_id for _, _, message_id in missing]
        replayed = await call_method(self._client, mailbox.name, "replay", (ids,), POST_S)
        if replayed:
            self._tally.replayed += replayed
            for name, _, _ in missing:
                deliveries[name].strict = False
            return
        for name, number, message_id in missing:
            try:
                await call_method(self._client, mailbox.name, "show", (message_id,), POST_S)
            except RemoteError as error:
                if error.type_name != "LookupError":
                    raise
                self.read()  # it may have been delivered just now
                if deliveries[name].waiting.pop(number, None) is not None:
                    self._tally.lost += 1
                    self._tally.note(f"{name} never received message {message_id}")

    def remove_former(self) -> None:
        """Remove the files of runs that were killed."""
        for tail in self._tails.values():
            for path in tail.path.parent.glob(FILES):
                with contextlib.suppress(OSError):
                    path.unlink()

    def remove(self) -> None:
        """Remove the files."""
        for tail in self._tails.values():
            with contextlib.suppress(OSError):
                tail.remove()

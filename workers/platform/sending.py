"""The answers on their way to the platform, per channel in order.

A send runs in a task of the platform's own, which outlives its caller; callers with the same id
join it.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import Any

import msgspec

from garrison.ipc import Busy, NotSent
from garrison.workers.agents.content import Content

from . import ids
from .choices import Choice, choices_of
from .futures import retrieve_exception
from .messages import Outgoing, Sent
from .part_send import UNCERTAIN, Author, PartSend, Refused, SendLimits
from .send_log import LogFull, SendLog
from .splitting import Length, split

log = logging.getLogger(__name__)

SENDS_MOST = 10_000  # that wait or are under way
CHANNEL_MOST = 1_000  # of one channel


class Job(msgspec.Struct, eq=False):
    """One answer that is being sent."""

    id: str
    channel: str
    content: Content
    answers: str  # the platform's id of the message that it answers; "" if none
    expect: bool
    result: "asyncio.Future[Sent]"


class Sending:
    """The answers on their way.

    Args:
        send_log: The file.
        author: The author's methods.
        limits: The platform's config.
        spawn: Runs a coroutine until the service stops.
    """

    def __init__(
        self, send_log: SendLog, author: Author, limits: SendLimits, spawn: Callable[..., Any]
    ) -> None:
        self._log, self._author, self._limits, self._spawn = send_log, author, limits, spawn
        self._jobs: dict[str, Job] = {}
        self._channels: dict[str, deque[Job]] = {}  # with a task each
        self.sent = self.uncertain = self.refused = 0
        self.failing = ""  # the last problem; "" after a success

    @property
    def waiting(self) -> int:
        """Return how many answers wait or are under way."""
        return len(self._jobs)

    async def send(
        self, send: str, channel: str, content: Content, answers: str, expect: bool
    ) -> Sent:
        """Send an answer, or join the one that is being sent under its id.

        Raises:
            Busy: Too many wait, or the log cannot be written.
            RetryLater: It was surely not sent, and cannot be now.
            NotSent: The platform refused it for good.
        """
        job = self._jobs.get(send)
        if job is None:
            job = self._accept(send, channel, content, answers, expect)
        return await asyncio.shield(job.result)

    def _accept(self, send: str, channel: str, content: Content, answers: str, expect: bool) -> Job:
        queue = self._channels.get(channel)
        if len(self._jobs) >= SENDS_MOST or (queue and len(queue) >= CHANNEL_MOST):
            raise Busy(f"{len(queue or ())} messages wait for channel {channel!r:.60} already")
        result: asyncio.Future[Sent] = asyncio.get_running_loop().create_future()
        result.add_done_callback(retrieve_exception)
        job = self._jobs[send] = Job(send, channel, content, answers, expect, result)
        if queue is not None:
            queue.append(job)
        else:
            self._channels[channel] = deque([job])
            self._spawn(self._serve(channel), f"channel {channel[:40]}", False)
        return job

    async def _serve(self, channel: str) -> None:
        """Send a channel's answers, one after the other, until none waits."""
        queue = self._channels[channel]
        while queue:
            job = queue[0]
            try:
                job.result.set_result(await self._send(job))
            except asyncio.CancelledError:
                job.result.cancel()
                raise
            except Exception as error:  # noqa: BLE001 (its caller receives it)
                job.result.set_exception(error)
            queue.popleft()
            del self._jobs[job.id]
        del self._channels[channel]

    async def _send(self, job: Job) -> Sent:
        try:
            rows = {row.part: row for row in await self._log.rows(job.id)}
        except LogFull as error:
            raise Busy(str(error)) from error
        # The config may have changed since: the parts must be those that were begun.
        cut = next(iter(rows.values())).cut if rows else self._limits.max_length
        if not (rows or self._limits.split):
            _check_length(job.content.text, cut, self._limits.length)
        texts = split(job.content.text, cut, self._limits.length)
        if not texts and job.content.attachments:
            texts = [""]
        expect = job.expect and (self._limits.policy.can_query or not rows)
        found: list[str] = []
        for part in range(len(texts)):
            outgoing = _outgoing(job, texts, part, self._limits.replies)
            outgoing.previous = found[-1] if found else ""
            sending = PartSend(self._log, self._author, self._limits, outgoing, job.id, cut)
            outcome = await sending.run(rows.get(part), expect)
            self._count(outcome, sending.problem)
            if isinstance(outcome, Refused):
                raise NotSent(outcome.why)
            found.append(outcome)
        return Sent("uncertain" if UNCERTAIN in found else "sent", found)

    def _count(self, outcome: str | Refused, problem: str) -> None:
        if isinstance(outcome, Refused):
            self.refused += 1
        elif outcome == UNCERTAIN:
            self.uncertain += 1
            self.failing = problem or self.failing
        else:
            self.sent += 1
            self.failing = ""


def _check_length(text: str, most: int, length: Length) -> None:
    """Check the length of a message that may not be split.

    Raises:
        NotSent: It is too long.
    """
    if most and length(text) > most:
        raise NotSent(f"the message has {length(text)} characters; at most {most} (split is false)")


def _outgoing(job: Job, texts: list[str], part: int, replies: bool) -> Outgoing:
    part_id = ids.part_id(job.id, part)
    is_last = part == len(texts) - 1
    return Outgoing(
        id=part_id,
        nonce=ids.nonce(part_id),
        channel=job.channel,
        text=texts[part],
        part=part,
        parts=len(texts),
        reply_to=job.answers or None if part == 0 and replies else None,
        attachments=list(job.content.attachments) if is_last else [],
        began=0.0,
        unsure=False,
        choices=_choices(job) if is_last else [],
        answers=job.answers,
    )


def _choices(job: Job) -> list[Choice]:
    """Return the choices that a message offers; a wrong one is left out: the text is sent."""
    found = choices_of(job.content.data)
    if found.problem:
        log.warning("message.choices send=%s %s", job.id, found.problem)
    return found.choices

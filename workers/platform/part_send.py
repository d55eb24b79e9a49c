"""Sends one part of an answer: log, deliver, query, wait, by the steps that `decision` returns.

Durations are seconds.
"""

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from garrison.ipc import Busy, NotSent, RetryLater

from .clocks import read_clocks
from .decision import SendPolicy, SendState, Step, doubtful, elapsed_since, next_step
from .futures import retrieve_exception
from .messages import Outgoing
from .send_log import LogFull, Row, SendLog
from .splitting import Length, units

log = logging.getLogger(__name__)

RETRY_S = 0.5  # before a part that was surely not delivered is tried again; doubled each time
RETRY_MOST_S = 30.0
TRYING_S = 60.0  # after which its caller gets a `RetryLater`
LATER_MOST_S = (
    30.0  # longest `RetryLater` of the platform to wait for; a longer one goes to the caller
)
AGAIN_S = 30.0  # after which that caller tries again
REPEATS_MOST = 3  # of a part that may have been delivered, with `uncertain = "repeat"`
QUERY_S = 10.0  # for one answer of `was_delivered`
QUERIES_S = 60.0  # from the first that fails; then it stays unknown whether it was delivered
CANCEL_S = 1.0  # for a cancelled `deliver` to end
REASON_MOST = 500  # characters of a refusal that are kept

UNCERTAIN = ""  # in place of the platform's id


class Author(msgspec.Struct, frozen=True):
    """The author's methods."""

    deliver: Callable[[Outgoing], Awaitable[str]]
    was_delivered: Callable[[Outgoing], Awaitable[str | None]] | None


class SendLimits(msgspec.Struct, frozen=True):
    """The platform's config for sends."""

    policy: SendPolicy
    deliver_timeout: float
    max_length: int  # as `length` counts; 0: none
    split: bool = True  # a longer message becomes several; False: it is refused
    replies: bool = True  # the first part refers to the message that is answered
    length: Length = units  # of a text


class Refused(msgspec.Struct, frozen=True):
    """The platform refused a part, for this reason."""

    why: str


class PartSend:
    """One part on its way.

    Args:
        send_log: The file.
        author: The author's methods.
        limits: The platform's config.
        outgoing: The part.
        send: Id of the whole answer.
        cut: The `max_length` that the answer was split at.
    """

    def __init__(
        self,
        send_log: SendLog,
        author: Author,
        limits: SendLimits,
        outgoing: Outgoing,
        send: str,
        cut: int,
    ) -> None:
        self._log, self._author, self._limits = send_log, author, limits
        self._outgoing = outgoing
        self._key = (send, outgoing.part, outgoing.channel, cut)
        self._loop = asyncio.get_running_loop()
        self._deadline = self._loop.time() + TRYING_S
        self._query_deadline = math.inf  # once it gave no answer
        self._delay = 0.0  # before the next attempt
        self._delivered = 0  # attempts of this process
        self._is_doubtful = False  # by the log, or its loss, it may have been sent
        self._surely_not = False  # it is not there, as far as was known before the next attempt
        self.problem = ""  # the last one

    async def run(self, row: Row | None, expect: bool) -> str | Refused:
        """Return the platform's id, `UNCERTAIN`, or that the platform refused the part.

        Args:
            row: The log's.
            expect: The part may have been sent before.

        Raises:
            Busy: The log cannot be written, so nothing was sent.
            RetryLater: It was surely not sent, and cannot be now.
        """
        policy, elapsed = self._limits.policy, 0.0
        if row is not None:
            elapsed = self._settled_for(row)
            self._outgoing.began = row.wall
        self._outgoing.unsure = expect or row is not None
        step = next_step(row.state if row is not None else None, elapsed, policy, expect)
        if step is Step.DONE:
            assert row is not None
            return Refused(row.theirs) if row.state is SendState.REFUSED else row.theirs
        if step is Step.WAIT:
            await asyncio.sleep(policy.settle - elapsed)
            step = doubtful(policy)
        self._is_doubtful = row is not None or (expect and policy.log_lost)
        self._surely_not = step is Step.DELIVER and not self._is_doubtful
        while True:
            match step:
                case Step.QUERY:
                    outcome: str | Refused | Step = await self._query()
                case Step.DELIVER:
                    outcome = await self._deliver()
                case _:
                    self._record(SendState.UNCERTAIN)
                    return UNCERTAIN
            if not isinstance(outcome, Step):
                return outcome
            step = outcome

    def _settled_for(self, row: Row) -> float:
        """Return the seconds since a logged send can have been under way last.

        It may have been long under way when its process ended; that was before the log was opened.
        """
        now = read_clocks()
        since_begun = elapsed_since(row.wall, row.boot, row.uptime, now)
        if math.isinf(since_begun):
            return since_begun
        return min(since_begun, elapsed_since(*self._log.opened, now))

    async def _deliver(self) -> str | Refused | Step:
        """Log that the part is sent, then send it; return its outcome, or the next step."""
        if not await self._pause():
            if self._surely_not:
                raise RetryLater(AGAIN_S, f"the platform does not take it: {self.problem}")
            return Step.GIVE_UP
        try:
            wall, _, _ = await self._log.begin(*self._key)
        except LogFull as error:
            raise Busy(str(error)) from error
        self._outgoing.began, self._delivered = wall, self._delivered + 1
        try:
            theirs = await self._in_time(self._author.deliver(self._outgoing))
        except NotSent as error:
            self.problem = error.reason
            why = (error.reason or "the platform refused it")[:REASON_MOST]
            self._record(SendState.REFUSED, why)
            return Refused(why)
        except RetryLater as error:
            self.problem = f"to be sent in {error.seconds:g} s: {error.reason}"
            if self._surely_not:  # as if this attempt had not begun
                self._log.forget(*self._key[:2]).add_done_callback(retrieve_exception)
            if error.seconds > LATER_MOST_S:
                raise
            self._delay = error.seconds
            return Step.DELIVER
        except Exception as error:  # noqa: BLE001 (it may have been delivered)
            self.problem = f"{type(error).__name__}: {error}"
            log.warning("platform.uncertain part=%s error=%s", self._outgoing.id, self.problem)
            return await self._after_doubt()
        return self._sent(str(theirs) if theirs else self._outgoing.id)

    async def _after_doubt(self) -> Step:
        """Return the step after an attempt of this process whose outcome is not known."""
        self._outgoing.unsure = self._is_doubtful = True
        self._surely_not = False
        self._grow()
        policy = self._limits.policy
        step = doubtful(policy)
        if step is Step.DELIVER and self._delivered > REPEATS_MOST:
            return Step.GIVE_UP
        if step is not Step.GIVE_UP:
            await asyncio.sleep(policy.settle)
        return step

    async def _query(self) -> str | Step:
        """Query whether the platform has the part; return its id, or the next step."""
        assert self._author.was_delivered is not None
        try:
            async with asyncio.timeout(QUERY_S):
                theirs = await self._author.was_delivered(self._outgoing)
        except Exception as error:  # noqa: BLE001 (an outage of the platform)
            self.problem = f"was_delivered: {type(error).__name__}: {error}"
            log.warning("platform.query_failed part=%s error=%s", self._outgoing.id, self.problem)
            self._grow()
            now = self._loop.time()
            self._query_deadline = min(self._query_deadline, now + QUERIES_S)
            if isinstance(error, NotImplementedError) or now + self._delay > self._query_deadline:
                if not self._is_doubtful:  # as where the platform cannot be queried
                    self._surely_not = True
                    self._delay, self._deadline = 0.0, now + TRYING_S
                    return Step.DELIVER
                return doubtful(self._limits.policy, can_answer=False)
            await asyncio.sleep(self._delay)
            return Step.QUERY
        if theirs:
            return self._sent(str(theirs))
        self._surely_not = True
        return Step.DELIVER

    async def _pause(self) -> bool:
        """Wait before the next attempt; False if the time for attempts is over."""
        if self._loop.time() + self._delay > self._deadline:
            return False
        await asyncio.sleep(self._delay)
        return True

    def _grow(self) -> None:
        self._delay = min(self._delay * 2 or RETRY_S, RETRY_MOST_S)

    async def _in_time(self, delivering: Awaitable[str]) -> Any:
        """Await `deliver`, for `deliver_timeout` at most.

        Raises:
            TimeoutError: It took longer.
        """
        task = asyncio.ensure_future(delivering)
        try:
            done, _ = await asyncio.wait({task}, timeout=self._limits.deliver_timeout)
            if not done:
                task.cancel()
                done, _ = await asyncio.wait({task}, timeout=CANCEL_S)
        finally:
            task.cancel()
        if not done or task.cancelled():
            task.add_done_callback(retrieve_exception)
            raise TimeoutError(f"deliver took longer than {self._limits.deliver_timeout:g} s")
        return task.result()

    def _sent(self, theirs: str) -> str:
        self.problem = ""
        self._record(SendState.SENT, theirs)
        return theirs

    def _record(self, state: SendState, theirs: str = "") -> None:
        # Not awaited: if this process loses it, the platform is queried, or it is uncertain.
        self._log.end(*self._key, state, theirs).add_done_callback(retrieve_exception)

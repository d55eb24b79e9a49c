"""Posts that travel together: what a turn of the loop posts is one call, `post_all`.

A post that is alone in its turn is a call of its own, sent at once; so are posts for which the
mailbox or the window to it has no room now, as they wait in the table of calls one by one. Each
post keeps its own deadline and its own cancellation. Durations are seconds, sizes are bytes.
"""

import asyncio
import contextvars
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from msgspec import Raw

from .call_start import Decode, StartsCalls
from .calls import Calls
from .errors import CallError, CallTimeout, InvalidCall, RemoteError, ServiceLost, from_fault
from .messages import Entry
from .values import encode

POST, POST_ALL = "post", "post_all"  # methods of the mailbox
JOINED_MOST = 32  # posts of one call; more are several
JOINED_BYTES = 64 * 1024  # of one call
AROUND = 512  # bytes around the arguments of one of them, about

_decode_id: Decode = msgspec.msgpack.Decoder(str).decode
_decode_ids: Decode = msgspec.msgpack.Decoder(list[str]).decode


class Post(msgspec.Struct, eq=False):
    """One message on its way to the mailbox; its future receives the message's id."""

    request: Any  # a `PostRequest`
    size: int
    keyed: bool  # posting it again does no harm
    deadline: float
    timeout: float  # as its caller set it, for the text of its error
    chain: tuple[str, ...]  # the methods that led to it
    context: contextvars.Context  # of its caller
    future: asyncio.Future[str]
    call: "JoinedCall | None" = None  # that it travels in


class JoinedPosts:
    """What this process posts.

    Args:
        calls: The table of calls.
        caller: Starts the calls.
        now: Returns monotonic seconds.
    """

    def __init__(self, calls: Calls, caller: StartsCalls, now: Callable[[], float]) -> None:
        self._calls, self._caller, self._now = calls, caller, now
        self._loop = asyncio.get_running_loop()
        self._context = contextvars.Context()  # a joined call is part of no caller's call
        self._queue: list[Post] = []  # of this turn, for one mailbox, all with a key or all without
        self._mailbox: Entry | None = None  # that they are for
        self._bytes = 0
        self._turn_open = False  # this turn has posted something
        self._count = 0  # posts of this turn
        self._busy = False  # the last turn posted more than one
        self._in_flight = 0  # joined calls
        self._refused = "", 0  # NAME and generation of a mailbox that knows no joined posts

    def add(self, mailbox: Entry, post: Post) -> None:
        """Send a post, in order with those before it: at once, or with others of this turn."""
        self._count += 1
        if not self._turn_open:
            self._turn_open = True
            self._loop.call_soon(self._end_turn, context=self._context)
            if not self._busy:
                self._send_alone(mailbox, post)
                return
        size = post.size + AROUND
        queue = self._queue
        if queue and (
            queue[0].keyed != post.keyed
            or self._mailbox is not mailbox
            or self._bytes + size > JOINED_BYTES
        ):
            self._context.run(self._send)
        self._mailbox = mailbox
        self._queue.append(post)
        self._bytes += size
        if len(self._queue) >= JOINED_MOST:
            self._context.run(self._send)

    def withdraw(self, post: Post) -> None:
        """Do not send a post that was cancelled, if it has not been sent."""
        if post.call is not None:
            post.call.shrink()

    def _end_turn(self) -> None:
        self._turn_open, self._busy, self._count = False, self._count > 1, 0
        self._send()

    def _send(self) -> None:
        mailbox, queue = self._mailbox, self._queue
        self._queue, self._bytes = [], 0
        posts = [post for post in queue if not post.future.done()]
        if mailbox is None or not posts:
            return
        if len(posts) == 1 or not self._may_join(mailbox, posts):
            self._send_each(mailbox, posts)
            return
        self._in_flight += 1
        call = JoinedCall(self._calls, self._now, mailbox, posts, self._ended)
        try:
            call.start(self._caller)
        except Exception as error:  # noqa: BLE001 (each caller receives it, as of a call of its own)
            call.fail(error)

    def _send_each(self, mailbox: Entry, posts: Sequence[Post]) -> None:
        for post in posts:
            try:
                post.context.run(self._send_alone, mailbox, post)
            except Exception as error:  # noqa: BLE001 (its caller receives it)
                if not post.future.done():
                    post.future.set_exception(error)

    def _may_join(self, mailbox: Entry, posts: Sequence[Post]) -> bool:
        """Return True if the mailbox takes joined posts, and can be sent these now."""
        knows = any(method.name == POST_ALL for method in mailbox.manifest.methods)
        knows = knows and self._refused != (mailbox.name, mailbox.generation)
        room = self._in_flight < self._calls.window // JOINED_MOST
        return knows and room and self._calls.sends_now(mailbox.name)

    def _send_alone(self, mailbox: Entry, post: Post) -> None:
        arguments = (post.request,)
        self._caller.call(
            mailbox.name, POST, arguments, {}, None, _decode_id, post.future, post.keyed
        )

    def _ended(self, mailbox: Entry, refused: Sequence[Post]) -> None:
        """Note that a joined call has ended; send posts alone that the mailbox did not take so."""
        self._in_flight -= 1
        if refused:
            self._refused = mailbox.name, mailbox.generation
        self._send_each(mailbox, refused)


class JoinedCall:
    """One call with several posts.

    Args:
        calls: The table of calls.
        now: Returns monotonic seconds.
        mailbox: It is for.
        posts: All with a key, or all without.
        ended: Called once it has ended, with the posts that the mailbox refused unread: one of an
            earlier release may have taken the place of the one that the call was for.
    """

    def __init__(
        self,
        calls: Calls,
        now: Callable[[], float],
        mailbox: Entry,
        posts: list[Post],
        ended: Callable[[Entry, Sequence[Post]], None],
    ) -> None:
        self._calls, self._now, self._mailbox = calls, now, mailbox
        self._posts, self._ended = posts, ended
        self._loop = asyncio.get_running_loop()
        self._future: asyncio.Future[list[str]] = self._loop.create_future()
        self._future.add_done_callback(self._settle)
        self._timer: asyncio.TimerHandle | None = None
        self._id = 0

    def start(self, caller: StartsCalls) -> None:
        """Send it. It ends with the last of its posts' deadlines; earlier ones have a timer."""
        for post in self._posts:
            post.call = self
        latest = max(post.deadline for post in self._posts)
        requests = [post.request for post in self._posts]
        self._id = caller.call(
            self._mailbox.name,
            POST_ALL,
            (requests,),
            {},
            timeout=latest - self._now(),
            decode=_decode_ids,
            future=self._future,
            idempotent=self._posts[0].keyed,
        )
        self._set_timer(latest)

    def fail(self, error: Exception) -> None:
        """End it, as it could not be sent."""
        if not self._future.done():
            self._future.set_exception(error)

    def shrink(self) -> None:
        """Leave out the posts that nothing waits for any more, if the call was not sent yet."""
        left = [post for post in self._posts if not post.future.done()]
        call = self._calls.find(self._id)
        if not left:
            self._future.cancel()
        elif call is not None and not call.to:
            call.args = Raw(encode(([post.request for post in left],)))
            self._posts = left

    def _set_timer(self, latest: float) -> None:
        first = min((one.deadline for one in self._posts if not one.future.done()), default=latest)
        if first < latest and not self._future.done():
            delay = max(first - self._now(), 0.0)
            self._timer = self._loop.call_later(delay, self._fail_late, latest)

    def _fail_late(self, latest: float) -> None:
        now = self._now()
        late = [one for one in self._posts if one.deadline <= now and not one.future.done()]
        if (call := self._calls.find(self._id)) is not None:
            for post in late:
                post.future.set_exception(_own(self._calls.timeout_error(call), post))
        self._set_timer(latest)
        if late:
            self.shrink()

    def _settle(self, done: "asyncio.Future[list[str]]") -> None:
        if self._timer is not None:
            self._timer.cancel()
        for post in self._posts:
            post.call = None  # no circle is left
        error = None if done.cancelled() else done.exception()
        left = [post for post in self._posts if not post.future.done()]
        self._ended(self._mailbox, left if isinstance(error, InvalidCall) else ())
        if not (done.cancelled() or isinstance(error, InvalidCall)):
            self._distribute([] if error is not None else done.result(), error)

    def _distribute(self, ids: list[str], error: BaseException | None) -> None:
        if error is None and len(ids) != len(self._posts):
            detail = f"it answered {len(ids)} ids for {len(self._posts)} messages"
            error = RemoteError(self._mailbox.name, POST_ALL, detail)
        for number, post in enumerate(self._posts):
            if post.future.done():
                continue
            if error is None:
                post.future.set_result(ids[number])
            else:
                post.future.set_exception(_own(error, post))


def _own(error: BaseException, post: Post) -> BaseException:
    """Return the error of a joined call as that of one of its posts."""
    if not isinstance(error, CallError):
        return error
    if isinstance(error, CallTimeout):
        return CallTimeout(error.service, POST, f"{post.timeout:g}", post.chain)
    own = from_fault(msgspec.structs.replace(error.fault(), method=POST))
    if isinstance(own, ServiceLost) and isinstance(error, ServiceLost):
        own.died, own.generation = error.died, error.generation
    return own

"""`Platform`: the base class of every chat platform, as its author sees it."""

from collections.abc import AsyncIterator, Awaitable
from typing import Any, ClassVar, Literal, Self

from garrison.ipc.call_context import take_call_id
from garrison.ipc.mail import DeadLetter
from garrison.workers.agents.content import Content, Memory, TargetInfo, new_id
from garrison.workers.runtime import Runtime
from garrison.workers.service import Service, idempotent

from . import send_erasure
from .commands import Command
from .config import PlatformConfig
from .engine import AuthorMethods, Engine, engine_of
from .messages import Heard, Outgoing, Sent, as_heard
from .splitting import units

# Never in the manifest, also where a subclass overrides them: a call past the send log would make
# an answer two.
HOOKS = frozenset(
    {
        *("receive", "deliver", "was_delivered", "catch_up", "typing", "dead_letter"),
        *("commands", "note_traffic", "connected", "disconnected", "probe", "direct_channel"),
        "length",
    }
)


class Platform(Service):
    """A chat platform: each message that it receives gets one answer, in the order of its room.

    Write `start`, which connects and calls `await self.receive(memory, …)` for each message, and
    `deliver`, which sends one. The other methods are optional: `was_delivered`, `catch_up` and
    `typing`. `send_message` is what other services call; it is not overridden.

    A class `Config` of a subclass is a subclass of `Platform.Config`. A key that the config sets
    overrides the class attribute.

    Attributes:
        credential: NAME of the secret that is its identity, such as "DISCORD_TOKEN". One service of
            the machine uses it at a time.
        settle: Seconds after which a send of a process that has ended is no longer under way.
        uncertain: What happens to a message that may have been sent, or may not, where the platform
            does not know: "skip" sends it at most once, "repeat" at least once.
        max_length: Longest message, as `length` counts; longer ones are split. None: any length.
        deliver_timeout: Seconds for one `deliver`; after them it is uncertain.
    """

    class Config(PlatformConfig):
        """The keys that every platform has."""

    credential: ClassVar[str] = ""
    settle: ClassVar[float] = 2.0
    uncertain: ClassVar[Literal["skip", "repeat"]] = "skip"
    max_length: ClassVar[int | None] = None
    deliver_timeout: ClassVar[float] = 60.0

    # --- what an author calls ---------------------------------------------------------------

    async def receive(self, memory: Memory, stream: str = "", position: str = "") -> None:
        """Pass on a received message; return when it is on disk.

        Until then the platform must be able to send it again. Messages of one room are passed on in
        the order of these calls. Where the config does not want the message, this returns at once.

        Args:
            memory: The message. `id` is the platform's own, `room_id` the channel that answers go
                to. The metadata may have `bot`, `mentioned`, `own`, `channel_name`; `edited` marks
                one that was received before: it is an event `MESSAGE_EDITED`, and is not answered.
            stream: What `position` counts in, such as a channel; empty: nothing is saved.
            position: The message's position in the stream. `catch_up` gets it.

        Raises:
            ValueError: The id or the room is empty.
            TypeError: An argument or a field has another type than it is declared with.
            Busy: Too many messages wait.
            InvalidCall: The message can never be posted, because it is too large.
        """
        as_heard(memory, stream, position)
        parts = parts_of(self)
        parts.link.note_in()
        parts.report_link()
        prepared = parts.prepared(memory)
        if prepared is None:
            await parts.receiving.pass_over(stream, position)
        else:
            await parts.receiving.receive(prepared, stream, position)

    def commands(self) -> list[Command]:
        """Return the agent's actions as commands, by the config's `commands`; read them again
        from time to time.

        Where a person chooses one, receive a message with `content.actions` = [its `action`] and
        `content.data["options"]`, its parameters by name: the agent runs that action.
        """
        return parts_of(self).commands()

    def note_traffic(self) -> None:
        """Note that the receiving side is alive: the platform sent something, or a poll ended.

        `receive`, and a `deliver` that returned, are noted already.
        """
        engine = parts_of(self)
        engine.link.note_alive()
        engine.report_link()

    def disconnected(self, why: str) -> None:
        """Have `garrison status` show that the connection has ended and is not made again, until
        `connected()`. A connection that the library makes again by itself is none of these."""
        engine = parts_of(self)
        if not engine.link.is_disconnected:
            self.runtime.logger.error("platform.disconnected reason=%s", why)
        engine.link.disconnected(why)
        engine.report_link()

    def connected(self) -> None:
        """Note that there is a connection again."""
        engine = parts_of(self)
        engine.link.connected()
        engine.report_link()

    # --- what an author writes --------------------------------------------------------------

    async def deliver(self, m: Outgoing) -> str:
        """Send one message to the platform; return the platform's id of it.

        Raises:
            NotSent: The platform refused it for good: too long, forbidden, gone.
            RetryLater: It was surely not sent, and may be later: a rate limit.
            Exception: Anything else is uncertain: it may have been sent.
        """
        raise NotImplementedError(f"{type(self).__name__} has no deliver")

    async def was_delivered(self, m: Outgoing) -> str | None:
        """Return the platform's id of a message that may have been sent; None: surely not.

        Search by the nonce, or for the text in what was sent since `m.began`. An exception means
        that the platform cannot answer now.
        """
        raise NotImplementedError(f"{type(self).__name__} has no was_delivered")

    def catch_up(self, since: dict[str, str]) -> AsyncIterator[Heard]:
        """Yield what was missed, in order; messages that are received meanwhile follow.

        Args:
            since: The last position of each stream. Yielding a message again does no harm.
        """
        raise NotImplementedError(f"{type(self).__name__} has no catch_up")

    async def typing(self, channel: str) -> None:
        """Show in a channel that an answer is being written; called every few seconds."""
        raise NotImplementedError(f"{type(self).__name__} has no typing")

    def length(self, text: str) -> int:
        """Return how long a text is for the platform; by default its UTF-16 units."""
        return units(text)

    async def probe(self) -> None:
        """Check that the receiving side is alive, as by a request that is answered over it.

        It is called when nothing has come for the config's `probe` seconds, and by `garrison probe
        NAME`. A quiet channel is no reason to fail.

        Raises:
            Exception: It is deaf; the text states why, and what to do.
        """
        raise NotImplementedError(f"{type(self).__name__} has no probe")

    async def direct_channel(self, person: str) -> str:
        """Return the channel of direct messages to a person; by default the person's id is one.

        Raises:
            NotSent: There is none.
        """
        return person

    async def health(self) -> Any:
        """Return True. Override it to return whether the connection works, if a restart repairs it.

        Sends that fail are shown in `garrison status`; an outage of the platform is no reason for a
        restart.
        """
        return True

    # --- what others call -------------------------------------------------------------------

    @idempotent
    async def send_message(
        self, channel: str, content: str | Content, id: str = "", expect: bool = False
    ) -> Sent:
        """Send a message; return when it is sent, or when that is uncertain.

        Args:
            channel: Where to.
            content: What to send.
            id: Messages with the same id are one message; without one it is this call's, which is
                the same when garrison sends a lost call again.
            expect: It may have been sent before: the platform is queried first, if it can be.

        Raises:
            NotSent: The platform refused it for good.
            Busy: Too many messages wait.
            RetryLater: The platform did not take it for a minute. It was surely not sent.
        """
        of_call = take_call_id()
        return await parts_of(self).send(channel, content, id or of_call or new_id(), expect)

    @idempotent
    async def send_direct(
        self, person: str, content: str | Content, id: str = "", expect: bool = False
    ) -> Sent:
        """Send a direct message to a person, as `send_message` does to a channel.

        Args:
            person: The person's id on the platform, or a channel.
            content: What to send.
            id: Likewise.
            expect: Likewise.

        Raises:
            NotSent: The platform refused it for good, or has no such channel.
            Busy, RetryLater: As of `send_message`.
        """
        of_call = take_call_id()
        channel = await self.direct_channel(person)
        return await parts_of(self).send(channel, content, id or of_call or new_id(), expect)

    @idempotent
    async def check_link(self) -> dict[str, Any]:
        """Probe the receiving side now; return what is known of the connection then.

        `garrison probe NAME` calls it. Ages are seconds.
        """
        engine = parts_of(self)
        link = await engine.probing.check()
        return {
            "has_probe": engine.probing.is_possible,
            "disconnected": link.problem or None,
            "deaf": link.probe_problem or None,
            "last_in_s": link.in_s,
            "last_out_s": link.out_s,
            "last_alive_s": link.alive_s,
        }

    @idempotent
    async def forget_sends(self, sends: list[str]) -> int:
        """Delete what the send log has of answers; for the agent, which knows whose they were.

        Args:
            sends: Their ids, at most 1,000.
        """
        return await send_erasure.forget_sends(parts_of(self).log, sends)

    @idempotent
    async def export_sends(self, sends: list[str]) -> list[dict[str, Any]]:
        """Return what the send log has of answers, likewise."""
        return await send_erasure.export_sends(parts_of(self).log, sends)

    @idempotent
    async def forget_person(self, source: str, person: str) -> dict[str, int]:
        """Delete what the send log has of a channel that is a person's own.

        A platform that keeps more of persons overrides it, and calls this one as well.

        Args:
            source: NAME of a platform's service; of another one, nothing is kept here.
            person: The id on that platform.
        """
        if source != self.runtime.name:
            return {}
        return {"sends": await send_erasure.forget_channel(parts_of(self).log, person)}

    async def export_person(self, source: str, person: str) -> AsyncIterator[dict[str, Any]]:
        """Yield the same rows."""
        if source == self.runtime.name:
            for row in await send_erasure.export_channel(parts_of(self).log, person):
                yield {"store": "sends", **row}

    async def dead_letter(self, mail: DeadLetter, reason: str) -> None:
        """Send the failure text for a message that the mailbox has given up."""
        await parts_of(self).dead_letter(mail, reason)

    @classmethod
    def register_send_handlers(cls, runtime: Runtime, service: Self) -> Awaitable[None] | None:
        """Register the send handler for the service's NAME."""

        async def send(_: Runtime, target: TargetInfo, content: Content) -> Sent:
            return await service.send_message(target.channel, content)

        runtime.register_send_handler(runtime.name, send)
        return None


def parts_of(platform: Platform) -> Engine:
    """Return what works for a platform; it calls the methods of the instance that used it first.

    Raises:
        RuntimeError: The instance was created without a runtime.
    """
    engine = engine_of(platform.runtime)
    if not engine.is_bound:
        cls = type(platform)

        def if_written(name: str) -> Any:
            is_written = getattr(cls, name) is not getattr(Platform, name)
            return getattr(platform, name) if is_written else None

        engine.bind(
            AuthorMethods(
                platform.deliver,
                if_written("was_delivered"),
                if_written("catch_up"),
                if_written("typing"),
                if_written("probe"),
                if_written("length"),
            )
        )
    return engine

"""What works for one platform: the log, receiving, sending, the typing indicator."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any
from weakref import WeakKeyDictionary

import msgspec

from garrison.ipc import CallError
from garrison.ipc.mail import MAILBOX, DeadLetter
from garrison.ipc.messages import encodable
from garrison.workers.agents.answer_ids import answer_id
from garrison.workers.agents.content import Content, Memory, as_content, as_memory
from garrison.workers.runtime import Runtime

from . import filters, ids
from .clocks import read_clocks
from .commands import Command, commands_of
from .config import PlatformConfig
from .decision import SendPolicy
from .handing_over import AGENT, CAUGHT_UP_KEY, HandingOver
from .link import LinkState
from .messages import Heard, Outgoing, Sent
from .operator_chat import OperatorChat
from .part_send import Author, SendLimits
from .probing import Probing
from .receiving import Receiving
from .send_log import SendLog
from .sending import Sending
from .splitting import units
from .typing_indicator import TypingIndicator

log = logging.getLogger(__name__)

LINK_EVENT = "platform.link"  # {"service", "problem"}: why its connection is lost or deaf; or ""
FAILURE_TEXT = "Sorry, I cannot answer just now."  # the default of the agent's key
FAILURE_KEY = "failure_text"  # of a memory's metadata: the platform's own; and the agent's method
AGENT_S = 2.0  # for the agent to return its text


class AuthorMethods(msgspec.Struct, frozen=True):
    """The author's methods; None where there is none."""

    deliver: Callable[[Outgoing], Awaitable[str]]
    was_delivered: Callable[[Outgoing], Awaitable[str | None]] | None
    catch_up: Callable[[dict[str, str]], AsyncIterator[Heard]] | None
    typing: Callable[[str], Awaitable[None]] | None
    probe: Callable[[], Awaitable[None]] | None
    length: Callable[[str], int] | None


class Defaults(msgspec.Struct, frozen=True):
    """The class attributes that the config overrides."""

    settle: float
    uncertain: Any
    max_length: int | None
    deliver_timeout: float


class Engine:
    """The parts of one platform.

    Args:
        runtime: The platform's.
        config: Its keys.
        defaults: Its class attributes.
        send_log: The open log.
    """

    def __init__(
        self, runtime: Runtime, config: PlatformConfig, defaults: Defaults, send_log: SendLog
    ) -> None:
        self._runtime, self._config, self._defaults = runtime, config, defaults
        self._name = runtime.name
        self.log = send_log
        self.link = LinkState()
        self._link_reported = ""
        self._received = self._passed_over = 0
        self.is_bound = False

    async def run(self) -> None:
        """Keep the log open until the service stops; its failure is the service's."""
        try:
            await self.log.failed
        finally:
            self.log.begin_close()
            await asyncio.to_thread(self.log.wait_closed)

    def bind(self, author: AuthorMethods) -> None:
        """Take the methods of the service's instance."""
        config, defaults, spawn = self._config, self._defaults, self._runtime.spawn
        policy = SendPolicy(
            settle=defaults.settle if config.settle is None else config.settle,
            can_query=author.was_delivered is not None,
            uncertain=config.uncertain or defaults.uncertain,
            log_lost=self.log.lost,
        )
        limits = SendLimits(
            policy,
            config.deliver_timeout or defaults.deliver_timeout,
            config.max_length or defaults.max_length or 0,
            config.split,
            config.reply,
            author.length or units,
        )

        async def deliver(m: Outgoing) -> str:
            theirs = await author.deliver(m)
            self.link.note_out()
            return theirs

        methods = Author(deliver, author.was_delivered)
        self._sending = Sending(self.log, methods, limits, spawn)
        self._typing = None
        if author.typing is not None and config.typing:
            self._typing = TypingIndicator(author.typing, spawn)
        self._operators = OperatorChat(self._runtime, config.operators, self.send)
        handing_over = HandingOver(
            self._runtime,
            config.commands,
            self.send_failure_text,
            self._show_typing,
            self._operators,
        )
        self.probing = Probing(self.link, author.probe, config.probe, self.report_link)
        self._catch_up = author.catch_up if config.catch_up else None
        self.receiving = Receiving(
            handing_over.hand_over,
            self.log.move,
            spawn,
            held=self._catch_up is not None,
            overtakes=lambda one: self._runtime.paused and self._operators.handles(one),
        )
        self.is_bound = True

    def begin(self) -> None:
        """Take what was missed, and watch the connection: the service runs."""
        self.link.note_alive()
        self._runtime.spawn(self.probing.run(), "probes", False)
        if self._catch_up is not None:
            work = self.receiving.catch_up(
                self._catch_up,
                self.log.cursors,
                lambda memory: self.prepared(memory, caught_up=True),
                lambda problem: self._runtime.warn("platform catch-up", problem),
            )
            self._runtime.spawn(work, "catch-up", False)

    def report_link(self) -> None:
        """Emit an event if the connection was lost or found deaf, or works again."""
        problem = self.link.problem
        if problem == self._link_reported:
            return
        self._link_reported = problem
        self._runtime.spawn(self._emit_link(problem), "link", False)

    async def _emit_link(self, problem: str) -> None:
        payload = {"service": self._name, "problem": problem}
        is_durable = self._runtime.client.entry_of(MAILBOX) is not None
        try:
            await self._runtime.emit_event(LINK_EVENT, payload, durable=is_durable)
        except CallError as error:
            log.warning("platform.link_not_reported problem=%s error=%s", problem, error)

    def commands(self) -> list[Command]:
        """Return the agent's actions that are commands by the config."""
        return commands_of(self._runtime.actions, self._config.commands)

    # --- messages ---------------------------------------------------------------------------

    def prepared(self, memory: Memory, caught_up: bool = False) -> Memory | None:
        """Return a memory as it is handed over; None: the config does not want it.

        Raises:
            ValueError: Its id or its room is empty.
        """
        memory_id = ids.memory_id(self._name, memory.room_id, memory.id)
        why = filters.ignored(memory, self._config)
        if why in filters.NOT_FOR_AGENT and self._operators.handles(memory):
            why = ""
        if why:
            self._passed_over += 1
            return None
        self._received += 1
        content, metadata = memory.content, dict(memory.metadata)
        if self._config.failure_text is not None:
            metadata[FAILURE_KEY] = self._config.failure_text
        if caught_up:
            metadata[CAUGHT_UP_KEY] = True
        replied = content.in_reply_to
        content = msgspec.structs.replace(
            content,
            source=self._name,
            text=encodable(content.text),
            in_reply_to=ids.memory_id(self._name, memory.room_id, replied) if replied else "",
        )
        changed = msgspec.structs.replace(memory, id=memory_id, content=content, metadata=metadata)
        return as_memory(changed)

    async def send_failure_text(self, memory: Memory) -> None:
        """Send the failure text for a message, under the id of its first answer."""
        text = memory.metadata.get(FAILURE_KEY)
        if text is None:
            text = await self._agents_failure_text()
        if not isinstance(text, str) or not text.strip():
            return
        send = answer_id(self._name, memory.room_id, memory.id, "", 0)
        content = Content(text, source=self._name, in_reply_to=memory.id)
        await self.send(memory.room_id, content, send, expect=True)

    async def _agents_failure_text(self) -> str:
        """Return the agent's text, or the default where the agent does not answer."""
        agent = self._runtime.client.entry_of(AGENT)
        if agent is not None and any(one.name == FAILURE_KEY for one in agent.manifest.methods):
            with contextlib.suppress(CallError):
                text: str = await self._runtime.client.call_method(
                    agent.name, FAILURE_KEY, (), str, AGENT_S, idempotent=True
                )
                return text
        return FAILURE_TEXT

    async def dead_letter(self, mail: DeadLetter, reason: str) -> None:
        """Send the failure text for a message that the mailbox has given up."""
        if mail.method != "process_actions":
            return
        given = mail.args[0] if mail.args else mail.kwargs.get("memory")
        memory = msgspec.convert(given, Memory)
        self._runtime.logger.error("message.dead message=%s reason=%s", memory.id, reason)
        if memory.content.source == self._name:
            await self.send_failure_text(memory)

    def counts(self) -> dict[str, float]:
        """Count messages received, passed over and sent since the start, for `garrison status`."""
        sending = self._sending
        oldest = self.receiving.oldest() if self._runtime.paused else None
        held = {} if oldest is None else {"oldest_s": max(read_clocks()[0] - oldest, 0.0)}
        return held | {
            "heard": self._received,
            "passed_over": self._passed_over,
            "waiting": self.receiving.waiting,
            "sent": sending.sent,
            "refused": sending.refused,
            "uncertain": sending.uncertain,
        }

    # --- answers ----------------------------------------------------------------------------

    async def send(
        self, channel: str, content: str | Content | Mapping[str, Any], send: str, expect: bool
    ) -> Sent:
        """Send a message; see `Platform.send_message`."""
        if not channel:
            raise ValueError("send_message needs a channel")
        if len(send) > ids.ID_MOST:
            raise ValueError(f"an id has {len(send)} characters; at most {ids.ID_MOST}")
        message = as_content(content)
        answers = ids.their_id(self._name, channel, message.in_reply_to) or ""
        if self._typing is not None:
            self._typing.end(channel)
        try:
            return await self._sending.send(send, channel, message, answers, expect)
        finally:
            problem = self._sending.failing
            self._runtime.warn("platform sends", f"sends fail: {problem}" if problem else None)

    def _show_typing(self, channel: str) -> None:
        if self._typing is not None:
            self._typing.begin(channel)


ENGINES: WeakKeyDictionary[Runtime, Engine] = WeakKeyDictionary()


def engine_of(runtime: Runtime) -> Engine:
    """Return the engine of a service's runtime.

    Raises:
        RuntimeError: The service was not started by its worker.
    """
    engine = ENGINES.get(runtime)
    if engine is None:
        raise RuntimeError(
            f"{runtime.name} is not started: a platform works in a worker of garrison, or in "
            "garrison.workers.testing.run"
        )
    return engine

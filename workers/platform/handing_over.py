"""Hands a message to the agent: through the mailbox where there is one, else by a call.

Durations are seconds.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from garrison.ipc import Busy, CallError, GarrisonError, InvalidCall, Overloaded, RetryLater
from garrison.ipc.errors import ServiceUnavailable
from garrison.ipc.mail import MAILBOX
from garrison.workers.agents.components import EventType
from garrison.workers.agents.content import Memory
from garrison.workers.runtime import Runtime

from .commands import as_command
from .filters import EDITED
from .operator_chat import OperatorChat

log = logging.getLogger(__name__)

CAUGHT_UP_KEY = "caught_up"  # of a memory's metadata: it may be answered already
AGENT = "agent"  # a service_type
RETRY_S = 0.1  # before a post is tried again; doubled each time
RETRY_MOST_S = 5.0
SHOWN_FROM = 3  # attempts that fail before `status` shows it
DIRECT_MOST = 256  # calls to the agent at the same time, without a mailbox
# The agent did nothing with the message, or its answer is in the send log.
UNTAKEN = (Busy, Overloaded, RetryLater, ServiceUnavailable)


class HandingOver:
    """The way to the agent.

    Args:
        runtime: The platform's.
        commands: The config's: which actions are commands.
        unanswered: Sends the `failure_text` for a message.
        begun: Called with a channel when a message of it is handed over.
        operators: Answers what operators order.
    """

    def __init__(
        self,
        runtime: Runtime,
        commands: bool | Sequence[str],
        unanswered: Callable[[Memory], Awaitable[None]],
        begun: Callable[[str], None],
        operators: OperatorChat,
    ) -> None:
        self._runtime, self._unanswered, self._begun = runtime, unanswered, begun
        self._commands, self._operators = commands, operators
        self._calls = 0

    async def hand_over(self, memory: Memory) -> None:
        """Return when the message is on disk; without a mailbox, when it is on its way.

        While the platform is paused, all but orders of operators wait here.

        Raises:
            InvalidCall: It can never be posted: it is too large, for example.
        """
        is_edit = bool(memory.metadata.get(EDITED))
        if not is_edit and self._operators.handles(memory):
            await self._operators.answer(memory, memory.metadata.get(CAUGHT_UP_KEY) is True)
            return
        await self._runtime.until_resumed()
        if is_edit:
            await self._emit(memory)
            return
        memory, responses = as_command(memory, self._commands)
        if await self._post(memory, responses):
            self._begun(memory.room_id)
        elif self._calls >= DIRECT_MOST:
            log.warning("message.unanswered message=%s: %d calls", memory.id, self._calls)
            await self._send_failure_text(memory)
        else:
            self._calls += 1
            self._begun(memory.room_id)
            self._runtime.spawn(self._call(memory, responses), f"message {memory.id[:60]}", False)

    def _has_mailbox(self) -> bool:
        return self._runtime.client.entry_of(MAILBOX) is not None

    async def _emit(self, memory: Memory) -> None:
        """Emit that a message was edited; it gets no second answer."""
        try:
            await self._runtime.emit_event(
                EventType.MESSAGE_EDITED, memory, durable=self._has_mailbox()
            )
        except CallError as error:
            log.warning("message.edit_lost message=%s error=%s", memory.id, error)

    async def _post(self, memory: Memory, responses: list[Memory]) -> bool:
        """Post the message, again and again until it is on disk: its key makes it one.

        Returns:
            False if there is no mailbox, or none any more.
        """
        delay, failures = RETRY_S, 0
        args = (memory, responses) if responses else (memory,)
        while self._has_mailbox():
            try:
                agent = self._runtime.client.entry_of(AGENT)
                if agent is None:
                    raise ServiceUnavailable(AGENT, "process_actions", "not configured")
                await self._runtime.post(agent.name, "process_actions", *args, key=memory.id)
            except InvalidCall:
                raise
            except GarrisonError as error:
                failures += 1
                log.warning("message.unposted message=%s error=%s", memory.id, error)
                if failures >= SHOWN_FROM:
                    self._runtime.warn("platform post", f"messages cannot be posted: {error}")
                await asyncio.sleep(delay)
                delay = min(delay * 2, RETRY_MOST_S)
            else:
                if failures >= SHOWN_FROM:
                    self._runtime.warn("platform post", None)
                return True
        if failures >= SHOWN_FROM:
            self._runtime.warn("platform post", None)
        return False

    async def _call(self, memory: Memory, responses: list[Memory]) -> Any:
        """Have the agent process a message; send the failure text where it did nothing."""
        try:
            await self._runtime.process_actions(memory, responses)
        except GarrisonError as error:
            log.warning("message.unanswered message=%s error=%s", memory.id, error)
            if isinstance(error, UNTAKEN):
                await self._send_failure_text(memory)
        finally:
            self._calls -= 1

    async def _send_failure_text(self, memory: Memory) -> None:
        try:
            await self._unanswered(memory)
        except GarrisonError as error:
            log.warning("message.failure_text_unsent message=%s error=%s", memory.id, error)

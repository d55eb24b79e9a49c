"""The chat service: a platform whose terminal is `garrison chat`, with another service to answer.

The answerer's conversation passes through here unread, terminal to answerer and back, so either
worker may die between two lines, or within one, and the conversation goes on.
"""

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from garrison.ipc import ServiceLost
from garrison.workers import Plugin, Service, idempotent

ATTEMPTS = 3  # a line that ends so many of its answerer's processes is not asked again


class Answer(msgspec.Struct, frozen=True):
    """What an answerer's `respond` returns."""

    text: str
    conversation: Any = None  # the answerer's own affair


class Reply(msgspec.Struct, frozen=True):
    """What was answered, by whom, and the conversation to hand in with the next line."""

    text: str
    conversation: Any
    answerer: str


class ChatService(Service):
    """People at a terminal."""

    service_type = "chat"
    capability_description = "Takes lines from a terminal and has another service answer them"

    class Config(msgspec.Struct):
        """What `[services.chat.config]` may say."""

        answerer: str = "eliza"  # NAME of the service whose `respond` is asked

    config: Config

    @idempotent
    async def say(self, text: str, conversation: Any = None) -> Reply:
        """Return the answer to one line; None begins a conversation.

        Raises:
            LookupError: no such answerer is configured.
        """
        return await self._asked(lambda answerer: answerer.respond(text, conversation))

    @idempotent
    async def greeting(self) -> Reply:
        """Return what the answerer says before the first line."""
        return await self._asked(lambda answerer: answerer.greeting())

    async def _asked(self, ask: Callable[[Any], Awaitable[object]]) -> Reply:
        """Ask the answerer, and its next incarnation where it dies before it has answered.

        Asking twice is harmless: all that an answer leaves behind is in the answer.
        """
        name = self.config.answerer
        answerer = self.runtime.get_service(name)
        if answerer is None:
            raise LookupError(
                f"nobody is here to answer: no service {name!r} is configured. In config.toml, "
                f"add [plugins.{name}], or name another service: [services.chat.config] "
                'answerer = "NAME"'
            )
        attempts = ATTEMPTS
        while True:
            try:
                answer = msgspec.convert(await ask(answerer), Answer, from_attributes=True)
            except ServiceLost:
                attempts -= 1
                if not attempts:
                    raise
            else:
                return Reply(answer.text, answer.conversation, name)


plugin = Plugin(name="chat", services=[ChatService])

"""The verb that chats: sends lines to a chat service, and shows the messages in its room.

A chat service has `greeting()` and `say(text, conversation)`. If it has `listen(room)` too, the
messages that are sent between the lines are shown as they arrive. Durations are seconds.
"""

import asyncio
import contextlib
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import click

from garrison.ipc import (
    CallError,
    Client,
    OrderFailed,
    RemoteError,
    ServiceLost,
    ServiceProxy,
    ServiceUnavailable,
    SupervisorGone,
    connect,
    with_timeout,
)
from garrison.supervisor.cli.render.text import sanitize

from .call import find_service
from .completion import complete_names
from .errors import DONE
from .output import Invocation, options

ATTEMPTS = 3  # at a line whose worker died
ANSWER_S = 180.0  # more than the agent itself allows
LISTEN_S = 86_400.0  # for a message between the lines; then `listen` is called again
ENDED = "it has ended; start another with: garrison up"
PAUSE_S = 0.25  # before `listen` is called again
SLOW_S = 5.0  # after which a note says that the answer is still awaited


class Terminal:
    """Where lines come from and texts go to; here a pipe."""

    interactive = False

    async def read_line(self) -> str | None:
        """Return the next line, or None at the end."""
        line = await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
        return line.rstrip("\n") if line else None

    async def show(self, print_it: Callable[[], None]) -> None:
        """Print something while the user may be typing."""
        print_it()


class Prompt(Terminal):
    """A prompt with line editing; texts that arrive meanwhile are printed above it."""

    interactive = True

    def __init__(self) -> None:
        from prompt_toolkit import PromptSession

        self._session: PromptSession[str] = PromptSession()

    async def read_line(self) -> str | None:
        try:
            return await self._session.prompt_async("you: ")
        except (EOFError, KeyboardInterrupt):
            return None

    async def show(self, print_it: Callable[[], None]) -> None:
        from prompt_toolkit.application import run_in_terminal

        await run_in_terminal(print_it)


@click.command(epilog="Examples: garrison chat; garrison chat ada")
@click.argument("name", required=False, default="", metavar="[NAME]", shell_complete=complete_names)
@options
def chat(invocation: Invocation, name: str) -> int:
    """Chat with the agent through the chat service. End with Ctrl-D.

    With several agents, NAME is one of them. Lines can come from a pipe, too.
    """
    asyncio.run(_chat(invocation, name))
    return DONE


def _chat_name(client: Client, name: str) -> str:
    """Return the NAME of the service to chat with: itself, an agent's chat, or the only chat."""
    directory = client.directory
    if name and name not in directory and f"{name}.chat" in directory:
        return f"{name}.chat"
    if name or "chat" in directory:
        return name or "chat"
    chats = directory.of_type("chat")
    if len(chats) > 1:
        there = ", ".join(entry.name for entry in chats)
        text = f"there are several to chat with: {there}; name one of them"
        raise OrderFailed("no_such_service", text)
    if not chats:
        there = ", ".join(entry.name for entry in directory) or "none"
        text = f"no service chat; add [plugins.chat] to config.toml; there are: {there}"
        raise OrderFailed("no_such_service", text)
    return chats[0].name


async def _chat(invocation: Invocation, name: str) -> None:
    async with connect(invocation.home) as client:
        name = _chat_name(client, name)
        service = find_service(client, name)
        if not {"greeting", "say"} <= set(dir(service)):
            raise OrderFailed("InvalidCall", f"{name} cannot chat: it has no greeting and say")
        at_terminal = sys.stdin.isatty() and sys.stdout.isatty()
        terminal = Prompt() if at_terminal else Terminal()
        session = ChatSession(invocation, client, service, terminal)
        await session.greet()
        listening = asyncio.create_task(session.listen())
        try:
            while (line := await terminal.read_line()) is not None:
                if not line.strip():
                    continue
                try:
                    await session.say(line)
                except (CallError, OrderFailed) as error:
                    if not at_terminal:
                        raise
                    invocation.fail(error)  # the service may be back for the next line
        finally:
            listening.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await listening


class ChatSession:
    """One conversation. Each line carries it along, so a line can be sent again."""

    def __init__(
        self, invocation: Invocation, client: Client, service: ServiceProxy, terminal: Terminal
    ) -> None:
        self._invocation = invocation
        self._client, self._service, self._terminal = client, service, terminal
        self._conversation: Any = None
        self._answerer = ""
        self._answering = False
        self._held: list[str] = []  # messages that arrived while a line was being answered

    async def greet(self) -> None:
        """Show the greeting."""
        reply = await self._call(self._service.greeting)
        self._take(reply)
        if reply["text"]:
            self._show(reply["text"])

    async def say(self, line: str) -> None:
        """Send a line and show the answer."""
        self._answering = True
        text = ""
        try:
            say_line = with_timeout(self._service, ANSWER_S).say
            reply = await self._call(say_line, line, self._conversation)
            text = reply["text"]
        finally:
            # A chat service that started during the line does not know of it, and may pass the
            # line's answer on as a message of the room.
            held, self._held, self._answering = self._held, [], False
            for one in held:
                if f"\n{one}\n" not in f"\n{text}\n":
                    self._show_message(one)
        self._take(reply)
        for one in [*reply.get("messages", ()), text]:
            self._show(one)

    async def listen(self) -> None:
        """Show the messages that arrive between the lines, until cancelled."""
        room = self._conversation.get("room") if isinstance(self._conversation, dict) else None
        if room is None or "listen" not in dir(self._service):
            return
        service = with_timeout(self._service, LISTEN_S)
        while not self._client.supervisor_gone:
            with contextlib.suppress(CallError, AttributeError):
                async for text in service.listen(room):
                    if self._answering:
                        self._held.append(text)
                    else:
                        await self._terminal.show(partial(self._show_message, text))
            await asyncio.sleep(PAUSE_S)  # the service ended or restarts

    async def _call(self, method: Callable[..., Awaitable[Any]], *args: Any) -> Any:
        """Make a call, again if its worker died: the chat's methods are idempotent."""
        for left in reversed(range(ATTEMPTS)):
            try:
                return await self._awaited(method(*args))
            except CallError as error:
                stopped = isinstance(error, ServiceUnavailable) and self._client.is_alone
                if self._client.supervisor_gone or stopped:
                    raise SupervisorGone(str(self._invocation.home), ENDED) from error
                if isinstance(error, RemoteError):  # the service wrote its text for users
                    sentence = error.detail.partition(": ")[2]
                    raise OrderFailed("RemoteError", sentence) from error
                if not isinstance(error, ServiceLost) or not left:
                    raise
                self._note(f"{error.service} was restarted; sending the line again")
        raise AssertionError("unreachable")

    async def _awaited(self, answering: Awaitable[Any]) -> Any:
        """Wait for an answer; note it at a terminal if that takes long."""
        slow = asyncio.get_running_loop().call_later(SLOW_S, self._note_slow)
        try:
            return await answering
        finally:
            slow.cancel()

    def _note_slow(self) -> None:
        if self._terminal.interactive:
            self._note("still waiting for an answer; Ctrl-C leaves")

    def _note(self, text: str) -> None:
        self._invocation.say(click.style(f"({sanitize(text)})", dim=True))

    def _take(self, reply: dict[str, Any]) -> None:
        self._conversation, self._answerer = reply["conversation"], reply["answerer"]
        self._invocation.answer(reply)

    def _show_message(self, text: str) -> None:
        self._invocation.answer(
            {"text": text, "conversation": self._conversation, "answerer": self._answerer}
        )
        self._show(text)

    def _show(self, text: str) -> None:
        answerer = sanitize(self._answerer)
        if text.strip():
            shown = sanitize(text, lines=True)
            self._invocation.say(f"{click.style(answerer, fg='green')}: {shown}")
        else:
            self._note(f"{answerer} says nothing")

"""The verb that talks: lines go to a service that can chat, and what is said in its room is shown.

A service can chat that has `greeting()` and `say(text, conversation)`; with a `listen(room)` too,
what is said between the lines is shown as it comes. Durations are seconds.
"""

import asyncio
import contextlib
import sys
import unicodedata
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

from .call import service_of
from .output import DONE, SETTINGS, answer, fail, options, say

SAY_AGAIN = 3  # how often a line is said again whose worker died
SAY_S = 180.0  # for an answer: more than the agent itself allows
LISTEN_S = 86_400.0  # for something to be said between the lines; then it is listened again
ENDED = "it has ended; start another with: garrison up"
PAUSE_S = 0.25  # before it is listened again
STILL_S = 5.0  # until people are told that an answer takes its time


class Terminal:
    """Where lines are typed and texts are shown; here a pipe."""

    is_people = False

    async def ask_line(self) -> str | None:
        """Return the next line, or None at the end."""
        line = await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
        return line.rstrip("\n") if line else None

    async def show(self, print_it: Callable[[], None]) -> None:
        """Print something while a line may be being typed."""
        print_it()


class Prompt(Terminal):
    """A prompt that can be edited; what is printed meanwhile comes above it."""

    is_people = True

    def __init__(self) -> None:
        from prompt_toolkit import PromptSession

        self._session: PromptSession[str] = PromptSession()

    async def ask_line(self) -> str | None:
        try:
            return await self._session.prompt_async("you: ")
        except (EOFError, KeyboardInterrupt):
            return None

    async def show(self, print_it: Callable[[], None]) -> None:
        from prompt_toolkit.application import run_in_terminal

        await run_in_terminal(print_it)


@click.command()
@click.argument("name", required=False, default="")
@options
def chat(name: str) -> int:
    """Talk to the agent, or to one of several, through the chat service. End with Ctrl-D."""
    asyncio.run(_chat(name))
    return DONE


def _chatting(client: Client, name: str) -> str:
    """Return the NAME of who is meant: itself, or the chat of an agent, or the only chat."""
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


async def _chat(name: str) -> None:
    at_terminal = sys.stdin.isatty() and sys.stdout.isatty()
    async with connect(SETTINGS.home) as client:
        name = _chatting(client, name)
        service = service_of(client, name)
        if not {"greeting", "say"} <= set(dir(service)):
            raise OrderFailed("InvalidCall", f"{name} cannot chat: it has no greeting and say")
        terminal = Prompt() if at_terminal else Terminal()
        talk = ChatSession(client, service, terminal)
        await talk.greet()
        listening = asyncio.create_task(talk.listen())
        try:
            while (line := await terminal.ask_line()) is not None:
                if not line.strip():
                    continue
                try:
                    await talk.say(line)
                except (CallError, OrderFailed) as error:
                    if not at_terminal:
                        raise
                    fail(error)  # somebody may have stopped it for a moment: go on
        finally:
            listening.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await listening


class ChatSession:
    """One conversation. It travels with each line, so a line may be said again."""

    def __init__(self, client: Client, service: ServiceProxy, terminal: Terminal) -> None:
        self._client, self._service, self._terminal = client, service, terminal
        self._conversation: Any = None
        self._answerer = ""
        self._in_a_line = False
        self._heard: list[str] = []  # while a line was being answered

    async def greet(self) -> None:
        """Show the greeting."""
        reply = await self._surely(self._service.greeting)
        self._take(reply)
        if reply["text"]:
            self._show(reply["text"])

    async def say(self, line: str) -> None:
        """Say a line and show the answer."""
        self._in_a_line = True
        text = ""
        try:
            say_line = with_timeout(self._service, SAY_S).say
            reply = await self._surely(say_line, line, self._conversation)
            text = reply["text"]
        finally:
            # A chat service that was born within the line may have heard its answer before it
            # knew of the line.
            heard, self._heard, self._in_a_line = self._heard, [], False
            for one in heard:
                if f"\n{one}\n" not in f"\n{text}\n":
                    self._pushed(one)
        self._take(reply)
        for one in [*reply.get("messages", ()), text]:
            self._show(one)

    async def listen(self) -> None:
        """Show what is said between the lines, for ever."""
        room = self._conversation.get("room") if isinstance(self._conversation, dict) else None
        if room is None or "listen" not in dir(self._service):
            return
        service = with_timeout(self._service, LISTEN_S)
        while not self._client.supervisor_gone:
            with contextlib.suppress(CallError, AttributeError):
                async for text in service.listen(room):
                    if self._in_a_line:
                        self._heard.append(text)
                    else:
                        await self._terminal.show(partial(self._pushed, text))
            await asyncio.sleep(PAUSE_S)  # it ends, or restarts

    async def _surely(self, method: Callable[..., Awaitable[Any]], *args: Any) -> Any:
        """Make a call that may be made again."""
        for left in reversed(range(SAY_AGAIN)):
            try:
                return await self._shown(method(*args))
            except CallError as error:
                stopped = isinstance(error, ServiceUnavailable) and self._client.is_alone
                if self._client.supervisor_gone or stopped:
                    raise SupervisorGone(str(SETTINGS.home), ENDED) from error
                if isinstance(error, RemoteError):  # a sentence for people, as the service wrote it
                    sentence = error.detail.partition(": ")[2]
                    raise OrderFailed("RemoteError", sentence) from error
                if not isinstance(error, ServiceLost) or not left:
                    raise
                say(click.style(f"({error.service} was restarted; saying it again)", dim=True))
        raise AssertionError("unreachable")

    async def _shown(self, answering: Awaitable[Any]) -> Any:
        """Wait for an answer; say so where it takes long."""
        waiting = asyncio.get_running_loop().call_later(STILL_S, self._still)
        try:
            return await answering
        finally:
            waiting.cancel()

    def _still(self) -> None:
        if self._terminal.is_people:
            say(click.style("(still waiting for an answer; Ctrl-C leaves)", dim=True))

    def _take(self, reply: dict[str, Any]) -> None:
        self._conversation, self._answerer = reply["conversation"], reply["answerer"]
        answer(reply)

    def _pushed(self, text: str) -> None:
        answer({"text": text, "conversation": self._conversation, "answerer": self._answerer})
        self._show(text)

    def _show(self, text: str) -> None:
        if text.strip():
            say(f"{click.style(_plain(self._answerer), fg='green')}: {_plain(text)}")
        else:
            say(click.style(f"({_plain(self._answerer)} says nothing)", dim=True))


def _plain(text: str) -> str:
    """Return a text without what would move the cursor or change colours."""
    return "".join(c if c in "\n\t" or unicodedata.category(c) != "Cc" else " " for c in text)

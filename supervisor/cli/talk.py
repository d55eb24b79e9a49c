"""Verbs that make calls: call and chat."""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import click
import msgspec

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

from .common import DONE, SETTINGS, answer, encode, fail, no_such_service, options, say

SAY_AGAIN = 3  # how often a line is said again whose worker died


@click.command()
@click.argument("name")
@click.argument("method")
@click.argument("arguments", required=False, metavar="[JSON]")
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(min=0, min_open=True),
    default=30.0,
    show_default=True,
    metavar="S",
    help="The call's deadline; a stream's, for each of its values.",
)
@options
def call(name: str, method: str, arguments: str | None, timeout_s: float) -> int:
    """Call a service's method, with a JSON array (positional) or object (keywords)."""
    args, kwargs = _parsed(arguments)
    SETTINGS.remote_tracebacks = True  # to the author of the method it says what to do next

    async def made() -> None:
        async with connect(SETTINGS.home) as client:
            proxy = with_timeout(_service(client, name), timeout_s)
            try:
                bound = getattr(proxy, method)
            except AttributeError as error:
                raise OrderFailed("InvalidCall", str(error)) from None
            result = bound(*args, **kwargs)
            if hasattr(result, "__aiter__"):
                async for value in result:
                    _print(value)
            else:
                _print(await result)

    asyncio.run(made())
    return DONE


def _parsed(arguments: str | None) -> tuple[list[Any], dict[str, Any]]:
    if arguments is None:
        return [], {}
    try:
        value = msgspec.json.decode(arguments)
    except msgspec.DecodeError as error:
        raise click.UsageError(f"the arguments are no JSON: {error}") from error
    if isinstance(value, list):
        return value, {}
    if isinstance(value, dict):
        return [], value
    shown = encode([value]).decode()
    raise click.UsageError(f"arguments are a JSON array or object: write '{shown}'")


def _service(client: Client, name: str) -> ServiceProxy:
    proxy = client.get_service(name)
    if proxy is None:
        raise no_such_service(name, [entry.name for entry in client.directory])
    return proxy


def _print(value: Any) -> None:
    answer(value)
    if not SETTINGS.json:
        text = value if isinstance(value, str) else msgspec.json.format(encode(value)).decode()
        click.echo(text)


@click.command()
@click.argument("name", required=False, default="")
@options
def chat(name: str) -> int:
    """Talk to the chat service, or to an agent's. End with Ctrl-D."""
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
    return chats[0].name if chats else "chat"


async def _chat(name: str) -> None:
    async with connect(SETTINGS.home) as client:
        name = _chatting(client, name)
        service = _service(client, name)
        if not {"greeting", "say"} <= set(dir(service)):
            raise OrderFailed("InvalidCall", f"{name} cannot chat: it has no greeting and say")
        at_terminal = sys.stdin.isatty() and sys.stdout.isatty()
        ask_line = _terminal() if at_terminal else _lines()
        reply = await _surely(client, service.greeting)
        conversation = reply["conversation"]
        _show(reply)
        while (line := await ask_line()) is not None:
            if not line.strip():
                continue
            try:
                reply = await _surely(client, service.say, line, conversation)
            except (CallError, OrderFailed) as error:
                if not at_terminal:
                    raise
                fail(error)  # somebody may have stopped it for a moment: the conversation stays
            else:
                conversation = reply["conversation"]
                _show(reply)


async def _surely(client: Client, method: Callable[..., Awaitable[Any]], *args: Any) -> Any:
    """Make a call that may be made again: the conversation travels with it, so no state is lost."""
    for left in reversed(range(SAY_AGAIN)):
        try:
            return await method(*args)
        except CallError as error:
            stopped = isinstance(error, ServiceUnavailable) and client.is_alone
            if client.supervisor_gone or stopped:
                raise SupervisorGone(str(SETTINGS.home), "it has ended") from error
            if isinstance(error, RemoteError):  # a sentence for people, as the service wrote it
                raise OrderFailed("RemoteError", error.detail.partition(": ")[2]) from error
            if not isinstance(error, ServiceLost) or not left:
                raise
            say(click.style(f"({error.service} was restarted; saying it again)", dim=True))
    raise AssertionError("unreachable")


def _show(reply: dict[str, Any]) -> None:
    answer(reply)
    say(f"{click.style(reply['answerer'], fg='green')}: {reply['text']}")


def _terminal() -> Callable[[], Awaitable[str | None]]:
    """Return what asks for a line with a prompt that can be edited."""
    from prompt_toolkit import PromptSession

    session: PromptSession[str] = PromptSession()

    async def ask_line() -> str | None:
        try:
            return await session.prompt_async("you: ")
        except (EOFError, KeyboardInterrupt):
            return None

    return ask_line


def _lines() -> Callable[[], Awaitable[str | None]]:
    """Return what reads a line of a pipe."""

    async def ask_line() -> str | None:
        line = await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
        return line.rstrip("\n") if line else None

    return ask_line

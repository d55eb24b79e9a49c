"""The verb that gives an assistant a way in: `mcp`, a Model Context Protocol server on stdio.

Each tool runs its verb as a command of its own: it has the same checks, errors and deadlines as an
operator's, and a hanging one ends with its command.
"""

import asyncio
import json
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from garrison.ipc.errors import OrderFailed
from garrison.ipc.system.installed import installed_version
from garrison.ipc.verb_commands import VerbCommands

from .assistant_tools import (
    Tool,
    WrongArguments,
    allowed_actions,
    command,
    offered,
    shortened,
)
from .errors import DONE
from .output import Invocation, options

UNWELL = 3  # exit code of a verb that worked, and found something
INSTRUCTIONS = """\
garrison runs services, such as chat bots and model providers, each in a process of its own, and \
restarts those that fail. Begin with status; why NAME has the causes of one service's state and \
what mends it. Tools that change something are there only if they were allowed."""


def _allowed(ctx: click.Context, param: click.Parameter, value: str) -> list[str]:
    try:
        return allowed_actions(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


@click.command(
    "mcp", epilog="Examples: garrison mcp; garrison --home /srv/bot mcp --allow restart,mail_replay"
)
@click.option(
    "--allow",
    default="",
    callback=_allowed,
    metavar="ACTION,…",
    help="Actions that an assistant may use.",
)
@options
def mcp(invocation: Invocation, allow: list[str]) -> int:
    """Serve this host to an AI assistant, on stdio.

    A server of the Model Context Protocol, which the assistant starts. It reads only: states, logs,
    crashes, why; --allow adds actions by name. Ends when its input does.
    """
    try:
        import mcp.server.lowlevel  # noqa: F401 - to name what is missing
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "mcp":
            raise
        text = f"the library mcp is not installed: run {sys.executable} -m pip install 'mcp>=2.3'"
        raise OrderFailed("failed", text) from None
    if sys.stdin.isatty():
        invocation.say("an assistant starts this command and speaks to it; Ctrl-C ends it", True)
    asyncio.run(_until_signalled(_Commands(invocation.home, invocation.config), offered(allow)))
    return DONE


class _Commands:
    """Runs the verbs of tools."""

    def __init__(self, home: Path, config: Sequence[Path]) -> None:
        self._commands = VerbCommands(home, config)

    async def run(self, tool: Tool, words: list[str]) -> tuple[int, str, str]:
        """Return exit code, output and errors of a tool's command.

        Raises:
            TimeoutError: It took too long, and was ended.
        """
        return await self._commands.run(
            words[: len(tool.verb)],
            words[len(tool.verb) :],
            tool.deadline(),
            json=not tool.is_text,
            reads_config=tool.reads_config,
        )

    async def close(self) -> None:
        """End the commands that run."""
        await self._commands.close()


async def _until_signalled(commands: _Commands, tools: Mapping[str, Tool]) -> None:
    """Serve until the input ends, or a signal ends this process."""
    signalled = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, signalled.set)
    serving = asyncio.create_task(_serve(commands, tools))
    waiting = asyncio.create_task(signalled.wait())
    await asyncio.wait({serving, waiting}, return_when=asyncio.FIRST_COMPLETED)
    await commands.close()
    if not serving.done():
        os._exit(DONE)  # a thread of the library is reading, which nothing but input ends
    waiting.cancel()
    await serving


async def _serve(commands: _Commands, tools: Mapping[str, Tool]) -> None:
    """Answer an assistant until its end of the pipe closes."""
    import mcp_types as types
    from mcp.server.lowlevel import Server
    from mcp.server.stdio import stdio_server

    async def listed(_: Any, __: Any) -> types.ListToolsResult:
        return types.ListToolsResult(
            tools=[
                types.Tool(
                    name=name,
                    description=tool.description,
                    input_schema=tool.schema(),
                    annotations=types.ToolAnnotations(
                        read_only_hint=not tool.acts,
                        destructive_hint=tool.destroys,
                        open_world_hint=False,
                    ),
                )
                for name, tool in tools.items()
            ]
        )

    async def called(_: Any, params: types.CallToolRequestParams) -> types.CallToolResult:
        text, structured, failed = await answered(commands, tools, params.name, params.arguments)
        return types.CallToolResult(
            content=[types.TextContent(type="text", text=text)],
            structured_content=structured,
            is_error=failed,
        )

    server: Server[Any] = Server(
        "garrison",
        version=installed_version() or "",
        instructions=INSTRUCTIONS,
        on_list_tools=listed,
        on_call_tool=called,
    )
    async with stdio_server() as (reading, writing):
        await server.run(reading, writing, server.create_initialization_options())


async def answered(
    commands: _Commands, tools: Mapping[str, Tool], name: str, given: Mapping[str, Any] | None
) -> tuple[str, dict[str, Any] | None, bool]:
    """Return a tool's answer: its text, its value if that is one JSON object, and if it failed."""
    tool = tools.get(name)
    if tool is None:
        return f"no tool {name}, or it is not allowed; there are {', '.join(tools)}", None, True
    try:
        code, out, errors = await commands.run(tool, command(tool, given or {}))
    except WrongArguments as error:
        return str(error), None, True
    except TimeoutError:
        late = f"{' '.join(tool.verb)} took longer than {tool.deadline():g} s and was ended"
        return f"{late}; what it ordered goes on: status shows it", None, True
    if not tool.is_text:
        return _of_json(out, errors)
    failed = code not in {DONE, UNWELL}
    return shortened(f"{out}\n{errors}" if failed else out) or "nothing", None, failed


def _of_json(out: str, errors: str) -> tuple[str, dict[str, Any] | None, bool]:
    """Return the text and the value of a verb's JSON, and whether the verb failed."""
    try:
        value = json.loads(out)
    except ValueError:
        return shortened(f"{out}\n{errors}"), None, True
    data = value["data"]
    text = json.dumps(data, ensure_ascii=False)
    if not value["ok"]:
        return shortened(value["error"]["message"] + (f"\n{text}" if data else "")), None, True
    whole = shortened(text)
    return whole, data if isinstance(data, dict) and whole == text else None, False

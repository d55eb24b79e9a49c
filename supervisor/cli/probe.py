"""The verb that probes a platform's receiving side now. The platform's own service does it."""

import asyncio
from typing import Any

import click

from garrison.ipc import OrderFailed, connect
from garrison.ipc.messages import Entry, State

from .completion import complete_names
from .errors import DONE, NOT_RUNNING, no_such_service
from .output import Invocation, options

METHOD = "check_link"
PROBE_S = 30.0


@click.command(epilog="Example: garrison probe discord")
@click.argument("name", metavar="NAME", shell_complete=complete_names)
@options
def probe(invocation: Invocation, name: str) -> int:
    """Check whether a platform receives.

    Its receiving side is probed now, and its last traffic is shown. Exits 3 if that side is deaf,
    or the connection has ended for good. A quiet channel is neither.
    """
    data = asyncio.run(_probe(invocation, name))
    invocation.answer(data)
    for line in _lines(data):
        invocation.say(line)
    return DONE if data["alive"] else NOT_RUNNING


async def _probe(invocation: Invocation, name: str) -> dict[str, Any]:
    """Return what the platform's service has found.

    Raises:
        OrderFailed: There is no such service, it is no platform, or it does not run.
    """
    async with connect(invocation.home) as client:
        entry = client.directory.get(name)
        if entry is None:
            raise no_such_service(name, [one.name for one in client.directory])
        _check(invocation, entry)
        found: dict[str, Any] = await client.call_method(name, METHOD, (), dict[str, Any], PROBE_S)
    alive = not (found["disconnected"] or found["deaf"])
    return {"service": name, "alive": alive, **found}


def _check(invocation: Invocation, entry: Entry) -> None:
    name = entry.name
    if entry.state is not State.RUNNING:
        why = f" ({entry.reason})" if entry.reason else ""
        text = f"{name} is {entry.state.value}{why}, so it cannot be probed"
        raise OrderFailed("not_running", f"{text}; see: {invocation.command(f'status {name}')}")
    if not any(method.name == METHOD for method in entry.manifest.methods):
        text = f"{name} is no platform"
        if entry.manifest.platform:
            text = f"{name} runs an older version of garrison: {invocation.command('restart')}"
        raise OrderFailed("failed", f"{text}: only platforms have a receiving side")


def _lines(data: dict[str, Any]) -> list[str]:
    from .render.link import link_problems, link_words

    name = data["service"]
    problems = [f"{name}: {problem}" for problem in link_problems({"link": data})]
    if not problems:
        alive = "receives" if data["has_probe"] else "has no active probe; it seems to be connected"
        problems = [f"{name} {alive}"]
    return [*problems, f"{name}: {link_words(data)}"]

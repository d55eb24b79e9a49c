"""The verb that shows why an agent answered as it did. It queries the agents' records."""

import asyncio
from typing import Any

import click

from garrison.ipc import Client, OrderFailed, connect
from garrison.ipc.messages import Entry, State

from .completion import complete_rooms
from .durations import Whole
from .errors import DONE
from .output import Invocation, options

AGENT, METHOD = "agent", "answers"
SHOWN = 20
MOST = 200


@click.command(
    epilog="Examples: garrison answer; garrison answer 1122334455667788; "
    "garrison answer discord/998877"
)
@click.argument(
    "wanted",
    required=False,
    default="",
    metavar="[ID | NAME/ROOM]",
    shell_complete=complete_rooms,
)
@click.option(
    "-n",
    "--limit",
    "most",
    type=Whole(1, MOST),
    default=SHOWN,
    show_default=True,
    metavar="N",
    help="How many answers, the latest.",
)
@options
def answer(invocation: Invocation, wanted: str, most: int) -> int:
    """Show why an agent answered as it did, from its record.

    Without an argument, the latest answers, one a line. ID is that of a message or of a
    response, as the platform shows it or as garrison's logs do: everything that is recorded of that
    answer. NAME/ROOM is a room of a platform: its latest answers, and all of the last one.
    """
    data = asyncio.run(_fetch(invocation, wanted, most))
    invocation.answer(data)
    if not invocation.json:
        from .render import answer as rendered  # rich is slow to import
        from .render import table

        table.show(*rendered.answers(data, invocation.command))
        for away in data["away"]:
            invocation.say(_away(invocation, away), error=True)
    return DONE


async def _fetch(invocation: Invocation, wanted: str, most: int) -> dict[str, Any]:
    """Return what the agents that run have recorded.

    Raises:
        OrderFailed: No agent runs, or none has recorded such a message.
    """
    async with connect(invocation.home) as client:
        agents = client.directory.of_type(AGENT)
        if not agents:
            raise OrderFailed(
                "no_such_service", f"there is no agent here: add [plugins.{AGENT}] to the config"
            )
        away = [
            {"agent": one.name, "state": one.state.value, "reason": one.reason}
            for one in agents
            if one.state is not State.RUNNING
        ]
        running = [one for one in agents if one.state is State.RUNNING]
        if not running:
            raise OrderFailed("failed", "; ".join(_away(invocation, one) for one in away))
        found = await asyncio.gather(*(_answers_of(client, one, wanted, most) for one in running))
    data = _merge(found, most) | {"away": away}
    if wanted and not data["answers"] and not data["details"]:
        raise OrderFailed("no_such_message", _not_found(invocation, wanted, away))
    return data


async def _answers_of(client: Client, agent: Entry, wanted: str, most: int) -> dict[str, Any]:
    if not any(method.name == METHOD for method in agent.manifest.methods):
        raise OrderFailed(
            "failed",
            f"{agent.name} keeps no record: it is of another plugin, or runs an older version of "
            f"garrison (then: garrison restart {agent.name})",
        )
    proxy: Any = client.get_service(agent.name)
    found: dict[str, Any] = await proxy.answers(wanted, most)
    return {
        key: [{"agent": agent.name, **row} for row in found[key]] for key in ("answers", "details")
    }


def _merge(found: list[dict[str, Any]], most: int) -> dict[str, Any]:
    """Return the answers of several agents, the newest first."""
    answers = [row for one in found for row in one["answers"]]
    answers.sort(key=lambda row: -row["heard_at"])
    return {"answers": answers[:most], "details": [row for one in found for row in one["details"]]}


def _away(invocation: Invocation, away: dict[str, Any]) -> str:
    """Return a sentence about an agent that cannot be queried."""
    name, state, reason = away["agent"], away["state"], away["reason"]
    do = "start" if state in {"stopped", "registered"} else "status"
    why = f" ({reason})" if reason else ""
    command = invocation.command(f"{do} {name}")
    return f"{name} is {state}{why}: what it has recorded can be read while it runs; see: {command}"


def _not_found(invocation: Invocation, wanted: str, away: list[dict[str, Any]]) -> str:
    text = f"no agent has recorded {wanted}; {invocation.command('answer')} lists the latest"
    return "; ".join([text, *(_away(invocation, one) for one in away)])

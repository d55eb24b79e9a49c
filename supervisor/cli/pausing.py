"""The verbs pause and resume: a service runs, and takes nothing for a while."""

import asyncio
import contextlib
import shlex
from dataclasses import asdict, dataclass
from typing import Any

import click

from garrison.ipc import connect
from garrison.ipc.errors import GarrisonError
from garrison.ipc.messages import State
from garrison.supervisor.cli.render.text import counted, span

from .client import request
from .completion import complete_names
from .errors import DONE
from .output import Invocation, options
from .services import WAIT_S

MAILBOX, AGENT = "mailbox", "agent"  # service types
ANSWER_WITHIN_S = 900.0  # of an agent whose config does not say
LISTED = 1000  # messages of one receiver that are looked at, the oldest
MAIL_S = 5.0  # for the mailbox to list them

_names = click.argument("names", nargs=-1, metavar="NAME…", shell_complete=complete_names)
_all = click.option("--all", "everything", is_flag=True, help="All services.")
_why = click.option("--why", default="", metavar="TEXT", help="Why; the events show it.")


@click.command(epilog="Examples: garrison pause discord; garrison pause --all --why repair")
@_names
@_all
@_why
@options
def pause(invocation: Invocation, names: tuple[str, ...], everything: bool, why: str) -> int:
    """Have services take nothing, until `garrison resume`.

    They stay connected and finish what they are doing. Calls and messages to them wait, and their
    schedules stop, also after a restart of the service or the host. With `when_paused = "refuse"`
    calls fail at once.
    """
    data = request(invocation.home, "pause", _chosen(names, everything), WAIT_S, why=why)
    invocation.answer(data)
    several = len(data["services"]) > 1
    for name, row in data["services"].items():
        state = "" if row["state"] == State.RUNNING.value else f"; it is {row['state']}"
        undo = "" if several else f"; to go on: {invocation.command(f'resume {name}')}"
        invocation.say(f"{name} is paused{state}{undo}")
    if several:
        given = "--all" if everything else " ".join(map(shlex.quote, names))
        invocation.say(f"to go on: {invocation.command(f'resume {given}')}")
    return DONE


@click.command(epilog="Examples: garrison resume discord; garrison resume --all")
@_names
@_all
@_why
@options
def resume(invocation: Invocation, names: tuple[str, ...], everything: bool, why: str) -> int:
    """Have paused services take calls and messages again.

    Says what has waited, and how many messages are too old for the agent to answer.
    """
    chosen = _chosen(names, everything)
    waiting = _waiting(invocation, chosen)
    data = request(invocation.home, "resume", chosen, WAIT_S, why=why)
    resumed = data["resumed"]
    held = {name: one for name, one in waiting.items() if name in resumed}
    invocation.answer({**data, "waiting": {name: asdict(one) for name, one in held.items()}})
    for name, row in data["services"].items():
        if name not in resumed:
            if not everything:
                invocation.say(f"{name} was not paused{_how_to_start(invocation, name, row)}")
            continue
        invocation.say(f"{name} takes calls again{_how_to_start(invocation, name, row)}")
        if name in held:
            invocation.say(f"  {held[name].words()}")
    if everything and not resumed:
        invocation.say("no service was paused")
    return DONE


def _chosen(names: tuple[str, ...], everything: bool) -> tuple[str, ...]:
    """Return the NAMEs of an order; none stands for all."""
    if bool(names) == everything:
        raise click.UsageError("name the services, or use --all")
    return names


def _how_to_start(invocation: Invocation, name: str, row: dict[str, Any]) -> str:
    if row["state"] != State.STOPPED.value:
        return ""
    return f"; it is stopped: {invocation.command(f'start {name}')}"


@dataclass(frozen=True, slots=True)
class Waiting:
    """What has waited for a service that is resumed.

    Attributes:
        messages: How many.
        too_old: How many of them its agent will not answer; None: only the age of the oldest is
            known.
        oldest_s: The age of the oldest.
        answer_within: The agent's limit, in seconds; 0: it answers however old.
    """

    messages: int
    too_old: int | None
    oldest_s: float
    answer_within: float

    def words(self) -> str:
        """Return it as a sentence."""
        text = f"{counted(self.messages, 'message')} waited, the oldest for {span(self.oldest_s)}"
        limit = f"older than answer_within = {self.answer_within:g} s"
        if self.too_old:
            return f"{text}; {self.too_old} of them {limit}: they get no answer"
        if self.too_old is None and 0 < self.answer_within < self.oldest_s:
            return f"{text}; those {limit} get no answer"
        return text


def _waiting(invocation: Invocation, names: tuple[str, ...]) -> dict[str, Waiting]:
    """Return what waits for the services that are about to be resumed, by NAME."""
    rows = request(invocation.home, "status", names or ("*",))["services"]
    paused = [row for row in rows if row.get("paused")]
    if not paused:
        return {}
    agents = request(invocation.home, "status", ("*",))["services"]
    limits = {row["agent"]: _limit(row) for row in agents if row["service_type"] == AGENT}
    found = {row["name"]: _received(row, limits) for row in paused if row.get("link")}
    receivers = [row for row in paused if not row.get("link")]
    mail = asyncio.run(_mail(invocation, [row["name"] for row in receivers])) if receivers else {}
    for row in receivers:
        limit = _limit(row) if row["service_type"] == AGENT else 0.0
        found[row["name"]] = _posted(mail.get(row["name"], []), limit)
    return {name: one for name, one in found.items() if one.messages}


def _limit(row: dict[str, Any]) -> float:
    """Return how old a message may be that an agent answers, in seconds; 0: however old."""
    config = (row.get("started_with") or {}).get("config") or {}
    limit = config.get("answer_within", ANSWER_WITHIN_S)
    return float(limit) if isinstance(limit, int | float) else ANSWER_WITHIN_S


def _received(row: dict[str, Any], limits: dict[Any, float]) -> Waiting:
    """Return what a platform has received and not handed over, as its last heartbeat says."""
    limit = limits.get(row["agent"], limits.get(None, 0.0))
    facts = row["facts"]
    return Waiting(int(facts.get("waiting", 0)), None, facts.get("oldest_s", 0.0), limit)


def _posted(ages: list[float], limit: float) -> Waiting:
    too_old = sum(age > limit for age in ages) if limit else 0
    return Waiting(len(ages), too_old, max(ages, default=0.0), limit)


async def _mail(invocation: Invocation, names: list[str]) -> dict[str, list[float]]:
    """Return the ages of the messages that wait in the mailboxes, by receiver."""
    ages: dict[str, list[float]] = {}
    with contextlib.suppress(GarrisonError, TimeoutError):  # what waits is only shown
        async with connect(invocation.home) as client, asyncio.timeout(MAIL_S):
            for mailbox in client.get_services_by_type(MAILBOX):
                for name in names:
                    listed = await mailbox.ls(name, LISTED)
                    waiting = [one for one in listed["letters"] if one["state"] == "waiting"]
                    ages.setdefault(name, []).extend(one["age_s"] for one in waiting)
    return ages

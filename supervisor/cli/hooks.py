"""The verbs about hooks: hooks, hooks test."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from datetime import UTC, datetime
from functools import partial
from typing import Any

import click

from garrison.ipc import OrderFailed, RemoteError, connect
from garrison.supervisor.cli.render.text import span
from garrison.supervisor.config.hook_spec import HookOn

from .errors import DONE, FAILED
from .output import Invocation, options
from .verbs import VerbGroup

HOOKS = "hooks"
KINDS = [one.value for one in HookOn]
NONE = "no hooks: write [hooks.NAME] in the config, then garrison apply; see garrison docs hooks"


@click.group(
    cls=VerbGroup,
    invoke_without_command=True,
    epilog="Examples: garrison hooks; garrison hooks test page --on failed",
)
@options
def hooks(invocation: Invocation) -> int:
    """Show hooks with their last delivery, or test one.

    A hook notifies a command, a webhook or a service of what happens.
    """
    if click.get_current_context().invoked_subcommand is not None:
        return DONE
    data = _query(invocation, lambda service: service.ls(), lists=True)
    invocation.answer(data)
    if not invocation.json:
        from .render import table  # rich is slow to import

        table.show(*_list(data["hooks"]))
    return DONE


@hooks.command(epilog="Examples: garrison hooks test; garrison hooks test page --on death")
@click.argument("name", required=False, metavar="[NAME]")
@click.option("--on", type=click.Choice(KINDS), help="What the sample is of.")
@options
def test(invocation: Invocation, name: str | None, on: str | None) -> int:
    """Deliver a sample now. Exits with 1 if it fails.

    Without NAME, by every hook, one after the other. It is not tried again, and counts nowhere.
    """
    listed = _query(invocation, lambda service: service.ls())["hooks"]
    names = [one["name"] for one in listed if name in {None, one["name"]}]
    if not names:
        known = ", ".join(one["name"] for one in listed)
        raise OrderFailed("failed", f"no hook {name}; there are: {known}" if known else NONE)
    outcomes = []
    for each in names:
        outcome = _query(invocation, partial(_test, each, on or ""))
        outcomes.append(outcome)
        invocation.say(_outcome(outcome))
    invocation.answer({"hooks": outcomes})
    return DONE if all(one["ok"] for one in outcomes) else FAILED


def _query(
    invocation: Invocation, query: Callable[[Any], Awaitable[Any]], lists: bool = False
) -> Any:
    """Return the answer of the hooks service.

    Args:
        invocation: The command line.
        query: Calls the service.
        lists: Without hooks, the answer is an empty list, and no error.

    Raises:
        OrderFailed: There are no hooks.
    """

    async def answer() -> Any:
        async with connect(invocation.home) as client:
            service = client.get_service(HOOKS)
            if service is None:
                if lists:
                    return {"hooks": []}
                raise OrderFailed("failed", NONE)
            try:
                return await query(service)
            except RemoteError as error:
                raise OrderFailed("failed", error.detail.partition(": ")[2]) from error

    return asyncio.run(answer())


def _test(name: str, on: str, service: Any) -> Awaitable[Any]:
    return service.test(name, on)  # type: ignore[no-any-return]


def _outcome(one: dict[str, Any]) -> str:
    took = f"after {one['took_s']:.2f} s"
    if not one["ok"]:
        return f"{one['hook']}: not delivered {took}: {one['problem']}"
    result = f": {one['result']}" if one["result"] else ""
    return f"{one['hook']}: delivered by {one['way']} {took}{result}"


def _list(rows: list[dict[str, Any]]) -> Iterable[Any]:
    from .render import table

    if not rows:
        yield NONE
        return
    yield table.table(("HOOK", "ON", "BY", "DELIVERED", "LAST", "WAITING"), map(_row, rows))
    for one in rows:
        if one["problem"]:
            yield f"{one['name']} ! {one['problem']}"
        if one["failed"]:
            yield f"{one['name']} ! given up: {one['failed']:,}"


def _row(one: dict[str, Any]) -> tuple[str, ...]:
    waiting = one["waiting"] + one["held"]
    return (
        one["name"],
        ", ".join(one["on"]),
        one["way"],
        str(one["delivered"]),
        _last(one),
        str(waiting) if waiting else "-",
    )


def _last(one: dict[str, Any]) -> str:
    """Return the last delivery: of what, and how long ago."""
    if not one["last_at"]:
        return "-"
    passed = datetime.now(UTC) - datetime.fromisoformat(one["last_at"])
    about = " ".join(filter(None, (one["last_on"], one["last_service"])))
    return f"{about}, {span(max(passed.total_seconds(), 0.0))} ago"

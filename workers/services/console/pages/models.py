"""Models: who serves which kind, who is passed over and until when, usage, budgets."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Any

from starlette.responses import HTMLResponse, Response

from garrison.ipc import CallError, Entry, State

from ..call_all import CALL_S, has_method, services_of
from ..model_rows import agent, kinds, provider
from ..visit import Visit
from .page import Page

AGENT = "agent"


async def show(visit: Visit) -> Response:
    """Return the page; its part alone where htmx asks again."""
    entries = list(visit.runtime.client.directory)
    offering = [entry for entry in entries if entry.manifest.models]
    agents = services_of(visit, AGENT, "models")
    counting = [entry for entry in entries if has_method(entry, "usage_by_day")]
    answers = await asyncio.gather(
        *(_call(visit, entry, "models") for entry in agents),
        *(_call(visit, entry, "usage_by_day") for entry in counting),
    )
    seen: dict[str, Sequence[Mapping[str, Any]]] = {
        entry.name: rows
        for entry, rows in zip(agents, answers[: len(agents)], strict=True)
        if rows is not None
    }
    days = {
        entry.name: rows
        for entry, rows in zip(counting, answers[len(agents) :], strict=True)
        if rows is not None
    }
    now, services = time.time(), visit.picture.services
    listed = {entry.name for entry in [*offering, *counting]}
    values: dict[str, Any] = {
        "kinds": kinds(seen or {"": _offers(offering)}, now),
        "several": len(seen) > 1,
        "providers": [
            provider(services[entry.name], _types(entry), days.get(entry.name))
            for entry in entries
            if entry.name in listed and entry.name in services
        ],
        "agents": [
            row
            for entry in services_of(visit, AGENT)
            if entry.name in services and (row := agent(services[entry.name])) is not None
        ],
        "now": now,
    }
    if visit.part:
        return HTMLResponse(visit.rendered("models.html", "figures", **values))
    return visit.render("models.html", **values)


def _types(entry: Entry) -> list[str]:
    return list(dict.fromkeys(info.model_type for info in entry.manifest.models))


def _offers(entries: list[Entry]) -> list[Mapping[str, Any]]:
    """Return the providers as the directory has them, where no agent says whom it passes over."""
    return [
        {
            "model_type": info.model_type,
            "service": entry.name,
            "priority": info.priority,
            "stream": info.stream,
            "tools": info.tools,
            "running": entry.state is State.RUNNING,
        }
        for entry in entries
        for info in entry.manifest.models
    ]


async def _call(visit: Visit, entry: Entry, method: str) -> list[dict[str, Any]] | None:
    """Return what a service answers; None if it does not run or fails: its row says why."""
    if entry.state is not State.RUNNING:
        return None
    try:
        rows: list[dict[str, Any]] = await visit.call(entry.name, method, timeout=CALL_S)
    except CallError as error:
        visit.runtime.logger.info("console.not_answered service=%s error=%s", entry.name, error)
        return None
    return rows


PAGES = (Page("/models", show, "Models"),)

"""Which tools of servers are offered, and as which actions. Pure."""

import hashlib
import re
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any

import msgspec

NAME_MOST = 64  # characters of an action's name: what models' servers take as a tool's
DESCRIPTION_MOST = 1024  # characters
SCHEMA_MOST = 32 * 1024  # bytes of one tool's schema
ACTIONS_MOST = 160 * 1024  # bytes of all actions: a service's manifest may have 256 KiB
TAKEN = frozenset({"reply", "ignore", "none"})  # the agent's own


class ToolInfo(msgspec.Struct, frozen=True, omit_defaults=True):
    """One tool of a server."""

    server: str
    name: str
    description: str = ""
    parameters: dict[str, Any] = {}  # JSON Schema of its arguments, an object
    action: str = ""  # the agent's action that calls it; empty: it is not offered
    withheld: str = ""  # why it is not offered, and cannot be called
    read_only: bool = False  # it changes nothing
    idempotent: bool = False  # it may run twice
    destructive: bool = False  # it may destroy what is there


def tool_of(server: str, raw: Mapping[str, Any]) -> ToolInfo:
    """Return a tool as its server lists it; `withheld` says why it cannot be offered."""
    hints = raw.get("annotations") or {}
    schema = dict(raw.get("inputSchema") or {})
    withheld = ""
    if schema.setdefault("type", "object") != "object":
        withheld, schema = "its input schema is not that of an object", {}
    elif len(msgspec.json.encode(schema)) > SCHEMA_MOST:
        withheld, schema = f"its input schema has more than {SCHEMA_MOST:,} bytes", {}
    read_only = hints.get("readOnlyHint") is True
    text = raw.get("description") or raw.get("title") or hints.get("title") or ""
    return ToolInfo(
        server,
        str(raw["name"]),
        str(text)[:DESCRIPTION_MOST],
        schema,
        withheld=withheld,
        read_only=read_only,
        idempotent=read_only or hints.get("idempotentHint") is True,
        destructive=hints.get("destructiveHint") is True and not read_only,
    )


def withheld(tool: ToolInfo, allow: list[str], deny: list[str]) -> str:
    """Return why a tool is not offered; empty if it is."""
    if tool.withheld:
        return tool.withheld
    if any(fnmatchcase(tool.name, pattern) for pattern in deny):
        return "`deny` names it"
    if any(fnmatchcase(tool.name, pattern) for pattern in allow):
        return ""
    if allow:
        return "`allow` does not name it"
    if tool.destructive:
        return "it may destroy data, and `allow` does not name it"
    return ""


def with_actions(tools: Iterable[ToolInfo]) -> list[ToolInfo]:
    """Return tools with the names of their actions: each different, also to the agent, which
    ignores case and underscores. Those that no longer fit are withheld."""
    found: list[ToolInfo] = []
    taken, size = set(TAKEN), 0
    for tool in tools:
        if tool.withheld:
            found.append(tool)
            continue
        size += len(tool.description.encode()) + len(msgspec.json.encode(tool.parameters)) + 200
        if size > ACTIONS_MOST:
            why = f"the tools before it have {ACTIONS_MOST:,} bytes: choose with `allow`"
            found.append(msgspec.structs.replace(tool, withheld=why))
            continue
        name = _free_name(tool, taken)
        taken.add(_key(name))
        found.append(msgspec.structs.replace(tool, action=name))
    return found


def action_name(server: str, name: str) -> str:
    """Return the name of an action: NAME_TOOL, in upper case."""
    made = re.sub(r"[^A-Z0-9]+", "_", f"{server}_{name}".upper()).strip("_")
    if len(made) <= NAME_MOST:
        return made
    mark = hashlib.sha256(name.encode()).hexdigest()[:8].upper()
    return f"{made[: NAME_MOST - 9]}_{mark}"


def _free_name(tool: ToolInfo, taken: set[str]) -> str:
    name = plain = action_name(tool.server, tool.name)
    number = 1
    while _key(name) in taken:
        number += 1
        name = f"{plain[: NAME_MOST - 5]}_{number}"
    return name


def _key(name: str) -> str:
    return name.replace("_", "").casefold()

"""Which parts of a config come from the file, and which from the accepted config (pure).

A unit is the path of a table that is taken from one of the two as a whole: `host`, `engine`,
`defaults`, a plugin, an agent without its services, a service. A unit of the file that does not
fit is rejected; then the accepted config has the word. Where that does not have the unit, it is
left out.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from enum import Enum
from typing import Any, TypeAlias

import msgspec
from msgspec.structs import replace

Unit: TypeAlias = tuple[str, ...]

WHOLE: Unit = ()  # the file as a whole
HOST: Unit = ("host",)
ENGINE: Unit = ("engine",)
DEFAULTS: Unit = ("defaults",)
AGENT: Unit = ("agent",)


class Origin(Enum):
    """Where a unit comes from."""

    FILE = "file"
    ACCEPTED = "accepted"
    NONE = "none"  # it is left out


def unit_of(keys: Sequence[str | int]) -> Unit:
    """Return the unit that a key belongs to; the whole file if no smaller part has it."""
    match tuple(keys):
        case ("host" | "engine" | "defaults" | "agent" as table, *_):
            return (table,)
        case ("plugins" | "services" | "hooks" as table, str(name), *_):
            return table, name
        case ("agents", str(agent), "services", str(name), *_):
            return "agents", agent, "services", name
        case ("agents", str(), "services"):
            return WHOLE  # its services cannot be read, so none can be judged alone
        case ("agents", str(agent), *_):
            return "agents", agent
    return WHOLE


def service_of(unit: Unit) -> str:
    """Return the full NAME of the service that a unit is the section of; empty: it is none."""
    match unit:
        case ("services", name):
            return name
        case ("agents", agent, "services", name):
            return f"{agent}.{name}"
    return ""


def section_unit(name: str, agents: Collection[str]) -> Unit:
    """Return the unit of the section of a service.

    Args:
        name: The full NAME.
        agents: The NAMEs of the agents.
    """
    agent, _, short = name.partition(".")
    return ("agents", agent, "services", short) if short and agent in agents else ("services", name)


class Selection(msgspec.Struct, frozen=True):
    """The origin of each unit.

    Attributes:
        accepted: The units that the accepted config has, those of its services whether it has a
            section for them or not; None: there is no accepted config.
        rejected: The units of the file that do not fit.
    """

    accepted: frozenset[Unit] | None = None
    rejected: frozenset[Unit] = frozenset()

    @property
    def whole(self) -> bool:
        """Return True if nothing of the file is used."""
        return WHOLE in self.rejected

    def origin(self, unit: Unit) -> Origin:
        """Return where a unit comes from."""
        accepted = self.accepted or frozenset()
        if not self.whole and unit not in self.rejected:
            return Origin.FILE
        return Origin.ACCEPTED if unit in accepted else Origin.NONE

    def without(self, unit: Unit) -> "Selection | None":
        """Return the selection after a unit of the file was rejected.

        A problem that stays although the unit was replaced lies in how the two fit together: then
        the accepted config is used as a whole. None: there is nothing left to use.
        """
        if self.accepted is None or self.whole:
            return None
        return replace(self, rejected=self.rejected | {WHOLE if unit in self.rejected else unit})

    def held(self) -> list[str]:
        """Return the NAMEs of the services that are left out."""
        units = [] if self.whole else sorted(self.rejected)
        return [
            name
            for unit in units
            if (name := service_of(unit)) and self.origin(unit) is Origin.NONE
        ]


def pick(tables: Mapping[str, Any], units: Iterable[Unit]) -> dict[str, Any]:
    """Return those units of a file's tables that it has."""
    picked = dict[str, Any]()
    for unit in units:
        value: Any = tables
        for key in unit:
            value = value.get(key) if isinstance(value, dict) else None
        if value is None:
            continue
        if unit[0] == "agents" and len(unit) == 2 and isinstance(value, dict):
            value = {key: part for key, part in value.items() if key != "services"}
        place = picked
        for key in unit[:-1]:
            place = place.setdefault(key, {})
        if isinstance(value, dict) and isinstance(former := place.get(unit[-1]), dict):
            value = {**value, **former}  # services of an agent that were picked before it
        place[unit[-1]] = value
    return picked


def omit(tables: Mapping[str, Any], units: Collection[Unit]) -> dict[str, Any]:
    """Return a file's tables without some units; an agent's services are units of their own."""
    kept = dict[str, Any]()
    for key, value in tables.items():
        if (key,) in units:
            continue
        if key in {"plugins", "services", "hooks"} and isinstance(value, dict):
            kept[key] = {name: part for name, part in value.items() if (key, name) not in units}
        elif key == "agents" and isinstance(value, dict):
            kept[key] = {name: _omit_of_agent(name, part, units) for name, part in value.items()}
        else:
            kept[key] = value
    return kept


def _omit_of_agent(name: str, agent: Any, units: Collection[Unit]) -> Any:
    if ("agents", name) in units:
        services = agent.get("services", {}) if isinstance(agent, dict) else {}
        agent = {"services": services}
    if not isinstance(agent, dict) or not isinstance(services := agent.get("services"), dict):
        return agent
    path = ("agents", name, "services")
    own = {short: part for short, part in services.items() if (*path, short) not in units}
    return {**agent, "services": own}

"""Calls every service of a type, as `garrison mail` and its like do. Durations are seconds."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from garrison.ipc import CallError, Entry, OrderFailed, RemoteError, State

from .visit import Visit

CALL_S = 8.0


@dataclass(frozen=True, slots=True)
class Answers:
    """What the services of one type answered.

    Attributes:
        results: By NAME, of those that did.
        away: By NAME, why one did not.
        unknown: Sentences of those that do not have what is wanted.
    """

    results: Mapping[str, Any] = field(default_factory=dict)
    away: Mapping[str, str] = field(default_factory=dict)
    unknown: tuple[str, ...] = ()

    @property
    def one(self) -> Any:
        """Return the first result.

        Raises:
            OrderFailed: There is none.
        """
        if self.results:
            return next(iter(self.results.values()))
        if self.unknown:
            # of several services, the one that has it knows most
            known = [one for one in self.unknown if not one.startswith("no ")]
            raise OrderFailed("not_found", (known or list(self.unknown))[0])
        raise OrderFailed("failed", "; ".join(self.away.values()) or "no service answered")


def services_of(visit: Visit, service_type: str, method: str = "") -> list[Entry]:
    """Return the services of a type, or those of them with a method, in config order."""
    found = visit.runtime.client.directory.of_type(service_type)
    return [entry for entry in found if not method or has_method(entry, method)]


def has_method(entry: Entry, method: str) -> bool:
    """Return whether a service has a method; one that has never run lists none."""
    return any(info.name == method for info in entry.manifest.methods)


async def call_all(visit: Visit, service_type: str, method: str, *args: Any) -> Answers:
    """Call a method of every service of a type.

    Raises:
        OrderFailed: There is no such service.
    """
    entries = services_of(visit, service_type)
    if not entries:
        raise OrderFailed(
            "no_such_service",
            f"there is no service of type {service_type} here: "
            f"add [plugins.{service_type}] to config.toml",
        )
    results, away, unknown = dict[str, Any](), dict[str, str](), list[str]()

    async def ask(entry: Entry) -> None:
        if entry.state is not State.RUNNING:
            reason = f" ({entry.reason})" if entry.reason else ""
            away[entry.name] = f"{entry.name} is {entry.state.value}{reason}"
            return
        try:
            results[entry.name] = await visit.call(entry.name, method, *args, timeout=CALL_S)
        except RemoteError as error:
            if error.type_name != "LookupError":
                away[entry.name] = str(error)
            else:
                unknown.append(error.detail.partition(": ")[2])
        except CallError as error:
            away[entry.name] = str(error)

    await asyncio.gather(*map(ask, entries))
    ordered = {entry.name: results[entry.name] for entry in entries if entry.name in results}
    return Answers(ordered, away, tuple(unknown))

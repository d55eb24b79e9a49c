"""The directory of services, as the supervisor sent it. Pure.

A service of an agent finds that agent's services first, then the shared ones; it finds another
agent's by full NAME alone. Shared services and programs find shared ones first, then all others.
"""

from collections.abc import Iterable, Iterator
from typing import Literal, TypeAlias, assert_never

from .messages import Changed, Delisted, Entry, Listed, State

# A call to a service in one of these states fails at once; in the others it waits.
AWAY = frozenset({State.REGISTERED, State.STOPPED, State.FAILED})


RegistrationStatus: TypeAlias = Literal[
    "unknown", "pending", "registering", "registered", "failed"
]  # elizaOS's words


def registration_status(entry: Entry | None) -> RegistrationStatus:
    """Return how far a service is, in elizaOS's words; None: it is not configured."""
    if entry is None:
        return "unknown"
    match entry.state:
        case State.RUNNING:
            return "registered"
        case State.INITIALIZING | State.STARTING:
            return "registering"
        case State.FAILED:
            return "failed"
        case State.REGISTERED | State.QUEUED | State.BACKOFF | State.STOPPING | State.STOPPED:
            return "pending"
        case _:
            assert_never(entry.state)


def accepts_calls(state: State, wanted: bool) -> bool:
    """Return True if a call to a service in this state may wait for it."""
    return state not in AWAY and (wanted or state is State.RUNNING)


def _has_token(entry: Entry, token: bytes) -> bool:
    return token in (entry.token, entry.paused.token if entry.paused is not None else b"")


class Directory:
    """All services by NAME, in config order."""

    def __init__(self, entries: Iterable[Entry] = ()) -> None:
        self._entries: dict[str, Entry] = {}
        self.replace(entries)

    def replace(self, entries: Iterable[Entry]) -> None:
        """Replace the whole directory."""
        ordered = sorted(entries, key=lambda entry: entry.position)
        self._entries = {entry.name: entry for entry in ordered}

    def apply(self, change: Listed | Delisted | Changed) -> Entry | None:
        """Apply one change; return its entry, as it is now or was last.

        A change of a service that is not in the directory is none: the service has been removed
        meanwhile, or the directory that has it is on its way.
        """
        match change:
            case Listed(entry):
                self.replace([*(e for e in self if e.name != entry.name), entry])
                return entry
            case Delisted(name):
                return self._entries.pop(name, None)
            case Changed(name, state, wanted, generation, token, reason, paused):
                if (old := self._entries.get(name)) is None:
                    return None
                entry = Entry(
                    old.name,
                    old.plugin,
                    old.position,
                    old.manifest,
                    state,
                    wanted,
                    generation,
                    token,
                    old.events,
                    old.agent,
                    reason,
                    old.former,
                    paused,
                )
                self._entries[name] = entry
                return entry
            case _:
                assert_never(change)

    def current_name(self, name: str) -> str:
        """Return the NAME that a service of this NAME, or formerly of it, has now.

        One that no service has or had is returned as it is.
        """
        if name not in self._entries:
            for entry in self:
                if name in entry.former:
                    return entry.name
        return name

    def find(self, wanted: str, agent: str = "") -> Entry | None:
        """Return the service of that NAME, else the first wanted of that service_type.

        For an agent its own services come first, and their NAMEs need no prefix.
        """
        if not agent:
            entry = self._entries.get(wanted)
            return entry if entry is not None else self.first_of(wanted)
        own = self._entries.get(f"{agent}.{wanted}")
        if own is not None and own.agent == agent:
            return own
        first = self.first_of(wanted, agent)
        if first is not None and first.agent == agent:
            return first
        return self._entries.get(wanted, first)

    def find_source(self, source: str, agent: str = "") -> Entry | None:
        """Return the service that a message's source names.

        It is what `find` returns, unless the source is the whole NAME of a platform: an agent's own
        service of that NAME or type is another account than the shared platform.
        """
        entry = self._entries.get(source)
        if entry is not None and entry.manifest.platform and entry.agent in {"", agent}:
            return entry
        return self.find(source, agent)

    def first_of(self, service_type: str, agent: str = "") -> Entry | None:
        """Return the first wanted service of a type, in config order; else the first of them."""
        of_type = self.of_type(service_type, agent)
        return next((entry for entry in of_type if entry.wanted), of_type[0] if of_type else None)

    def of_type(self, service_type: str, agent: str = "") -> list[Entry]:
        """Return the services of a type, in config order."""
        entries = self.visible_to(agent)
        return [entry for entry in entries if entry.manifest.service_type == service_type]

    def subscribers(self, event: str, agent: str = "") -> list[Entry]:
        """Return the services that subscribed to an event."""
        return [entry for entry in self.visible_to(agent) if event in entry.events]

    def types(self, agent: str = "") -> list[str]:
        """Return each service_type once, in config order."""
        return list(dict.fromkeys(entry.manifest.service_type for entry in self.visible_to(agent)))

    def visible_to(self, agent: str) -> list[Entry]:
        """Return the services that an agent can find, its own first; without an agent, all."""
        return self.of_agent(agent) if agent else sorted(self, key=lambda entry: entry.agent != "")

    def of_agent(self, agent: str) -> list[Entry]:
        """Return an agent's own services, then the shared ones."""
        ours = (entry for entry in self if entry.agent in {agent, ""})
        return sorted(ours, key=lambda entry: entry.agent != agent)

    def get(self, name: str) -> Entry | None:
        """Return the service of that NAME."""
        return self._entries.get(name)

    def of_token(self, token: bytes) -> Entry | None:
        """Return the service whose running incarnation has this token."""
        if not token:
            return None
        return next((one for one in self._entries.values() if _has_token(one, token)), None)

    def __contains__(self, name: str) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._entries.values())

    def __len__(self) -> int:
        return len(self._entries)

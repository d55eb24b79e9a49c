"""Which services there are and where, as the supervisor last told it. Pure: no socket, no task."""

from collections.abc import Iterable, Iterator

from .errors import WireError
from .messages import Changed, Delisted, Entry, Listed, State

# A call to a service in one of these ends at once; in the others it waits for its deadline.
AWAY = frozenset({State.REGISTERED, State.STOPPED, State.FAILED})


def takes_calls(state: State, wanted: bool) -> bool:
    """Tell whether a call to such a service is worth waiting with."""
    return state not in AWAY and (wanted or state is State.RUNNING)


class Directory:
    """Every service by NAME, in config order."""

    def __init__(self, entries: Iterable[Entry] = ()) -> None:
        self._entries: dict[str, Entry] = {}
        self.replace(entries)

    def replace(self, entries: Iterable[Entry]) -> None:
        """Take a whole directory in place of the old one."""
        ordered = sorted(entries, key=lambda entry: entry.position)
        self._entries = {entry.name: entry for entry in ordered}

    def apply(self, change: Listed | Delisted | Changed) -> Entry:
        """Take one change; return the entry that it is about, as it is now or last was."""
        match change:
            case Listed(entry):
                self.replace([*(e for e in self if e.name != entry.name), entry])
                return entry
            case Delisted(name) if name in self._entries:
                return self._entries.pop(name)
            case Changed(name, state, wanted, generation, token) if name in self._entries:
                old = self._entries[name]
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
                )
                self._entries[name] = entry
                return entry
        raise WireError(f"a change of a service that is not in the directory: {change!r:.100}")

    def find(self, wanted: str) -> Entry | None:
        """Return the service of that NAME, else the first wanted of that service_type."""
        entry = self._entries.get(wanted)
        return entry if entry is not None else self.first_of(wanted)

    def first_of(self, service_type: str) -> Entry | None:
        """Return the first wanted service of a type, in config order; else the first of them."""
        of_type = self.of_type(service_type)
        return next((entry for entry in of_type if entry.wanted), of_type[0] if of_type else None)

    def of_type(self, service_type: str) -> list[Entry]:
        """Return the services of a type, in config order."""
        return [entry for entry in self if entry.manifest.service_type == service_type]

    def listening(self, event: str) -> list[Entry]:
        """Return the services that subscribed to an event."""
        return [entry for entry in self if event in entry.events]

    def types(self) -> list[str]:
        """Return each service_type once, in config order."""
        return list(dict.fromkeys(entry.manifest.service_type for entry in self))

    def get(self, name: str) -> Entry | None:
        """Return the service of that NAME."""
        return self._entries.get(name)

    def __contains__(self, name: str) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._entries.values())

    def __len__(self) -> int:
        return len(self._entries)

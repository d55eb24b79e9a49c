"""Which services keep something of persons, in which order they are called, and what is out of
reach. Pure."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from garrison.ipc.messages import Entry, State

FORGET, EXPORT = "forget_person", "export_person"
FIRST = ("mailbox", "agent")  # types: nothing of the person is delivered or answered after them
REACHABLE = frozenset({State.RUNNING, State.STARTING, State.INITIALIZING, State.QUEUED})
KEPT_FILES = ("*.damaged-*", "*.v1*", "*.newer*")  # in the data folders of services

BEYOND = (
    "logs and events: logs/ in the home, until they are rotated",
    "backups and copies of the home: restore one only with the present forgotten.json in the home",
    "what the platform itself keeps, and what models' providers keep",
    "what other people, and answers to them, have said about this person",
)


class Person(NamedTuple):
    """Who is meant."""

    source: str  # NAME of a platform's service, or its type
    id: str  # on the platform

    @classmethod
    def parse(cls, text: str) -> "Person":
        """Return the person of `SOURCE:ID`.

        Raises:
            ValueError: It has another form.
        """
        source, colon, person = text.partition(":")
        if not (source and colon and person):
            raise ValueError(
                f"{text!r} is not SOURCE:ID: write the platform's NAME, a colon, and the person's "
                "id there, for example discord:1122334455"
            )
        return cls(source, person)


class Away(NamedTuple):
    """A service that was not reached."""

    service: str
    why: str


def sources_of(entries: Iterable[Entry], source: str) -> tuple[str, ...]:
    """Return the NAMEs that a source stands for: itself, or the services of that type.

    Args:
        entries: The directory.
        source: A NAME or a type; of a platform that was removed, its former NAME.
    """
    entries = list(entries)
    if any(entry.name == source for entry in entries):
        return (source,)
    found = [entry.name for entry in entries if entry.manifest.service_type == source]
    return tuple(found) or (source,)


def with_method(entries: Iterable[Entry], method: str) -> tuple[list[Entry], list[Away]]:
    """Return the services that have a method, in the order in which they are called; and those that
    do not run."""
    found = [one for one in entries if any(own.name == method for own in one.manifest.methods)]
    called = [one for one in found if one.state in REACHABLE]
    called.sort(key=lambda one: (_place(one.manifest.service_type), one.position))
    away = [Away(one.name, _state(one)) for one in found if one.state not in REACHABLE]
    return called, away


def _place(service_type: str) -> int:
    return FIRST.index(service_type) if service_type in FIRST else len(FIRST)


def _state(entry: Entry) -> str:
    reason = f" ({entry.reason})" if entry.reason else ""
    return f"it is {entry.state.value}{reason}"


def beyond(without: Sequence[str], files: Sequence[str]) -> list[str]:
    """Return what no service reaches, a sentence each.

    Args:
        without: NAMEs of services that have no `forget_person`.
        files: Paths of files that were set aside, and are not searched.
    """
    lines = [*BEYOND]
    if files:
        lines.append(f"files that were set aside: {', '.join(files)}; delete them")
    if without:
        lines.append(
            f"what these services keep of their own, if they do: {', '.join(without)}; they have "
            f"no method {FORGET}"
        )
    return lines

"""Which services are asked about a person, and what cannot be reached."""

import pytest

from garrison.ipc.messages import Entry, Manifest, MethodInfo, State
from garrison.supervisor.cli.person_services import (
    EXPORT,
    FORGET,
    Away,
    Person,
    beyond,
    sources_of,
    with_method,
)


def entry(
    name: str,
    service_type: str,
    state: State = State.RUNNING,
    methods: tuple[str, ...] = (FORGET,),
    position: int = 0,
    reason: str = "",
) -> Entry:
    """Return a service of the directory."""
    manifest = Manifest(service_type, methods=tuple(MethodInfo(one) for one in methods))
    return Entry(name, "p", position, manifest, state, True, 1, b"t", reason=reason)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("discord:42", Person("discord", "42")),
        ("ada.discord:42", Person("ada.discord", "42")),
        ("matrix:@ada:example.org", Person("matrix", "@ada:example.org")),
    ],
)
def test_a_person_is_a_source_and_an_id(text: str, expected: Person) -> None:
    """An id may have colons."""
    assert Person.parse(text) == expected


@pytest.mark.parametrize("text", ["discord", "discord:", ":42", ""])
def test_other_forms_are_refused(text: str) -> None:
    """With an example."""
    with pytest.raises(ValueError, match="SOURCE:ID: write"):
        Person.parse(text)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("ada.discord", ("ada.discord",)),
        ("discord", ("ada.discord", "bo.discord")),
        ("telegram", ("telegram",)),  # a NAME comes before a type
        ("gone", ("gone",)),  # the platform was removed; its rows are still there
    ],
)
def test_a_source_is_a_name_or_a_type(source: str, expected: tuple[str, ...]) -> None:
    """A type stands for all services that have it."""
    entries = [
        entry("ada.discord", "discord"),
        entry("bo.discord", "discord"),
        entry("telegram", "telegram"),
        entry("second", "telegram"),
    ]
    assert sources_of(entries, source) == expected


def test_nothing_is_delivered_or_answered_after_its_store_was_cleaned() -> None:
    """The mailbox first, then agents, then what they write to; those that do not run are named."""
    entries = [
        entry("database", "database", position=0),
        entry("ada.agent", "agent", position=1),
        entry("discord", "discord", State.STOPPED, position=2, reason="stopped by order"),
        entry("bo.agent", "agent", position=3),
        entry("eliza", "eliza", methods=(), position=4),
        entry("mailbox", "mailbox", State.STARTING, position=5),
        entry("slack", "slack", State.BACKOFF, methods=(EXPORT, FORGET), position=6),
    ]
    asked, away = with_method(entries, FORGET)

    assert [one.name for one in asked] == ["mailbox", "ada.agent", "bo.agent", "database"]
    assert away == [
        Away("discord", "it is stopped (stopped by order)"),
        Away("slack", "it is backoff"),
    ]
    assert with_method(entries, EXPORT) == ([], [Away("slack", "it is backoff")])


def test_what_is_out_of_reach_is_named() -> None:
    """Always logs, backups and the platform; also files and services, where there are some."""
    plain = beyond([], [])
    more = beyond(["eliza"], ["state/services/agent/answers.db.damaged-1"])

    assert ["logs" in plain[0], "backups" in plain[1], "platform" in plain[2]] == [True] * 3
    assert more[: len(plain)] == plain
    assert "answers.db.damaged-1; delete them" in more[-2]
    assert "eliza; they have no method forget_person" in more[-1]

"""How a service is found: a NAME before a type, and of a type the first wanted one."""

import msgspec
import pytest

from garrison.ipc.directory import AWAY, Directory, accepts_calls, registration_status
from garrison.ipc.messages import Changed, Delisted, Entry, Listed, Manifest, State


def entry(
    name: str,
    service_type: str,
    position: int,
    wanted: bool = True,
    events: tuple[str, ...] = (),
    agent: str = "",
) -> Entry:
    """Return a running service."""
    manifest = Manifest(service_type)
    return Entry(name, "p", position, manifest, State.RUNNING, wanted, 1, b"g", events, agent)


def found(directory: Directory, wanted: str, agent: str = "") -> str | None:
    """Return the NAME of the service that is found."""
    entry = directory.find(wanted, agent)
    return entry.name if entry else None


def test_a_name_comes_before_a_type() -> None:
    """A service of that NAME is found, even if one of that type precedes it."""
    directory = Directory([entry("eu", "discord", 0), entry("discord", "chat", 1, wanted=False)])

    assert found(directory, "discord") == "discord"
    assert found(directory, "chat") == "discord"


def test_of_a_type_the_first_wanted_in_config_order_is_found() -> None:
    """The order is the config's, whatever the order in which entries arrived."""
    directory = Directory(
        [entry("c", "t", 2), entry("b", "t", 1), entry("a", "t", 0, wanted=False)]
    )

    assert found(directory, "t") == "b"
    assert [one.name for one in directory] == ["a", "b", "c"]


def test_of_a_type_without_a_wanted_service_the_first_is_found() -> None:
    """It is configured, so it is not None; its calls fail as stopped."""
    directory = Directory([entry("b", "t", 1, wanted=False), entry("a", "t", 0, wanted=False)])

    assert found(directory, "t") == "a"


def test_an_unknown_service_is_none() -> None:
    """Neither a NAME nor a type."""
    assert Directory([entry("a", "t", 0)]).find("x") is None


def test_a_new_entry_takes_its_place_in_config_order() -> None:
    """Listed adds an entry, or replaces the entry of that NAME."""
    directory = Directory([entry("b", "t", 1)])

    directory.apply(Listed(entry("a", "t", 0)))
    assert [one.name for one in directory] == ["a", "b"]
    directory.apply(Listed(entry("b", "other", 1)))
    assert [one.name for one in directory.of_type("other")] == ["b"]
    assert len(directory) == 2


def test_a_change_alters_the_state_and_nothing_else() -> None:
    """Manifest, position and subscriptions stay."""
    directory = Directory([entry("a", "t", 3, events=("greeted",))])

    after = directory.apply(Changed("a", State.BACKOFF, False, 7, b""))

    assert after == Entry("a", "p", 3, Manifest("t"), State.BACKOFF, False, 7, b"", ("greeted",))
    assert directory.get("a") == after


def test_a_delisted_entry_is_removed() -> None:
    """Its last entry is returned."""
    directory = Directory([entry("a", "t", 0)])

    last = directory.apply(Delisted("a"))
    assert last is not None
    assert last.name == "a"
    assert "a" not in directory
    assert directory.find("t") is None


@pytest.mark.parametrize("change", [Delisted("x"), Changed("x", State.RUNNING, True, 1, b"g")])
def test_a_change_of_an_unknown_service_is_none(change: Delisted | Changed) -> None:
    """It was removed meanwhile, or the directory that has it is on its way."""
    directory = Directory([entry("a", "t", 0)])

    assert directory.apply(change) is None
    assert [one.name for one in directory] == ["a"]


def test_a_whole_directory_replaces_the_old_one() -> None:
    """No entry of the old one stays."""
    directory = Directory([entry("a", "t", 0), entry("b", "t", 1)])

    directory.replace([entry("c", "u", 0)])

    assert [one.name for one in directory] == ["c"]


def test_types_and_subscribers_are_in_config_order() -> None:
    """Each type once."""
    directory = Directory(
        [
            entry("d", "u", 3, events=("greeted",)),
            entry("a", "t", 0, events=("greeted", "done")),
            entry("b", "u", 1),
            entry("c", "t", 2),
        ]
    )

    assert directory.types() == ["t", "u"]
    assert [one.name for one in directory.subscribers("greeted")] == ["a", "d"]
    assert directory.subscribers("nothing") == []


@pytest.mark.parametrize("state", list(State))
@pytest.mark.parametrize("wanted", [True, False])
def test_which_states_a_call_waits_in(state: State, wanted: bool) -> None:
    """In registered, stopped and failed it fails at once; in others only if not wanted."""
    waits = state is State.RUNNING or (wanted and state not in AWAY)

    assert {State.REGISTERED, State.STOPPED, State.FAILED} == AWAY
    assert accepts_calls(state, wanted) is waits


AGENTS = [
    entry("chat", "chat", 0, events=("greeted",)),
    entry("store", "database", 1),
    entry("ada.chat", "chat", 2, agent="ada", events=("greeted",)),
    entry("ada.bot", "discord", 3, agent="ada"),
    entry("ada.off", "video", 4, agent="ada", wanted=False),
    entry("max.discord", "discord", 5, agent="max", events=("greeted",)),
    entry("max.eliza", "eliza", 6, agent="max"),
    entry("video", "video", 7),
]


@pytest.mark.parametrize(
    ("agent", "wanted", "expected"),
    [
        ("ada", "chat", "ada.chat"),
        ("ada", "ada.chat", "ada.chat"),
        ("ada", "bot", "ada.bot"),
        ("ada", "discord", "ada.bot"),
        ("ada", "store", "store"),
        ("ada", "database", "store"),
        ("ada", "eliza", None),
        ("ada", "max.eliza", "max.eliza"),
        ("ada", "video", "video"),
        ("ada", "off", "ada.off"),
        ("max", "chat", "chat"),
        ("max", "bot", None),
        ("max", "discord", "max.discord"),
        ("", "chat", "chat"),
        ("", "discord", "ada.bot"),
        ("", "eliza", "max.eliza"),
        ("", "bot", None),
        ("", "ada.bot", "ada.bot"),
    ],
)
def test_an_agent_finds_its_own_services_first(
    agent: str, wanted: str, expected: str | None
) -> None:
    """Then shared ones; another agent's by full NAME alone. Without an agent, all are found."""
    assert found(Directory(AGENTS), wanted, agent) == expected


@pytest.mark.parametrize(
    ("agent", "chats", "discords", "types", "subscribers", "strictly"),
    [
        ("ada", "ada.chat chat", "ada.bot", "chat discord video database", "ada.chat chat",
         "ada.chat ada.bot ada.off chat store video"),
        ("max", "chat", "max.discord", "discord eliza chat database video", "max.discord chat",
         "max.discord max.eliza chat store video"),
        ("", "chat ada.chat", "ada.bot max.discord", "chat database video discord eliza",
         "chat ada.chat max.discord", "chat store video"),
    ],
)  # fmt: skip
def test_an_agent_sees_its_own_and_shared_services(
    agent: str, chats: str, discords: str, types: str, subscribers: str, strictly: str
) -> None:
    """Its own first; without an agent, shared ones first, then those of all agents."""
    directory = Directory(AGENTS)

    def names(entries: list[Entry]) -> str:
        return " ".join(one.name for one in entries)

    assert names(directory.of_type("chat", agent)) == chats
    assert names(directory.of_type("discord", agent)) == discords
    assert " ".join(directory.types(agent)) == types
    assert names(directory.subscribers("greeted", agent)) == subscribers
    assert names(directory.of_agent(agent)) == strictly


def test_a_change_keeps_the_agent_of_a_service() -> None:
    """The change has the state alone."""
    directory = Directory(AGENTS)

    directory.apply(Changed("ada.bot", State.BACKOFF, True, 7, b""))
    assert found(directory, "bot", "ada") == "ada.bot"
    assert found(directory, "bot", "max") is None


def test_a_registration_status_is_in_the_words_of_elizaos() -> None:
    """Each state has one; what is not configured is unknown."""
    base = entry("a", "t", 0)
    words = {
        state: registration_status(msgspec.structs.replace(base, state=state)) for state in State
    }
    assert registration_status(None) == "unknown"
    assert words.pop(State.RUNNING) == "registered"
    assert words.pop(State.FAILED) == "failed"
    assert {words.pop(State.INITIALIZING), words.pop(State.STARTING)} == {"registering"}
    assert set(words.values()) == {"pending"}


def test_a_source_is_the_platform_of_that_whole_name() -> None:
    """What a shared platform heard is answered there, not by the agent's own of that NAME."""
    shared = entry("discord", "discord", 0)
    manifest = msgspec.structs.replace(shared.manifest, platform=True)
    shared = msgspec.structs.replace(shared, manifest=manifest)
    own = msgspec.structs.replace(shared, name="a.discord", agent="a")
    directory = Directory([shared, own])

    assert directory.find("discord", "a") == own
    assert directory.find_source("discord", "a") == shared
    assert directory.find_source("a.discord", "a") == own
    assert Directory([own]).find_source("discord", "a") == own
    assert directory.find_source("a.discord", "b") == own  # as `find`: by its whole NAME

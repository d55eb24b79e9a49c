"""Which service is meant: a NAME before a type, and of a type the first that is wanted."""

import pytest

from garrison.ipc.directory import AWAY, Directory, accepts_calls
from garrison.ipc.errors import WireError
from garrison.ipc.messages import Changed, Delisted, Entry, Listed, Manifest, State


def entry(
    name: str,
    service_type: str,
    position: int,
    wanted: bool = True,
    events: tuple[str, ...] = (),
    agent: str = "",
) -> Entry:
    """Return a service that runs."""
    manifest = Manifest(service_type)
    return Entry(name, "p", position, manifest, State.RUNNING, wanted, 1, b"g", events, agent)


def found(directory: Directory, wanted: str, agent: str = "") -> str | None:
    """Return the NAME of what is found."""
    entry = directory.find(wanted, agent)
    return entry.name if entry else None


def test_a_name_comes_before_a_type() -> None:
    """A service of that NAME is meant, also where another of that type stands before it."""
    directory = Directory([entry("eu", "discord", 0), entry("discord", "chat", 1, wanted=False)])

    assert found(directory, "discord") == "discord"
    assert found(directory, "chat") == "discord"


def test_of_a_type_the_first_wanted_in_config_order_is_meant() -> None:
    """The order is that of the config, whatever the order in which they were told."""
    directory = Directory(
        [entry("c", "t", 2), entry("b", "t", 1), entry("a", "t", 0, wanted=False)]
    )

    assert found(directory, "t") == "b"
    assert [one.name for one in directory] == ["a", "b", "c"]


def test_of_a_type_that_nobody_wants_the_first_is_meant() -> None:
    """It is configured, so it is no None; its calls say that it is stopped."""
    directory = Directory([entry("b", "t", 1, wanted=False), entry("a", "t", 0, wanted=False)])

    assert found(directory, "t") == "a"


def test_what_is_not_configured_is_none() -> None:
    """Neither a NAME nor a type."""
    assert Directory([entry("a", "t", 0)]).find("x") is None


def test_a_new_entry_takes_its_place_in_config_order() -> None:
    """Listed adds one, or puts one in the place of its former self."""
    directory = Directory([entry("b", "t", 1)])

    directory.apply(Listed(entry("a", "t", 0)))
    assert [one.name for one in directory] == ["a", "b"]
    directory.apply(Listed(entry("b", "other", 1)))
    assert [one.name for one in directory.of_type("other")] == ["b"]
    assert len(directory) == 2


def test_a_change_alters_the_state_and_nothing_else() -> None:
    """Manifest, position and subscriptions stay."""
    directory = Directory([entry("a", "t", 3, events=("said",))])

    after = directory.apply(Changed("a", State.BACKOFF, False, 7, b""))

    assert after == Entry("a", "p", 3, Manifest("t"), State.BACKOFF, False, 7, b"", ("said",))
    assert directory.get("a") == after


def test_what_is_delisted_is_gone() -> None:
    """Its last entry is returned."""
    directory = Directory([entry("a", "t", 0)])

    assert directory.apply(Delisted("a")).name == "a"
    assert "a" not in directory
    assert directory.find("t") is None


@pytest.mark.parametrize("change", [Delisted("x"), Changed("x", State.RUNNING, True, 1, b"g")])
def test_a_change_of_what_is_not_there_is_refused(change: Delisted | Changed) -> None:
    """It is no message that a supervisor sends."""
    with pytest.raises(WireError, match="not in the directory"):
        Directory([entry("a", "t", 0)]).apply(change)


def test_a_whole_directory_takes_the_place_of_the_old_one() -> None:
    """Nothing of the old one stays."""
    directory = Directory([entry("a", "t", 0), entry("b", "t", 1)])

    directory.replace([entry("c", "u", 0)])

    assert [one.name for one in directory] == ["c"]


def test_types_and_subscribers_are_in_config_order() -> None:
    """Each type once."""
    directory = Directory(
        [
            entry("d", "u", 3, events=("said",)),
            entry("a", "t", 0, events=("said", "done")),
            entry("b", "u", 1),
            entry("c", "t", 2),
        ]
    )

    assert directory.types() == ["t", "u"]
    assert [one.name for one in directory.listening("said")] == ["a", "d"]
    assert directory.listening("nothing") == []


@pytest.mark.parametrize("state", list(State))
@pytest.mark.parametrize("wanted", [True, False])
def test_which_states_a_call_waits_in(state: State, wanted: bool) -> None:
    """Registered, stopped and failed end it at once; the others only where it is not wanted."""
    waits = state is State.RUNNING or (wanted and state not in AWAY)

    assert {State.REGISTERED, State.STOPPED, State.FAILED} == AWAY
    assert accepts_calls(state, wanted) is waits


AGENTS = [
    entry("chat", "chat", 0, events=("said",)),
    entry("store", "database", 1),
    entry("ada.chat", "chat", 2, agent="ada", events=("said",)),
    entry("ada.bot", "discord", 3, agent="ada"),
    entry("ada.off", "video", 4, agent="ada", wanted=False),
    entry("max.discord", "discord", 5, agent="max", events=("said",)),
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
def test_within_an_agent_its_own_is_meant(agent: str, wanted: str, expected: str | None) -> None:
    """Then everybody's; another agent's by its full NAME alone. Who is of no agent finds all."""
    assert found(Directory(AGENTS), wanted, agent) == expected


@pytest.mark.parametrize(
    ("agent", "chats", "discords", "types", "listening", "strictly"),
    [
        ("ada", "ada.chat chat", "ada.bot", "chat discord video database", "ada.chat chat",
         "ada.chat ada.bot ada.off chat store video"),
        ("max", "chat", "max.discord", "discord eliza chat database video", "max.discord chat",
         "max.discord max.eliza chat store video"),
        ("", "chat ada.chat", "ada.bot max.discord", "chat database video discord eliza",
         "chat ada.chat max.discord", "chat store video"),
    ],
)  # fmt: skip
def test_an_agent_sees_its_own_and_everybodys(
    agent: str, chats: str, discords: str, types: str, listening: str, strictly: str
) -> None:
    """Its own first; from elsewhere everybody's first, then those of all agents."""
    directory = Directory(AGENTS)

    def names(entries: list[Entry]) -> str:
        return " ".join(one.name for one in entries)

    assert names(directory.of_type("chat", agent)) == chats
    assert names(directory.of_type("discord", agent)) == discords
    assert " ".join(directory.types(agent)) == types
    assert names(directory.listening("said", agent)) == listening
    assert names(directory.of_agent(agent)) == strictly


def test_a_change_keeps_whose_a_service_is() -> None:
    """Only its state is told."""
    directory = Directory(AGENTS)

    directory.apply(Changed("ada.bot", State.BACKOFF, True, 7, b""))
    assert found(directory, "bot", "ada") == "ada.bot"
    assert found(directory, "bot", "max") is None

"""Posts to an agent: the lane of a room, and messages that nobody could answer."""

from typing import Any

import pytest

from garrison.ipc import InvalidCall
from garrison.ipc.mail import MAX_LANE
from garrison.ipc.messages import Entry, Manifest, MethodInfo, State
from garrison.workers import Content, Memory
from garrison.workers.agents.posting import prepared


def entry(name: str, service_type: str, *methods: str) -> Entry:
    """Return a service's entry."""
    infos = tuple(MethodInfo(method) for method in methods)
    return Entry(name, "test", 0, Manifest(service_type, methods=infos), State.RUNNING, True)


AGENT = entry("bot", "agent", "process_actions")
CHAT = entry("discord", "discord", "send_message")
SHOP = entry("shop", "shop", "order")


def message(source: str = "discord", **fields: Any) -> Memory:
    """Return a message with an id."""
    return Memory(content=Content(text="hi", source=source), id="7", **fields)


@pytest.mark.parametrize(
    ("memory", "lane", "expected"),
    [
        (message(room_id="lobby"), None, "discord/lobby"),
        (message(room_id="lobby"), "own", "own"),
        (message(), None, "discord/7"),  # without a room it waits for no other
        ({"content": {"text": "hi", "source": "irc"}, "room_id": "#a"}, None, "irc/#a"),
    ],
)
def test_the_lane_is_the_room_of_the_message(memory: Any, lane: str | None, expected: str) -> None:
    """Unless the poster names one; by position or by name."""
    args, kwargs, found = prepared(AGENT, "process_actions", (memory, []), {}, lane, SHOP)
    assert (found, args[1:], kwargs) == (expected, ([],), {})
    args, kwargs, found = prepared(AGENT, "process_actions", (), {"memory": memory}, lane, None)
    assert (found, args, list(kwargs)) == (expected, (), ["memory"])


def test_the_lane_of_a_long_room_is_short() -> None:
    """It can be posted, and shares its lane with no other room."""
    first, second = (
        prepared(AGENT, "process_actions", (message(room_id="r" * 900 + end),), {}, None, CHAT)[2]
        for end in "ab"
    )
    assert first is not None
    assert len(first) == MAX_LANE
    assert first != second


def test_a_message_without_a_source_is_its_posters() -> None:
    """If that can send the answer; otherwise it is refused, before anything is on disk."""
    args, _, lane = prepared(AGENT, "process_actions", (message("", room_id="r"),), {}, None, CHAT)
    assert (args[0].content.source, lane) == ("discord", "discord/r")
    for poster in (SHOP, None):
        with pytest.raises(InvalidCall, match=r"bot\.process_actions .* no content\.source"):
            prepared(AGENT, "process_actions", (message(""),), {}, None, poster)


@pytest.mark.parametrize("args", [(), (7,), ({"content": {"text": 7}},)])
def test_what_is_no_message_is_refused(args: tuple[Any, ...]) -> None:
    """It would be a dead letter."""
    with pytest.raises(InvalidCall):
        prepared(AGENT, "process_actions", args, {}, None, CHAT)


@pytest.mark.parametrize(
    ("to", "method"), [(AGENT, "other"), (SHOP, "process_actions"), (None, "")]
)
def test_other_posts_are_as_they_were(to: Entry | None, method: str) -> None:
    """Arguments and lane."""
    assert prepared(to, method, (1,), {"a": 2}, None, None) == ((1,), {"a": 2}, None)
    assert prepared(to, method, (1,), {"a": 2}, "x", None) == ((1,), {"a": 2}, "x")

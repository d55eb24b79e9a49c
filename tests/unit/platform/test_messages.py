"""What a platform's author passes on is checked where it is passed on."""

from datetime import UTC, datetime
from typing import Any

import pytest

from garrison.workers import Content, Heard, Memory
from garrison.workers.platform.messages import as_heard


def heard(**fields: Any) -> Memory:
    """Return a memory with fields of any type."""
    return Memory(**{"id": "1", "room_id": "lobby", "content": Content("hi"), **fields})


def test_a_memory_of_the_declared_types_is_accepted() -> None:
    """Its time may be a whole number."""
    memory = heard(created_at=1_700_000_000, entity_id="ada")

    assert as_heard(memory, "lobby", "1") == Heard(memory, "lobby", "1")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((heard(id=5),), "memory's id is of type int: write it as a str"),
        ((heard(room_id=6),), "memory's room_id is of type int"),
        ((heard(entity_id=None),), "memory's entity_id is of type NoneType"),
        ((heard(world_id=7),), "memory's world_id is of type int"),
        ((heard(content="hi"),), r"not a Content: write Content\(text=…\)"),
        ((heard(content=Content(text=None)),), "content's text is of type NoneType"),  # type: ignore[arg-type]
        ((heard(created_at=datetime.now(UTC)),), r"of type datetime: .* has timestamp\(\)"),
        ((heard(), 5, "1"), "the stream is of type int"),
        ((heard(), "lobby", 1), "the position is of type int"),
        ((Heard(heard()),), "a Heard: write a Memory"),
    ],
)
def test_another_type_is_an_error_that_says_what_to_write(
    arguments: tuple[Any, ...], says: str
) -> None:
    """A library's numbers and times would be refused where the message is read, in the agent."""
    with pytest.raises(TypeError, match=says):
        as_heard(*arguments)

"""Records that are given as mappings: elizaOS's names, and names that no record has."""

from typing import Any

import msgspec
import pytest

from garrison.workers.agents.database.client import RECORD_OF
from garrison.workers.agents.database.records import (
    RECORDS,
    Component,
    Entity,
    Relationship,
    Room,
    as_fields,
)


@pytest.mark.parametrize(
    ("cls", "given", "expected"),
    [
        (
            Room,
            {"id": "r", "worldId": "w", "channelId": "c"},
            Room(id="r", world_id="w", channel_id="c"),
        ),
        (Room, {"world_id": "w"}, Room(world_id="w")),
        (
            Relationship,
            {"sourceEntityId": "a", "targetEntityId": "b", "metadata": {"sinceWhen": 1}},
            Relationship(source_entity_id="a", target_entity_id="b", metadata={"sinceWhen": 1}),
        ),
        (
            Entity,
            {"id": "a", "components": [{"entityId": "a", "type": "t", "data": {"roomId": 1}}]},
            Entity(id="a", components=[Component(entity_id="a", type="t", data={"roomId": 1})]),
        ),
    ],
)
def test_a_mapping_may_have_elizas_names(
    cls: type[msgspec.Struct], given: dict[str, Any], expected: object
) -> None:
    """Nested records too; what is inside `data` and `metadata` is an author's own."""
    assert msgspec.convert(as_fields(cls, given), cls) == expected
    assert msgspec.convert(as_fields(cls, [given]), list[cls]) == [expected]  # type: ignore[valid-type]


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"id": "r", "rooomId": "x"}, "Room has no field 'rooom_id'"),
        ({"worldId": "a", "world_id": "b"}, "given twice"),
    ],
)
def test_a_field_that_would_be_lost_is_an_error(given: dict[str, str], problem: str) -> None:
    """It is not dropped silently."""
    with pytest.raises(ValueError, match=problem):
        as_fields(Room, given)


def test_a_record_is_passed_as_it_is() -> None:
    """Also in a list."""
    one = Entity(id="a")
    assert as_fields(Entity, one) is one
    assert as_fields(Entity, [one]) == [one]


def test_every_record_has_a_method_that_takes_it() -> None:
    """The parameters are found by their annotations."""
    taken = {cls for _, _, cls in RECORD_OF.values()}
    assert {cls.__name__ for cls in RECORDS if cls not in taken} == {"Participant"}
    assert RECORD_OF["create_rooms"] == (0, "rooms", Room)

"""Whom a stored value is about."""

from typing import Any

import msgspec
import pytest

from garrison.workers import Content, Memory, is_about, is_person
from garrison.workers.sqlite.erasing import needle

ADA = is_person("discord", "42")


def message(source: str = "discord", person: str = "42") -> Any:
    """Return a message as it stands in the mailbox."""
    memory = Memory(content=Content("hi", source=source), entity_id=person)
    return msgspec.to_builtins(memory)


def deep(value: Any, depth: int) -> Any:
    """Return a value within lists."""
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ([message()], True),
        ([message("telegram")], False),
        ([message("")], True),
        ([message(person="43")], False),
        ({"memory": {"nested": [1, message()]}}, True),
        ({"entityId": "42"}, True),
        ({"entity_id": 42}, False),
        ({"person": "42", "source": "discord"}, True),
        ({"person": "42", "source": "telegram"}, False),
        (["42", {"text": "42"}], False),
        (None, False),
        (deep(message(), 30), True),
        (deep(message(), 40), False),
    ],
)
def test_a_value_is_about_whom_it_names(value: Any, expected: bool) -> None:
    """By the id and, where it is stated, the source; to a bounded depth."""
    assert is_about(value, ADA) is expected


def test_the_id_stands_in_the_encoded_value() -> None:
    """So that others need not be decoded."""
    assert needle("42") in msgspec.msgpack.encode(message())
    assert needle("42") not in msgspec.msgpack.encode(message(person="421"))

"""Records as rows of their tables, and rows as records. Pure."""

import uuid
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import msgspec
import sqlalchemy as sa

from .documents import identifier

R = TypeVar("R", bound=msgspec.Struct)

FREE = frozenset({"description", "error", "name"})  # texts of any length: no index has them


def row_of(table: sa.Table, agent: str, record: msgspec.Struct) -> dict[str, Any]:
    """Return those fields of a record that have a column.

    Raises:
        ValueError: A text cannot be stored.
    """
    values = {name: getattr(record, name) for name in record.__struct_fields__ if name in table.c}
    return checked(values) | {"agent_id": identifier(agent, "agent_id")}


def checked(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row's values, each of which every database can store.

    Raises:
        ValueError: A text cannot be stored.
    """
    for name, value in values.items():
        if name == "tags":
            for tag in value:
                identifier(tag, "a tag")
        elif isinstance(value, str):
            (storable if name in FREE else identifier)(value, name)
    return dict(values)


def storable(value: str, what: str) -> str:
    """Return a text without a NUL character.

    Raises:
        ValueError: It has one.
    """
    if "\0" in value:
        raise ValueError(f"{what} {value!r:.80} has a NUL character, which PostgreSQL cannot store")
    return value


def record_of(kind: type[R], row: sa.RowMapping | dict[str, Any]) -> R:
    """Return a row as a record; other columns are left out."""
    return kind(**{name: row[name] for name in kind.__struct_fields__ if name in row})


def new_id(given: str) -> str:
    """Return an id, a new one where it is empty."""
    return given or str(uuid.uuid4())


def with_tags(column: sa.ColumnElement[Any], tags: Sequence[str], postgres: bool) -> Any:
    """Return the condition that a JSON list of texts has all of these."""
    if postgres:
        elements = sa.func.json_array_elements_text(column).table_valued("value")
    else:
        elements = sa.func.json_each(column).table_valued("value")
    found = [
        sa.exists(sa.select(1).select_from(one).where(one.c.value == tag))
        for number, tag in enumerate(dict.fromkeys(tags))
        for one in [elements.alias(f"tag_{number}")]
    ]
    return sa.and_(sa.true(), *found)

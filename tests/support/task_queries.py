"""Tasks and queries of them, by hypothesis."""

from datetime import UTC, datetime
from typing import Any

from hypothesis import strategies as st

from garrison.workers import Task

TEXTS = st.text(
    st.characters(codec="utf-8", exclude_characters="\0"), max_size=3
) | st.sampled_from(["pending", "done", "a", "A", "é", "Z", "%", "_", "'", "ß", "z"])
TIMES = st.none() | st.datetimes(
    datetime(1960, 1, 1),
    datetime(2200, 1, 1),
    timezones=st.just(UTC),
)
NUMBERS = st.integers(-3, 3) | st.floats(allow_nan=False, allow_infinity=False, width=32)
TAGS = st.lists(TEXTS, max_size=3)
METADATA = st.dictionaries(TEXTS, st.integers(0, 2) | TEXTS | st.none() | TAGS, max_size=2)

TEXT_FIELDS = ("name", "status", "room_id", "description")
NUMBER_FIELDS = ("attempts", "max_late", "created_at")
ORDERS = ("$lt", "$lte", "$gt", "$gte")


@st.composite
def task_lists(draw: st.DrawFn) -> list[Task]:
    """Return tasks in the order of their creation."""
    count = draw(st.integers(0, 6))
    return [
        Task(
            id=str(number),
            created_at=float(number + 1),
            updated_at=1.0,
            agent_id="ada",
            name=draw(TEXTS),
            status=draw(TEXTS),
            room_id=draw(TEXTS),
            description=draw(TEXTS),
            scheduled_for=draw(TIMES),
            tags=draw(TAGS),
            metadata=draw(METADATA),
            attempts=draw(st.integers(0, 3)),
            max_late=draw(st.none() | NUMBERS.map(float)),
        )
        for number in range(count)
    ]


@st.composite
def queries(draw: st.DrawFn) -> dict[str, Any]:
    """Return the params of `get_tasks`."""
    values: dict[str, st.SearchStrategy[Any]] = {
        **dict.fromkeys(TEXT_FIELDS, TEXTS | st.none()),
        **dict.fromkeys(NUMBER_FIELDS, NUMBERS),
        "scheduled_for": TIMES,
        "tags": TAGS,
        "metadata": METADATA,
    }
    query: dict[str, Any] = {}
    for field in draw(st.lists(st.sampled_from(sorted(values)), max_size=3, unique=True)):
        value = values[field]
        ordered = field not in {"tags", "metadata"}
        kind = draw(st.sampled_from(["plain", "$eq", "$ne", "$in", *(ORDERS if ordered else ())]))
        if kind == "plain":
            # a metadata with a key that begins with `$` would be a comparison
            query[field] = draw(value) if field != "metadata" else {"$eq": draw(value)}
        elif kind == "$in":
            query[field] = {"$in": draw(st.lists(value, max_size=3))}
        else:
            query[field] = {kind: draw(value)}
    if draw(st.booleans()):
        query["limit"] = draw(st.integers(0, 4))
    if draw(st.booleans()):
        query["offset"] = draw(st.integers(0, 4))
    return query

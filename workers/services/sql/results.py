"""What queries return, and how values become plain ones. Pure. Sizes are bytes."""

import base64
import json
import math
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from datetime import time as time_of_day
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec

from garrison.ipc import DeclaredError

INTEGER_MOST = 1 << 63  # beyond it, an integer is a text
DEEPEST = 32  # levels of lists and mappings in a value


class SqlError(DeclaredError):
    """A statement was not run, or failed by its own fault.

    `kind` is "database" (no such one, or not usable), "refused" (not allowed here), "statement"
    (the database does not accept it), "parameters", "time", or "size".
    """

    kind: str
    code: str = ""  # the database's own: SQLSTATE, or SQLite's name


class Column(msgspec.Struct):
    """One column of a result."""

    name: str
    type: str = ""  # as the server names it; SQLite does not say


class Result(msgspec.Struct):
    """What a query returned. Values are those of JSON."""

    columns: list[Column] = []
    rows: list[list[Any]] = []
    is_cut: bool = False  # there are more rows than the limits allow
    took_s: float = 0.0


class Piece(msgspec.Struct):
    """A part of a stream's rows."""

    columns: list[Column]
    rows: list[list[Any]]


class Executed(msgspec.Struct):
    """What a statement did."""

    rows_changed: int = 0
    took_s: float = 0.0


class Rows:
    """Collects rows within a number and a size.

    Args:
        rows: At most.
        size: Bytes of all, as JSON, at most.
    """

    def __init__(self, rows: int, size: int) -> None:
        self._most, self._room = rows, size
        self.found: list[list[Any]] = []
        self.is_cut = False

    def add(self, row: Sequence[Any]) -> bool:
        """Add a row; return whether further ones are wanted.

        Raises:
            SqlError: The first row alone is too large.
        """
        if len(self.found) >= self._most:
            self.is_cut = True
            return False
        values = [plain(value) for value in row]
        self._room -= len(msgspec.json.encode(values))
        if self._room < 0:
            if not self.found:
                raise SqlError("one row is larger than `size`: select less of it", kind="size")
            self.is_cut = True
            return False
        self.found.append(values)
        return True


def plain(value: Any, depth: int = 0) -> Any:
    """Return a value of a database as one of JSON.

    What JSON cannot hold exactly is a text: decimals, integers beyond 64 bits, NaN and infinity,
    times, UUIDs. Bytes are `{"base64": …}`.
    """
    if value is None or isinstance(value, str | bool):
        return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value
    if isinstance(value, int):
        return value if -INTEGER_MOST <= value < INTEGER_MOST else str(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, bytes | bytearray | memoryview):
        return {"base64": base64.b64encode(value).decode()}
    if isinstance(value, datetime | date | time_of_day):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, Mapping) and depth < DEEPEST:
        return {str(key): plain(one, depth + 1) for key, one in value.items()}
    if isinstance(value, list | tuple | set | frozenset) and depth < DEEPEST:
        return [plain(one, depth + 1) for one in value]
    return str(value)


# --- parameters -----------------------------------------------------------------------------


def as_parameter(value: Any, type_name: str) -> Any:
    """Return a plain value as PostgreSQL's driver wants it for a type.

    Args:
        value: Of JSON; a text stands for dates, decimals and the like.
        type_name: The type's name, `[]` at its end for an array.

    Raises:
        ValueError: It is no value of that type.
    """
    if value is None:
        return None
    if type_name.endswith("[]") and isinstance(value, list):
        return [as_parameter(one, type_name[:-2]) for one in value]
    if type_name in {"json", "jsonb"}:
        return value if isinstance(value, str) else json.dumps(value)
    if type_name == "bytea":
        return as_bytes(value)
    convert = CONVERSIONS.get(type_name)
    if convert is None or isinstance(value, list | dict):
        return value
    try:
        return convert(value)
    except (ArithmeticError, TypeError, ValueError) as error:
        raise ValueError(f"{str(value)[:60]!r} is no {type_name}") from error


def as_bytes(value: Any) -> Any:
    """Return the bytes of `{"base64": …}`; anything else as it is."""
    if isinstance(value, Mapping) and set(value) == {"base64"}:
        return base64.b64decode(value["base64"], validate=True)
    return value


def _integer(value: Any) -> int:
    if isinstance(value, float) and not value.is_integer():
        raise ValueError(value)
    return int(value)


def _boolean(value: Any) -> bool:
    if isinstance(value, str):
        return {"true": True, "false": False}[value.lower()]
    return bool(value)


def _time(value: Any) -> Any:
    return time_of_day.fromisoformat(value) if isinstance(value, str) else value


def _moment(value: Any) -> Any:
    return datetime.fromisoformat(value) if isinstance(value, str) else value


def _aware(value: Any) -> Any:
    found = _moment(value)
    is_naive = isinstance(found, datetime) and found.tzinfo is None
    return found.replace(tzinfo=UTC) if is_naive else found


CONVERSIONS: dict[str, Any] = {
    **dict.fromkeys(("int2", "int4", "int8", "oid"), _integer),
    **dict.fromkeys(("float4", "float8"), float),
    **dict.fromkeys(("text", "varchar", "bpchar", "name"), str),
    "numeric": lambda value: Decimal(str(value)),
    "bool": _boolean,
    "uuid": lambda value: UUID(str(value)),
    "date": lambda value: date.fromisoformat(value) if isinstance(value, str) else value,
    "time": _time,
    "timetz": _time,
    "timestamp": _moment,
    "timestamptz": _aware,
    "interval": lambda value: timedelta(seconds=float(value)),
}

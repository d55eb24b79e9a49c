"""Values of types that msgspec does not know: which travel, and what is said of the others."""

import asyncio
import dataclasses
import enum
import math
import socket
import threading
import types
from collections import deque
from datetime import timezone
from decimal import Decimal
from fractions import Fraction
from ipaddress import ip_address
from pathlib import Path, PurePosixPath
from typing import Any

import msgspec
import pytest

from garrison.ipc import values
from garrison.ipc.error_text import UNPRINTABLE, described, error_text

decode = msgspec.msgpack.decode


class Text(str):
    """A subclass of str."""

    def __str__(self) -> str:
        raise AssertionError("it is not asked")


class Number(int):
    """A subclass of int."""


class Ratio(float):
    """A subclass of float, as numpy's float64 is."""


class Blob(bytes):
    """A subclass of bytes."""


class Color(enum.Enum):
    """An enum of paths."""

    RED = Path("/red")


@dataclasses.dataclass
class Row:
    """A row that may hold anything."""

    name: str
    lock: Any = None


class Table(msgspec.Struct):
    """Rows."""

    rows: list[Row]


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (Path("/a/b"), "/a/b"),
        (PurePosixPath("a"), "a"),
        (Text("t"), "t"),
        (Number(3), 3),
        (Ratio(0.5), 0.5),
        (Blob(b"b"), b"b"),
        (Color.RED, "/red"),
        (Decimal("1.50"), "1.50"),
        ({1, 2}, [1, 2]),
        ((1, (2,)), [1, [2]]),
        (Row("r", Path("/x")), {"name": "r", "lock": "/x"}),
        (
            {"deep": [Row("r", {"p": (Path("y"),)})]},
            {"deep": [{"name": "r", "lock": {"p": ["y"]}}]},
        ),
    ],
)
def test_a_value_travels_as_what_it_stands_for(value: Any, plain: Any) -> None:
    """Also at any depth."""
    assert decode(values.encode(value)) == plain


@pytest.mark.parametrize("junk", [b"junk", b"", b"\xc1", b"\x91"])
def test_raw_bytes_that_are_no_value_do_not_travel(junk: bytes) -> None:
    """They would make the rest of their batch unreadable; at any depth."""
    for value in (msgspec.Raw(junk), {"a": [msgspec.Raw(junk)]}):
        with pytest.raises(values.BAD_VALUE) as caught:
            values.encode(value)
        problem = values.problem(value, caught.value, "result")
        assert "is a msgspec.Raw whose bytes are no MessagePack value" in problem
    assert decode(values.encode({"a": msgspec.Raw(b"\x01")})) == {"a": 1}


def test_numpys_scalars_travel() -> None:
    """As Python's numbers, and back by the annotation."""
    np = pytest.importorskip("numpy")
    given = [np.float64(0.5), np.float32(2), np.int8(-3), np.bool_(True), np.str_("s")]
    assert decode(values.encode(given)) == [0.5, 2.0, -3, True, "s"]
    assert type(values.decoder(np.float32)(values.encode(np.float32(2)))) is np.float32
    assert ".tolist()" in values.problem({"a": np.zeros(3)}, TypeError(), "result")
    long = values.problem(np.longdouble(1), TypeError(), "result")
    assert long.endswith("which cannot travel: return float(…) of it"), long
    assert "[value.real, value.imag]" in values.problem(np.complex128(1j), TypeError(), "result")


def test_pydantics_models_travel() -> None:
    """As a map of their fields, and back by the annotation; a part that cannot is named."""
    pydantic = pytest.importorskip("pydantic")

    class Model(pydantic.BaseModel):  # type: ignore[misc,name-defined]
        model_config = {"arbitrary_types_allowed": True}
        path: Path
        more: dict[str, Any] = {}

    encoded = values.encode([Model(path="/x")])
    assert decode(encoded) == [{"path": "/x", "more": {}}]
    assert values.decoder(list[Model])(encoded) == [Model(path="/x")]
    with pytest.raises(msgspec.ValidationError):
        values.decoder(Model)(values.encode({"more": {}}))
    bad = Model(path="/x", more={"l": threading.Lock()})
    assert 'result.more["l"] is a ' in values.problem(bad, TypeError(), "result")


@pytest.mark.parametrize(
    ("annotation", "value", "expected"),
    [
        (object, {"a": [1]}, {"a": [1]}),
        (list[object], [1, "a"], [1, "a"]),
        (dict[str, object | int], {"a": "b"}, {"a": "b"}),
        (object | None, [1], [1]),
        (Path, "/x", Path("/x")),
        (Path | None, None, None),
        (str | Path, "/x", "/x"),
        (set[Path], ["/x"], {Path("/x")}),
        (Number, 3, Number(3)),
        (float | Ratio, 1.5, 1.5),
    ],
)
def test_an_annotation_brings_a_type_back(annotation: Any, value: Any, expected: Any) -> None:
    """`object` is any value, as Any is."""
    found = values.decoder(annotation)(values.encode(value))
    assert found == expected
    assert type(found) is type(expected)


def loop_of_lists() -> list[Any]:
    """Return a list that contains itself."""
    inner: list[Any] = []
    inner.append(inner)
    return inner


class Rude:
    """An object whose attributes raise."""

    @property
    def fileno(self) -> int:
        raise KeyError("rude")


async def never() -> None:
    """Is not awaited."""


@pytest.mark.parametrize(
    ("value", "parts"),
    [
        ({"rows": [1, 2, 3, Row("r", threading.Lock())]}, ['result["rows"][3].lock is a _thread']),
        (Table([Row("r", print)]), ["result.rows[0].lock", "its name"]),
        ([socket.socket()], ["result[0] is a socket.socket", "in this process alone"]),
        ((n for n in range(3)), ["result is a generator", "list(…)", "async generator"]),
        ({"e": [ValueError("x")]}, ['result["e"][0] is a ValueError', "str(error)", "raise it"]),
        ({"n": 1 << 70}, ['result["n"]', "64 bits", "as str"]),
        (["ok", "\ud800"], ["result[1]", "surrogate", "bytes"]),
        ([[loop_of_lists()]], ["contains itself", "flat"]),
        ({"q": deque([1])}, ['result["q"] is a collections.deque', "list(…)"]),
        ({"m": types.MappingProxyType({})}, ["dict(…)"]),
        ([1j], ["result[0] is a complex", "value.real"]),
        ({(1, Fraction(1, 2)): 1}, ["key", "fractions.Fraction"]),
        ({7: {"x", Fraction(1, 2)}}, ["result[7]", "an element", "str(…)"]),
        ([int], ["result[0] is a type"]),
        ({"a": ip_address("::1")}, ['result["a"] is a ', "return str(…) of it, or its fields"]),
        (timezone.utc, ["return str(…) of it, or its fields"]),  # noqa: UP017
        ([Rude()], ["result cannot travel"]),
    ],
)
def test_what_cannot_travel_is_named_with_what_to_do(value: Any, parts: list[str]) -> None:
    """Its path, its type, and what to return instead."""
    with pytest.raises(values.BAD_VALUE) as caught:
        values.encode(value)
    text = values.problem(value, caught.value, "result")
    assert [part for part in parts if part not in text] == [], text
    for one in value if isinstance(value, list) else ():
        if isinstance(one, socket.socket):
            one.close()


def test_a_future_is_named_with_the_missing_await() -> None:
    """The commonest mistake."""
    work = never()
    text = values.problem({"a": work}, TypeError(), "result")
    work.close()
    assert 'result["a"]' in text
    assert "write `await`" in text


def test_an_argument_is_named_by_its_place() -> None:
    """Or by its name."""
    lock = threading.Lock()
    assert "argument 2[0] is a" in values.arguments_problem((1, [lock]), {}, TypeError())
    assert 'where["a"] is a' in values.arguments_problem((1,), {"where": {"a": lock}}, TypeError())
    assert "pass" in values.arguments_problem((lock,), {}, TypeError())


def test_a_number_that_is_no_number_travels() -> None:
    """NaN is a float."""
    assert math.isnan(decode(values.encode(Ratio("nan"))))


# --- the texts of errors ------------------------------------------------------------------


class Own(BaseException):
    """An exception that is no Exception."""


class Silent(Exception):
    """Its text raises."""

    def __str__(self) -> str:
        raise Own("no text")


class Endless(Exception):
    """Its text recurses."""

    def __str__(self) -> str:
        return f"{self}"


class Numeric(Exception):
    """Its text is no text."""

    def __str__(self) -> str:
        return 3  # type: ignore[return-value]


@pytest.mark.parametrize("error", [Silent(), Endless(), Numeric()])
def test_a_text_that_cannot_be_read_is_replaced(error: Exception) -> None:
    """Whatever `__str__` raises."""
    assert error_text(error) == UNPRINTABLE
    assert described(error) == f"{type(error).__name__}: {UNPRINTABLE}"


def test_a_text_of_another_class_is_a_plain_one() -> None:
    """A subclass of str may hide anything."""

    class Odd(Exception):
        def __str__(self) -> str:
            return Text("odd")

    assert type(error_text(Odd())) is str
    assert error_text(asyncio.CancelledError("why")) == "why"

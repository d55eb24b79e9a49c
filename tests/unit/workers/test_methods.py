"""Which methods can travel, and what becomes of a call's arguments."""

import functools
import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import Enum
from typing import TYPE_CHECKING, Any, Literal, Self
from uuid import UUID

import msgspec
import pytest
from msgspec import Raw

from garrison.ipc.messages import EMPTY_MAP, Call
from garrison.workers import Service
from garrison.workers.process.methods import InvalidArguments, Method, MethodKind, describe

if TYPE_CHECKING:
    from nowhere import Message  # type: ignore[import-not-found]

encode = msgspec.msgpack.encode


class Connection:
    """A class that msgspec knows nothing of."""


class Point(msgspec.Struct):
    """A class that travels."""

    x: int
    y: int = 0


class Holder(msgspec.Struct):
    """A class that would travel, were it not for what it holds."""

    connection: Connection


class Tree(msgspec.Struct):
    """A class that refers to itself."""

    children: list["Tree"] = []


@dataclass
class Pair:
    """A dataclass travels too."""

    a: int
    b: str = ""


class Colour(Enum):
    """An enum travels by value."""

    RED = "red"
    BLUE = "blue"


def call(*args: Any, **kwargs: Any) -> Call:
    """Return a call as it arrives."""
    named = Raw(encode(kwargs)) if kwargs else EMPTY_MAP
    return Call(1, "m", Raw(encode(args)), named, 1.0)


def bound(function: Callable[..., Any], *args: Any, **kwargs: Any) -> tuple[Any, ...]:
    """Return what a method is called with."""
    return Method("m", function).bind(call(*args, **kwargs))


def unfit(function: Callable[..., Any], *args: Any, **kwargs: Any) -> str:
    """Return why the arguments of a call do not fit."""
    method = Method("m", function)
    with pytest.raises(InvalidArguments) as caught:
        method.bind(call(*args, **kwargs))
    return str(caught.value)


# --- what is offered ----------------------------------------------------------------------


class Base(Service):
    """What a subclass inherits and overrides."""

    async def inherited(self) -> None: ...
    async def overridden(self, a: int) -> None: ...
    async def taken_away(self) -> None: ...


class Everything(Base):
    """One of each kind."""

    service_type = "everything"
    capability_description = "Does it all"

    class Config(msgspec.Struct):
        """No method."""

    limit = 3

    async def send(self, text: str, count: int = 1) -> str:
        """Send a text.

        More of it.
        """
        return text * count

    def plain(self) -> None: ...

    async def stream(self, n: int) -> AsyncIterator[Point]:
        yield Point(n)

    async def generator(self) -> AsyncGenerator[int, None]:
        yield 1

    async def overridden(self, b: str) -> None: ...  # type: ignore[override]

    taken_away = None  # type: ignore[assignment]

    @property
    def size(self) -> int:
        return 1

    # left out, each for its reason
    async def by_connection(self, connection: Connection) -> None: ...
    async def in_a_list(self, connections: list[Connection | None]) -> None: ...
    async def in_a_struct(self, holder: Holder) -> None: ...
    async def to_connection(self) -> Connection:
        raise NotImplementedError

    async def to_function(self) -> Callable[[], None]:
        raise NotImplementedError

    async def by_unknown(self, message: "Message") -> None: ...

    async def stream_of_connections(self) -> AsyncIterator[Connection]:
        yield Connection()

    def lazy(self) -> Iterator[int]:
        yield 1

    @classmethod
    async def of_class(cls) -> None: ...
    @staticmethod
    async def of_nobody() -> None: ...

    # never spoken of
    async def _private(self) -> None: ...
    async def health(self) -> None: ...
    async def stop(self) -> None: ...
    @classmethod
    async def start(cls, runtime: Any) -> Self:
        return cls(runtime)


MANIFEST, METHODS = describe(Everything)


def test_public_methods_are_offered() -> None:
    """Those of bases too, overridden ones once; attributes, properties and classes are none."""
    offered = {"inherited", "overridden", "send", "plain", "stream", "generator"}

    assert {method.name for method in MANIFEST.methods} == set(METHODS) == offered
    assert (MANIFEST.service_type, MANIFEST.description) == ("everything", "Does it all")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("by_connection", "its parameter connection cannot be encoded: .*Connection"),
        ("in_a_list", "its parameter connections cannot be encoded: .*Connection"),
        ("in_a_struct", "its parameter holder cannot be encoded: .*Connection"),
        ("to_connection", "its result cannot be encoded: .*Connection"),
        ("to_function", "its result cannot be encoded: .*Callable"),
        ("stream_of_connections", "its result cannot be encoded: .*Connection"),
        ("by_unknown", "its annotation Message is not defined at run time"),
        ("lazy", "a plain generator cannot be called remotely; make it async, as a stream"),
        ("of_class", "a class method or static method cannot be called remotely"),
        ("of_nobody", "a class method or static method cannot be called remotely"),
    ],
)
def test_a_method_that_cannot_be_called_remotely_is_left_out_with_its_reason(
    name: str, reason: str
) -> None:
    """The author reads it in `status NAME`."""
    assert re.fullmatch(reason, MANIFEST.left_out[name])


def test_nothing_else_is_left_out() -> None:
    """Reserved and private names are no methods, so no reason is given for them."""
    assert len(MANIFEST.left_out) == 10
    spoken_of = {method.name for method in MANIFEST.methods} | set(MANIFEST.left_out)
    reserved = {"start", "stop", "health", "config", "runtime", "spawn", "every", "_private"}
    assert spoken_of & reserved == set()


def test_a_service_without_methods_offers_none() -> None:
    """What every service has is not offered by each."""
    manifest, methods = describe(Service)

    assert (manifest.methods, manifest.left_out, methods) == ((), {}, {})


def test_the_manifests_entry_of_a_method() -> None:
    """Its signature without self, the first line of its docstring, and whether it streams."""
    by_name = {method.name: method for method in MANIFEST.methods}

    assert by_name["send"].signature == "(text: str, count: int = 1) -> str"
    assert by_name["send"].summary == "Send a text."
    assert {name for name, info in by_name.items() if info.stream} == {"stream", "generator"}


def test_a_description_that_is_a_property_is_ignored() -> None:
    """A class cannot show what only an instance has."""

    class Described(Service):
        service_type = "x"

        @property
        def capability_description(self) -> str:  # type: ignore[override]
            return "x"

    assert describe(Described)[0].description == ""


@pytest.mark.parametrize(
    ("name", "kind"),
    [("send", MethodKind.ASYNC), ("plain", MethodKind.THREAD), ("stream", MethodKind.STREAM)],
)
def test_the_kind_of_a_method(name: str, kind: MethodKind) -> None:
    """`async def` in the loop, `def` in a thread, an asynchronous generator as a stream."""
    assert METHODS[name].kind is kind


def test_a_class_that_refers_to_itself_can_be_sent() -> None:
    """Looking for what cannot travel comes to an end."""

    async def method(self: Any, tree: Tree) -> Tree:
        return tree

    ((tree,), _) = bound(method, {"children": [{"children": []}]})
    assert tree == Tree([Tree()])


def test_a_decorated_method_has_the_signature_of_the_wrapped_one() -> None:
    """functools.wraps keeps its signature."""

    def logged(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        async def wrapper(*args: Any, **kwargs: Any) -> Any:
            return await function(*args, **kwargs)

        return wrapper

    @logged
    async def method(self: Any, count: int) -> None: ...

    assert bound(method, 3) == ((3,), {})
    assert unfit(method, "x") == "count: expected int, got str"


# --- arguments ----------------------------------------------------------------------------


def simple(self: Any, a: int, b: str = "x", c: float = 1.0) -> None:
    """Take one that is needed and two that are not."""


@pytest.mark.parametrize(
    ("args", "kwargs", "expected"),
    [
        ((1,), {}, ((1,), {})),
        ((1, "y"), {}, ((1, "y"), {})),
        ((1, "y", 2.5), {}, ((1, "y", 2.5), {})),
        ((1, "y", 2), {}, ((1, "y", 2.0), {})),
        ((), {"a": 1}, ((1,), {})),
        ((1,), {"b": "y"}, ((1, "y"), {})),
        ((1,), {"c": 2}, ((1,), {"c": 2.0})),  # b is left to its default
        ((), {"c": 2.0, "a": 1, "b": "y"}, ((1, "y", 2.0), {})),
    ],
)
def test_arguments_reach_their_parameters(
    args: tuple[Any, ...], kwargs: dict[str, Any], expected: tuple[Any, ...]
) -> None:
    """By place or by name; a default is the method's own, so it is not sent along."""
    assert bound(simple, *args, **kwargs) == expected


@pytest.mark.parametrize(
    ("args", "kwargs", "reason"),
    [
        (("1",), {}, "a: expected int, got str"),
        ((1.5,), {}, "a: expected int, got float"),
        ((1, 2), {}, "b: expected str, got int"),
        ((1, "y", "z"), {}, "c: expected float, got str"),
        ((), {"a": "1"}, "a: expected int, got str"),
        ((1,), {"b": 2}, "b: expected str, got int"),
    ],
)
def test_a_value_of_another_type_is_named_by_its_parameter(
    args: tuple[Any, ...], kwargs: dict[str, Any], reason: str
) -> None:
    """Nothing is guessed: text is no number."""
    assert unfit(simple, *args, **kwargs) == reason


@pytest.mark.parametrize(
    ("args", "kwargs", "reason"),
    [
        ((), {}, "at least 1 argument, not 0"),
        ((1, "y", 1.0, 4), {}, "at most 3 arguments, not 4"),
        ((), {"b": "y"}, "missing a required argument: 'a'"),
        ((1,), {"z": 1}, "got an unexpected keyword argument 'z'"),
        ((1,), {"a": 2}, "multiple values for argument 'a'"),
        ((1, "y", 1.0, 4), {"z": 1}, "too many positional arguments"),
    ],
)
def test_a_wrong_number_of_arguments_names_the_signature(
    args: tuple[Any, ...], kwargs: dict[str, Any], reason: str
) -> None:
    """The signature is in the reason."""
    text = unfit(simple, *args, **kwargs)

    assert reason in text
    assert "(a: int, b: str = 'x', c: float = 1.0)" in text


def test_a_method_without_parameters_takes_none() -> None:
    """Nothing is nothing, and one is too many."""

    def method(self: Any) -> None: ...

    assert bound(method) == ((), {})
    assert "at most 0 arguments, not 1" in unfit(method, 1)


def test_keyword_only_parameters() -> None:
    """They are taken by name alone, and a required one must be there."""

    def optional(self: Any, a: int, *, b: int = 2) -> None: ...
    def required(self: Any, a: int, *, b: int) -> None: ...

    assert bound(optional, 1) == ((1,), {})
    assert bound(optional, 1, b=3) == ((1,), {"b": 3})
    assert bound(required, 1, b=3) == ((1,), {"b": 3})
    assert "at most 1 argument, not 2" in unfit(optional, 1, 2)
    assert "missing a required" in unfit(required, 1)
    assert unfit(required, 1, b="x") == "b: expected int, got str"


def test_positional_only_parameters() -> None:
    """They are taken by place alone."""

    def method(self: Any, a: int, /, b: int = 2) -> None: ...

    assert bound(method, 1, b=3) == ((1, 3), {})
    assert "positional" in unfit(method, a=1)


def test_any_number_of_arguments() -> None:
    """Each of them is converted to the annotation of all."""

    def method(self: Any, first: str, *rest: int, **named: float) -> None: ...

    assert bound(method, "x") == (("x",), {})
    assert bound(method, "x", 1, 2, n=3) == (("x", 1, 2), {"n": 3.0})
    assert unfit(method, "x", 1, "2").startswith("rest: expected int, got str")
    assert unfit(method, "x", n="3").startswith("named: expected float, got str")


def test_without_annotations_values_are_builtins() -> None:
    """They come as they were sent."""

    def method(self: Any, a, b=None, **more) -> None: ...  # type: ignore[no-untyped-def]

    assert bound(method, [1, {"x": b"y"}]) == (([1, {"x": b"y"}],), {})
    assert bound(method, 1, z=[2]) == ((1,), {"z": [2]})


NOW = datetime(2024, 5, 6, 7, 8, 9, 123456, tzinfo=UTC)
UID = UUID("12345678123456781234567812345678")


@pytest.mark.parametrize(
    ("annotation", "sent", "expected"),
    [
        (Point, Point(1, 2), Point(1, 2)),
        (Point, {"x": 1}, Point(1)),
        (list[Point], [Point(1), Point(2)], [Point(1), Point(2)]),
        (Pair, Pair(1, "b"), Pair(1, "b")),
        (datetime, NOW, NOW),
        (datetime, NOW.replace(tzinfo=None), NOW.replace(tzinfo=None)),
        (date, NOW.date(), NOW.date()),
        (bytes, b"\x00\xff", b"\x00\xff"),
        (UUID, UID, UID),
        (Decimal, Decimal("1.10"), Decimal("1.10")),
        (Colour, Colour.BLUE, Colour.BLUE),
        (Literal["a", "b"], "b", "b"),
        (int | None, None, None),
        (int | None, 3, 3),
        (Point | None, Point(1), Point(1)),
        (str | int, 3, 3),
        (float, 3, 3.0),
        (set[int], {1, 2}, {1, 2}),
        (tuple[int, str], (1, "a"), (1, "a")),
        (dict[int, str], {1: "a"}, {1: "a"}),
        (dict[str, Point], {"a": Point(1)}, {"a": Point(1)}),
        (Any, {"x": [1, None]}, {"x": [1, None]}),
    ],
)
def test_a_value_is_converted_to_its_annotation(annotation: Any, sent: Any, expected: Any) -> None:
    """By place and by name alike."""

    def method(self: Any, value: Any, flag: bool = False) -> None: ...

    method.__annotations__["value"] = annotation

    ((by_place,), _) = bound(method, sent)
    ((by_name,), _) = bound(method, value=sent)
    assert by_place == by_name == expected
    assert type(by_place) is type(by_name) is type(expected)


@pytest.mark.parametrize(
    ("annotation", "sent", "reason"),
    [
        (Point, {"x": "1"}, r"value\.x: expected int, got str"),
        (Point, {}, r"value: .*missing required field x"),
        (list[int], [1, "2"], r"value\[\.\.\.\]: expected int, got str|value\[1\]: .*"),
        (Colour, "green", r"value: invalid enum value 'green'"),
        (UUID, "x", r"value: invalid uuid"),
        (int | None, "x", r"value: expected int \| null, got str"),
        (datetime, "yesterday", r"value: invalid rfc3339 encoded datetime"),
    ],
)
def test_a_value_that_cannot_be_converted_is_named(annotation: Any, sent: Any, reason: str) -> None:
    """The reason begins with the parameter, and has no `$` and no backticks in it."""

    def method(self: Any, first: int, value: Any) -> None: ...

    method.__annotations__["value"] = annotation

    by_place = unfit(method, 1, sent)
    assert re.fullmatch(reason, by_place, re.IGNORECASE), by_place
    for text in (by_place, unfit(method, 1, value=sent)):
        assert text.startswith("value")
        assert "$" not in text
        assert "`" not in text


def test_a_key_of_another_type_is_named_by_its_parameter() -> None:
    """A mapping's keys are values too."""

    def method(self: Any, first: int, value: dict[int, str]) -> None: ...

    for text in (unfit(method, 1, {"a": "x"}), unfit(method, 1, value={"a": "x"})):
        assert text.startswith("value")
        assert "$" not in text


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [
        (b"", b"\x80"),
        (b"\xc1", b"\x80"),
        (b"\x01", b"\x80"),
        (b"\x80", b"\x80"),
        (b"\x91", b"\x80"),
        (b"\x91\xa1\xff", b"\x80"),
        (b"\x91\x01\x01", b"\x80"),
        (b"\x91" * 200_000 + b"\x90", b"\x80"),
        (b"\x91\x81\x80\x01", b"\x80"),
        (b"\x90", b"\x90"),
        (b"\x90", b"\xc1"),
        (b"\x90", b"\x81\x01\x01"),
        (b"\x90", b"\x81\xa1a\x81\x80\x01"),
        (b"\x90", b"\x81\xa1a" + b"\x91" * 200_000 + b"\x90"),
    ],
    ids=lambda data: data[:8].hex(),
)
def test_bytes_that_cannot_be_decoded_are_invalid_arguments(args: bytes, kwargs: bytes) -> None:
    """Whatever arrives is its sender's fault, never an exception of the service's loop."""

    def method(self: Any, a: Any) -> None: ...

    with pytest.raises(InvalidArguments):
        Method("m", method).bind(Call(1, "m", Raw(args), Raw(kwargs), 1.0))


# --- elizaOS's spelling -------------------------------------------------------------------


async def get_memories(
    self: Any, *, table_name: str = "messages", room_id: str | None = None, count: int = 0
) -> None:
    """A query, as a database has them."""


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [
        ((), {"tableName": "facts", "roomId": "r"}),
        ((), {"table_name": "facts", "roomId": "r"}),
        (({"tableName": "facts", "roomId": "r"},), {}),
        (({"table_name": "facts", "room_id": "r"},), {}),
        (({"tableName": "facts"},), {"roomId": "r"}),
    ],
)
def test_elizaos_spelling_of_named_arguments(args: Any, kwargs: dict[str, Any]) -> None:
    """`roomId` is `room_id`, and a mapping of all of them is what elizaOS's queries are."""
    assert bound(get_memories, *args, **kwargs) == ((), {"table_name": "facts", "room_id": "r"})


@pytest.mark.parametrize(
    ("args", "kwargs", "problem"),
    [
        ((), {"roomId": "r", "room_id": "q"}, "'room_id' is given twice, also as 'roomId'"),
        ((), {"roomID2": "r"}, "unexpected keyword argument 'roomID2'"),
        (({"count": "x"},), {}, "count: expected int"),
        (({}, {}), {}, "too many positional arguments"),
    ],
)
def test_invalid_named_arguments(args: Any, kwargs: dict[str, Any], problem: str) -> None:
    """The error names them as the caller wrote them."""
    assert problem in unfit(get_memories, *args, **kwargs)


def test_a_name_that_the_method_has_is_left() -> None:
    """Also where it is in camelCase, and where a method takes any name."""

    async def own(self: Any, roomId: str = "") -> None: ...
    async def free(self: Any, **named: str) -> None: ...

    assert bound(own, roomId="r") == (("r",), {})
    assert bound(free, roomId="r") == ((), {"roomId": "r"})

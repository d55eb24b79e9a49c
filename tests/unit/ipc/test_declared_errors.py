"""Declared errors: they travel with their fields, bounded and redacted, and arrive as raised."""

from typing import Any

import msgspec
import pytest

from garrison.ipc.declared_errors import (
    Busy,
    DeclaredError,
    ModelError,
    NotSent,
    RetryLater,
    UnsendableFields,
)
from garrison.ipc.errors import (
    CLASSES,
    DATA_MOST,
    DECLARED,
    Fault,
    GarrisonError,
    RemoteError,
    from_fault,
)

TRACE = "Traceback (most recent call last):\n"


class AllowanceSpent(DeclaredError):
    """No more today."""

    limit: int
    resets_in: float | None = None
    rooms: list[str] = []


class ProviderBusy(ModelError):
    """A provider's own kind of busy."""

    region: str = ""

    def __init__(self, region: str) -> None:
        super().__init__("busy", 2, f"{region} is full")
        self.region = region


CASES: list[tuple[DeclaredError, dict[str, Any], str, str]] = [
    (
        ModelError("busy", 3, "429 rate limited"),
        {"kind": "busy", "retry_after": 3.0},
        "busy, retry after 3 s: 429 rate limited",
        "a.m raised ModelError: busy, retry after 3 s: 429 rate limited",
    ),
    (
        ModelError("refused"),
        {"kind": "refused", "retry_after": None},
        "refused",
        "a.m raised ModelError: refused",
    ),
    (
        RetryLater(900, "too many logins"),
        {"seconds": 900.0},
        "retry after 900 s: too many logins",
        "a.m raised RetryLater: retry after 900 s: too many logins",
    ),
    (Busy("full"), {"retry_after": None}, "full", "a.m raised Busy: full"),
    (Busy(), {"retry_after": None}, "", "a.m raised Busy"),
    (NotSent("forbidden"), {}, "forbidden", "a.m raised NotSent: forbidden"),
    (
        AllowanceSpent("no more: today", limit=3, rooms=["x"]),
        {"limit": 3, "resets_in": None, "rooms": ["x"]},
        "no more: today",
        "a.m raised AllowanceSpent: no more: today",
    ),
]


def sent(error: DeclaredError, redact: Any = lambda text: text) -> Fault:
    """Return an error's fault, encoded and decoded."""
    encoded = msgspec.msgpack.encode(error.fault_of("a", "m", TRACE, redact))
    return msgspec.msgpack.decode(encoded, type=Fault)


@pytest.mark.parametrize(("error", "fields", "here", "there"), CASES)
def test_an_error_arrives_as_it_was_raised(
    error: DeclaredError, fields: dict[str, Any], here: str, there: str
) -> None:
    """Its class, its fields and its text; with the service and method that raised it."""
    assert str(error) == here
    assert (error.service, error.method) == ("", "")

    arrived = from_fault(sent(error))

    assert type(arrived) is type(error)
    assert isinstance(arrived, RemoteError)
    assert {name: getattr(arrived, name) for name in fields} == fields
    assert arrived.data == fields
    assert str(arrived) == there
    assert arrived.type_name == error.type_name == type(error).__name__
    assert (arrived.service, arrived.method, arrived.traceback) == ("a", "m", TRACE)
    assert isinstance(arrived, DeclaredError)
    assert arrived.reason == error.reason
    again = from_fault(sent(arrived))  # a method that does not handle it raises it on
    assert (type(again), again.detail, str(again)) == (type(arrived), arrived.detail, there)


def test_a_class_that_is_not_declared_here_is_a_remote_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its fields are in `data`."""
    fault = sent(AllowanceSpent("no", limit=3))
    monkeypatch.delitem(DECLARED, "AllowanceSpent")

    arrived = from_fault(fault)

    assert type(arrived) is RemoteError
    assert (arrived.type_name, str(arrived)) == ("AllowanceSpent", "a.m raised AllowanceSpent: no")
    assert arrived.data == {"limit": 3, "resets_in": None, "rooms": []}


def test_the_nearest_class_that_is_declared_here_arrives(monkeypatch: pytest.MonkeyPatch) -> None:
    """So a provider's own `ModelError` is one for an agent that does not have the class."""
    fault = sent(ProviderBusy("eu"))
    monkeypatch.delitem(DECLARED, "ProviderBusy")

    arrived = from_fault(fault)

    assert type(arrived) is ModelError
    assert (arrived.kind, arrived.retry_after, arrived.type_name) == ("busy", 2.0, "ProviderBusy")
    assert arrived.data["region"] == "eu"
    monkeypatch.setitem(DECLARED, "ProviderBusy", ProviderBusy)
    again = from_fault(sent(arrived))
    assert type(again) is ProviderBusy
    assert again.region == "eu"


@pytest.mark.parametrize(
    "data",
    [
        {CLASSES: ["ModelError"], "kind": "later", "retry_after": 1.0},
        {CLASSES: ["ModelError"]},
        {CLASSES: ["ModelError"], "kind": "busy", "retry_after": "soon"},
        {CLASSES: ["RetryLater"], "seconds": []},
        {CLASSES: "ModelError", "kind": "busy"},
        {CLASSES: [["ModelError"]], "kind": "busy"},
        {CLASSES: ["RemoteError"], "kind": "busy"},
        {"kind": "busy"},
    ],
)
def test_fields_that_do_not_fit_leave_a_remote_error(data: dict[str, Any]) -> None:
    """A kind of a later release is not guessed."""
    arrived = from_fault(Fault("RemoteError", "a", "m", "ModelError: no", "", data))

    assert type(arrived) is RemoteError
    assert arrived.data == {name: value for name, value in data.items() if name != CLASSES}


def test_a_field_of_a_later_release_is_kept_in_data() -> None:
    """The class arrives without it."""
    data = {CLASSES: ["RetryLater"], "seconds": 2, "why": "x"}
    arrived = from_fault(Fault("RemoteError", "a", "m", "RetryLater", "", data))

    assert isinstance(arrived, RetryLater)
    assert (arrived.seconds, arrived.data["why"]) == (2.0, "x")


def test_too_many_bytes_are_ignored_by_the_receiver() -> None:
    """The bound is that of the wire, whoever sent it."""
    data = {CLASSES: ["RetryLater"], "seconds": 2, "why": "x" * DATA_MOST}
    arrived = from_fault(Fault("RemoteError", "a", "m", "RetryLater", "", data))

    assert (type(arrived), vars(arrived)["data"]) == (RemoteError, {})


def nested(levels: int) -> Any:
    """Return lists within lists."""
    value: Any = 0
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"limit": 1, "rooms": ["x" * 1100]}, "more than 1024"),
        ({"limit": object()}, "cannot travel"),
        ({"limit": 2**70}, "cannot travel"),
        ({"limit": nested(9)}, "nested more than 8 levels"),
        ({"limit": nested(2000)}, "nested|cannot travel"),
    ],
)
def test_fields_that_cannot_travel_are_named(fields: dict[str, Any], problem: str) -> None:
    """The sender notices, not the receiver."""
    with pytest.raises(UnsendableFields, match=problem):
        sent(AllowanceSpent("no", **fields))


def test_fields_are_redacted_before_they_are_measured() -> None:
    """At any depth, keys too; the error's text likewise."""
    error = AllowanceSpent(
        "key s3cret", limit=1, rooms=["s3cret", nested(6), {"s3cret": "a s3cret"}]
    )

    fault = sent(error, lambda text: text.replace("s3cret", "[KEY]"))

    assert "s3cret" not in repr(fault)
    assert fault.data["rooms"] == ["[KEY]", nested(6), {"[KEY]": "a [KEY]"}]
    assert fault.detail == "AllowanceSpent: key [KEY]"


def test_a_release_before_reads_it_as_a_remote_error() -> None:
    """It knows the fault's first fields, and its kind."""
    before = msgspec.msgpack.decode(msgspec.msgpack.encode(sent(ModelError("auth", text="401"))))
    assert before[:5] == ["RemoteError", "a", "m", "ModelError: 401", TRACE]
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(before[:5]), type=Fault) == Fault(
        "RemoteError", "a", "m", "ModelError: 401", TRACE
    )


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (lambda: ModelError("bussy"), "'bussy'; the kinds are busy"),
        (lambda: ModelError("busy", float("nan")), "retry_after is nan"),
        (lambda: RetryLater(float("inf")), "seconds is inf"),
        (lambda: AllowanceSpent("no"), "needs a value for its field limit"),
        (lambda: AllowanceSpent("no", limit=1, most=2), "has no field most"),
        (lambda: type("Busy", (DeclaredError,), {}), "an error of garrison's own"),
        (
            lambda: type("Mine", (DeclaredError,), {"__annotations__": {"detail": str}}),
            "Mine.detail: every error has a detail",
        ),
    ],
)
def test_a_mistake_is_named_where_it_is_made(make: Any, problem: str) -> None:
    """At the class or at the raise, in the author's code."""
    with pytest.raises((TypeError, ValueError), match=problem):
        make()


def test_a_wait_is_never_negative() -> None:
    """A clock that differs makes one of a header."""
    assert RetryLater(-3).seconds == 0.0
    assert ModelError("busy", -1).retry_after == 0.0


@pytest.mark.parametrize(
    ("status", "headers", "kind", "retry_after"),
    [
        (429, {"Retry-After": "30"}, "busy", 30.0),
        (429, {"retry-after": "1", "retry-after-ms": "1500"}, "busy", 1.5),
        (503, {"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}, "busy", None),
        (529, {"Retry-After": "nan"}, "busy", None),
        (500, {}, "busy", None),
        (408, None, "busy", None),
        (401, {}, "auth", None),
        (403, {}, "auth", None),
        (404, {}, "auth", None),
        (413, {}, "context", None),
        (400, {}, "invalid", None),
        (422, {}, "invalid", None),
    ],
)
def test_an_http_status_has_its_kind(
    status: int, headers: dict[str, str] | None, kind: str, retry_after: float | None
) -> None:
    """And the time to come back that its headers name in seconds or milliseconds."""
    error = ModelError.from_http(status, headers, "no")
    assert (error.kind, error.retry_after, error.reason) == (kind, retry_after, "no")


def test_every_declared_error_of_garrison_says_what_can_be_done() -> None:
    """Each class has a docstring of its own."""
    for cls in (DeclaredError, ModelError, RetryLater, Busy, NotSent):
        assert issubclass(cls, GarrisonError)
        assert "__doc__" in vars(cls)
        assert vars(cls)["__doc__"]

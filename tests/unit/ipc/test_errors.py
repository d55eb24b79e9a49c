"""Every call error travels and comes back as itself, with a text made from its fields."""

import msgspec
import pytest

from garrison.ipc import errors
from garrison.ipc.errors import (
    KINDS,
    CallError,
    CallTimeout,
    ConfigError,
    Fault,
    GarrisonError,
    InvalidCall,
    OrderFailed,
    Overloaded,
    PermanentFailure,
    RemoteError,
    ServiceLost,
    ServiceUnavailable,
    StartError,
    SupervisorGone,
    WireError,
    from_fault,
)

TRACE = 'Traceback (most recent call last):\n  File "x.py", line 1\nValueError: no\n'

CASES: list[tuple[CallError, str]] = [
    (
        ServiceUnavailable("a", "m", "failed"),
        "a.m was not run: a is failed; garrison status a says why",
    ),
    (
        ServiceUnavailable("a", "m", "stopped"),
        "a.m was not run: a is stopped; start it with: garrison start a",
    ),
    (
        ServiceUnavailable("a", "m", "failed: ValueError: no token"),
        "a.m was not run: a is failed: ValueError: no token; garrison status a says why",
    ),
    (
        ServiceUnavailable("a", "", "failed: ValueError: no token"),
        "a is failed: ValueError: no token; garrison status a says why",
    ),
    (ServiceUnavailable("a", "m", "restarting"), "a.m was not run: a is restarting"),
    (Overloaded("a", "m", "its window stayed full"), "a.m was not run: its window stayed full"),
    (InvalidCall("a", "m", "no such method"), "a.m was not run: no such method"),
    (CallTimeout("a", "m", "2.5"), "a.m gave no answer within 2.5 s"),
    (ServiceLost("a", "m", "killed by SIGKILL"), "a.m was lost: killed by SIGKILL"),
    (RemoteError("a", "m", "ValueError: no", TRACE), "a.m raised ValueError: no"),
]


@pytest.mark.parametrize(("error", "text"), CASES)
def test_a_call_error_travels(error: CallError, text: str) -> None:
    """As a fault, encoded and decoded, it has the same class and text."""
    encoded = msgspec.msgpack.encode(error.fault())

    arrived = from_fault(msgspec.msgpack.decode(encoded, type=Fault))

    assert type(arrived) is type(error)
    assert str(arrived) == str(error) == text
    assert vars(arrived) == vars(error)


def test_every_call_error_has_its_case_here() -> None:
    """One that is added is tested, and can travel."""
    classes = {
        value
        for value in vars(errors).values()
        if isinstance(value, type) and issubclass(value, CallError) and value is not CallError
    }

    assert {type(error) for error, _ in CASES} == classes
    assert set(KINDS.values()) == classes
    assert all(KINDS[cls.__name__] is cls for cls in classes)


def test_a_fault_of_a_later_version_is_a_plain_call_error() -> None:
    """Its text is kept, so that nothing is lost on the way."""
    arrived = from_fault(Fault("QuotaSpent", "a", "m", "three a day", "trace"))

    assert type(arrived) is CallError
    assert str(arrived) == "a.m: three a day"


@pytest.mark.parametrize("kind", ["GarrisonError", "CallError", "Exception", "", "__class__"])
def test_only_call_errors_are_made_of_faults(kind: str) -> None:
    """A kind is looked up, never evaluated."""
    assert type(from_fault(Fault(kind, "a", "m", "d"))) is CallError


def test_an_error_has_the_fields_of_its_kind() -> None:
    """The words that its class speaks of, beside service and method."""
    unavailable = ServiceUnavailable("a", "m", "stopped")
    assert (unavailable.service, unavailable.method) == ("a", "m")
    assert unavailable.state == "stopped"
    assert InvalidCall("a", "m", "text: missing").reason == "text: missing"
    assert CallTimeout("a", "m", "30").timeout == 30.0
    assert ServiceLost("a", "m", "killed").cause == "killed"
    remote = RemoteError("a", "m", "KeyError: 'x'", TRACE)
    assert (remote.type_name, remote.traceback) == ("KeyError", TRACE)
    assert RemoteError("a", "m", "KeyError").type_name == "KeyError"
    assert (
        RemoteError("a", "m", "x", type_name="discord.Forbidden").type_name == "discord.Forbidden"
    )


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ConfigError("no such key"), "no such key"),
        (ConfigError("bad", path="c.toml"), "c.toml: bad"),
        (ConfigError("bad", path="c.toml", line=3, key="host.home"), "c.toml:3: host.home: bad"),
        (ConfigError("bad", key="host.home"), "host.home: bad"),
        (StartError("a", "it hung"), "a did not start: it hung"),
        (PermanentFailure("bad token"), "bad token"),
        (WireError("truncated", b"x" * 200), "not a valid message: truncated"),
        (
            SupervisorGone("/h/run"),
            "no supervisor at /h/run; start one with: garrison up, "
            "or name another home with --home",
        ),
        (OrderFailed("usage", "what?"), "what?"),
    ],
)
def test_every_other_error_says_what_is_wrong(error: GarrisonError, text: str) -> None:
    """All of them are of garrison's own, and none of them ended a call."""
    assert str(error) == text
    assert isinstance(error, GarrisonError)
    assert not isinstance(error, CallError)


def test_a_wire_error_keeps_the_frame_s_beginning() -> None:
    """Enough to know it by; a large one is not held on to."""
    assert len(WireError("x", b"y" * 10_000).frame) == 64


def test_every_error_says_what_can_be_done() -> None:
    """Each class has a docstring of its own."""
    for value in vars(errors).values():
        if isinstance(value, type) and issubclass(value, GarrisonError):
            assert "__doc__" in vars(value)
            assert value.__doc__

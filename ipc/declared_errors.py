"""Declared errors: what a method raises is what its caller catches, with its fields. Pure.

A class that both processes have arrives as itself. Otherwise its nearest declared ancestor arrives,
or else `RemoteError`, with the fields in `data`. Durations are seconds.
"""

import inspect
import math
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self, TypeAlias, get_args, get_type_hints

import msgspec

from .errors import CLASSES, DATA_MOST, DECLARED, Fault, RemoteError
from .marks import Redact, redact_values

DEEPEST = 8  # levels of lists and maps in a field
ANCESTORS_MOST = 8  # declared classes that are named of one error
TEXT_MOST = 2000  # characters of an error's text, on the wire

ModelErrorKind: TypeAlias = Literal["busy", "refused", "auth", "context", "invalid"]


class UnsendableFields(Exception):
    """The fields of a declared error cannot travel; it is sent without them."""


class DeclaredError(RemoteError):
    """Base of errors that arrive at a caller as they were raised, with their fields.

    The fields are the annotations of the class; a class attribute is a default:

        class QuotaSpent(DeclaredError):
            limit: int
            resets_in: float | None = None

        raise QuotaSpent("no more today", limit=3)

    They are plain data, at most 1 KiB encoded. Where it was raised, `service` and `method` are
    empty.
    """

    _fields: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        name = cls.__name__
        before = DECLARED.get(name)
        if before is not None and before.__module__ == __name__ != cls.__module__:
            raise TypeError(f"{name} is an error of garrison's own; name yours otherwise")
        own = [one for one in inspect.get_annotations(cls) if not one.startswith("_")]
        for one in own:
            if hasattr(DeclaredError, one) or one in RESERVED:
                raise TypeError(f"{name}.{one}: every error has a {one}; name the field otherwise")
        cls._fields = tuple(dict.fromkeys([*cls._fields, *own]))
        DECLARED[name] = cls  # the last one of a name, as where a module is imported again

    def __init__(self, text: str = "", **fields: Any) -> None:
        for name in fields:
            if name not in self._fields:
                raise TypeError(f"{type(self).__name__} has no field {name}")
        for name in self._fields:
            if name in fields:
                setattr(self, name, fields[name])
            elif not hasattr(type(self), name):
                raise TypeError(f"{type(self).__name__} needs a value for its field {name}")
        self._set_up(Fault("RemoteError", "", "", type(self).__name__), text)

    def _set_up(self, fault: Fault, reason: str) -> None:
        self.reason = reason
        name = fault.detail.partition(":")[0]
        detail = f"{name}: {reason}" if reason else name
        super().__init__(fault.service, fault.method, detail, fault.traceback, name)

    def text(self) -> str:
        sentence = self.sentence()
        if not self.service:
            return sentence
        raised = f"{self.service}.{self.method} raised {self.type_name}"
        return f"{raised}: {sentence}" if sentence else raised

    def sentence(self) -> str:
        """Return what happened; the text as it was raised, unless a class adds to it."""
        return self.reason

    def fault(self) -> Fault:
        return self.fault_of(self.service, self.method, self.traceback, lambda text: text)

    def fault_of(self, service: str, method: str, traceback: str, redact: Redact) -> Fault:
        """Return this error for the wire, as raised by a method.

        Args:
            service: NAME of the service whose method raised it.
            method: The method.
            traceback: Where.
            redact: Removes from a text what must not be sent.

        Raises:
            UnsendableFields: They are no plain data, nested too deep, or too large.
        """
        reason = redact(str(self.reason))[:TEXT_MOST]
        detail = f"{self.type_name}: {reason}" if reason else self.type_name
        return Fault("RemoteError", service, method, detail, traceback, self._data(redact))

    def _data(self, redact: Redact) -> dict[str, Any]:
        names = [self.type_name, *(cls.__name__ for cls in _declared_classes(type(self)))]
        data: dict[str, Any] = {CLASSES: list(dict.fromkeys(names))[:ANCESTORS_MOST]}
        try:
            fields = self.data | {name: getattr(self, name) for name in self._fields}
            fields = msgspec.to_builtins(fields, str_keys=True)
            if _depth(fields) > DEEPEST + 1:
                raise UnsendableFields(f"its fields are nested more than {DEEPEST} levels deep")
            data |= redact_values(fields, redact)
            size = len(msgspec.msgpack.encode(data))
        except (TypeError, ValueError, OverflowError, RecursionError, AttributeError) as error:
            raise UnsendableFields(f"its fields cannot travel: {error}") from error
        if size > DATA_MOST:
            raise UnsendableFields(f"its fields have {size} bytes, more than {DATA_MOST}")
        return data

    @classmethod
    def arrived(cls, fault: Fault) -> Self:
        """Return the error that a fault describes.

        Raises:
            msgspec.ValidationError: A field has another type here.
            ValueError: A field is missing.
        """
        error = cls.__new__(cls)  # an author's `__init__` may take anything
        hints = _hints(cls)
        for name in cls._fields:
            if name in fault.data:
                value = fault.data[name]
                setattr(error, name, msgspec.convert(value, hints.get(name, Any), strict=False))
            elif not hasattr(cls, name):
                raise ValueError(f"{cls.__name__}.{name} is missing")
        _, _, reason = fault.detail.partition(": ")
        error._set_up(fault, reason)
        error.data = {name: value for name, value in fault.data.items() if name != CLASSES}
        return error


RESERVED = frozenset(  # what each error has, once it is made
    {"service", "method", "detail", "traceback", "type_name", "data", "reason", CLASSES}
)


def _declared_classes(cls: type) -> list[type]:
    """Return a class and its declared ancestors, nearest first."""
    return [one for one in cls.__mro__ if issubclass(one, DeclaredError)][:-1]


def _hints(cls: type) -> dict[str, Any]:
    """Return the types of a class's fields; none where a name of one is not importable."""
    try:
        return get_type_hints(cls)
    except (NameError, TypeError, AttributeError):
        return {}


def _depth(value: Any) -> int:
    """Return how deep plain data is nested."""
    deepest, level = 0, [value]
    while level and deepest <= DEEPEST + 1:
        inner: list[Any] = []
        for one in level:
            if isinstance(one, dict):
                inner += one.values()
            elif isinstance(one, list):
                inner += one
        deepest += any(isinstance(one, list | dict) for one in level)
        level = inner
    return deepest


def _seconds(value: float, what: str) -> float:
    """Return a duration that can be waited for."""
    if not math.isfinite(value):
        raise ValueError(f"{what} is {value}; it must be a number of seconds")
    return max(float(value), 0.0)


class ModelError(DeclaredError):
    """A model gave no answer, and its provider knows why: `kind` decides what follows.

    busy: 429, 5xx, no connection, no answer in time. auth: 401, 403. With both, the next provider
    is called, and this one is passed over for `retry_after`. refused: its content; the next
    provider is called once. context: too long; it is shortened once. invalid: nothing else is
    tried.
    """

    kind: ModelErrorKind
    retry_after: float | None = None

    def __init__(self, kind: str, retry_after: float | None = None, text: str = "") -> None:
        if kind not in get_args(ModelErrorKind):
            kinds = ", ".join(get_args(ModelErrorKind))
            raise ValueError(f"no kind of ModelError: {kind!r}; the kinds are {kinds}")
        if retry_after is not None:
            retry_after = _seconds(retry_after, "retry_after")
        super().__init__(text, kind=kind, retry_after=retry_after)

    @classmethod
    def from_http(
        cls, status: int, headers: Mapping[str, str] | None = None, text: str = ""
    ) -> Self:
        """Return the error that an HTTP status means.

        Args:
            status: The status of the response.
            headers: Its headers; `retry-after-ms` and `retry-after` are read.
            text: Its text.
        """
        return cls(_kind_of_status(status), _retry_after(headers or {}), text)

    def sentence(self) -> str:
        return _sentence(self.kind, self.retry_after, self.reason)


class RetryLater(DeclaredError):
    """It cannot be done now: it is tried again in `seconds`, and not before.

    A posted message is delivered again then; a `start` is tried again then.
    """

    seconds: float

    def __init__(self, seconds: float, text: str = "") -> None:
        super().__init__(text, seconds=_seconds(seconds, "seconds"))

    def sentence(self) -> str:
        return _sentence("", self.seconds, self.reason)


class Busy(DeclaredError):
    """Too much waits already. Nothing was done; send it later."""

    retry_after: float | None = None

    def __init__(self, text: str = "", retry_after: float | None = None) -> None:
        if retry_after is not None:
            retry_after = _seconds(retry_after, "retry_after")
        super().__init__(text, retry_after=retry_after)

    def sentence(self) -> str:
        return _sentence("", self.retry_after, self.reason)


class NotSent(DeclaredError):
    """The platform refused a message for good: too long, forbidden, gone."""


def _kind_of_status(status: int) -> ModelErrorKind:
    if status in {401, 402, 403, 404}:  # the key, the account, or the model that is configured
        return "auth"
    if status in {408, 409, 425, 429} or status >= 500:
        return "busy"
    return "context" if status == 413 else "invalid"


def _retry_after(headers: Mapping[str, str]) -> float | None:
    lower = {name.lower(): value for name, value in headers.items()}
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        try:
            seconds = float(lower[name]) * unit
        except (KeyError, ValueError):  # a date, or nothing
            continue
        if math.isfinite(seconds):
            return seconds
    return None


def _sentence(kind: str, seconds: float | None, reason: str) -> str:
    wait = f"retry after {seconds:g} s" if seconds is not None else ""
    head = ", ".join(one for one in (kind, wait) if one)
    return ": ".join(one for one in (head, reason) if one)

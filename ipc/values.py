"""Values of types that msgspec does not know: which travel, as what, and why others do not. Pure.

Paths, numpy's scalars, pydantic's models and subclasses of str, int, float and bytes travel as the
plain value that they stand for. An annotation brings the type back; without one, the plain value
arrives.
"""

import collections.abc
import dataclasses
import inspect
import io
import socket
import sys
import threading
import types
from collections.abc import Callable, Iterator
from enum import Enum
from pathlib import PurePath
from types import NoneType
from typing import Any, Union, get_args, get_origin

import msgspec

from .error_text import described, type_name

DEEPEST = 40  # levels of a value that are searched for what cannot travel
KEY_MOST = 40  # characters of a key that is shown in a path

BAD_VALUE = (TypeError, ValueError, RecursionError, OverflowError, NotImplementedError)

_PLAIN: dict[type, Callable[[Any], Any]] = {
    str: str.__str__,
    float: float.__float__,
    int: int.__int__,
    bytes: lambda value: bytes(memoryview(value)),
}
_LOCAL = (io.IOBase, socket.socket, type(threading.Lock()), type(threading.RLock()))


# --- which types travel -------------------------------------------------------------------


def _class_of(module: str, name: str) -> type | None:
    """Return a class of a module that is imported already."""
    found = getattr(sys.modules.get(module), name, None)
    return found if isinstance(found, type) else None


def _is_a(cls: type, module: str, name: str) -> bool:
    base = _class_of(module, name)
    return base is not None and issubclass(cls, base)


def encode_hook(value: Any) -> Any:
    """Return what travels in place of a value of an unknown type. Raises TypeError: nothing can."""
    cls = type(value)
    if issubclass(cls, PurePath):
        return str(value)
    if _is_a(cls, "numpy", "generic"):
        plain = value.item()
        if type(plain) is not cls:
            return plain
    elif _is_a(cls, "pydantic", "BaseModel"):
        dump = getattr(value, "model_dump", None) or value.dict  # pydantic 1 has `dict`
        return dump(by_alias=True)
    else:
        for base, convert in _PLAIN.items():
            if issubclass(cls, base):
                return convert(value)
    raise TypeError(f"a value of type {_shown(cls)} cannot travel")


def decode_hook(cls: type, value: Any) -> Any:
    """Return a value of an annotated type that msgspec does not know.

    Raises:
        TypeError: The value does not fit, or no value of the type travels.
        ValueError: The value does not fit.
    """
    if cls is object:
        return value
    if _is_a(cls, "pydantic", "BaseModel"):
        validate: Any = getattr(cls, "model_validate", None) or cls.parse_obj  # type: ignore[attr-defined]
        return validate(value)
    if issubclass(cls, PurePath):
        if not isinstance(value, str):
            raise TypeError(f"Expected `str`, got `{type_name(value)}`")
        return cls(value)
    if travels(cls):
        make: Any = cls
        return make(value)
    raise NotImplementedError(f"a value of type {_shown(cls)} cannot travel")


def travels(cls: Any) -> bool:
    """Return True if values of a class that msgspec does not know travel nevertheless."""
    if not isinstance(cls, type):
        return False
    return (
        cls is object
        or issubclass(cls, (PurePath, *_PLAIN))
        or _is_a(cls, "numpy", "generic")
        or _is_a(cls, "pydantic", "BaseModel")
    )


def known_annotation(annotation: Any) -> Any:
    """Return an annotation as msgspec takes it: `object` is any value, and a union drops a member
    that travels as another of its members (`str | Path` is `str`)."""
    if annotation is object:
        return Any
    origin, args = get_origin(annotation), get_args(annotation)
    if origin in {Union, types.UnionType}:
        members = [known_annotation(one) for one in args]
        if Any in members:
            return Any
        kept = [one for one in members if not (_travels_as(one) & set(members))]
        return Union[tuple(kept)]  # noqa: UP007 (the members are computed)
    if isinstance(annotation, types.GenericAlias) and args:
        known = tuple(known_annotation(one) for one in args)
        origin_class: Any = origin
        return annotation if known == args else types.GenericAlias(origin_class, known)
    return annotation


def _travels_as(cls: Any) -> set[type]:
    """Return the plain types, other than itself, that values of a class travel as."""
    if not travels(cls) or cls in _PLAIN:
        return set()
    if issubclass(cls, PurePath):
        return {str}
    return {base for base in _PLAIN if issubclass(cls, base)}


_encode = msgspec.msgpack.Encoder(enc_hook=encode_hook).encode
_check_whole = msgspec.msgpack.Decoder(msgspec.Raw).decode


def encode(value: Any) -> bytes:
    """Encode a value. Raises one of BAD_VALUE.

    A `msgspec.Raw` in it is copied unread, and bytes that are no value would take the rest of their
    batch along. So the whole is looked over once, without decoding it.
    """
    encoded = _encode(value)
    _check_whole(encoded)
    return encoded


def decoder(annotation: Any) -> Callable[[Any], Any]:
    """Return a decoder of an annotation. Raises TypeError if msgspec refuses it."""
    known = known_annotation(annotation)
    return msgspec.msgpack.Decoder(known, dec_hook=decode_hook).decode


def convert(value: Any, annotation: Any) -> Any:
    """Convert builtins to an annotation. Raises msgspec.ValidationError."""
    return msgspec.convert(value, known_annotation(annotation), dec_hook=decode_hook)


# --- why a value does not travel ----------------------------------------------------------


def problem(value: Any, error: BaseException, root: str, verb: str = "return") -> str:
    """Return which part of a value cannot travel, of which type it is, and what to do instead.

    Args:
        value: The value whose encoding failed.
        error: How it failed.
        root: What the value is called: `result`.
        verb: What its author does with it: "return", "pass".
    """
    try:
        path, part, cause = _search(root, value, DEEPEST) or (root, value, error)
        return f"{path} is {_what(part, cause)}: {_instead(part, cause, verb)}"
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException:  # noqa: BLE001 (the value's own code may raise anything)
        return f"{root} cannot travel: {described(error)}"


def arguments_problem(args: Any, kwargs: dict[str, Any], error: BaseException) -> str:
    """Return the same of a call's arguments."""
    parts = [(f"argument {n}", value) for n, value in enumerate(args, 1)]
    for root, value in [*parts, *kwargs.items()]:
        if _failure(value) is not None:
            return problem(value, error, root, "pass")
    return described(error)


def _failure(value: Any) -> BaseException | None:
    try:
        encode(value)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # noqa: BLE001 (the value's own code may raise anything)
        return error
    return None


def _search(path: str, value: Any, levels: int) -> tuple[str, Any, BaseException] | None:
    """Return the innermost part that cannot be encoded: its path, itself and the error."""
    error = _failure(value)
    if error is None:
        return None
    if levels and not isinstance(error, RecursionError):
        for name, part in _parts(value):
            if (found := _search(path + name, part, levels - 1)) is not None:
                return found
    return path, value, error


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield the parts of a value, by what is appended to its path."""
    cls = type(value)
    if isinstance(value, dict):
        for key, part in dict.items(value):
            shown = _shown_key(key)
            yield f" (its key {shown})", key
            yield f"[{shown}]", part
    elif isinstance(value, list | tuple):
        for n, part in enumerate(value):
            yield f"[{n}]", part
    elif isinstance(value, set | frozenset):
        for part in value:
            yield " (an element)", part
    elif isinstance(value, Enum):
        yield ".value", value.value
    elif _is_a(cls, "pydantic", "BaseModel"):
        for name, part in vars(value).items():
            yield f".{name}", part
    else:
        for name in _fields(cls):
            yield f".{name}", getattr(value, name)


def _shown_key(key: Any) -> str:
    """Return a key as it appears in a path. A long one is left out, not cut: half of a secret is
    not found by what redacts it."""
    if type(key) is str and len(key) <= KEY_MOST:
        return f'"{key}"'
    if type(key) in {int, float, bool, NoneType}:
        return repr(key)
    return f"<{type_name(key)}>"


def _fields(cls: type) -> list[str]:
    if issubclass(cls, msgspec.Struct):
        return list(cls.__struct_fields__)
    if dataclasses.is_dataclass(cls):
        return [field.name for field in dataclasses.fields(cls)]
    return [field.name for field in getattr(cls, "__attrs_attrs__", ())]


def _what(part: Any, cause: BaseException) -> str:
    if isinstance(cause, RecursionError):
        return f"a {_shown(type(part))} that contains itself, or is nested too deeply"
    if isinstance(cause, UnicodeError):
        return "a str with half a character (a lone surrogate), which cannot travel"
    if isinstance(cause, OverflowError):
        return "an int of more than 64 bits, which cannot travel"
    if isinstance(part, msgspec.Raw):
        return "a msgspec.Raw whose bytes are no MessagePack value, which cannot travel"
    shown = f"a {_shown(type(part))}, which cannot travel"
    own = isinstance(cause, TypeError) and "cannot travel" in str(cause)
    return shown if own else f"{shown} ({described(cause)})"


def _instead(part: Any, cause: BaseException, verb: str) -> str:
    """Return what to do instead, by the kind of the value."""
    if isinstance(cause, RecursionError):
        return f"{verb} its data as a flat list or dict"
    if isinstance(cause, UnicodeError):
        return f'{verb} it as bytes: text.encode("utf-8", "surrogateescape")'
    if isinstance(cause, OverflowError):
        return f"{verb} it as str"
    if isinstance(part, msgspec.Raw):
        return f"{verb} bytes(…) of it, or the value itself"
    if inspect.isawaitable(part):
        return (
            "it is the future of a call or a coroutine, not its result; "
            "write `await` before the call"
        )
    if isinstance(part, BaseException):
        return f"{verb} its text, str(error)" + (", or raise it" if verb == "return" else "")
    if isinstance(part, type) or inspect.isroutine(part) or inspect.ismodule(part):
        return f"{verb} its name, or what it returns"
    if isinstance(part, _LOCAL) or hasattr(part, "fileno"):
        return f"it exists in this process alone; {verb} the data that the other side needs"
    if isinstance(part, complex):  # also numpy's
        return f"{verb} [value.real, value.imag]"
    if _is_a(type(part), "numpy", "generic"):  # its own `tolist` returns the same type
        return f"{verb} float(…) of it"
    for method in ("tolist", "to_dict"):
        if hasattr(part, method):
            return f"{verb} .{method}() of it"
    if isinstance(part, collections.abc.Iterator | collections.abc.AsyncIterator):
        stream = ", or make the method an async generator, which streams"
        return f"{verb} list(…) of it{stream if verb == 'return' else ''}"
    if isinstance(part, collections.abc.Mapping):
        return f"{verb} dict(…) of it"
    if isinstance(part, collections.abc.Iterable):
        return f"{verb} list(…) of it"
    module = type(part).__module__.partition(".")[0]
    if module in sys.stdlib_module_names - {"builtins", "types"}:  # no class of an author's
        return f"{verb} str(…) of it, or its fields as a dict"
    return (
        f"{verb} its fields as a dict, or make its class a dataclass or a msgspec.Struct of "
        "plain values"
    )


def _shown(cls: type) -> str:
    module = getattr(cls, "__module__", "")
    name = getattr(cls, "__qualname__", "?")
    return name if module == "builtins" else f"{module}.{name}"

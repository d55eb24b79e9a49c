"""A service's public methods: which can be called remotely, and the conversion of arguments."""

import functools
import inspect
import re
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Mapping
from enum import Enum
from types import UnionType
from typing import Any, Union, get_args, get_origin

import msgspec
from msgspec import UNSET, Raw

from garrison.ipc import frames, values
from garrison.ipc.error_text import described
from garrison.ipc.messages import EMPTY_MAP, Call, Framed, Manifest, MethodInfo, Value
from garrison.workers.agents.components import IDEMPOTENT
from garrison.workers.agents.database.queries import snake_case
from garrison.workers.platform.platform import HOOKS, Platform
from garrison.workers.service import RESERVED, Service

from . import health, lifecycle

_encode = msgspec.msgpack.Encoder().encode
_astuple = msgspec.structs.astuple

SECRETS_MOST = 16  # of a service, with where to get each
ATTRIBUTES_MOST = 64  # of a service that are described, and characters of a name
METHODS_KEPT = 2048  # that are described
CACHED = type(functools.lru_cache(lambda: None))
# what to do about a union whose members look the same on the wire
_UNION = "; make its members msgspec.Struct classes with a tag: class A(msgspec.Struct, tag=True)"


class MethodKind(Enum):
    """How a method is run."""

    ASYNC = "async def"
    THREAD = "def"
    STREAM = "async generator"


class InvalidArguments(Exception):
    """Arguments do not match, or a signature cannot be used remotely; the text is the reason."""


class Method:
    """One method that other processes can call.

    Args:
        name: Its name.
        function: The function in its class, unbound.

    Raises:
        InvalidArguments: Its signature has a type that cannot be encoded.
    """

    def __init__(self, name: str, function: Callable[..., Any]) -> None:
        self.name = name
        self.function = function
        self.kind = _kind(function)
        self._signature = _signature(function)
        self._parameters = list(self._signature.parameters.values())[1:]  # without self
        for parameter in self._parameters:
            _check(_annotation(parameter.annotation), f"its parameter {parameter.name}")
        _check(self._result(), "its result")
        # elizaOS's queries: a method of named arguments alone also takes a mapping of them
        self._is_query = bool(self._parameters) and all(
            parameter.kind is parameter.KEYWORD_ONLY for parameter in self._parameters
        )
        self._take_bytes = {
            number
            for number, parameter in enumerate(self._parameters)
            if _annotation(parameter.annotation) in (Any, bytes)
        }

    @functools.cached_property
    def info(self) -> MethodInfo:
        """Return its entry in the manifest."""
        shown = self._signature.replace(parameters=self._parameters)
        summary = (inspect.getdoc(self.function) or "").partition("\n")[0]
        signature = re.sub(r"\b(?:\w+\.)+(?=[A-Z])", "", str(shown))  # without modules
        idempotent = (
            getattr(self.function, IDEMPOTENT, False) and self.kind is not MethodKind.STREAM
        )
        return MethodInfo(
            self.name, self.kind is MethodKind.STREAM, signature[:500], summary[:200], idempotent
        )

    @functools.cached_property
    def _positional(self) -> Callable[[Any], Any] | None:
        """Return what decodes positional arguments; made at the first call: most have none."""
        return None if self._is_query else self._fast_decoder()

    def bind(self, call: Call) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the arguments of a call, converted to the method's annotations.

        Raises:
            InvalidArguments: They do not match.
        """
        try:
            if call.kwargs == EMPTY_MAP and self._positional is not None:
                if type(call.args) is Raw:
                    given = _astuple(self._positional(call.args))
                else:
                    given = self._convert(call.args)
                while given and given[-1] is UNSET:
                    given = given[:-1]
                return given, {}
            return self._bind_slowly(call.args, call.kwargs)
        except msgspec.ValidationError as error:
            raise InvalidArguments(self._human(str(error))) from error
        except (InvalidArguments, KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # an argument's class may have code of its own
            raise InvalidArguments(
                f"its arguments cannot be decoded: {described(error)}"
            ) from error

    def _convert(self, args: Value) -> tuple[Any, ...]:
        """Convert positional arguments. Where a parameter takes any bytes, an argument that came
        as a frame of its own is passed on as it is, without a copy."""
        assert self._positional is not None
        if not isinstance(args, Framed):
            return msgspec.structs.astuple(self._positional(args))
        parts = args.value
        if isinstance(parts, list):
            framed = [n for n, part in enumerate(parts) if type(part) is bytes]
            if all(n in self._take_bytes for n in framed):
                rest = [b"" if type(part) is bytes else part for part in parts]
                converted = list(msgspec.structs.astuple(self._positional(_encode(rest))))
                for n in framed:
                    converted[n] = parts[n]
                return tuple(converted)
        return msgspec.structs.astuple(self._positional(args.joined()))

    def _bind_slowly(self, args: Value, kwargs: Value) -> tuple[tuple[Any, ...], dict[str, Any]]:
        signature = self._signature.replace(parameters=self._parameters)
        given, named = frames.decode_args(args), frames.decode_kwargs(kwargs)
        if self._is_query and len(given) == 1 and isinstance(given[0], dict):
            given, named = [], given[0] | named
        try:
            bound = signature.bind(*given, **self._respell(named))
        except TypeError as error:
            raise InvalidArguments(f"{error}; it takes {signature}") from error
        for name, value in bound.arguments.items():
            parameter = signature.parameters[name]
            annotation = _annotation(parameter.annotation)
            if parameter.kind is parameter.VAR_POSITIONAL:
                annotation = tuple[annotation, ...]  # type: ignore[valid-type]
            elif parameter.kind is parameter.VAR_KEYWORD:
                annotation = dict[str, annotation]  # type: ignore[valid-type]
            try:
                bound.arguments[name] = values.convert(value, annotation)
            except msgspec.ValidationError as error:
                raise InvalidArguments(f"{name}: {_plain(str(error))}") from error
        return bound.args, bound.kwargs

    def _respell(self, named: dict[str, Any]) -> dict[str, Any]:
        """Return named arguments with elizaOS's spelling, `roomId`, replaced by the method's own
        `room_id`. Names that the method has as they are, or has in neither way, are left."""
        known = self._signature.parameters
        result: dict[str, Any] = {}
        for name, value in named.items():
            own = name if name in known or snake_case(name) not in known else snake_case(name)
            if own in named and own != name:
                raise InvalidArguments(f"{own!r} is given twice, also as {name!r}")
            result[own] = value
        return result

    def _fast_decoder(self) -> Callable[[Any], Any] | None:
        shape: list[tuple[Any, bool]] = []
        for parameter in self._parameters:
            if parameter.kind is parameter.KEYWORD_ONLY:
                if parameter.default is parameter.empty:
                    return None
                continue
            if parameter.kind in {parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD}:
                return None
            optional = parameter.default is not parameter.empty
            shape.append((_annotation(parameter.annotation), optional))
        try:
            return _known_decoder(tuple(shape))
        except TypeError:  # an annotation cannot be hashed
            return _decoder(tuple(shape))

    def _result(self) -> Any:
        annotation = self._signature.return_annotation
        if annotation is inspect.Signature.empty:
            return Any
        if self.kind is MethodKind.STREAM:
            if get_origin(annotation) in {AsyncIterator, AsyncGenerator, AsyncIterable}:
                return _annotation(get_args(annotation)[0])
            return Any
        return _annotation(annotation)

    def _human(self, text: str) -> str:
        """Replace the `$[2]` in an error of msgspec by the parameter's name."""
        signature = self._signature.replace(parameters=self._parameters)
        text = text.replace(" - at `key` in `$", ", for a key - at `$")
        if "- at `$" not in text:  # about the list itself: its length
            count = re.search(r"of (at (?:most|least)) length (\d+), got (\d+)", text)
            if count is not None:
                noun = "argument" if count[2] == "1" else "arguments"
                text = f"it takes {count[1]} {count[2]} {noun}, not {count[3]}"
            return f"{_plain(text)}: {self.name}{signature}"
        problem, _, path = text.partition(" - at `$")
        found = re.match(r"\[(\d+)\](.*?)`?$", path)
        if found is None:
            return _plain(text)
        parameter = self._parameters[int(found[1])].name
        return f"{parameter}{found[2]}: {_plain(problem)}"


# A worker inherits those of its launcher, which has described the classes of preloaded plugins.
_method = functools.lru_cache(maxsize=METHODS_KEPT)(Method)


def describe(cls: type) -> tuple[Manifest, dict[str, Method]]:
    """Return the manifest of a service class, or of a fake's class, and its methods by name."""
    methods: dict[str, Method] = {}
    left_out: dict[str, str] = {}
    for name, function in _public(cls):
        try:
            if isinstance(function, CACHED):
                raise InvalidArguments(
                    "functools.cache and lru_cache hide that it is a method, and keep every "
                    "instance: have a plain method call a cached function"
                )
            if not inspect.isfunction(function):
                raise InvalidArguments("a class method or static method cannot be called remotely")
            methods[name] = _method(name, function)
        except InvalidArguments as error:
            left_out[name] = str(error)
    service_type = getattr(cls, "service_type", "")
    description = getattr(cls, "capability_description", "")
    manifest = Manifest(
        service_type if isinstance(service_type, str) else "",
        description if isinstance(description, str) else "",
        tuple(method.info for method in methods.values()),
        left_out,
        mail_window=_window(cls),
        notes=tuple(filter(None, [health.note_on(cls), lifecycle.note_on(cls)])),
        frames=True,
        attributes=_attributes(cls),
        platform=issubclass(cls, Platform),
        credential=cls.credential if issubclass(cls, Platform) else "",
        secrets=_secrets(cls),
        serves_paused=getattr(cls, "_serves_paused", False) is True,
    )
    return manifest, methods


def _secrets(cls: type) -> dict[str, str]:
    """Return the secrets that a class states; what has another form is left out."""
    stated = getattr(cls, "secrets", {})
    if not isinstance(stated, Mapping):
        return {}
    texts = {k: v for k, v in stated.items() if isinstance(k, str) and isinstance(v, str)}
    return dict(list(texts.items())[:SECRETS_MOST])


def with_attributes(manifest: Manifest, service: object) -> Manifest:
    """Return a manifest that also describes the attributes that `start` has set."""
    own = {name: _what_it_is(value) for name, value in vars(service).items() if _is_public(name)}
    described = dict(list((manifest.attributes | own).items())[:ATTRIBUTES_MOST])
    return msgspec.structs.replace(manifest, attributes=described)


def _attributes(cls: type) -> dict[str, str]:
    """Return the public names of a class that are no methods, and what each one is."""
    found: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        if base in {object, Service, Platform}:
            continue
        for name, value in vars(base).items():
            found.pop(name, None)
            is_method = inspect.isfunction(value) or isinstance(value, _METHODS)
            if not is_method and _is_public(name):
                found[name] = _what_it_is(value)
    return dict(list(found.items())[:ATTRIBUTES_MOST])


def _is_public(name: str) -> bool:
    known = name in RESERVED or name in vars(Service) or name in vars(Platform) or name == "Config"
    return not (name.startswith("_") or known or len(name) > ATTRIBUTES_MOST)


def _what_it_is(value: object) -> str:
    if isinstance(value, property | functools.cached_property):
        return "a property, which only its own process can read: make it a method"
    if isinstance(value, type):
        return "a class, not a method"
    if callable(value):
        kind = type(value).__name__[:ATTRIBUTES_MOST]
        return f"an attribute that holds a {kind}, not a method: write a def that calls it"
    kind = type(value).__name__[:ATTRIBUTES_MOST]
    return f"an attribute ({kind}), not a method: return it from a method"


_METHODS = (classmethod, staticmethod, CACHED)


def _window(cls: type) -> int:
    window = getattr(cls, "mail_window", 1)
    return window if isinstance(window, int) and 1 <= window <= 1024 else 1


def _public(cls: type) -> list[tuple[str, Any]]:
    found: dict[str, Any] = {}
    for base in reversed(cls.__mro__):
        if base is object or base is Service:
            continue
        for name, value in vars(base).items():
            if name.startswith("_") or name in RESERVED - {health.NAME}:
                continue
            if inspect.isfunction(value) or isinstance(value, _METHODS):
                found[name] = value
            else:
                found.pop(name, None)  # overridden by another attribute
    if issubclass(cls, Platform):
        for name in HOOKS:
            found.pop(name, None)
    if health.NAME in found and not health.health_method_problem(found[health.NAME]):
        del found[health.NAME]  # only its worker calls it
    return list(found.items())


def _kind(function: Callable[..., Any]) -> MethodKind:
    if inspect.isasyncgenfunction(function):
        return MethodKind.STREAM
    if inspect.iscoroutinefunction(function):
        return MethodKind.ASYNC
    if inspect.isgeneratorfunction(function):
        raise InvalidArguments(
            "a plain generator cannot be called remotely; make it async, as a stream"
        )
    return MethodKind.THREAD


def _signature(function: Callable[..., Any]) -> inspect.Signature:
    try:
        return inspect.signature(function, eval_str=True)
    except NameError as error:
        raise InvalidArguments(f"its annotation {error.name} is not defined at run time") from error
    except (TypeError, ValueError, SyntaxError, AttributeError) as error:
        raise InvalidArguments(f"its signature cannot be read: {error}") from error


def _annotation(annotation: Any) -> Any:
    return Any if annotation is inspect.Parameter.empty else values.known_annotation(annotation)


def _check(annotation: Any, what: str) -> None:
    """Raise InvalidArguments if values of a type cannot be encoded."""
    try:
        custom = _unsupported(annotation)
    except (TypeError, ValueError, NameError, RecursionError) as error:
        why = f"{what} cannot be encoded: {str(error).splitlines()[0]}"
        raise InvalidArguments(f"{why}{_UNION if 'unions' in why else ''}") from error
    if custom is not None:
        name = getattr(custom, "__qualname__", None) or repr(custom)
        raise InvalidArguments(
            f"{what} cannot be encoded: {getattr(custom, '__module__', '')}.{name}"
        )


def _unsupported(annotation: Any) -> Any:
    """Return the first type inside that cannot travel, or None.

    Raises:
        TypeError, ValueError, NameError, RecursionError: It is no type for msgspec.
    """
    try:
        hash(annotation)
    except TypeError:  # a `Literal` or metadata may have none
        return _find_unsupported(annotation)
    return _known_unsupported(annotation)


def _find_unsupported(annotation: Any) -> Any:
    msgspec.msgpack.Decoder(annotation)
    if get_origin(annotation) not in _OF_OTHERS:
        return _custom(msgspec.inspect.type_info(annotation), set())
    for one in get_args(annotation):
        found = _unsupported(one)
        if found is not None:
            return found
    return None


def _decoder(shape: tuple[tuple[Any, bool], ...]) -> Callable[[Any], Any]:
    """Return a decoder of positional arguments.

    Args:
        shape: The annotation of each, and whether it may be left out.
    """
    fields: list[Any] = []
    for annotation, optional in shape:
        name = f"a{len(fields)}"
        fields.append((name, annotation, UNSET) if optional else (name, annotation))
    made = msgspec.defstruct("Arguments", fields, array_like=True, forbid_unknown_fields=True)
    return values.decoder(made)


def prepare() -> None:
    """Make the decoders of usual arguments, in the process that workers are forked from."""
    _known_decoder(())
    for annotation in (Any, bytes, dict[str, Any], int, str):
        _known_decoder(((annotation, False),))


_known_decoder = functools.lru_cache(maxsize=METHODS_KEPT)(_decoder)
# Methods have the same types again and again, and to describe one takes a tenth of a millisecond.
_known_unsupported = functools.lru_cache(maxsize=METHODS_KEPT)(_find_unsupported)
_OF_OTHERS = frozenset({list, dict, Union, UnionType})
_PLAIN = frozenset(  # types that have no types inside
    {
        *(msgspec.inspect.AnyType, msgspec.inspect.NoneType, msgspec.inspect.BoolType),
        *(msgspec.inspect.IntType, msgspec.inspect.FloatType, msgspec.inspect.StrType),
        *(msgspec.inspect.BytesType, msgspec.inspect.LiteralType, msgspec.inspect.EnumType),
    }
)


def _custom(info: Any, seen: set[int]) -> Any:
    """Return the first type inside that msgspec does not support, or None."""
    if type(info) in _PLAIN or id(info) in seen:
        return None
    seen.add(id(info))
    if isinstance(info, msgspec.inspect.CustomType):
        return None if values.travels(info.cls) else info.cls
    if isinstance(info, msgspec.inspect.Type | msgspec.inspect.Field):
        for name in getattr(info, "__struct_fields__", ()):
            value = getattr(info, name)
            for one in value if isinstance(value, tuple) else (value,):
                if isinstance(one, msgspec.inspect.Type | msgspec.inspect.Field):
                    found = _custom(one, seen)
                    if found is not None:
                        return found
    return None


def _plain(text: str) -> str:
    text = text.replace(" - at `key` in `$", ", for a key - at `$")
    text = re.sub(r" - at `\$`$", "", text)
    text = re.sub(r" - at `\$(.*?)`$", r" at \1", text).replace("`", "")
    return text[:1].lower() + text[1:]

"""Proxies of services in other processes, streams, `with_timeout` and `state`."""

import asyncio
import concurrent.futures
import inspect
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, NoReturn, Self, TypeVar, cast, get_args, get_origin

import msgspec
from msgspec import Raw

from . import frames, values
from .call_start import Decode
from .caller import Caller, check_number
from .error_text import error_text
from .errors import CallError, RemoteError
from .messages import MethodInfo, State, Value

T = TypeVar("T")

STREAM_CREDIT = 32  # items that may arrive before the consumer took one


class ServiceProxy:
    """A service by its NAME. It stays valid when the service restarts.

    A method sends its call at once and returns a future; outside of the loop's thread, a
    `concurrent.futures.Future`. A method that streams returns an asynchronous iterator.
    """

    __slots__ = ("__dict__", "__weakref__", "_class", "_client", "_name", "_timeout")
    _client: Caller
    _name: str
    _class: type | None
    _timeout: float | None

    def __init__(
        self, client: Caller, name: str, cls: type | None = None, timeout: float | None = None
    ) -> None:
        fields = {"_client": client, "_name": name, "_class": cls, "_timeout": timeout}
        for field, value in fields.items():
            object.__setattr__(self, field, value)
        client.proxies[id(self)] = self

    @property
    def service_type(self) -> str:
        """Return the service's type."""
        entry = self._client.directory.get(self._name)
        return entry.manifest.service_type if entry else ""

    @property
    def capability_description(self) -> str:
        """Return what the service says it can do."""
        entry = self._client.directory.get(self._name)
        return entry.manifest.description if entry else ""

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("_"):
            raise AttributeError(f"{self!r} has no method {name!r}")
        method = self.__dict__[name] = remote_method(self, name)
        return method

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(
            f"{self._name}.{name} cannot be set: {self._name} is in another process, so the value "
            "would not reach it; give it a method that takes the value, and call that"
        )

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(
            f"{self._name}.{name} cannot be deleted: {self._name} is in another process"
        )

    def _find(self, name: str) -> MethodInfo:
        entry = self._client.directory.get(self._name)
        if entry is None:
            raise AttributeError(f"{self._name}.{name}: {self._name} is no longer configured")
        for method in entry.manifest.methods:
            if method.name == name:
                return method
        raise AttributeError(f"{self._name}.{name}: {entry.manifest.why_not(name)}")

    def __dir__(self) -> list[str]:
        entry = self._client.directory.get(self._name)
        methods = [method.name for method in entry.manifest.methods] if entry else []
        return sorted([*super().__dir__(), *methods])

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ServiceProxy):
            return NotImplemented
        return (self._client, self._name) == (other._client, other._name)

    def __hash__(self) -> int:
        return hash((id(self._client), self._name))

    def __repr__(self) -> str:
        entry = self._client.directory.get(self._name)
        return f"<service {self._name}: {entry.state.value if entry else 'not configured'}>"


def remote_method(proxy: ServiceProxy, name: str) -> "RemoteMethod":
    """Return a service's method of a name; never an attribute of the proxy itself.

    Raises:
        AttributeError: The service has no such method; the text says what the name is.
    """
    info = proxy._find(name)
    return RemoteMethod(proxy._client, proxy._name, info, proxy._class, proxy._timeout)


def with_timeout(proxy: T, seconds: float) -> T:
    """Return a proxy of the same service with another deadline for its calls, in seconds."""
    if not isinstance(proxy, ServiceProxy):
        raise TypeError(f"with_timeout takes what get_service returned, not {proxy!r}")
    check_number(seconds, "a deadline is")
    if not 0 < seconds < float("inf"):
        raise ValueError(f"a deadline is a number of seconds above 0, not {seconds!r}")
    made = type(proxy)(proxy._client, proxy._name, proxy._class, float(seconds))
    return cast("T", made)


def state(proxy: object) -> State | None:
    """Return the state of a service; None if it is no longer configured."""
    if not isinstance(proxy, ServiceProxy):
        raise TypeError(f"state takes what get_service returned, not {proxy!r}")
    entry = proxy._client.directory.get(proxy._name)
    return entry.state if entry else None


class RemoteMethod:
    """One method of a service."""

    __slots__ = ("_client", "_decode", "_info", "_name", "_timeout")

    def __init__(
        self,
        client: Caller,
        name: str,
        info: MethodInfo,
        cls: type | None,
        timeout: float | None,
    ) -> None:
        self._client, self._name, self._info, self._timeout = client, name, info, timeout
        self._decode = result_decoder(cls, info)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        client, info = self._client, self._info
        if info.stream:
            if threading.get_ident() != client.thread:
                raise RuntimeError(
                    f"{self._name}.{info.name} streams, which a thread cannot take: call it from "
                    "an async method"
                )
            return Stream(client, self._name, info.name, args, kwargs, self._timeout, self._decode)
        if threading.get_ident() == client.thread:
            future: asyncio.Future[Any] = client.loop.create_future()
            client.call(
                self._name,
                info.name,
                args,
                kwargs,
                self._timeout,
                self._decode,
                future,
                info.idempotent,
            )
            return future
        return self._from_thread(args, kwargs)

    def _from_thread(
        self, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> concurrent.futures.Future[Any]:
        async def call() -> Any:
            return await self(*args, **kwargs)

        return asyncio.run_coroutine_threadsafe(call(), self._client.loop)

    def __repr__(self) -> str:
        return f"<method {self._name}.{self._info.name}{self._info.signature}>"


def result_decoder(cls: type | None, info: MethodInfo) -> Decode:
    """Return a decoder for the method's return annotation; without one, for builtins."""
    annotation: Any = Any
    if cls is not None and (method := getattr(cls, info.name, None)) is not None:
        annotation = return_annotation(method)
    try:
        return values.decoder(annotation)
    except TypeError:
        return msgspec.msgpack.Decoder().decode


def return_annotation(method: Callable[..., Any]) -> Any:
    """Return the annotation of a method's result, or of its items if it is a generator."""
    function = inspect.unwrap(method)
    try:
        signature = inspect.signature(function, eval_str=True)
    except (NameError, TypeError, ValueError):
        return Any
    annotation = signature.return_annotation
    if annotation is inspect.Signature.empty:
        return Any
    origin = get_origin(annotation)
    if origin is not None and hasattr(origin, "__aiter__"):
        return get_args(annotation)[0]
    return annotation


class Stream:
    """The items of an asynchronous generator in another process.

    The deadline is for each next item, and counts while a consumer waits. Closing it early with
    `aclose`, or dropping the iterator, cancels the method.
    """

    def __init__(
        self,
        client: Caller,
        name: str,
        method: str,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        timeout: float | None,
        decode: Decode,
    ) -> None:
        self._client = client
        self._where = name, method
        self._decode = decode
        self._values: deque[Value] = deque()
        self._taken = 0
        self._ended = False
        self._error: CallError | None = None
        self._waiter: asyncio.Future[None] | None = None
        self.call_id = client.stream(name, method, args, kwargs, timeout, self)

    def arrived(self, value: Value) -> None:
        """Take the next item from the wire."""
        self._values.append(value)
        self._wake()

    def settle(self, outcome: Value | CallError) -> None:
        """Take the stream's end."""
        self._ended = True
        self._error = outcome if isinstance(outcome, CallError) else None
        self._wake()

    @property
    def wants_more(self) -> bool:
        """Return True if a consumer waits for the next item."""
        return self._waiter is not None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        while not self._values:
            if self._ended:
                error, self._error = self._error, None
                raise error if error is not None else StopAsyncIteration
            self._waiter = self._client.loop.create_future()
            self._client.calls.renew(self.call_id, self._client.now())
            self._client.schedule()
            try:
                await self._waiter
            finally:
                self._waiter = None
        value = self._values.popleft()
        self._taken += 1
        if self._taken >= STREAM_CREDIT // 2 and not self._ended:
            self._client.calls.grant(self.call_id, self._taken)
            self._taken = 0
        return decoded(self._decode, value, *self._where)

    async def aclose(self) -> None:
        """End the stream and cancel its method."""
        self._values.clear()
        if not self._ended:
            self._ended = True
            self._client.cancel(self.call_id)

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def __del__(self) -> None:
        if not getattr(self, "_ended", True) and not self._client.loop.is_closed():
            self._client.loop.call_soon_threadsafe(self._client.cancel, self.call_id)


def service_name_of(wanted: str | Callable[..., object]) -> tuple[str, type | None]:
    """Return a NAME or type, and the class by which results are converted."""
    if isinstance(wanted, str):
        return wanted, None
    service_type = getattr(wanted, "service_type", None)
    if not isinstance(service_type, str) or not service_type:
        raise TypeError(
            f"get_service takes a NAME, a service_type, or a class that has one, not {wanted!r}"
        )
    return service_type, cast("type", wanted)


def decoded(decode: Decode, value: Value, name: str, method: str) -> Any:
    """Decode a result. Raises RemoteError if it does not fit its annotation."""
    try:
        return decode(value) if type(value) is Raw else frames.decoded(decode, value)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # a result type's own code may raise anything
        detail = f"ValidationError: its result does not fit: {error_text(error)}"
        raise RemoteError(name, method, detail) from error

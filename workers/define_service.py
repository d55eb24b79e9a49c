"""`define_service`: a service of functions, as elizaOS's `defineService` and `createService`."""

from collections.abc import Callable, Iterable
from typing import Any, Self

import msgspec

from garrison.workers.agents.functions import await_with_prefix
from garrison.workers.agents.validation import check_takes

from .runtime import Runtime
from .service import RESERVED, Service


def define_service(
    service_type: str,
    *,
    description: str = "",
    start: Callable[..., Any] | None = None,
    stop: Callable[..., Any] | None = None,
    methods: Iterable[Callable[..., Any]] = (),
    config: type[msgspec.Struct] | None = None,
) -> type[Service]:
    """Return a service class that is made of functions, for `Plugin(services=[…])`.

    Args:
        service_type: The type that `get_service` finds it by.
        description: One sentence on what it does.
        start: `start(runtime, service)`, `async def` or plain. What it returns is `service.value`.
        stop: `stop(service)`, likewise; called at each orderly end of a service that was started.
        methods: What other services can call, by the functions' names; each takes the service as
            its first argument.
        config: A `msgspec.Struct` for `[services.NAME.config]`.

    Raises:
        TypeError: The type is no text, or a function requires other arguments.
        ValueError: The type is empty, or a method has a reserved name, or one of another method.
    """
    if not isinstance(service_type, str):
        raise TypeError(f"a service_type is a text, not {service_type!r:.80}")
    if not service_type:
        raise ValueError("define_service needs a service_type, which get_service finds it by")
    what = f"of define_service({service_type!r})"
    if start is not None:
        check_takes(start, f"start {what}", "runtime", "service")
    if stop is not None:
        check_takes(stop, f"stop {what}", "service")
    attributes: dict[str, Any] = {
        "service_type": service_type,
        "capability_description": description,
        "_start_function": staticmethod(start) if start is not None else None,
        "_stop_function": staticmethod(stop) if stop is not None else None,
        "__doc__": description or None,
        "__module__": getattr(start or stop, "__module__", __name__),
        **_named(methods, what),
    }
    if config is not None:
        attributes["Config"] = config
    name = "".join(word.capitalize() for word in service_type.replace("-", "_").split("_"))
    return type(f"{name}Service", (_DefinedService,), attributes)


def _named(methods: Iterable[Callable[..., Any]], what: str) -> dict[str, Callable[..., Any]]:
    found = dict[str, Callable[..., Any]]()
    for method in methods:
        name = getattr(method, "__name__", "")
        if not callable(method) or not name.isidentifier():
            raise TypeError(f"a method {what} is a function with a name, not {method!r:.80}")
        if name in RESERVED or name.startswith("_") or name in {"value", *found}:
            reason = "is there twice" if name in found else "is a reserved name"
            raise ValueError(f"the method {name} {what} {reason}: rename the function")
        found[name] = method
    return found


class _DefinedService(Service):
    """The base of such classes. `value` is what the function `start` returned."""

    _start_function: Callable[..., Any] | None = None
    _stop_function: Callable[..., Any] | None = None
    value: Any = None

    @classmethod
    async def start(cls, runtime: Runtime) -> Self:
        service = cls(runtime)
        if cls._start_function is not None:
            service.value = await await_with_prefix(cls._start_function, runtime, service)
        return service

    async def stop(self) -> None:
        if self._stop_function is not None:
            await await_with_prefix(self._stop_function, self)

"""A service of functions, and a plugin's own service types."""

from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from garrison.workers import Plugin, Runtime, Service, ServiceType, define_service, idempotent
from garrison.workers.process.methods import describe
from garrison.workers.testing import run


class Depth(msgspec.Struct):
    """A config."""

    depth: int = 1


async def test_its_functions_are_called() -> None:
    """`start` with the runtime and the service, methods with the service, and `stop`."""
    calls: list[Any] = []

    async def start(runtime: Runtime, service: Service) -> list[str]:
        calls.append(("start", runtime is service.runtime, service.config.depth))
        return ["a"]

    async def stop(service: Any) -> None:
        calls.append(("stop", service.value))

    async def add(service: Any, word: str, times: int = 1) -> list[str]:
        """Add a word."""
        service.value += [word] * times
        return list(service.value)

    cls = define_service(
        "word-list",
        description="Keeps words",
        start=start,
        stop=stop,
        methods=[idempotent(add)],
        config=Depth,
    )
    async with run(cls, config={"depth": 3}) as service:
        proxy: Any = service.runtime.get_service("word-list")
        assert await proxy.add("b", times=2) == ["a", "b", "b"]
        assert proxy.capability_description == "Keeps words"
    assert calls == [("start", True, 3), ("stop", ["a", "b", "b"])]
    assert (cls.__name__, cls.__module__) == ("WordListService", __name__)
    (method,) = describe(cls)[0].methods
    assert (method.name, method.summary, method.idempotent) == ("add", "Add a word.", True)
    assert Plugin("words", services=[cls]).service("word-list") is cls


async def test_plain_functions_may_take_fewer_arguments() -> None:
    """Also none; and a service may have neither of them."""
    seen: list[str] = []
    cls = define_service("x", start=lambda: seen.append("start"), stop=lambda: seen.append("stop"))
    async with run(cls):
        assert seen == ["start"]
    assert seen == ["start", "stop"]
    async with run(define_service("y")) as service:
        assert service.service_type == "y"


def stop() -> None:
    """Have a reserved name."""


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"service_type": ""}, "needs a service_type"),
        ({"service_type": 3}, "a service_type is a text, not 3"),
        ({"start": lambda a, b, c: None}, r"start of define_service\('x'\) requires"),
        ({"stop": 3}, "is not a function but 3"),
        ({"methods": [stop]}, r"the method stop of define_service\('x'\) is a reserved name"),
        ({"methods": [describe, describe]}, "the method describe .* is there twice"),
        ({"methods": [lambda: None]}, "is a function with a name"),
        ({"methods": [SimpleNamespace()]}, "is a function with a name"),
    ],
)
def test_a_mistake_is_named(arguments: dict[str, Any], problem: str) -> None:
    """When the plugin is read."""
    with pytest.raises((TypeError, ValueError), match=problem):
        define_service(**{"service_type": "x", **arguments})


def test_a_plugin_adds_service_types() -> None:
    """The core's are there too; one that is no text is refused."""

    class Mine(ServiceType):
        DISCORD = "discord"

    assert (Mine.DISCORD, Mine.TASK) == ("discord", "task")
    with pytest.raises(TypeError, match=r"Wrong\.DISCORD is 3; a service type is a text"):
        type("Wrong", (ServiceType,), {"DISCORD": 3})

"""An author's functions are looked at before they are run."""

from typing import Any

import pytest

from garrison.ipc.messages import Failing, PluginSource, Reading
from garrison.ipc.socket_paths import new_token
from garrison.workers import Action, Evaluator, Plugin, Provider, Service
from garrison.workers.agents.registry import ComponentRegistry
from garrison.workers.agents.validation import check_takes
from garrison.workers.process.probe import inspect_plugin, probe
from garrison.workers.testing import run


def _five(runtime: Any, message: Any, state: Any, options: Any, callback: Any) -> None: ...


def _named(runtime: Any, *, memory: Any) -> None: ...


def _enough(runtime: Any, memory: Any, *rest: Any, options: Any = None, **more: Any) -> None: ...


@pytest.mark.parametrize(
    ("plugin", "problem"),
    [
        (Plugin("p", actions=[Action("A")]), "Action A: its handler is missing"),
        (Plugin("p", providers=[Provider("P")]), "Provider P: its get is missing"),
        (Plugin("p", evaluators=[Evaluator("E")]), "Evaluator E: its handler is missing"),
        (
            Plugin("p", actions=[Action("A", handler=_five)]),
            r"Action A: its handler requires \(runtime, message, state, options, callback\), "
            r"but is called with \(runtime, memory, state, responses\)",
        ),
        (
            Plugin("p", actions=[Action("A", handler=str, validate=lambda a, b, c: True)]),
            r"its validate requires \(a, b, c\), but is called with \(runtime, memory\)",
        ),
        (
            Plugin("p", actions=[Action("A", handler="text")]),  # type: ignore[arg-type]
            "Action A: its handler is not a function but 'text'",
        ),
        (Plugin("p", models={"IMAGE": lambda a, b, c: None}), "the model IMAGE requires"),
        (Plugin("p", events={"E": lambda runtime, payload: None}), "a handler of event E requires"),
        (
            Plugin("p", actions=[Action("A", handler=str), Action("A", handler=str)]),
            "two actions have the name A",
        ),
    ],
)
def test_wrong_functions_are_found_when_a_plugin_is_read(plugin: Plugin, problem: str) -> None:
    """Rather than at the first message, in the log of another service."""
    with pytest.raises((TypeError, ValueError), match=problem):
        _read(plugin)


def test_an_error_of_a_check_has_no_traceback(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They explain nothing; its author's own lines do."""
    plugin = Plugin("p", actions=[Action("A", handler=_five)])
    monkeypatch.setattr("garrison.workers.process.probe.load", lambda source: plugin)
    failing = probe(_READING)
    assert isinstance(failing, Failing)
    assert failing.reason.startswith("Action A: its handler requires")
    assert failing.traceback == ""

    monkeypatch.setattr("garrison.workers.process.probe.load", lambda source: _five())  # type: ignore[call-arg]
    failing = probe(_READING)
    assert isinstance(failing, Failing)
    assert failing.reason.startswith("TypeError: _five() missing 5 required")
    assert "test_validation.py" in failing.traceback


def test_a_start_that_is_not_a_class_method_is_an_error() -> None:
    """`@classmethod` was forgotten."""

    class Forgetful(Service):
        service_type = "forgetful"

        async def start(self, runtime: Any) -> Any:  # type: ignore[override]
            return self

    with pytest.raises(TypeError, match="is not a class method; add @classmethod"):
        _read(Plugin("p", services=[Forgetful]))


async def test_a_start_that_is_not_async_is_an_error() -> None:
    """And not that something cannot be awaited, in a line of ours."""

    class Hasty(Service):
        service_type = "hasty"

        @classmethod
        def start(cls, runtime: Any) -> Any:
            return cls(runtime)

    with pytest.raises(TypeError, match=r"Hasty.start must be `async def`"):
        async with run(Hasty):
            pass


@pytest.mark.parametrize("function", [_enough, lambda: None, max, lambda *all_of_them: None])
def test_a_function_may_take_fewer_arguments_or_any_number(function: Any) -> None:
    """Also one without a signature."""
    check_takes(function, "it", "runtime", "memory")


def test_a_required_keyword_argument_is_an_error() -> None:
    """Nothing is given by name."""
    with pytest.raises(TypeError, match=r"it requires \(runtime, memory\)"):
        check_takes(_named, "it", "runtime", "memory")


def test_components_that_are_registered_later_are_checked_too() -> None:
    """It replaces no other component."""
    parts = ComponentRegistry()
    parts.add(Action("A", handler=str))
    with pytest.raises(TypeError, match="requires"):
        parts.add(Action("A", handler=_five))
    assert parts.actions["A"].handler("text") == "text"  # type: ignore[call-arg]


_READING = Reading(
    source=PluginSource("p", "p", ""),
    token=new_token(),
    control="",
    env={},
    plugin_config={},
    sections=(),
)


def _read(plugin: Plugin) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("garrison.workers.process.probe.load", lambda source: plugin)
        inspect_plugin(_READING)

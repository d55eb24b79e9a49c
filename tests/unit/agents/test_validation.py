"""An author's functions are looked at before they are run."""

from typing import Any

import pytest

from garrison.ipc.messages import Failing, PluginSource, Reading
from garrison.ipc.sockets import new_token
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
            Plugin("p", actions=[Action("A", handler="tell")]),  # type: ignore[arg-type]
            "Action A: its handler is not a function but 'tell'",
        ),
        (Plugin("p", models={"IMAGE": lambda a, b, c: None}), "the model IMAGE requires"),
        (Plugin("p", events={"E": lambda runtime, payload: None}), "a handler of event E requires"),
        (
            Plugin("p", actions=[Action("A", handler=str), Action("A", handler=str)]),
            "two actions have the name A",
        ),
    ],
)
def test_what_cannot_be_run_is_found_where_a_plugin_is_read(plugin: Plugin, problem: str) -> None:
    """Not at the first message, in somebody else's log."""
    with pytest.raises((TypeError, ValueError), match=problem):
        _read(plugin)


def test_what_is_said_of_a_plugin_is_said_without_lines_of_ours(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They explain nothing; its author's own lines do."""
    plugin = Plugin("p", actions=[Action("A", handler=_five)])
    monkeypatch.setattr("garrison.workers.process.probe.load", lambda source: plugin)
    result = probe(_READING)
    assert isinstance(result, Failing)
    assert result.reason.startswith("Action A: its handler requires")
    assert result.traceback == ""

    monkeypatch.setattr("garrison.workers.process.probe.load", lambda source: _five())  # type: ignore[call-arg]
    result = probe(_READING)
    assert isinstance(result, Failing)
    assert result.reason.startswith("TypeError: _five() missing 5 required")
    assert "test_validation.py" in result.traceback


def test_a_start_that_belongs_to_no_class_is_found_there_too() -> None:
    """`@classmethod` was forgotten."""

    class Forgetful(Service):
        service_type = "forgetful"

        async def start(self, runtime: Any) -> Any:  # type: ignore[override]
            return self

    with pytest.raises(TypeError, match="is not a class method; add @classmethod"):
        _read(Plugin("p", services=[Forgetful]))


async def test_a_start_that_is_not_async_says_so() -> None:
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
def test_what_takes_fewer_or_any_number_is_fine(function: Any) -> None:
    """Also what does not say what it takes."""
    check_takes(function, "it", "runtime", "memory")


def test_what_wants_a_name_is_not() -> None:
    """Nothing is given by name."""
    with pytest.raises(TypeError, match=r"it requires \(runtime, memory\)"):
        check_takes(_named, "it", "runtime", "memory")


def test_what_is_registered_later_is_looked_at_likewise() -> None:
    """And takes nobody's place."""
    parts = ComponentRegistry()
    parts.add(Action("A", handler=str))
    with pytest.raises(TypeError, match="requires"):
        parts.add(Action("A", handler=_five))
    assert parts.actions["A"].handler("said") == "said"  # type: ignore[call-arg]


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

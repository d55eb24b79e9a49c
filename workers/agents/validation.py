"""Checks that an author's functions accept the arguments that they will be called with."""

import inspect
from collections.abc import Callable, Iterable
from typing import Any

from .components import Action, Evaluator, Provider
from .task_workers import TaskWorker

UNWRITTEN = (Action.handler, Provider.get, Evaluator.handler, TaskWorker.execute)
RUNTIME, MEMORY, STATE, RESPONSES = "runtime", "memory", "state", "responses"
OPTIONS = "options"


def check_component(component: Action | Provider | Evaluator) -> None:
    """Check the functions of a component.

    Raises:
        TypeError: A function is missing, is not callable, or requires other arguments.
    """
    what = f"{type(component).__name__} {component.name}"
    if isinstance(component, Provider):
        _check_written(component.get, f"{what}: its get")
        check_takes(component.get, f"{what}: its get", RUNTIME, MEMORY, STATE)
        return
    _check_written(component.handler, f"{what}: its handler")
    takes_options = isinstance(component, Action) and component.parameters is not None
    also = (OPTIONS,) if takes_options else ()
    check_takes(component.handler, f"{what}: its handler", RUNTIME, MEMORY, STATE, RESPONSES, *also)
    given = (RUNTIME, MEMORY) if isinstance(component, Action) else (RUNTIME, MEMORY, STATE)
    check_takes(component.validate, f"{what}: its validate", *given)


def check_gate(gate: Callable[..., Any]) -> None:
    """Check the arguments of a plugin's gate. Raises TypeError if it requires others."""
    check_takes(gate, "the gate", RUNTIME, MEMORY)


def check_task_worker(worker: object) -> None:
    """Check the name and the functions of a task worker.

    Raises:
        TypeError: It is no `TaskWorker`, or a function is missing or requires other arguments.
        ValueError: It has no name.
    """
    if not isinstance(worker, TaskWorker):
        raise TypeError(f"expected a TaskWorker, not {worker!r:.80}")
    if not isinstance(worker.name, str) or not worker.name:
        raise ValueError(f"{type(worker).__name__} needs a name: that of the tasks that it runs")
    what = f"TaskWorker {worker.name}"
    _check_written(worker.execute, f"{what}: its execute")
    check_takes(worker.execute, f"{what}: its execute", RUNTIME, "options", "task")
    check_takes(worker.validate, f"{what}: its validate", RUNTIME, MEMORY, STATE)


def check_names(
    kind: str, components: Iterable[Action | Provider | Evaluator | TaskWorker]
) -> None:
    """Check that the components of one kind in one plugin have different names.

    Raises:
        ValueError: Two have the same name, so one would replace the other.
    """
    known: set[str] = set()
    for component in components:
        if component.name in known:
            raise ValueError(
                f"two {kind} have the name {component.name}; give one of them another name"
            )
        known.add(component.name)


def check_takes(function: Callable[..., Any], what: str, *given: str) -> None:
    """Check that a function can be called with the first of some positional arguments.

    Args:
        function: An author's function.
        what: A description of the function, for the error.
        given: Names of the arguments that it will be called with.

    Raises:
        TypeError: It is not callable, or it requires more arguments or keyword arguments.
    """
    if not callable(function):
        raise TypeError(f"{what} is not a function but {function!r:.80}")
    try:
        found = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # a builtin without a signature
        return
    required = [
        one
        for one in found
        if one.default is one.empty and one.kind not in {one.VAR_POSITIONAL, one.VAR_KEYWORD}
    ]
    if len(required) > len(given) or any(one.kind is one.KEYWORD_ONLY for one in required):
        names = ", ".join(one.name for one in required)
        raise TypeError(
            f"{what} requires ({names}), but is called with ({', '.join(given)}); "
            "it may also take only the first of these"
        )


def _check_written(function: Callable[..., Any], what: str) -> None:
    if getattr(function, "__func__", None) in UNWRITTEN:
        raise TypeError(f"{what} is missing")

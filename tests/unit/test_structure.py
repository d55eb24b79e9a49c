"""Who may decide and change what, and that no modules import each other in a circle."""

import ast
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from tests.support.sources import FILES, IMPORTS, NODES, each_of

from garrison.supervisor.lifecycle.services import Incarnation, Service

pytestmark = pytest.mark.xdist_group("sources")  # parsed once
SUPERVISOR = [name for name in FILES if name.startswith("supervisor/")]

# --- one manager --------------------------------------------------------------------------

MANAGER = "supervisor/manager.py"
REPORTS = "supervisor/worker_reports.py"  # a part of it: what workers report of themselves
ROSTER = "supervisor/roster.py"  # likewise: which services there are
RELOADING = "supervisor/lifecycle/reloading.py"  # exchanges two incarnations
TABLE = "supervisor/lifecycle/services.py"  # what services are, with the methods that record
RECORDS = {name for kind in (Service, Incarnation) for name in kind.__struct_fields__}
METHODS = {"record_exit", "record_health"}
# Fields of other objects that have the name of a field of a service.
OTHERS = {
    "supervisor/plugins.py": {"unreadable.reason", "unreadable.traceback"},
}


def called(nodes: Iterable[ast.AST]) -> Iterator[str]:
    """Yield the last name of everything that is called."""
    for node in nodes:
        if isinstance(node, ast.Call):
            yield getattr(node.func, "attr", "") or getattr(node.func, "id", "")


def assigned(nodes: Iterable[ast.AST]) -> Iterator[str]:
    """Yield every attribute that is assigned to, other than attributes of `self`."""
    for node in nodes:
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store | ast.Del):
            target = ast.unparse(node)
            if target != f"self.{node.attr}":
                yield target


def test_the_policy_has_one_caller() -> None:
    """The manager alone decides what happens next to a service."""
    own = "garrison.supervisor.lifecycle.policy.step"
    callers = {name for name in SUPERVISOR if own in IMPORTS[name]}

    assert callers == {MANAGER}
    assert "step" in set(called(NODES[MANAGER]))


@each_of([n for n in SUPERVISOR if n not in {MANAGER, RELOADING, REPORTS, ROSTER, TABLE}])
def test_the_manager_alone_changes_a_service(name: str) -> None:
    """Others report what happened, and get a service to read it."""
    foreign = OTHERS.get(name, set())
    imported = {full.rpartition(".")[2] for full in IMPORTS[name]}
    knows = imported & {"Service", "ServiceTable", "Incarnation", "services"}
    changed = {target for target in assigned(NODES[name]) if target.rpartition(".")[2] in RECORDS}

    assert not knows or changed <= foreign
    assert METHODS.isdisjoint(called(NODES[name]))


def test_the_rule_sees_a_change() -> None:
    """It would find one that is written as the manager writes it."""
    assert "service.child" in set(assigned(NODES[MANAGER]))
    assert {"child", "current", "handle", "ended"} <= RECORDS


@each_of(SUPERVISOR)
def test_no_component_has_the_supervisor(name: str) -> None:
    """The loop and the command that starts it know it; a component gets what it uses."""
    if name not in {"supervisor/loop.py", "supervisor/cli/host.py"}:
        names = {node.id for node in NODES[name] if isinstance(node, ast.Name)}
        texts = {
            node.value
            for node in NODES[name]
            if isinstance(node, ast.Constant) and node.value == "Supervisor"
        }
        assert "Supervisor" not in names
        assert texts == set()
        assert "garrison.supervisor.loop.Supervisor" not in IMPORTS[name]


# --- no circles ---------------------------------------------------------------------------


def module_of(name: str) -> str:
    """Return the module that a file is."""
    path = Path(name).with_suffix("")
    return ".".join(["garrison", *(path.parent if path.name == "__init__" else path).parts])


MODULES = {module_of(name): name for name in FILES}


def arrows() -> dict[str, set[str]]:
    """Return which modules each module imports, those for type checking alone included.

    A name that a package's `__init__` passes on counts as an import of the package.
    """
    found: dict[str, set[str]] = {}
    for module, name in MODULES.items():
        targets = {full if full in MODULES else full.rpartition(".")[0] for full in IMPORTS[name]}
        found[module] = {target for target in targets if target in MODULES} - {module}
    return found


def circles(graph: dict[str, set[str]]) -> list[set[str]]:
    """Return the groups of modules that reach each other (Tarjan)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[set[str]] = []

    def visit(module: str) -> None:
        index[module] = low[module] = len(index)
        stack.append(module)
        for target in sorted(graph[module]):
            if target not in index:
                visit(target)
                low[module] = min(low[module], low[target])
            elif target in stack:
                low[module] = min(low[module], index[target])
        if low[module] == index[module]:
            group = set(stack[stack.index(module) :])
            del stack[stack.index(module) :]
            if len(group) > 1:
                found.append(group)

    for module in graph:
        if module not in index:
            visit(module)
    return found


@pytest.mark.parametrize("package", ["ipc", "supervisor", "workers"])
def test_no_modules_import_each_other_in_a_circle(package: str) -> None:
    """Imports for type checking alone count, too."""
    graph = arrows()
    own = {module for module in graph if module.startswith(f"garrison.{package}")}
    inside = {module: {t for t in graph[module] if t in own} for module in own}

    assert [sorted(group) for group in circles(inside)] == []


def test_a_circle_would_be_seen() -> None:
    """Also one of three modules."""
    graph = {"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}, "e": set[str]()}

    assert circles(graph) == [{"a", "b", "c"}]

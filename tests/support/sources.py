"""The project's own source files: their syntax trees, and what they import. Parsed when needed."""

import ast
import gc
from collections.abc import Callable, Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TypeVar

import pytest

T = TypeVar("T")


class OnDemand(dict[str, T]):
    """A table by file whose values are computed at their first use."""

    def __init__(self, compute: Callable[[str], T]) -> None:
        self._compute = compute

    def __missing__(self, name: str) -> T:
        """Compute a value and keep it."""
        value = self[name] = self._compute(name)
        return value


def _folder(package: str) -> Path:
    spec = find_spec(f"garrison.{package}")
    assert spec is not None
    assert spec.submodule_search_locations
    return Path(next(iter(spec.submodule_search_locations)))


ROOMS = {package: _folder(package) for package in ("ipc", "supervisor", "workers")}
FILES = {
    f"{package}/{file.relative_to(root)}": file
    for package, root in ROOMS.items()
    for file in sorted(root.rglob("*.py"))
}


def _imported(name: str) -> Iterator[str]:
    package = ["garrison", *Path(name).parent.parts]
    for node in NODES[name]:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield from (f"{base}.{alias.name}" for alias in node.names)


def _parsed(name: str) -> ast.Module:
    """Parse a file. The trees stay: collections while they grow would take three times as long."""
    gc.disable()
    try:
        return ast.parse(FILES[name].read_text("utf-8"))
    finally:
        gc.freeze()
        gc.enable()


TREES = OnDemand(_parsed)
NODES = OnDemand(lambda name: list(ast.walk(TREES[name])))
# The full dotted name of everything that a file imports, wherever in it
IMPORTS = OnDemand(lambda name: set(_imported(name)))


def each_of(names: Iterable[str]) -> Callable[[Callable[[str], None]], Callable[[], None]]:
    """Make one test of a rule about files: it fails with what is wrong in each.

    Thousands of tests, one a file, would be collected by every process of a run.
    """

    def decorate(rule: Callable[[str], None]) -> Callable[[], None]:
        def test() -> None:
            wrong: dict[str, str] = {}
            for name in names:
                try:
                    rule(name)
                except AssertionError as error:
                    wrong[name] = str(error)
            if wrong:
                pytest.fail("\n".join(f"{name}: {text}" for name, text in wrong.items()))

        test.__name__, test.__doc__ = rule.__name__, rule.__doc__
        test.__module__, test.__qualname__ = rule.__module__, rule.__qualname__
        return test

    return decorate

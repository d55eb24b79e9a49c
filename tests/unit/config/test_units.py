"""Which parts of a config come from the file, and which from the accepted one."""

from typing import Any

import pytest

from garrison.ipc.errors import ConfigError
from garrison.supervisor.config.basis import Rejection, still_rejected
from garrison.supervisor.config.units import (
    WHOLE,
    Origin,
    Selection,
    Unit,
    omit,
    pick,
    section_unit,
    service_of,
    unit_of,
)

A, B = ("services", "a"), ("services", "b")


def rejection(unit: Unit, problem: str = "no") -> Rejection:
    """Return a part that does not fit."""
    return Rejection(unit, ConfigError(problem, path="config.toml", key=".".join(map(str, unit))))


def test_what_is_corrected_on_disk_is_rejected_no_longer() -> None:
    """Unless the plugin that may have refused it has not read it since. Nothing is added."""
    one, other, plugin = rejection(A), rejection(B), rejection(("plugins", "p"))
    before, plugins = (one, other, plugin), {"a": "p", "b": "q"}
    new = rejection(A, "another")
    assert still_rejected(before, [other, new], (), plugins) == (other,)
    assert still_rejected(before, [], {"p"}, plugins) == (one, plugin)
    assert still_rejected(before, before, (), plugins) == before


@pytest.mark.parametrize(
    ("keys", "unit", "service"),
    [
        (("host", "log_files"), ("host",), ""),
        (("host",), ("host",), ""),
        (("defaults", "env", "X"), ("defaults",), ""),
        (("agent", "character"), ("agent",), ""),
        (("plugins", "p", "use"), ("plugins", "p"), ""),
        (("services", "a", "depends_on", 0), A, "a"),
        (("services", "a"), A, "a"),
        (("agents", "ada", "plugins", 1), ("agents", "ada"), ""),
        (("agents", "ada"), ("agents", "ada"), ""),
        (
            ("agents", "ada", "services", "a", "grace"),
            ("agents", "ada", "services", "a"),
            "ada.a",
        ),
        (("agents", "ada", "services"), WHOLE, ""),
        (("services",), WHOLE, ""),
        (("plugins",), WHOLE, ""),
        (("hosts", "x"), WHOLE, ""),
        ((), WHOLE, ""),
    ],
)
def test_each_key_belongs_to_one_unit(
    keys: tuple[str | int, ...], unit: Unit, service: str
) -> None:
    """What cannot be told from the rest concerns the file as a whole."""
    assert unit_of(keys) == unit
    assert service_of(unit) == service


@pytest.mark.parametrize(
    ("name", "unit"),
    [
        ("a", A),
        ("ada.a", ("agents", "ada", "services", "a")),
        ("ada.a.b", ("agents", "ada", "services", "a.b")),
        ("eve.a", ("services", "eve.a")),
        ("ada", ("services", "ada")),
    ],
)
def test_the_unit_of_a_full_name(name: str, unit: Unit) -> None:
    """A NAME that begins with that of an agent is the agent's."""
    assert section_unit(name, ["ada"]) == unit


@pytest.mark.parametrize(
    ("accepted", "rejected", "origins", "held"),
    [
        (None, (), ("file", "file"), []),
        ((A, B), (), ("file", "file"), []),
        ((A, B), (A,), ("accepted", "file"), []),
        ((B,), (A,), ("none", "file"), ["a"]),
        ((A, B), (A, B), ("accepted", "accepted"), []),
        ((), (A, B), ("none", "none"), ["a", "b"]),
        ((A, B), (WHOLE,), ("accepted", "accepted"), []),
        ((A,), (WHOLE,), ("accepted", "none"), []),
        ((A,), (A, WHOLE), ("accepted", "none"), []),
    ],
)
def test_where_units_come_from(
    accepted: tuple[Unit, ...] | None,
    rejected: tuple[Unit, ...],
    origins: tuple[str, str],
    held: list[str],
) -> None:
    """A rejected unit is the accepted one, or left out; a rejected file is left out as a whole."""
    known = None if accepted is None else frozenset(accepted)
    selection = Selection(known, frozenset(rejected))
    assert tuple(selection.origin(unit).value for unit in (A, B)) == origins
    assert selection.held() == held


def test_a_problem_that_stays_is_one_of_the_whole_file() -> None:
    """First a unit is replaced, then everything, then nothing is left to use."""
    assert Selection().without(A) is None
    first = Selection(frozenset({A})).without(A)
    assert first is not None
    assert (first.origin(A), first.whole) == (Origin.ACCEPTED, False)
    second = first.without(A)
    assert second is not None
    assert second.whole
    assert second.without(B) is None
    directly = Selection(frozenset({A})).without(WHOLE)
    assert directly is not None
    assert directly.whole


TABLES: dict[str, Any] = {
    "host": {"home": "h"},
    "plugins": {"p": {}, "q": {"use": "m"}},
    "services": {"a": {"grace": 1}, "b": {}},
    "agents": {"ada": {"plugins": ["p"], "services": {"a": {"grace": 2}, "b": {}}}},
}


@pytest.mark.parametrize(
    ("unit", "left"),
    [
        (("host",), {"host": None}),
        (("plugins", "q"), {"plugins": {"p": {}}}),
        (A, {"services": {"b": {}}}),
        (("agents", "ada"), {"agents": {"ada": {"services": TABLES["agents"]["ada"]["services"]}}}),
        (
            ("agents", "ada", "services", "a"),
            {"agents": {"ada": {"plugins": ["p"], "services": {"b": {}}}}},
        ),
        (("services", "absent"), {}),
    ],
)
def test_a_unit_is_left_out_and_nothing_else(unit: Unit, left: dict[str, Any]) -> None:
    """An agent's services are units of their own, and stay without the agent's other keys."""
    expected = {key: part for key, part in {**TABLES, **left}.items() if part is not None}
    assert omit(TABLES, {unit}) == expected


@pytest.mark.parametrize("tables", [{"services": 3}, {"agents": {"ada": 3}}, {"agents": 3}, {}])
def test_tables_of_another_form_are_left_to_the_reader(tables: dict[str, Any]) -> None:
    """It says what is wrong with them."""
    assert omit(tables, {A}) == tables
    assert pick(tables, [A, ("agents", "ada", "services", "a")]) == {}


def test_units_are_picked() -> None:
    """Alone, also where an agent and a service of it are."""
    of_ada = ("agents", "ada", "services", "a")
    assert pick(TABLES, [A]) == {"services": {"a": {"grace": 1}}}
    assert pick(TABLES, [("agents", "ada")]) == {"agents": {"ada": {"plugins": ["p"]}}}
    assert pick(TABLES, [("agents", "ada"), of_ada]) == {
        "agents": {"ada": {"plugins": ["p"], "services": {"a": {"grace": 2}}}}
    }
    assert pick(TABLES, [of_ada, ("agents", "ada")]) == pick(TABLES, [("agents", "ada"), of_ada])

"""What follows from how far an update is, and which service moves next."""

from typing import Any

import pytest

from garrison.supervisor.update.journal import (
    Phase,
    Recovery,
    Update,
    former_of,
    keeps_data,
    recovery,
    title,
    to_move,
)

NEW = "/v/2/bin/python"


def update(phase: Phase = Phase.MOVING, **more: Any) -> Update:
    """Return an update."""
    return Update(2, phase, "/v", "/v/1", "/v/2", "/v/1", "1.0", "2.0", **more)


def row(name: str, kind: str = "", **more: Any) -> dict[str, Any]:
    """Return a service's row of `status`."""
    found = {"name": name, "service_type": kind or name, "plugin": name, "state": "running"}
    return {**found, "python": None, "dependents": [], **more}


@pytest.mark.parametrize(
    ("phase", "follows"),
    [
        (Phase.STAGING, Recovery.DISCARD),
        (Phase.MOVING, Recovery.RETURN),
        (Phase.HANDING, Recovery.RETURN),
        (Phase.COMMITTING, Recovery.COMMIT),
        (Phase.RETURNING, Recovery.RETURN),
        (Phase.DONE, Recovery.NOTHING),
        (Phase.PUT_BACK, Recovery.NOTHING),
    ],
)
def test_a_killed_update_is_finished_by_its_phase(phase: Phase, follows: Recovery) -> None:
    """The former version before the new one has wholly taken over, the new one after that."""
    assert recovery(update(phase)) is follows
    assert recovery(None) is Recovery.NOTHING


def test_every_phase_has_a_recovery() -> None:
    """A phase that is added must say what follows from it."""
    assert {recovery(update(phase)) for phase in Phase} == set(Recovery)


@pytest.mark.parametrize(
    ("rows", "order"),
    [
        ([row("a"), row("b")], ["a", "b"]),
        ([row("a", dependents=["b"]), row("b")], ["b", "a"]),
        ([row("a", dependents=["b"]), row("b", dependents=["c"]), row("c")], ["c", "b", "a"]),
        ([row("a", dependents=["b"]), row("b", dependents=["a"])], ["a", "b"]),
        (
            [row("mailbox"), row("database", dependents=["a"]), row("a")],
            ["a", "mailbox", "database"],
        ),
        ([row("post", "mailbox"), row("a", dependents=["post"])], ["a", "post"]),
        ([row("a", state="backoff"), row("b", state="stopped"), row("c")], ["c"]),
        ([row("a", python={"path": NEW}), row("b", python={"path": "/v/1/bin/python"})], ["b"]),
        ([row("own", python={"path": "/own/bin/python"}), row("a")], ["a"]),
        ([row("a", dependents=["gone"])], ["a"]),
    ],
)
def test_what_others_rely_on_moves_last(rows: list[dict[str, Any]], order: list[str]) -> None:
    """And only what runs, by the former version, with the host's own interpreter."""
    assert to_move(rows, NEW, {"own"}) == order


def test_a_mailbox_that_ran_well_keeps_its_data() -> None:
    """One that did not gets the copy, and so does every other service."""
    kinds = {"post": "mailbox", "store": "database", "a": "agent"}
    passed = update(passed=("post", "a"), kinds=kinds)
    found = {name: keeps_data(passed, name) for name in (*kinds, "unknown")}
    assert found == {"post": True, "store": False, "a": False, "unknown": False}


def test_the_former_version_is_known_after_an_update_that_was_put_back() -> None:
    """`update --back` returns to the version before the running one."""
    assert former_of(None) == ""
    assert former_of(update(Phase.DONE, kept="/v/0")) == "/v/1"
    assert former_of(update(Phase.PUT_BACK, kept="/v/0")) == "/v/0"


def test_an_update_is_named_by_its_packages() -> None:
    """Four at most, so that a line is one line."""
    changed = {"a": ("1", "2"), "b": ("", "1"), "c": ("1", "")}
    assert title(update(packages=changed)) == "a 1 → 2, b new → 1, c 1 → removed"
    many = {f"p{number}": ("1", "2") for number in range(9)}
    assert title(update(packages=many)).endswith("p3 1 → 2 and 5 more")
    assert title(update()) == "the same versions, 1.0"

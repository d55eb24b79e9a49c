"""Whose silence it is, when nothing is heard of a worker on another machine."""

import pytest

from garrison.supervisor.lifecycle.silence import Contact, is_own

WATCHDOG_S = 4.0
HEARD_AT = 100.0  # a beat


@pytest.mark.parametrize(
    ("loop_s", "reported_at", "own"),
    [
        (3.9, 105.0, False),  # its loop turns: what it sends is held up
        (0.5, 160.0, False),  # for as long as its machine says so
        (4.0, 105.0, True),
        (4.0, 99.0, False),  # its loop was blocked before that beat
    ],
)
def test_its_machine_says_whether_its_loop_turns(
    loop_s: float, reported_at: float, own: bool
) -> None:
    """Contact with the machine says nothing: TCP may hold up the worker's own connection."""
    contact = Contact(reported_at, False, loop_s, reported_at)
    assert is_own(contact, HEARD_AT, WATCHDOG_S) is own


@pytest.mark.parametrize(("sure_at", "own"), [(101.9, False), (102.0, True)])
def test_where_its_machine_does_not_know_contact_counts(sure_at: float, own: bool) -> None:
    """Two of its beats are missing, although its machine had contact."""
    assert is_own(Contact(sure_at, False, None, 105.0), HEARD_AT, WATCHDOG_S) is own
    assert not is_own(Contact(sure_at, False), HEARD_AT, WATCHDOG_S)  # there will be one


@pytest.mark.parametrize(("sure_at", "own"), [(120.0, False), (124.0, False), (124.1, True)])
def test_a_connection_that_something_keeps_open_is_no_excuse_for_long(
    sure_at: float, own: bool
) -> None:
    """A proxy may answer for one that carries nothing: by now a broken one would be a new one."""
    contact = Contact(sure_at, False, 0.5, sure_at, silence_s=10.0)
    assert is_own(contact, HEARD_AT, WATCHDOG_S) is own

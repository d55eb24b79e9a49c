"""Which broken connections may have lost messages."""

import pytest

from garrison.ipc.connection_state import ConnectionState

A, B = "boot-a", "boot-b"


def test_a_supervisor_that_answers_again_after_a_break_may_have_lost_messages() -> None:
    """The same process answers on another connection."""
    state = ConnectionState()
    state.up("")
    assert not state.answered(A)
    assert state.down(A)
    assert state.may_be_lost(A)
    state.up(A)
    assert state.answered(A)


def test_the_next_supervisor_has_lost_nothing() -> None:
    """It asks for everything anew."""
    state = ConnectionState()
    state.up("")
    state.answered(A)
    assert state.down(A)
    state.up(A)
    assert not state.answered(B)
    assert not state.answered(B)


def test_a_former_supervisors_connection_may_end_late() -> None:
    """Its successor was heard on the other plane already; that one's connection is whole."""
    state = ConnectionState()
    state.up("")
    state.answered(A)
    assert state.down(B)
    assert not state.may_be_lost(B)
    state.up(B)
    assert not state.answered(B)


def test_a_connection_may_break_before_its_first_answer() -> None:
    """What was sent on it may be lost: it was to the process that was heard on the other plane."""
    state = ConnectionState()
    state.up("")
    assert state.down(A)
    state.up(A)
    assert state.answered(A)


def test_an_attempt_that_fails_is_no_break() -> None:
    """There was no connection."""
    state = ConnectionState()
    assert not state.down("")
    state.up("")
    assert not state.answered(A)
    state.down(A)
    assert not state.down(A)


@pytest.mark.parametrize("boot", ["", A])
def test_only_a_connection_is_up(boot: str) -> None:
    """From its handshake to its end."""
    state = ConnectionState()
    assert not state.is_up
    state.up(boot)
    assert state.is_up
    state.down(boot)
    assert not state.is_up

"""Which keys may connect."""

import zmq
from zmq.utils import z85

from garrison.supervisor.bus.admission import ENGINE, MEMBER, Admission, derived_secret, holder_of

FIRST, SECOND = b"g" + b"1" * 15, b"g" + b"2" * 15
SECRET = z85.encode(bytes(range(32))).decode()
OTHER = z85.encode(bytes(range(1, 33))).decode()
CURVE = b"CURVE"


def test_an_incarnation_connects_with_its_own_key() -> None:
    """And no longer once it is forgotten; the next supervisor has the same key for it."""
    admission = Admission(SECRET, 20.0)
    keys = admission.admit(FIRST)
    key = z85.decode(keys.public)

    assert zmq.curve_public(keys.secret.encode()).decode() == keys.public
    assert admission.admit(FIRST) is keys
    assert admission.holder(MEMBER, CURVE, key) == holder_of(FIRST)
    assert admission.holder(ENGINE, CURVE, key) == ""
    assert Admission(SECRET, 20.0).admit(FIRST) == keys
    admission.forget(FIRST)
    admission.forget(FIRST)
    assert admission.holder(MEMBER, CURVE, key) == ""


def test_a_node_connects_to_the_engine_socket_alone() -> None:
    """It is no worker."""
    admission = Admission(SECRET, 20.0)
    admission.nodes = {b"k" * 32: "box"}

    holder = admission.holder(ENGINE, CURVE, b"k" * 32)
    assert admission.node_of(holder) == "box"
    assert admission.holder(MEMBER, CURVE, b"k" * 32) == ""
    assert admission.holder(ENGINE, b"NULL", b"k" * 32) == ""
    assert admission.holder(b"", CURVE, b"k" * 32) == ""
    admission.nodes = {b"n" * 32: "box"}  # another key
    assert admission.node_of(holder) == ""
    assert admission.node_of("") == admission.node_of("box") == ""


def test_each_incarnation_has_another_key() -> None:
    """None of them follows from another, nor without the supervisor's."""
    keys = {derived_secret(own, token) for own in (SECRET, OTHER) for token in (FIRST, SECOND)}
    assert len(keys) == 4


def test_a_secret_key_is_not_shown() -> None:
    """Where an assignment is shown, as in an error."""
    keys = Admission(SECRET, 20.0).admit(FIRST)
    assert keys.secret not in repr(keys)
    assert keys.public in repr(keys)

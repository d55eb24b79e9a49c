"""Which orders of other users are carried out, by table."""

import os
from typing import Any

import pytest

from garrison.ipc.messages import Order
from garrison.ipc.sockets import UNKNOWN_PEER, Peer
from garrison.supervisor.config.operators import OperatorTeam, Permission
from garrison.supervisor.control.accounts import operator_of
from garrison.supervisor.control.commands import COMMANDS
from garrison.supervisor.control.operators import VERBS, NotAllowed, Operator, may

ALL = tuple(Permission)
A = OperatorTeam(("a-*",), "bots-a", may=(*ALL[:2], Permission.RESTART))
B = OperatorTeam(("b-chat", "shared"), "bots-b", may=ALL)
KNOWN = ["a-one", "a-two", "b-chat", "c-bot", "shared"]


def operator(**teams: OperatorTeam) -> Operator:
    """Return a user who belongs to these teams."""
    return Operator(1001, "mia", False, "garrison", teams)


def test_every_command_has_a_permission() -> None:
    """A command without a row here would be for the host's own user alone, unsaid."""
    assert set(COMMANDS) <= set(VERBS)
    assert {word for word in VERBS.values() if word} == set(ALL)


@pytest.mark.parametrize(
    ("teams", "verb", "names", "expected"),
    [
        ({"a": A}, "status", (), ("a-one", "a-two")),
        ({"a": A}, "status", ("*",), ("a-one", "a-two")),
        ({"a": A}, "restart", ("a-one",), ("a-one",)),
        ({"a": A}, "restart", ("*-two",), ("a-two",)),
        ({"a": A, "b": B}, "status", (), ("a-one", "a-two", "b-chat", "shared")),
        ({"a": A, "b": B}, "stop", ("*",), ("b-chat", "shared")),
        ({"b": B}, "start", ("shared", "b-chat"), ("shared", "b-chat")),
        ({"a": OperatorTeam(("a-*",), may=ALL)}, "start", ("a-new",), ("a-new",)),
    ],
)
def test_an_order_is_about_services_of_the_teams(
    teams: dict[str, OperatorTeam], verb: str, names: tuple[str, ...], expected: tuple[str, ...]
) -> None:
    """A pattern matches nothing else, and what a client claims of itself is removed."""
    order = Order(1, verb, names, options={"restricted": False}, mark="m", person="p")

    admitted = may(operator(**teams), order, KNOWN)

    assert admitted.names == expected
    assert (admitted.mark, admitted.person) == ("", "")
    assert admitted.options == {"restricted": True, "detail": bool(names)}


@pytest.mark.parametrize(
    ("teams", "verb", "names", "code", "text"),
    [
        ({"a": A}, "restart", ("c-bot",), "not_allowed", "a may restart a-*; c-bot is not among"),
        ({"a": A}, "restart", ("a-one", "c-bot"), "not_allowed", "c-bot is not among them"),
        ({"a": A}, "restart", ("nosuch",), "not_allowed", "nosuch is not among them"),
        ({"a": A}, "status", ("c-bot",), "not_allowed", "a may see the status of a-*; c-bot"),
        ({"a": A}, "restart", ("c-*",), "no_such_service", "no service of a (a-*) matches c-*"),
        ({"a": A}, "restart", ("a-3",), "no_such_service", "a has: a-one, a-two"),
        ({"a": A}, "restart", (), "usage", "name the services"),
        ({"a": A}, "stop", ("a-one",), "not_allowed", "a may not stop; it may: status, logs, re"),
        ({"a": A}, "down", (), "not_allowed", "for the host's own user (garrison) and root"),
        ({"a": A}, "apply", (), "not_allowed", "garrison apply is for the host's own user"),
        ({"a": A}, "invented", ("a-one",), "not_allowed", "for the host's own user"),
        ({"x": OperatorTeam(("x-*",))}, "status", (), "no_such_service", "(x-*) here"),
        ({"x": OperatorTeam(("x-*",))}, "events", (), "no_such_service", "(x-*) here"),
        ({}, "status", (), "not_allowed", "mia belongs to no team of operators here"),
    ],
)
def test_what_is_not_theirs_is_refused_by_name(
    teams: dict[str, OperatorTeam], verb: str, names: tuple[str, ...], code: str, text: str
) -> None:
    """The refusal says what the team may do instead; it names no service of others."""
    with pytest.raises(NotAllowed) as raised:
        may(operator(**teams), Order(1, verb, names), KNOWN)

    assert raised.value.code == code
    assert text in str(raised.value)
    others = set(KNOWN) - {"a-one", "a-two"} - set(names)
    assert not any(name in str(raised.value) for name in others)


def test_the_hosts_own_user_may_everything() -> None:
    """Its orders pass as they are, with the mark of the service that they come from."""
    order: Any = Order(1, "down", mark="m", person="p")

    assert may(Operator(0, "root", trusted=True), order, KNOWN) is order


@pytest.mark.parametrize(
    ("peer", "own_socket", "trusted", "teams"),
    [
        (Peer(0, 0), False, True, ()),
        (Peer(os.geteuid(), 0), True, True, ()),
        (UNKNOWN_PEER, True, True, ()),  # a libzmq that does not say: the socket is private
        (UNKNOWN_PEER, False, False, ()),
        (Peer(54321, 54322), False, False, ("by-group",)),
        (Peer(54323, 1), False, False, ("by-user",)),
        (Peer(54324, 1), False, False, ()),
    ],
)
def test_the_kernel_says_who_gives_an_order(
    peer: Peer, own_socket: bool, trusted: bool, teams: tuple[str, ...]
) -> None:
    """A user of whom nothing is known is trusted only at the host's own socket."""
    known = {
        "by-group": OperatorTeam(("*",), "54322"),
        "by-user": OperatorTeam(("*",), users=("54323",)),
        "missing": OperatorTeam(("*",), "nosuchgroup", ("nosuchuser",)),
    }

    found = operator_of(peer, known, own_socket)

    assert (found.trusted, tuple(found.teams or ())) == (trusted, teams)

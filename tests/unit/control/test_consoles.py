"""Tickets for consoles, and orders on behalf of others, by table."""

import os
from pathlib import Path

import pytest

from garrison.ipc.messages import Order
from garrison.ipc.sockets import Peer
from garrison.supervisor.config.host_spec import HostSpec
from garrison.supervisor.config.operators import OperatorTeam, Permission
from garrison.supervisor.control.commands.base import Refusal
from garrison.supervisor.control.consoles import TICKET_S, TICKETS_MOST, Consoles
from garrison.supervisor.control.gate import OrderGate
from garrison.supervisor.control.order_rate import BURST
from garrison.supervisor.lifecycle.services import ServiceTable

FOLDERS = ("home", "run", "state", "logs")
TOKEN = b"g1"
TEAM = OperatorTeam(("a-*",), users=("65501",))


class Log:
    """Keeps what is recorded."""

    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, object]]] = []

    def record(self, event: str, **data: object) -> None:
        self.events.append((event, data))


def test_a_ticket_is_valid_once_for_its_console_and_a_minute() -> None:
    """It says whose it is."""
    consoles = Consoles()
    consoles.issue("one", 7, "console", 100.0)
    consoles.issue("two", 8, "console", 100.0)
    consoles.issue("late", 9, "console", 100.0)

    assert consoles.take("one", "console", 101.0) == 7
    assert consoles.take("one", "console", 101.0) is None
    assert consoles.take("two", "other", 101.0) is None
    assert consoles.take("two", "console", 101.0) is None  # it was shown to another one
    assert consoles.take("late", "console", 100.0 + TICKET_S) is None
    assert consoles.take("invented", "console", 101.0) is None
    assert consoles.take("", "console", 101.0) is None


def test_tickets_are_bounded() -> None:
    """The oldest goes; a user who takes many keeps others out for no longer than that."""
    consoles = Consoles()
    for number in range(TICKETS_MOST + 1):
        consoles.issue(f"t{number}", number, "console", 100.0)

    assert consoles.take("t0", "console", 100.0) is None
    assert consoles.take("t1", "console", 100.0) == 1


def test_tickets_of_one_user_are_fewer() -> None:
    """A colleague who takes many loses the own ones, and no other's."""
    consoles = Consoles()
    consoles.issue("other", 1, "console", 100.0)
    for number in range(TICKETS_MOST * 2):
        consoles.issue(f"t{number}", 2, "console", 100.0)

    assert consoles.take("other", "console", 100.0) == 1
    assert consoles.take("t0", "console", 100.0) is None
    assert consoles.take(f"t{TICKETS_MOST * 2 - 1}", "console", 100.0) == 2


def test_an_address_is_that_of_an_incarnation() -> None:
    """A former one's is none."""
    consoles = Consoles()
    consoles.listens("console", TOKEN, "http://127.0.0.1:1")

    assert consoles.address("console", TOKEN) == "http://127.0.0.1:1"
    assert consoles.address("console", b"g2") == ""
    assert consoles.address("other", TOKEN) == ""


def gate(log: Log, team: OperatorTeam = TEAM) -> OrderGate:
    """Return a gate with one team."""
    host = HostSpec(operators={"a": team}, **dict.fromkeys(FOLDERS, Path("/nowhere")))  # type: ignore[arg-type]
    return OrderGate(host, ServiceTable(), log)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("sender", "behalf", "verb", "code"),
    [
        (os.geteuid(), 65501, "down", "not_allowed"),  # the team may not
        (os.geteuid(), 65501, "status", "no_such_service"),  # it may: none is here
        (os.geteuid(), 65502, "status", "not_allowed"),  # in no team
        (65501, os.geteuid(), "down", "not_allowed"),  # no user's rights grow
        (65501, 0, "status", "not_allowed"),
        (os.geteuid(), 2**40, "status", "not_allowed"),
    ],
)
def test_an_order_on_behalf_has_that_user_s_rights(
    sender: int, behalf: int, verb: str, code: str
) -> None:
    """It can only lower what its sender may; the refusal is recorded with the user's name."""
    log = Log()

    with pytest.raises(Refusal) as refused:
        gate(log).admit(TOKEN, Order(1, verb, behalf=behalf), Peer(sender, sender))

    assert refused.value.code == code
    ((event, data),) = log.events
    expected = behalf if sender == os.geteuid() else sender
    assert (event, data["uid"]) == ("order.refused", expected)


def test_the_host_s_own_user_on_its_own_behalf_may_everything() -> None:
    """And what is recorded says whose order it was."""
    log, own = Log(), os.geteuid()

    gate(log).admit(TOKEN, Order(1, "down", behalf=own), Peer(own, own))

    assert log.events[0][0] == "order.given"
    assert log.events[0][1]["uid"] == own


def test_operators_cannot_push_out_the_events_of_others() -> None:
    """What they order is bounded, and what is refused is recorded now and then. The host's own user
    is not refused, and what only shows something does not count."""
    log, own, other = Log(), os.geteuid(), Peer(65501, 65501)
    one = gate(log, OperatorTeam(("a-*",), users=("65501",), may=(Permission.START,)))
    order = Order(1, "start", ("a-new",))
    for _ in range(BURST):
        one.admit(TOKEN, order, other)
    for _ in range(50):
        with pytest.raises(Refusal, match="has given 120 orders in a short time"):
            one.admit(TOKEN, order, other)
    one.admit(TOKEN, order, Peer(own, own))
    events = [event for event, _ in log.events]
    assert events.count("order.given") == BURST + 1
    assert 0 < events.count("order.refused") <= 10


def test_a_ticket_is_for_the_user_whom_the_kernel_reports() -> None:
    """Whatever the client says."""
    order = Order(1, "console", options={"uid": 4711})

    admitted = gate(Log()).admit(TOKEN, order, Peer(os.geteuid(), os.getegid()))

    assert admitted.options["uid"] == os.geteuid()

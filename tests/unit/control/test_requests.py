"""Requests are carried out beside everything else: a long one in parts, without a rest between."""

from typing import Any, cast

import pytest

from garrison.ipc.messages import Answer, Downward, Order, Token
from garrison.supervisor.control import requests
from garrison.supervisor.control.commands import COMMANDS
from garrison.supervisor.control.commands.base import GOES_ON, Command, CommandContext, CommandSpec
from garrison.supervisor.control.requests import RequestHooks, RequestQueue

PARTS = 500


def long(context: CommandContext, peer: Token, order: Order) -> Command:
    """Have many parts, none of which waits for anything."""
    for _ in range(PARTS):
        yield GOES_ON
    return "done"


@pytest.fixture
def sent() -> list[Any]:
    """Return what clients were sent."""
    return []


@pytest.fixture
def woken() -> list[int]:
    """Return a list with an item for each time that the loop was kept from waiting."""
    return []


@pytest.fixture
def queue(sent: list[Any], woken: list[int], monkeypatch: pytest.MonkeyPatch) -> RequestQueue:
    """Return requests of a host that has the command `long`."""
    monkeypatch.setitem(COMMANDS, "long", CommandSpec(long))

    def send(peer: Token, message: Downward) -> bool:
        sent.append(message)
        return True

    def nothing(*_: object) -> None: ...

    hooks = RequestHooks(send, nothing, nothing, nothing, lambda: woken.append(1), nothing)
    return RequestQueue(cast(CommandContext, None), hooks, lambda peer, order, sender: order)


class Clock:
    """A clock that goes forward by a part of a turn with each look."""

    def __init__(self, part: float) -> None:
        self._now, self._part = 0.0, part

    def monotonic(self) -> float:
        """Return the time."""
        self._now += requests.TURN_S * self._part
        return self._now


def test_what_has_more_to_do_goes_on_in_the_same_turn(
    queue: RequestQueue, sent: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It does not rest until the next turn after each of its parts."""
    monkeypatch.setattr(requests, "time", Clock(0.5 / PARTS))
    queue.take(b"client", Order(1, "long"))
    queue.step_all()
    assert sent == [Answer(1, True, "done")]


def test_a_turn_is_bounded_and_the_next_one_comes_at_once(
    queue: RequestQueue, sent: list[Any], woken: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others have their turn where this one has lasted, and the loop does not rest before it."""
    monkeypatch.setattr(requests, "time", Clock(0.2))
    queue.take(b"client", Order(1, "long"))
    turns = 0
    while not sent and turns <= PARTS:
        queue.step_all()
        turns += 1
        assert len(woken) >= turns
    assert sent == [Answer(1, True, "done")]
    assert PARTS / 5 <= turns < PARTS

"""When what has changed is told, and when it is held back: every telling wakes every member."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from garrison.ipc import messages
from garrison.ipc.messages import Manifest, State
from garrison.supervisor.bus.endpoints import RouterSet
from garrison.supervisor.config.spec import PluginSpec, service_spec
from garrison.supervisor.control import publisher
from garrison.supervisor.control.publisher import DirectoryPublisher
from garrison.supervisor.lifecycle.policy import Child
from garrison.supervisor.lifecycle.services import Incarnation, Service, ServiceTable

MANY = 50
PACE_S = MANY * publisher.EACH_S


class Router:
    """A ROUTER that everybody reads from."""

    def __init__(self) -> None:
        self.sent: list[list[bytes]] = []

    def send_multipart(self, frames: list[bytes], _: int) -> None:
        """Take a message."""
        self.sent.append(frames)


class Told:
    """Members, what they are told, and a clock that is set."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self.router = 1000.0, Router()
        clock = SimpleNamespace(monotonic=lambda: self.now)
        monkeypatch.setattr(publisher, "time", clock)
        posts = {name: _post(name) for name in (f"s{n}" for n in range(MANY))}
        self.roster = ServiceTable(posts, {})
        host: Any = SimpleNamespace(roster=self.roster)
        plane = RouterSet(cast(Any, self.router))
        self.members = DirectoryPublisher(host, plane, lambda _: None)

    def is_told(self) -> int:
        """Tell how many messages were sent since the last question."""
        count = len(self.router.sent)
        self.router.sent.clear()
        return count

    def change(self, name: str, state: State) -> None:
        """Have a service be in a state."""
        post = self.roster.posts[name]
        post.child = replace(post.child, state=state)
        self.members.changed(name)


def _post(name: str) -> Service:
    child = Child(service_spec(name=name, plugin="p", service_type="t"), State.RUNNING, True)
    post = Service(
        child,
        PluginSpec(name="p", use="p"),
        Manifest("t"),
        0,
        Incarnation(b"g" + name.encode()),
    )
    post.current.welcomed = post.current.connected = True
    return post


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Told:
    """Return fifty workers, all of them running."""
    return Told(monkeypatch)


def test_a_lone_change_is_told_at_once(told: Told) -> None:
    """Everybody hears of it in the turn that it happened in, in one message each."""
    told.change("s1", State.BACKOFF)
    told.change("s2", State.BACKOFF)
    told.members.publish()
    assert told.is_told() == MANY
    assert told.members.publish() == float("inf")  # and nothing is left to tell


def test_a_storm_of_changes_is_told_at_a_pace(told: Told) -> None:
    """One worker that says something new in every turn costs no more than the pace; what was held
    back is told when that is due, the last state of it."""
    tellings = 0
    began = told.now
    while told.now < began + 1.0:
        told.members.listed("s1")
        due = told.members.publish()
        tellings += told.is_told() // MANY
        assert due == float("inf") or told.now <= due <= told.now + publisher.HELD_S
        told.now += 0.001
    most = (1.0 + publisher.AHEAD_S) / PACE_S + 2
    assert most / 2 < tellings <= most
    told.now += publisher.HELD_S
    told.members.publish()
    assert told.is_told() == MANY
    assert told.members.publish() == float("inf")


def test_what_somebody_may_ask_for_is_told_before_the_answer(told: Told) -> None:
    """An order is answered after the change that it has made is on its way."""
    while told.members.publish() == float("inf"):  # until something is held back
        told.members.listed("s1")
    told.is_told()
    told.change("s2", State.STOPPED)
    told.members.publish(at_once=True)
    assert told.is_told() == MANY


def test_what_no_call_depends_on_waits_for_company(told: Told) -> None:
    """The steps of a start are told together; its end is not kept waiting by them."""
    told.change("s1", State.QUEUED)
    told.members.publish()
    told.is_told()
    told.now += 1.0
    told.change("s1", State.INITIALIZING)
    due = told.members.publish()
    assert told.is_told() in {0, MANY}
    for state in (State.STARTING, State.RUNNING):
        told.change("s1", state)
    told.now = min(due, told.now + publisher.HELD_S)
    told.members.publish()
    last = messages.decode_downward(told.router.sent[-1][2])
    assert [change.state for change in last if isinstance(change, messages.Changed)] == [
        State.RUNNING
    ]

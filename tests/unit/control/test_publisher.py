"""When a change is published and when it is held back: every broadcast wakes every member."""

import os
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest
import zmq
from msgspec.structs import replace

from garrison.ipc import messages, socket_paths
from garrison.ipc.messages import WIRE, Manifest, State
from garrison.ipc.system.process_tree import pid_namespace
from garrison.supervisor.bus.endpoints import RouterSet
from garrison.supervisor.config.spec import CallSettings, PluginSpec, service_spec
from garrison.supervisor.control import publisher
from garrison.supervisor.control.publisher import DirectoryPublisher
from garrison.supervisor.lifecycle.policy import Child
from garrison.supervisor.lifecycle.services import Incarnation, Service, ServiceTable

MANY = 50
PACE_S = MANY * publisher.EACH_S


class Router:
    """A ROUTER whose peers all read, apart from those that are gone."""

    def __init__(self) -> None:
        self.sent: list[list[bytes]] = []
        self.gone: set[bytes] = set()

    def send_multipart(self, frames: list[bytes], _: int) -> None:
        """Take a message."""
        if frames[0] in self.gone:
            raise zmq.ZMQError(zmq.EHOSTUNREACH)
        self.sent.append(frames)


class Published:
    """Members, what they were sent, and a clock that the test sets."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self.router = 1000.0, Router()
        clock = SimpleNamespace(monotonic=lambda: self.now)
        monkeypatch.setattr(publisher, "time", clock)
        services = {name: _service(name) for name in (f"s{n}" for n in range(MANY))}
        self.services = ServiceTable(services)
        plane, unused = RouterSet(cast(Any, self.router)), cast(Any, None)
        host = cast(Any, SimpleNamespace(max_message=1 << 20, orphan_grace=10.0, logs="l"))
        self.publisher = DirectoryPublisher(
            plane, self.services, host, "boot", CallSettings, unused, lambda _: None
        )

    def take_sent(self) -> int:
        """Return how many messages were sent since the last call."""
        count = len(self.router.sent)
        self.router.sent.clear()
        return count

    def sent_to(self, token: messages.Token) -> list[messages.Downward]:
        """Return the messages that were sent to one member."""
        batches = [frames[2] for frames in self.router.sent if frames[0] == token]
        return [message for batch in batches for message in messages.decode_downward(batch)]

    def change(self, name: str, state: State) -> None:
        """Put a service into a state."""
        service = self.services.services[name]
        service.child = replace(service.child, state=state)
        self.publisher.changed(name)


def _service(name: str) -> Service:
    child = Child(service_spec(name=name, plugin="p", service_type="t"), State.RUNNING, True)
    service = Service(
        child,
        PluginSpec(name="p", use="p"),
        Manifest("t"),
        0,
        Incarnation(b"g" + name.encode()),
    )
    service.current.welcomed = service.current.connected = True
    return service


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch) -> Iterator[Published]:
    """Return a publisher with fifty workers, all running."""
    published = Published(monkeypatch)
    yield published
    published.publisher.close()


def test_a_lone_change_is_published_at_once(published: Published) -> None:
    """Every member gets it in the turn in which it happened, in one message."""
    published.change("s1", State.BACKOFF)
    published.change("s2", State.BACKOFF)
    published.publisher.publish()
    assert published.take_sent() == MANY
    assert published.publisher.publish() == float("inf")  # and nothing is left to publish


def test_a_storm_of_changes_is_published_at_a_limited_rate(published: Published) -> None:
    """Workers that change in every turn cost no more than the limit; the last state is published
    when it is due."""
    broadcasts = 0
    began = published.now
    while published.now < began + 1.0:
        published.change(f"s{int(1000 * published.now) % MANY}", State.BACKOFF)
        due = published.publisher.publish()
        broadcasts += published.take_sent() // MANY
        assert due == float("inf") or published.now <= due <= published.now + publisher.HELD_S
        published.now += 0.001
    most = (1.0 + publisher.AHEAD_S) / PACE_S + 2
    assert most / 2 < broadcasts <= most
    published.now += publisher.HELD_S
    published.publisher.publish()
    assert published.take_sent() == MANY
    assert published.publisher.publish() == float("inf")


def test_a_service_that_describes_itself_all_the_time_wakes_the_others_rarely(
    published: Published,
) -> None:
    """Beyond its share its changes are held back; another service's is published at once."""
    began, broadcasts = published.now, 0
    while published.now < began + 10.0:
        published.publisher.listed("s1")
        published.publisher.publish()
        broadcasts += published.take_sent() // MANY
        published.now += 0.001
    assert broadcasts <= publisher.LISTED_MOST + 10.0 / publisher.HELD_S
    published.publisher.listed("s1")
    published.publisher.publish()
    assert published.take_sent() == 0
    published.publisher.listed("s2")
    published.publisher.publish()
    assert published.take_sent() == MANY


def test_a_member_that_wants_the_directory_all_the_time_gets_it_rarely(
    published: Published,
) -> None:
    """A directory costs more than the Hello that asks for it."""
    began, token = published.now, published.services.services["s1"].current.token
    while published.now < began + 10.0:
        published.publisher.resend_directory(token)
        published.publisher.publish()
        published.now += 0.001
    assert published.take_sent() <= publisher.LISTED_MOST + 10.0 / publisher.HELD_S


def test_a_change_is_published_before_the_answer_that_may_depend_on_it(
    published: Published,
) -> None:
    """A request is answered after the change that it made is on its way."""
    number = 0
    while published.publisher.publish() == float("inf"):  # until something is held back
        published.change(f"s{(number := number + 1) % MANY}", State.BACKOFF)
    published.take_sent()
    published.change("s2", State.STOPPED)
    published.publisher.publish(at_once=True)
    assert published.take_sent() == MANY


def test_a_change_that_no_call_depends_on_is_held_back(published: Published) -> None:
    """The steps of a start are published together; its end is not delayed by them."""
    published.change("s1", State.QUEUED)
    published.publisher.publish()
    published.take_sent()
    published.now += 1.0
    published.change("s1", State.INITIALIZING)
    due = published.publisher.publish()
    assert published.take_sent() in {0, MANY}
    for state in (State.STARTING, State.RUNNING):
        published.change("s1", state)
    published.now = min(due, published.now + publisher.HELD_S)
    published.publisher.publish()
    last = messages.decode_downward(published.router.sent[-1][2])
    assert [change.state for change in last if isinstance(change, messages.Changed)] == [
        State.RUNNING
    ]


def test_while_many_start_one_broadcast_has_the_changes_of_several(published: Published) -> None:
    """Each start ends with a change that calls may wait for; the last one is published in time."""
    names = [f"s{n}" for n in range(20)]
    for name in names:
        published.change(name, State.QUEUED)
    published.publisher.publish(at_once=True)
    published.take_sent()
    published.now += 1.0
    broadcasts = 0
    for name in names:
        published.change(name, State.RUNNING)
        due = published.publisher.publish()
        broadcasts += published.take_sent() // MANY
        assert due == float("inf") or due <= published.now + publisher.HELD_S
        published.now += PACE_S
    assert broadcasts < len(names) / 2
    published.now += publisher.HELD_S
    published.publisher.publish()
    assert published.publisher.publish() == float("inf")


def test_a_program_gets_no_change_before_its_welcome(published: Published) -> None:
    """With the Welcome of a new supervisor a program fails its calls in flight. A change before it
    would have the program send the calls that wait."""
    program = socket_paths.new_token()
    assert published.publisher.join(program, messages.Join(WIRE, os.getpid()))
    published.change("s1", State.BACKOFF)
    published.publisher.publish()
    assert published.sent_to(program) == []
    published.publisher.welcome(program)
    published.change("s1", State.RUNNING)
    published.publisher.publish(at_once=True)
    kinds = [type(message) for message in published.sent_to(program)]
    assert kinds == [messages.Welcome, messages.Changed]


def test_calls_of_programs_are_suspended_alone(published: Published) -> None:
    """Workers still call each other, to answer what programs have called."""
    program = socket_paths.new_token()
    assert published.publisher.join(program, messages.Join(WIRE, os.getpid()))
    published.publisher.welcome(program)
    published.take_sent()
    published.publisher.suspend_programs()
    changes = published.sent_to(program)
    assert published.take_sent() == 1
    assert [getattr(change, "token", None) for change in changes] == [b""] * MANY


def test_a_program_of_another_pid_namespace_is_forgotten_when_it_is_gone(
    published: Published,
) -> None:
    """Its pid is none here, or another process's: it is known by its connection alone."""
    program, here = socket_paths.new_token(), pid_namespace()
    number_of_none, joined = 2**22 + 1, published.publisher
    for now, pid in ((1e9, number_of_none), (2e9, os.getpid())):
        assert joined.join(program, messages.Join(WIRE, pid, pid_namespace=here + 1))
        joined.check_programs_elsewhere(now)
        assert joined.has_program(program)
        published.router.gone.add(program)
        joined.check_programs_elsewhere(now + publisher.ELSEWHERE_S)
        assert not joined.has_program(program)
        published.router.gone.clear()

"""The services: names and globs, exits and their causes, what a start waits for."""

from collections.abc import Mapping
from typing import Any

import pytest
from msgspec.structs import replace

from garrison.ipc.messages import Changed, Entry, Failing, Health, Manifest, State, Stopped
from garrison.supervisor.config.spec import PluginSpec, ServiceSpec, service_spec
from garrison.supervisor.lifecycle import services as services_module
from garrison.supervisor.lifecycle.dependencies import blocking_dependencies
from garrison.supervisor.lifecycle.handle import Handle
from garrison.supervisor.lifecycle.order_note import OrderNote, is_loop
from garrison.supervisor.lifecycle.policy import Child, Event, StopReason
from garrison.supervisor.lifecycle.services import (
    Incarnation,
    Service,
    ServiceTable,
    UnreadablePlugin,
)

PLUGIN = PluginSpec(name="p", use="p")


def spec(name: str, needs: str = "", **changes: Any) -> ServiceSpec:
    """Return a service that depends on others of one letter each."""
    return service_spec(name=name, plugin="p", service_type="t", depends_on=tuple(needs), **changes)


def a_service(
    name: str, state: State = State.RUNNING, needs: str = "", wanted: bool = True, **changes: Any
) -> Service:
    """Return a service in a state, with a process where that state has one."""
    child = Child(spec(name, needs, **changes), state, wanted, generation=4)
    return Service(
        child, PLUGIN, Manifest("t"), 0, Incarnation(b"g-" + name.encode(), connected=True)
    )


def a_table(*services: Service, unread: tuple[str, ...] = ()) -> ServiceTable:
    """Return a table with these services, and plugins that cannot be read."""
    return ServiceTable(
        {one.name: one for one in services},
        {name: UnreadablePlugin(name, position) for position, name in enumerate(unread)},
    )


# --- one service --------------------------------------------------------------------------


@pytest.mark.parametrize("state", list(State))
@pytest.mark.parametrize("ended", [False, True])
def test_calls_go_to_what_runs(state: State, ended: bool) -> None:
    """Its address is published while it is RUNNING and its process runs; else there is none."""
    one = a_service("a", state)
    one.current.ended = ended
    token = b"g-a" if state is State.RUNNING and not ended else b""

    assert one.entry().token == one.changed().token == one.open_token == token


@pytest.mark.parametrize(("connected", "adopting"), [(False, False), (True, True), (False, True)])
def test_no_call_goes_to_an_unreachable_service(connected: bool, adopting: bool) -> None:
    """A former supervisor's worker runs, and is called once it has found the new sockets."""
    one = a_service("a")
    one.current.connected, one.current.adopting = connected, adopting

    assert one.open_token == b""


def test_a_service_as_the_directory_has_it() -> None:
    """The whole entry, and its state as a change of it."""
    one = a_service("a")
    one.position, one.current.events = 3, ("greeted",)

    assert one.entry() == Entry(
        "a", "p", 3, Manifest("t"), State.RUNNING, True, 4, b"g-a", ("greeted",)
    )
    assert one.changed() == Changed("a", State.RUNNING, True, 4, b"g-a")


def test_a_new_incarnation_has_nothing_of_the_old_one() -> None:
    """Everything about the old process is forgotten, but not why it ended."""
    one = a_service("a")
    now = one.current
    now.handle, now.in_flight, now.refused_frames, now.beat_at = Handle(7), 3, 2, 99.0
    now.welcomed = now.ready = now.connected = now.ended = True
    now.failing, now.stopped, now.events = Failing("run", "no"), Stopped(), ("greeted",)
    one.reason, one.traceback, one.last_exit = "no", "trace", "was killed"

    one.current = Incarnation(b"g-new", started_at=100.0)

    used = set(now.__struct_fields__) - {"token", "started_at"}
    empty = Incarnation()
    assert {name: getattr(one.current, name) for name in used} == {
        name: getattr(empty, name) for name in used
    }
    assert (one.reason, one.traceback, one.last_exit) == ("no", "trace", "was killed")


@pytest.mark.parametrize(
    ("broken", "clean", "event"),
    [
        (None, None, Event.CRASH),
        (None, Stopped("ordered"), Event.CLEAN_EXIT),
        (Failing("run", "no"), None, Event.CRASH),
        (Failing("run", "no"), Stopped(), Event.CRASH),
        (Failing("start", "no", permanent=True), None, Event.REFUSED),
        (Failing("start", "no", retry_s=3), None, Event.POSTPONED),
        (Failing("init", "no", retry_s=0), None, Event.POSTPONED),
    ],
)
def test_a_clean_end_is_one_that_was_announced(
    broken: Failing | None, clean: Stopped | None, event: Event
) -> None:
    """Any other is a crash; one after PermanentFailure is refused."""
    one = a_service("a")
    one.current.failing, one.current.stopped = broken, clean

    assert one.current.outcome() is event


@pytest.mark.parametrize(
    ("state", "why", "broken", "clean", "cause"),
    [
        (State.RUNNING, StopReason.ORDER, None, None, "its process was killed by SIGKILL"),
        (State.RUNNING, StopReason.WATCHDOG, None, None, "its process was killed by SIGKILL"),
        (State.RUNNING, StopReason.ORDER, Failing("run", "KeyError: 'x'"), None, "KeyError: 'x'"),
        (State.STOPPING, StopReason.ORDER, None, Stopped("ordered"), "ordered"),
        (State.STOPPING, StopReason.ORDER, None, Stopped(""), "its process was killed by SIGKILL"),
        (
            State.STOPPING,
            StopReason.WATCHDOG,
            None,
            None,
            "its loop was silent for 7 s, so it was ended",
        ),
        (
            State.STOPPING,
            StopReason.WATCHDOG,
            Failing("run", "x"),
            None,
            "its loop was silent for 7 s, so it was ended",
        ),
        (
            State.STOPPING,
            StopReason.START_TIMEOUT,
            None,
            None,
            "it did not start within 2.5 s, so it was ended",
        ),
        (
            State.STOPPING,
            StopReason.HEALTH,
            None,
            Stopped("ordered"),
            "its health was not good twice in a row (a problem), so it was ended",
        ),
    ],
)
def test_the_cause_of_an_end_is_a_sentence(
    state: State, why: StopReason, broken: Failing | None, clean: Stopped | None, cause: str
) -> None:
    """What garrison did comes before what the process reported, and that before its status."""
    one = a_service("a", state, watchdog=7.0, start_timeout=2.5)
    one.child = replace(one.child, why=why)
    one.current.failing, one.current.stopped = broken, clean
    one.current.health = Health("a problem")

    assert one.cause("was killed by SIGKILL") == cause


# --- names --------------------------------------------------------------------------------


def test_names_and_globs_stand_for_services() -> None:
    """Each once, in the order in which they were named; patterns without a match are returned."""
    table = a_table(
        a_service("chat"), a_service("discord"), a_service("discord-eu"), unread=("tele",)
    )

    assert table.match(["discord*", "chat", "chat"]) == (["discord", "discord-eu", "chat"], [])
    assert table.match(["t?le", "x*", "unknown"]) == (["tele"], ["x*", "unknown"])
    assert table.match(["*"]) == (["chat", "discord", "discord-eu", "tele"], [])
    assert table.match([]) == ([], [])


def test_a_name_with_characters_of_a_glob_matches_itself() -> None:
    """An exact NAME comes before a pattern."""
    table = a_table(a_service("a[1]"), a_service("a1"))

    assert table.match(["a[1]"]) == (["a[1]"], [])
    assert table.match(["A1"]) == ([], ["A1"])


def test_every_name_is_returned_once() -> None:
    """Also where a plugin that cannot be read has a NAME that a service of another has."""
    table = a_table(a_service("a"), a_service("b"), unread=("a", "c"))

    assert table.names() == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("discrod", "no service discrod; did you mean discord?"),
        ("zzz", "no service zzz; there are: chat, discord"),
    ],
)
def test_an_unknown_name_is_answered_with_a_hint(name: str, sentence: str) -> None:
    """The nearest one, or all that there are."""
    assert a_table(a_service("chat"), a_service("discord")).unknown(name) == sentence


def test_an_empty_host_has_no_names() -> None:
    """The sentence is one nevertheless."""
    assert a_table().unknown("a") == "no service a; there are: none"


def test_services_are_in_config_order() -> None:
    """Those that the config no longer has are still there."""
    table = a_table(a_service("a"), a_service("b"), a_service("c"))

    table.reorder([spec("c"), spec("b"), spec("new")])

    order = [one.name for one in table]
    assert order.index("c") < order.index("b")
    assert [table.services[name].position for name in ("c", "b")] == [0, 1]
    assert table.children().keys() == {"a", "b", "c"}


# --- waiting ------------------------------------------------------------------------------


def test_a_waiting_start_names_what_it_waits_for() -> None:
    """Each dependency that does not run, in its state; nothing where it waits for a slot alone."""
    queued = a_service("a", State.QUEUED, needs="bcd")
    table = a_table(queued, a_service("b", State.BACKOFF), a_service("c"))

    reason = table.waiting_reason(queued)

    assert reason == (
        "waits for b, which is backoff, waits for d, which is not there: its plugin cannot be read"
    )
    assert a_table(a_service("b")).waiting_reason(a_service("a", State.QUEUED, needs="b")) == ""


@pytest.mark.parametrize(
    ("state", "wanted", "stuck"),
    [
        (State.REGISTERED, False, True),
        (State.QUEUED, True, False),
        (State.INITIALIZING, True, False),
        (State.STARTING, True, False),
        (State.RUNNING, True, False),
        (State.STOPPING, True, False),
        (State.STOPPING, False, True),
        (State.STOPPED, False, True),
        (State.BACKOFF, True, False),
        (State.FAILED, True, True),
    ],
)
def test_who_waits_for_what_will_not_come_is_blocked(
    state: State, wanted: bool, stuck: bool
) -> None:
    """A dependency that failed, or that is not wanted; directly or through others."""
    first, middle = a_service("a", State.QUEUED, needs="b"), a_service("b", State.QUEUED, needs="c")
    table = a_table(first, middle, a_service("c", state, wanted=wanted))

    assert table.is_blocked(middle) is stuck
    assert table.is_blocked(first) is stuck


def test_who_waits_for_what_is_not_there_is_blocked() -> None:
    """A plugin that cannot be read brings no service."""
    queued = a_service("a", State.QUEUED, needs="b")

    assert a_table(queued).is_blocked(queued)


@pytest.mark.parametrize("state", [State.RUNNING, State.BACKOFF, State.STARTING])
def test_only_what_is_queued_is_blocked(state: State) -> None:
    """What has begun no longer waits for its dependencies."""
    one = a_service("a", state, needs="b")

    assert not a_table(one, a_service("b", State.FAILED)).is_blocked(one)


def test_each_dependency_is_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """In layers where each depends on both of the layer below, the paths double with each layer."""
    layers = 12
    services = [
        Service(
            Child(
                service_spec(
                    name=f"{side}{layer}",
                    plugin="p",
                    service_type="t",
                    depends_on=(f"l{layer - 1}", f"r{layer - 1}") if layer else (),
                ),
                State.QUEUED,
                True,
            ),
            PLUGIN,
            Manifest("t"),
            0,
        )
        for layer in range(layers)
        for side in "lr"
    ]
    table, looks = a_table(*services), 0

    def counted(child: Child, children: Mapping[str, Child]) -> list[str]:
        nonlocal looks
        looks += 1
        return blocking_dependencies(child, children)

    monkeypatch.setattr(services_module, "blocking_dependencies", counted)

    assert not table.is_blocked(services[-1])
    assert looks <= 4 * len(services)


def test_orders_that_come_back_through_another_service_are_counted() -> None:
    """A restarts B, which restarts A: that is a loop of A, and none of B's own yet."""
    a, b = a_service("a"), a_service("b")
    for now in (1.0, 2.0, 3.0):
        assert not is_loop(a.own_restarts, now)
        b.note_order(OrderNote(1, "restart", "a", chain=("a",)), now)
        a.note_order(OrderNote(2, "restart", "b", chain=("b", "a")), now)
    assert is_loop(a.own_restarts, 4.0)
    assert not b.own_restarts
    a.note_order(OrderNote(3, "stop", "b", chain=("b", "a")), 100.0)
    assert not is_loop(a.own_restarts, 100.0)

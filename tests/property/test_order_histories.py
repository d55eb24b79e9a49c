"""The last order wins: any orders, in any state, while processes start, end and crash."""

from collections.abc import Iterator
from itertools import product
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.examples import examples

from garrison.ipc import messages
from garrison.ipc.messages import Manifest, Order, State
from garrison.supervisor.config.spec import PluginSpec, service_spec
from garrison.supervisor.control.commands import disk, reloading
from garrison.supervisor.control.requests import RequestHooks, RequestQueue
from garrison.supervisor.lifecycle.policy import Child, Event, has_process
from garrison.supervisor.lifecycle.services import Service, ServiceTable
from garrison.supervisor.manager import ServiceManager
from garrison.supervisor.places import OneMachine
from garrison.supervisor.processes import engine
from garrison.supervisor.starts import StartScheduler
from garrison.supervisor.state.orders import OperatorOrders, OrderStore

VERBS = ("start", "stop", "restart", "reset", "reload")
NAMES = ("db", "app")  # app depends on db, and is bound to it
PROBE_STEPS = 3  # a restart reads the plugin first, which takes so many turns
TURNS = 20  # in which everything has come to rest


PLUGIN = PluginSpec(name="p", use="p")
CONFIG = SimpleNamespace(plugins={"p": PLUGIN}, plugin_of=lambda name: "p", rejected=(), former={})


@pytest.fixture(autouse=True, scope="module")
def _config_on_disk() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(disk, "load_config", lambda context: CONFIG)
        patch.setattr(reloading, "load_config", lambda context: CONFIG)
        patch.setattr(disk, "_check_startable", lambda *args: None)
        yield


class Anything:
    """Stands for a component that is of no matter here: it has every method, which does nothing."""

    def __getattr__(self, name: str) -> Any:
        return self

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self


class World:
    """A manager, its requests and two services, whose processes do what the test says."""

    def __init__(self, tmp: Any) -> None:
        self.table = ServiceTable()
        effects: Any = Anything()
        effects.places = OneMachine()
        self.manager = ServiceManager(self.table, StartScheduler(self.table, 2, _nothing), effects)
        specs = [
            service_spec(name="db", plugin="p", service_type="db", exclusive=False),
            service_spec(
                name="app",
                plugin="p",
                service_type="app",
                depends_on=("db",),
                bind_to=("db",),
                exclusive=False,
            ),
        ]
        for position, spec in enumerate(specs):
            self.manager.roster.add(Service(Child(spec), PLUGIN, Manifest(spec.name), position))
        self.answers: dict[int, messages.Answer] = {}
        self.last: dict[str, str] = {}  # NAME → its last order but reset
        self.orders = OrderStore(tmp, OperatorOrders(), lambda problem: None)
        self.requests = RequestQueue(
            self._context(specs), self._hooks(), lambda _, order, sender: order
        )
        self.count = 0

    def _context(self, specs: list[Any]) -> Any:
        context: Any = Anything()
        context.services = self.table
        context.is_stopping = lambda: False
        context.next_order = self.orders.next_number
        plugins: Any = Anything()
        context.plugins = plugins
        plugins.finished = True
        plugins.config, plugins.read = CONFIG, {"p": None}
        plugins.fit = lambda *args: (CONFIG, specs)
        plugins.with_problems = lambda: set[str]()
        plugins.until_done = _probing
        plugins.take_plugins = lambda newly: iter(())
        return context

    def _hooks(self) -> RequestHooks:
        def send(peer: bytes, answer: Any) -> bool:
            assert answer.id not in self.answers
            self.answers[answer.id] = answer
            return True

        def erred(during: str, error: Exception) -> None:
            raise error

        nothing: Any = Anything()
        return RequestHooks(send, self.manager.perform, nothing, nothing, nothing, erred)

    # --- what happens -----------------------------------------------------------------------

    def order(self, verb: str, *names: str) -> int:
        """Give an order; the next turn begins to carry it out."""
        self.count += 1
        self.requests.take(b"cli", Order(self.count, verb, names, 1e6))
        if verb not in {"reset", "reload"}:  # which of a service that runs change nothing of that
            self.last |= dict.fromkeys(names, verb)
        return self.count

    def turn(self) -> None:
        """Take one turn of the loop."""
        self.manager.start_next()
        self.requests.step_all()
        for name, second in self.table.second.items():  # two incarnations are never confused
            assert second.child.generation != self.table.services[name].child.generation

    def advance(self, name: str) -> None:
        """Have each process take its next step: init, start, or its end if it is being stopped."""
        second = self.table.second.get(name)
        for service in (self.table.services[name], *([second] if second is not None else [])):
            self._advance(service)

    def _advance(self, service: Service) -> None:
        match service.state:
            case State.INITIALIZING:
                self.manager.apply(service, Event.INITIALIZED)
            case State.STARTING:
                self.manager.apply(service, Event.READY)
            case State.STOPPING:
                service.current.stopped = messages.Stopped("ordered")
                self._end(service)
            case State.BACKOFF | State.FAILED:
                self.manager.apply(service, Event.DEADLINE)
            case _:
                pass

    def crash(self, name: str) -> None:
        """Have a process crash."""
        if has_process(self.table.services[name].state):
            self._end(self.table.services[name])

    def crash_second(self, name: str) -> None:
        """Have the other process of a service crash, if there is one."""
        if name in self.table.second:
            self._end(self.table.second[name])

    def _end(self, service: Service) -> None:
        token = service.current.token
        self.manager.on_engine_event(engine.Ended(token, 0))
        self.manager.on_engine_event(engine.Gone(token))

    def settle(self) -> None:
        """Let everything come to rest."""
        for _ in range(TURNS):
            self.turn()
            for name in NAMES:
                self.advance(name)

    # --- what holds -------------------------------------------------------------------------

    def check(self) -> None:
        """The last order decides what is wanted, and once all is at rest, what is. One process is
        left of each, whose messages are its own."""
        assert not self.table.second
        live = {s.current.token: s for s in self.table if s.current.token}
        assert self.table.by_token == live
        for name, verb in self.last.items():
            service = self.table.services[name]
            assert service.child.wanted is (verb != "stop"), (name, verb, service.state)
            needs = [self.table.services[one].state for one in service.spec.supervision.depends_on]
            if verb == "stop":
                assert service.state is State.STOPPED
            elif all(state is State.RUNNING for state in needs):
                assert service.state is State.RUNNING
            else:
                assert service.state is State.QUEUED


def _probing(*probes: Any) -> Iterator[bool]:
    for _ in range(PROBE_STEPS):
        yield False


def _nothing(token: bytes) -> None:
    return None


# --- every pair in every state ------------------------------------------------------------

STATES = (State.RUNNING, State.STOPPING, State.STARTING, State.QUEUED, State.STOPPED, State.BACKOFF)


def bring_to(world: World, state: State) -> None:
    """Bring `db` into a state."""
    world.order("start", "db")
    world.turn()
    if state is State.QUEUED:
        service = world.table.services["db"]
        world.manager.hold_starts = True
        assert service.state in {State.QUEUED, State.INITIALIZING}
        return
    world.turn()
    world.advance("db")
    if state is State.STARTING:
        return
    if state is State.BACKOFF:
        world.crash("db")
        return
    world.advance("db")
    if state in {State.STOPPING, State.STOPPED}:
        world.order("stop", "db")
        world.turn()
    if state is State.STOPPED:
        world.advance("db")


@pytest.mark.parametrize(("state", "first", "second"), list(product(STATES, VERBS, VERBS)))
@pytest.mark.parametrize("turns", [0, PROBE_STEPS + 2])
def test_of_two_orders_the_later_one_holds(
    tmp_path: Any, state: State, first: str, second: str, turns: int
) -> None:
    """In every state, however far the first one has come; each is answered once."""
    world = World(tmp_path)
    bring_to(world, state)
    world.order(first, "db")
    for _ in range(turns):
        world.turn()
    world.order(second, "db")
    world.manager.hold_starts = False

    world.settle()

    world.check()
    assert len(world.answers) == world.count


ACTIONS = st.one_of(
    st.tuples(st.sampled_from(VERBS), st.sampled_from([("db",), ("app",), ("db", "app")])),
    st.tuples(st.sampled_from(["advance", "crash", "crash_second"]), st.sampled_from(NAMES)),
    st.just(("turn", "")),
)


@settings(max_examples=examples(150), deadline=None)
@given(actions=st.lists(ACTIONS, max_size=25))
def test_the_last_order_holds_after_any_history(
    tmp_path_factory: pytest.TempPathFactory, actions: list[tuple[str, Any]]
) -> None:
    """Of two services, one of which depends on the other and is restarted with it."""
    world = World(tmp_path_factory.getbasetemp())
    for what, names in actions:
        match what:
            case "turn":
                world.turn()
            case "advance":
                world.advance(names)
            case "crash":
                world.crash(names)
            case "crash_second":
                world.crash_second(names)
            case verb:
                world.order(verb, *names)

    world.settle()

    world.check()
    assert len(world.answers) == world.count

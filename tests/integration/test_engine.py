"""What the supervisor may expect of any engine: the local one, one that is slow, and a node's."""

import ctypes
import os
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import psutil
import pytest
from tests.support.engines import DELAY_S, DelayedEngine
from tests.support.plain_nodes import NODE, PlainNode
from tests.support.venvs import make_venv

from garrison.ipc import messages
from garrison.ipc.system import process_tree
from garrison.supervisor.config.spec import ProcessLimits
from garrison.supervisor.lifecycle.handle import Handle
from garrison.supervisor.processes import engine as events
from garrison.supervisor.processes import launchers
from garrison.supervisor.processes.engine import Engine, Happened, Inherited, Key
from garrison.supervisor.processes.local import LocalEngine
from garrison.supervisor.processes.nodes import NodesEngine
from garrison.supervisor.processes.takeover import MEET_WAIT

A, B, C = b"a" * 16, b"b" * 16, b"c" * 16
GRACE_S = 60.0
SLOW_S = 30.0  # for a real process, on a machine that is busy
T = TypeVar("T")


class Clock:
    """A clock that a test sets forward."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self.ahead


class Bench:
    """Engines of one home, and what they have reported.

    Args:
        delayed: Whether the engine's reports are late.
        node: Where workers are; None: on this machine.
    """

    def __init__(self, delayed: bool = False, node: PlainNode | None = None) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="g")
        self.folder = Path(self._folder.name)
        for name in ("run", "logs"):
            (self.folder / name).mkdir()
        (self.folder / "idle.py").write_text("import time\n\ntime.sleep(600)\n")
        self.others = set(process_tree.children())
        self._clock = Clock()
        self._delayed, self._node = delayed, node
        self.run = self.folder / "run" if self._node is None else self._node.home / "run"
        self.seen: list[Happened] = []
        self.engine = self._make()

    def _make(self) -> Engine:
        local = LocalEngine(
            self.folder / "run",
            self.folder / "logs",
            {"PATH": os.environ["PATH"]},
            GRACE_S,
            each_cgroup=False,
            others=self.others,
        )
        if self._node is not None:
            self.others.add(self._node.keeper)
            return self._node.engine(local, self.folder)
        return DelayedEngine(local, clock=self._clock) if self._delayed else local

    def succeed(self) -> None:
        """Put another engine in the place of the present one, as after a supervisor's end."""
        self._close_engine()
        self.seen = []
        self.engine = self._make()

    def _close_engine(self) -> None:
        self.engine.close()
        if self._node is not None:
            self._node.disconnect()

    def turn(self) -> list[Happened]:
        """Take what the engine reports now."""
        happened = self.engine.turn()
        self.seen += happened
        return happened

    def until(self, kind: type[T], check: Callable[[T], bool] = lambda _: True) -> T:
        """Return the first event of a kind, as soon as it is reported."""
        deadline = time.monotonic() + SLOW_S
        while time.monotonic() < deadline:
            for happened in self.seen:
                if isinstance(happened, kind) and check(happened):
                    return happened
            if not self.turn():
                time.sleep(0.005)
            if self._delayed:
                self._clock.ahead += DELAY_S / 10
        pytest.fail(f"no {kind.__name__} was reported, but {self.seen}")

    def until_measured(self, key: Key) -> None:
        """Return once it is known what a worker without limits uses."""
        deadline = time.monotonic() + SLOW_S
        while not self.engine.measure(key).rss_bytes:
            assert time.monotonic() < deadline
            self.turn()

    def kinds(self, key: Key) -> list[type[Happened]]:
        """Return the kinds of the events of a worker, in order."""
        return [type(one) for one in self.seen if getattr(one, "key", None) == key]

    def start(self, key: Key, name: str, limits: ProcessLimits = events.NO_LIMITS) -> Handle:
        """Fork a worker and wait until it is there."""
        self.fork(key, name, limits)
        return self.until(events.Forked, lambda one: one.key == key).handle

    def fork(self, key: Key, name: str, limits: ProcessLimits = events.NO_LIMITS) -> None:
        """Order a worker, once its node has contact."""
        if isinstance(self.engine, NodesEngine):
            self.until(events.NodeChanged, lambda one: one.change == "joined")
            self.engine.place(key, NODE)
        self.engine.fork(key, name, self.assignment(key, name), limits)

    def assignment(self, key: Key, name: str) -> bytes:
        """Return the assignment of a worker that does nothing until it is ended."""
        paths = messages.Paths(
            control=str(self.folder / "run" / "control.sock"),
            bus=str(self.folder / "run" / "bus.sock"),
            lock="",
            recorder=str(self.folder / "run" / f"{name}.{key.hex()}.flight"),
        )
        return messages.encode_assignment(
            messages.Assignment(
                name=name,
                source=messages.PluginSource(name="idle", use="idle", folder=str(self.folder)),
                service_type=name,
                generation=1,
                token=key,
                paths=paths,
                environment=messages.WorkerEnvironment(env={}, secrets={}),
                config={},
                plugin_config={},
                timing=messages.Timing(
                    watchdog=0.0, start_timeout=60.0, grace=5.0, orphan_grace=GRACE_S
                ),
                calls=messages.CallLimits(),
            )
        )

    def close(self) -> None:
        """End everything."""
        self.engine.leave(kill=True)
        self._close_engine()
        libc = ctypes.CDLL(None)
        libc.prctl(process_tree.PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
        self._folder.cleanup()


@pytest.fixture(scope="module")
def node() -> Iterator[PlainNode]:
    """Return a node, which has no workers after each test."""
    node = PlainNode()
    yield node
    node.close()


@pytest.fixture(params=["local", "delayed", "node"])
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    """Return an engine to work with."""
    node = request.getfixturevalue("node") if request.param == "node" else None
    bench = Bench(request.param == "delayed", node)
    yield bench
    bench.close()


def test_a_worker_that_ends_soon_is_forked_at_once(bench: Bench) -> None:
    """By a launcher beside the supervisor, wherever the others are; it is reported as they are."""
    bench.engine.fork(A, "one", bench.assignment(A, "one"), brief=True)
    handle = bench.until(events.Forked).handle
    assert handle.node == ""
    launcher = bench.engine.status()["launcher_pid"]
    assert launcher is not None
    assert handle.pid in process_tree.children(launcher)

    bench.engine.signal(A, signal.SIGKILL)
    bench.until(events.Gone)
    assert bench.kinds(A) == [events.Forked, events.Died, events.Ended, events.Gone]
    assert bench.engine.left([handle]) == []


def test_a_worker_is_forked_and_its_end_is_reported_in_order(bench: Bench) -> None:
    """First that it died, then how, then that nothing of it is left."""
    handle = bench.start(A, "one")
    assert handle.pid > 0
    assert bench.engine.has(A)
    assert not bench.engine.has(B)

    bench.engine.signal(A, signal.SIGKILL)
    gone = bench.until(events.Gone)

    assert gone.left == ()
    assert bench.kinds(A) == [events.Forked, events.Died, events.Ended, events.Gone]
    assert bench.until(events.Ended).status == signal.SIGKILL
    assert not bench.engine.has(A)
    assert bench.engine.left([handle]) == []


def test_a_gone_worker_leaves_a_report(bench: Bench) -> None:
    """Its calls and its log, once; and a request for a worker without any is answered, too."""
    bench.start(A, "one")
    bench.engine.signal(A, signal.SIGKILL)
    bench.until(events.Gone)

    for key in (A, B):
        bench.engine.report(key)
        bench.until(events.LogTail, lambda one, key=key: one.key == key)  # type: ignore[misc]
        assert bench.kinds(key)[-2:] == [events.FlightRecord, events.LogTail]
    assert list(bench.run.glob("*.flight")) == []


def test_a_worker_with_limits_is_measured(bench: Bench) -> None:
    """Without a request; one without limits is measured when that is requested."""
    bench.start(A, "one", ProcessLimits(processes=100))
    bench.start(B, "two")

    usage = bench.until(events.Usage)

    assert usage.key == A
    assert usage.used.processes >= 1
    assert usage.used.memory > 0
    assert bench.engine.measure(A).tree == usage.used
    bench.until_measured(B)
    tree = bench.engine.measure(B, tree=True).tree
    assert tree is not None
    assert tree.processes >= 1


def test_modules_are_preloaded_and_checked(bench: Bench) -> None:
    """Each request is answered once."""
    bench.engine.preload(("json", "no_such_module"))
    preloaded = bench.until(events.Preloaded)
    assert list(preloaded.failed) == ["no_such_module"]

    bench.engine.check_fresh()
    assert bench.until(events.Fresh).changed == ()

    bench.seen = []
    bench.engine.refresh(("json",))
    assert bench.until(events.Preloaded).failed == {}


def test_workers_are_found_again(bench: Bench) -> None:
    """`adopt` returns at once. Found comes before the rest, and reports each known worker; what a
    node has is not known yet, so that those on nodes count as running."""
    is_node = isinstance(bench.engine, NodesEngine)
    handle = bench.start(A, "one")
    bench.succeed()

    bench.engine.adopt(
        [
            Inherited(A, "one", handle),
            Inherited(B, "two", Handle(handle.pid, handle.ticks + 1, node=handle.node)),
        ]
    )
    assert bench.seen == []
    assert bench.engine.has(A)
    found = bench.until(events.Found)

    assert found.running == ({A: "one", B: "two"} if is_node else {A: "one"})
    assert (found.launchers, found.over) == (0 if is_node else 1, False)
    assert found.reparented == frozenset()
    assert bench.until(events.Forked).handle == handle
    assert bench.until(events.Ended).status is None
    bench.until(events.Gone)
    assert bench.kinds(B)[-2:] == [events.Ended, events.Gone]
    assert bench.engine.has(A)
    assert [one for one in bench.seen if isinstance(one, events.Found)] == [found]
    assert isinstance(bench.seen[0], events.Found)


def test_nothing_to_adopt_is_found(bench: Bench) -> None:
    """An answer comes in any case, and commands that were given before it are carried out."""
    bench.engine.adopt([])
    bench.fork(A, "one")

    found = bench.until(events.Found)

    assert (found.running, found.launchers, found.over) == ({}, 0, True)
    bench.until(events.Forked)


@pytest.mark.parametrize("bench", ["local"], indirect=True)
def test_a_launcher_that_is_stopped_is_not_waited_for(bench: Bench) -> None:
    """Each turn returns at once. After a while the launcher is ended, and its worker is found
    without it."""
    handle = bench.start(A, "one")
    launcher = bench.engine.status()["launcher_pid"]
    assert launcher is not None
    os.kill(launcher, signal.SIGSTOP)
    bench.succeed()

    began = time.monotonic()
    bench.engine.adopt([Inherited(A, "one", handle)])
    assert bench.turn() == []
    assert time.monotonic() - began < MEET_WAIT / 2
    found = bench.until(events.Found)

    assert time.monotonic() - began >= MEET_WAIT
    assert found.running == {A: "one"}
    assert found.reparented == {A}
    assert found.launchers == 0
    (refused,) = found.refused
    assert "did not answer within 2 s" in refused


@pytest.mark.parametrize("bench", ["local"], indirect=True)
def test_another_interpreter_has_a_launcher_while_it_is_used(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fork waits until the interpreter has answered, and can be ended while it waits; what is of
    no use is reported in words; without workers the launcher ends after a while."""
    python = str(make_venv(tmp_path / "venv"))
    for key, path in ((A, python), (B, python), (C, str(tmp_path))):
        bench.engine.fork(key, "one", bench.assignment(key, "one"), python=path)
    assert bench.engine.has(A)
    bench.engine.signal(A, signal.SIGKILL)

    handle = bench.until(events.Forked, lambda one: one.key == B).handle
    refused = {one.key: one for one in bench.seen if isinstance(one, events.NotForked)}
    assert (refused[C].unusable, "is a folder" in refused[C].reason) == (True, True)
    assert "before its interpreter had answered" in refused[A].reason

    launcher = psutil.Process(handle.pid).ppid()
    command = Path(f"/proc/{launcher}/cmdline").read_text().split("\0")
    assert command[0] == python
    bench.engine.check_fresh()
    assert bench.until(events.Fresh).changed == ()
    monkeypatch.setattr(launchers, "IDLE_S", 0.1)
    bench.engine.signal(B, signal.SIGKILL)
    bench.until(events.Gone)
    began = time.monotonic()
    while psutil.pid_exists(launcher) and time.monotonic() - began < SLOW_S:
        bench.turn()
    assert not psutil.pid_exists(launcher)
    assert not any(isinstance(one, events.Lost) for one in bench.seen)

"""What is on disk outlives a supervisor, and what cannot be read is set aside by name."""

import os
from math import inf
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from garrison.ipc.messages import Failing, Manifest, MethodInfo, PluginRead, State, Stopped
from garrison.supervisor.config.load import load as load_config
from garrison.supervisor.config.spec import Restart, service_spec
from garrison.supervisor.lifecycle.handle import Handle
from garrison.supervisor.lifecycle.order_note import OrderNote
from garrison.supervisor.lifecycle.policy import Effect, StopReason, has_process
from garrison.supervisor.lifecycle.start_record import StartRecord
from garrison.supervisor.processes.engine import Found, Inherited
from garrison.supervisor.state.adoption import adoptable, inherited, is_ending, restored
from garrison.supervisor.state.orders import OperatorOrders, load_orders, save_orders
from garrison.supervisor.state.snapshot import (
    ServiceSnapshot,
    Snapshot,
    StoredService,
    from_stored,
    load_snapshot,
    remove_snapshot,
    save_snapshot,
    this_machine,
    to_stored,
)
from garrison.supervisor.state.stored import FORMAT

SAVED = OperatorOrders(stopped=["discord", "télé"], started=["nightly"])


def test_orders_come_back(tmp_path: Path) -> None:
    """What was written is read, and nothing else is left in the folder."""
    save_orders(tmp_path, SAVED)

    assert load_orders(tmp_path) == (SAVED, "")
    assert [file.name for file in tmp_path.iterdir()] == ["orders.json"]


def test_a_first_start_remembers_nothing(tmp_path: Path) -> None:
    """That there is no file is no problem."""
    assert load_orders(tmp_path) == (OperatorOrders(), "")


def test_the_last_word_is_kept(tmp_path: Path) -> None:
    """Each writing takes the place of the one before."""
    save_orders(tmp_path, SAVED)
    save_orders(tmp_path, OperatorOrders(stopped=["chat"]))

    assert load_orders(tmp_path)[0].stopped == ["chat"]


def test_a_writing_that_fails_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is written whole to another name first."""
    save_orders(tmp_path, SAVED)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        save_orders(tmp_path, OperatorOrders())

    assert load_orders(tmp_path) == (SAVED, "")


def test_a_file_cut_at_any_byte_is_set_aside(tmp_path: Path) -> None:
    """The host starts without it; the problem names the file and where it went."""
    save_orders(tmp_path, SAVED)
    whole = (tmp_path / "orders.json").read_bytes()
    for end in range(len(whole)):
        (tmp_path / "orders.json").write_bytes(whole[:end])

        saved, problem = load_orders(tmp_path)

        assert saved == OperatorOrders()
        assert str(tmp_path / "orders.json") in problem
        assert "orders.damaged" in problem
        assert (tmp_path / "orders.damaged").read_bytes() == whole[:end]
        assert not (tmp_path / "orders.json").exists()
        assert load_orders(tmp_path) == (OperatorOrders(), "")


@pytest.mark.parametrize(
    "content",
    [
        b"\x00" * 100,
        b"\xff\xfe",
        b"[]",
        b"null",
        b'"x"',
        b'{"format": "1"}',
        b'{"format": null}',
        b'{"stopped": "discord"}',
        b'{"stopped": [1]}',
        b'{"stopped": ["\xff"]}',
        b'{"x": ' + b"[" * 100_000,
        b'{"x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    ],
    ids=lambda content: content[:20],
)
def test_a_file_of_anything_else_is_set_aside(tmp_path: Path, content: bytes) -> None:
    """Zeros after a power cut, other JSON, no JSON, JSON without an end."""
    (tmp_path / "orders.json").write_bytes(content)

    saved, problem = load_orders(tmp_path)

    assert saved == OperatorOrders()
    assert "orders.damaged" in problem
    assert (tmp_path / "orders.damaged").read_bytes() == content


def test_a_folder_in_its_place_is_set_aside(tmp_path: Path) -> None:
    """Whatever it is that cannot be read."""
    (tmp_path / "orders.json").mkdir()

    assert "orders.damaged" in load_orders(tmp_path)[1]
    save_orders(tmp_path, SAVED)
    assert load_orders(tmp_path) == (SAVED, "")


NEWER: list[dict[str, object]] = [
    {"format": FORMAT + 1, "stopped": ["discord"], "started": []},
    {"format": FORMAT + 1, "stopped": {"discord": {"since": 1}}, "started": []},
    {"format": FORMAT + 1},
]


@pytest.mark.parametrize("newer", NEWER)
def test_a_newer_format_is_named_and_kept(tmp_path: Path, newer: dict[str, object]) -> None:
    """After a step back to this version: its words may mean something else, so none is taken;
    and the newer version finds its file again, whatever this one writes meanwhile."""
    content = msgspec.json.encode(newer)
    (tmp_path / "orders.json").write_bytes(content)

    saved, problem = load_orders(tmp_path)

    assert saved == OperatorOrders()
    assert f"format {FORMAT + 1}" in problem
    save_orders(tmp_path, OperatorOrders())
    assert content in [file.read_bytes() for file in tmp_path.iterdir()]


def test_what_a_later_version_adds_is_passed_over(tmp_path: Path) -> None:
    """Within one format, a key that is not known does no harm."""
    content = {"format": FORMAT, "stopped": ["a"], "later": {"x": 1}}
    (tmp_path / "orders.json").write_bytes(msgspec.json.encode(content))

    assert load_orders(tmp_path) == (OperatorOrders(stopped=["a"]), "")


# --- the snapshot ---------------------------------------------------------------------------

MANIFEST = Manifest("echo", "Says it again", (MethodInfo("echo", signature="(text: str)"),))
SPEC = service_spec(name="echo", plugin="echo", service_type="echo", watchdog=7.0, grace=3.0)
TOKEN = b"g" + bytes(15)


def one(**changes: Any) -> ServiceSnapshot:
    """Return a service of a snapshot, running by default."""
    usual: dict[str, Any] = {
        "name": "echo",
        "plugin": "echo",
        "service_type": "echo",
        "manifest": MANIFEST,
        "state": State.RUNNING,
        "wanted": True,
        "since": 50.0,
        "generation": 4,
        "token": TOKEN.hex(),
        "pid": 4711,
        "ticks": 99,
    }
    return from_stored(StoredService(**{**usual, **changes}))


def a_snapshot(**changes: Any) -> Snapshot:
    """Return what a supervisor wrote on this machine."""
    usual: dict[str, Any] = {
        "machine": this_machine(),
        "plugins": {"echo": PluginRead((MANIFEST,), preload=("json",))},
        "services": [one(), one(name="other", state=State.BACKOFF, token="", deadline=99.5)],
    }
    return Snapshot(**{**usual, **changes})


@pytest.mark.parametrize(("agent", "adopted"), [("", ["echo"]), ("ada", [])])
def test_a_service_that_is_anothers_now_is_not_adopted(
    tmp_path: Path, agent: str, adopted: list[str]
) -> None:
    """Its worker would continue as the other agent's."""
    path = tmp_path / "config.toml"
    path.write_text("[plugins.echo]\n")
    left = a_snapshot(services=[one(agent=agent)])

    _, found = adoptable(load_config(path, Path("/h"), {}), left)
    assert [kept.name for kept, _ in found] == adopted


def test_the_snapshot_comes_back(tmp_path: Path) -> None:
    """What was written is read, including that there is no deadline."""
    save_snapshot(tmp_path, a_snapshot())

    assert load_snapshot(tmp_path) == (a_snapshot(), "")


def test_a_service_is_converted_to_its_flat_form_and_back() -> None:
    """No field is lost on the way to the file."""
    stored = StoredService(
        name="ada.echo",
        plugin="echo",
        service_type="echo",
        manifest=MANIFEST,
        state=State.STOPPING,
        wanted=True,
        since=50.0,
        generation=4,
        deadline=60.0,
        attempts=1,
        restarts=(1.0, 2.0),
        restarted=3,
        probes=2,
        why=StopReason.WATCHDOG,
        harder=Effect.KILL,
        token=TOKEN.hex(),
        pid=4711,
        watchdog=7.0,
        ticks=99,
        started_at=40.0,
        reason="silent",
        traceback="trace",
        last_exit="exited with 1",
        last_exit_at=1e9,
        log_began=(5, 6),
        agent="ada",
        uid=1000,
        started=StartRecord(settings={"grace": 5.0}, secrets={"TOKEN": "file t"}),
        order=7,
        order_verb="stop",
        extended="loading weights",
        restarted_by=OrderNote(8, "restart", "ada.chat", "new model", 1e9, ("ada.chat", "b")),
        own_restarts=(41.0, 42.0),
        led_by=("ada.chat",),
        node="box",
        stopped=Stopped("its work is done"),
        failing=Failing("start", "bad token", permanent=True),
    )

    assert all(getattr(stored, name) for name in StoredService.__struct_fields__)
    assert to_stored(from_stored(stored)) == stored


def test_a_snapshot_cut_at_any_byte_is_set_aside(tmp_path: Path) -> None:
    """The host starts afresh, and names the file; half a list is never taken for the whole."""
    save_snapshot(tmp_path, a_snapshot())
    file = tmp_path / "living.json"
    whole = file.read_bytes()
    for end in range(len(whole)):
        file.write_bytes(whole[:end])

        found, problem = load_snapshot(tmp_path)

        assert found is None
        assert "living.damaged" in problem


def test_a_snapshot_of_another_run_of_the_machine_is_not_used(tmp_path: Path) -> None:
    """Its pids are other processes' by now, its times are of another clock."""
    save_snapshot(tmp_path, a_snapshot(machine="before the power cut"))

    assert load_snapshot(tmp_path) == (None, "")


def test_after_an_end_in_order_there_is_no_snapshot(tmp_path: Path) -> None:
    """And to forget what is not there is no error."""
    save_snapshot(tmp_path, a_snapshot())
    remove_snapshot(tmp_path)
    remove_snapshot(tmp_path)

    assert load_snapshot(tmp_path) == (None, "")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, True),
        ({"state": State.STOPPING}, True),
        ({"token": ""}, False),
        ({"token": "no hex"}, False),
        ({"state": State.BACKOFF}, False),
        ({"state": State.STOPPED}, False),
    ],
)
def test_the_engine_gets_the_workers_that_may_run(changes: dict[str, Any], expected: bool) -> None:
    """A service in a state without a process, or without a readable token, had none."""
    workers = [Inherited(TOKEN, "echo", Handle(4711, 99))] if expected else []

    assert inherited(a_snapshot(services=[one(**changes)])) == workers
    assert inherited(None) == []


@pytest.mark.parametrize(
    ("restart", "found", "expected"),
    [
        (Restart.PERMANENT, Found(running={TOKEN: "echo"}, over=False), False),
        (Restart.PERMANENT, Found(running={TOKEN: "echo"}, ending=frozenset({TOKEN})), True),
        (Restart.TEMPORARY, Found(running={TOKEN: "echo"}, over=False), False),
        (Restart.TEMPORARY, Found(running={TOKEN: "echo"}), False),
        (Restart.TEMPORARY, Found(ended=frozenset({TOKEN}), over=False), False),
        (Restart.TEMPORARY, Found(ended=frozenset({TOKEN})), True),
        (Restart.TEMPORARY, Found(), True),
        (Restart.PERMANENT, Found(), False),
    ],
)
def test_an_end_without_a_supervisor_is_recognized(
    restart: Restart, found: Found, expected: bool
) -> None:
    """It is no end after which a temporary service has done its part."""
    assert is_ending(service_spec(SPEC, restart=restart), TOKEN, found) is expected


@pytest.mark.parametrize(
    ("changes", "state", "deadline"),
    [
        ({}, State.RUNNING, 107.0),
        ({"deadline": 51.0}, State.RUNNING, 107.0),
        ({"state": State.STARTING, "deadline": 150.0}, State.STARTING, 150.0),
        ({"state": State.STARTING, "deadline": 90.0}, State.STARTING, 110.0),
        ({"state": State.INITIALIZING, "deadline": 90.0}, State.INITIALIZING, 110.0),
        ({"state": State.STOPPING, "deadline": 101.0}, State.STOPPING, 101.0),
        ({"state": State.STOPPING}, State.STOPPING, 103.0),
        ({"state": State.BACKOFF, "deadline": 130.0}, State.BACKOFF, 130.0),
        ({"state": State.FAILED}, State.FAILED, inf),
        ({"state": State.FAILED, "deadline": 120.0}, State.FAILED, 120.0),
        ({"state": State.STOPPED, "wanted": False}, State.STOPPED, inf),
        ({"state": State.QUEUED, "token": ""}, State.QUEUED, inf),
        ({"state": State.INITIALIZING, "token": "", "deadline": 90.0}, State.QUEUED, inf),
        ({"state": State.STOPPING, "token": "", "wanted": False}, State.STOPPED, inf),
    ],
)
def test_a_service_goes_on_where_it_was(
    changes: dict[str, Any], state: State, deadline: float
) -> None:
    """A process must answer within its watchdog; a service without one is as it was."""
    child = restored(one(**changes), SPEC, now=100.0)

    assert (child.state, child.deadline) == (state, deadline)
    assert (child.generation, child.since) == (4, 50.0)
    assert child.wanted is changes.get("wanted", True)


def test_without_a_watchdog_there_is_no_hurry() -> None:
    """A loop that may be blocked for ever may be so when a new supervisor comes."""
    spec = service_spec(SPEC, watchdog=0.0)

    assert restored(one(), spec, now=100.0).deadline == inf


def test_what_counts_towards_failed_is_kept() -> None:
    """A crash loop is not forgiven because the supervisor died; a time to come is no crash."""
    saved = one(restarts=(90.0, 95.0, 101.0), attempts=2, restarted=7, probes=1, since=101.0)

    child = restored(saved, SPEC, now=100.0)

    assert (child.restarts, child.attempts, child.restarted) == ((90.0, 95.0), 2, 7)
    assert (child.probes, child.since) == (1, 100.0)


@given(st.sampled_from(State), st.booleans(), st.floats(0, 200), st.booleans(), st.booleans())
def test_nothing_rests_that_is_wanted(
    state: State, wanted: bool, deadline: float, process: bool, bounded: bool
) -> None:
    """Whatever was written: a restored service has a process whose end will be seen, or a deadline,
    or waits for its slot, or was given up, or was never wanted."""
    saved = one(
        state=state,
        wanted=wanted,
        deadline=deadline if bounded else None,
        token=TOKEN.hex() if process else "",
    )

    child = restored(saved, SPEC, now=100.0)

    resting = child.state in {State.REGISTERED, State.STOPPED, State.FAILED, State.BACKOFF}
    assert has_process(child.state) <= (child.deadline < inf)
    assert resting or has_process(child.state) or child.state is State.QUEUED
    if child.state is not state:
        assert child.state is (State.QUEUED if wanted else State.STOPPED)

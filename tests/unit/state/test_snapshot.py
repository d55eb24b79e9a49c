"""What is on disk outlives a supervisor, and what cannot be read is set aside by name."""

import os
from math import inf
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from garrison.ipc.messages import Manifest, MethodInfo, PluginRead, State
from garrison.supervisor.config.load import load as load_config
from garrison.supervisor.config.spec import service_spec
from garrison.supervisor.lifecycle.policy import has_process
from garrison.supervisor.state.adoption import adoptable
from garrison.supervisor.state.snapshot import (
    FORMAT,
    OperatorOrders,
    ServiceSnapshot,
    Snapshot,
    WorkerFate,
    fate,
    forget_living,
    load,
    load_living,
    restored,
    save,
    save_living,
    this_machine,
)

SAVED = OperatorOrders(stopped=["discord", "télé"], started=["nightly"])


def test_orders_come_back(tmp_path: Path) -> None:
    """What was written is read, and nothing else is left in the folder."""
    save(tmp_path, SAVED)

    assert load(tmp_path) == (SAVED, "")
    assert [file.name for file in tmp_path.iterdir()] == ["orders.json"]


def test_a_first_start_remembers_nothing(tmp_path: Path) -> None:
    """That there is no file is no problem."""
    assert load(tmp_path) == (OperatorOrders(), "")


def test_the_last_word_is_kept(tmp_path: Path) -> None:
    """Each writing takes the place of the one before."""
    save(tmp_path, SAVED)
    save(tmp_path, OperatorOrders(stopped=["chat"]))

    assert load(tmp_path)[0].stopped == ["chat"]


def test_a_writing_that_fails_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is written whole to another name first."""
    save(tmp_path, SAVED)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        save(tmp_path, OperatorOrders())

    assert load(tmp_path) == (SAVED, "")


def test_a_file_cut_at_any_byte_is_set_aside(tmp_path: Path) -> None:
    """The host starts without it; the problem names the file and where it went."""
    save(tmp_path, SAVED)
    whole = (tmp_path / "orders.json").read_bytes()
    for end in range(len(whole)):
        (tmp_path / "orders.json").write_bytes(whole[:end])

        saved, problem = load(tmp_path)

        assert saved == OperatorOrders()
        assert str(tmp_path / "orders.json") in problem
        assert "orders.damaged" in problem
        assert (tmp_path / "orders.damaged").read_bytes() == whole[:end]
        assert not (tmp_path / "orders.json").exists()
        assert load(tmp_path) == (OperatorOrders(), "")


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

    saved, problem = load(tmp_path)

    assert saved == OperatorOrders()
    assert "orders.damaged" in problem
    assert (tmp_path / "orders.damaged").read_bytes() == content


def test_a_folder_in_its_place_is_set_aside(tmp_path: Path) -> None:
    """Whatever it is that cannot be read."""
    (tmp_path / "orders.json").mkdir()

    assert "orders.damaged" in load(tmp_path)[1]
    save(tmp_path, SAVED)
    assert load(tmp_path) == (SAVED, "")


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

    saved, problem = load(tmp_path)

    assert saved == OperatorOrders()
    assert f"format {FORMAT + 1}" in problem
    save(tmp_path, OperatorOrders())
    assert content in [file.read_bytes() for file in tmp_path.iterdir()]


def test_what_a_later_version_adds_is_passed_over(tmp_path: Path) -> None:
    """Within one format, a key that is not known does no harm."""
    content = {"format": FORMAT, "stopped": ["a"], "later": {"x": 1}}
    (tmp_path / "orders.json").write_bytes(msgspec.json.encode(content))

    assert load(tmp_path) == (OperatorOrders(stopped=["a"]), "")


# --- the living ---------------------------------------------------------------------------

MANIFEST = Manifest("echo", "Says it again", (MethodInfo("echo", signature="(text: str)"),))
SPEC = service_spec(name="echo", plugin="echo", service_type="echo", watchdog=7.0, grace=3.0)
TOKEN = b"g" + bytes(15)


def one(**fields: Any) -> ServiceSnapshot:
    """Return a service as it was written down, running unless something else is said."""
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
    return ServiceSnapshot(**{**usual, **fields})


def living(**fields: Any) -> Snapshot:
    """Return what a supervisor wrote down on this machine."""
    usual: dict[str, Any] = {
        "machine": this_machine(),
        "plugins": {"echo": PluginRead((MANIFEST,), preload=("json",))},
        "services": [one(), one(name="other", state=State.BACKOFF, token="", deadline=99.5)],
    }
    return Snapshot(**{**usual, **fields})


@pytest.mark.parametrize(("agent", "adopted"), [("", ["echo"]), ("ada", [])])
def test_a_service_that_is_anothers_now_is_not_adopted(
    tmp_path: Path, agent: str, adopted: list[str]
) -> None:
    """Its worker would go on as whose it was."""
    path = tmp_path / "config.toml"
    path.write_text("[plugins.echo]\n")
    left = living(services=[one(agent=agent)])

    found = adoptable(load_config(path, Path("/h"), {}), left)
    assert [kept.name for kept, _ in found] == adopted


def test_the_living_come_back(tmp_path: Path) -> None:
    """What was written is read, deadlines that are none included."""
    save_living(tmp_path, living())

    assert load_living(tmp_path) == (living(), "")


def test_a_list_of_the_living_cut_at_any_byte_is_set_aside(tmp_path: Path) -> None:
    """The host starts afresh, and names the file; half a list is never taken for the whole."""
    save_living(tmp_path, living())
    file = tmp_path / "living.json"
    whole = file.read_bytes()
    for end in range(len(whole)):
        file.write_bytes(whole[:end])

        found, problem = load_living(tmp_path)

        assert found is None
        assert "living.damaged" in problem


def test_of_another_run_of_the_machine_nobody_lives(tmp_path: Path) -> None:
    """Its pids are other processes' by now, its times are of another clock."""
    save_living(tmp_path, living(machine="before the power cut"))

    assert load_living(tmp_path) == (None, "")


def test_after_an_end_in_order_nobody_lives(tmp_path: Path) -> None:
    """And to forget what is not there is no error."""
    save_living(tmp_path, living())
    forget_living(tmp_path)
    forget_living(tmp_path)

    assert load_living(tmp_path) == (None, "")


@pytest.mark.parametrize(
    ("fields", "living", "ended", "expected"),
    [
        ({}, {TOKEN}, set(), WorkerFate.LAUNCHED),
        ({}, set(), {TOKEN}, WorkerFate.ENDED),
        ({}, set(), set(), WorkerFate.UNSEEN),
        ({}, {TOKEN}, {TOKEN}, WorkerFate.LAUNCHED),
        ({"state": State.STOPPING}, {TOKEN}, set(), WorkerFate.LAUNCHED),
        ({"token": ""}, {TOKEN}, set(), WorkerFate.NONE),
        ({"token": "no hex"}, {TOKEN}, set(), WorkerFate.NONE),
        ({"state": State.BACKOFF}, {TOKEN}, set(), WorkerFate.NONE),
        ({"state": State.STOPPED}, set(), set(), WorkerFate.NONE),
    ],
)
def test_what_became_of_a_process(
    fields: dict[str, Any], living: set[bytes], ended: set[bytes], expected: WorkerFate
) -> None:
    """By what its launcher says; what no launcher knows is to be looked for."""
    assert fate(one(**fields), living, ended) is expected


@pytest.mark.parametrize(
    ("fields", "state", "deadline"),
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
    fields: dict[str, Any], state: State, deadline: float
) -> None:
    """A process has its watchdog's time to say that it is there; what has none is as it was."""
    child = restored(one(**fields), SPEC, now=100.0)

    assert (child.state, child.deadline) == (state, deadline)
    assert (child.generation, child.since) == (4, 50.0)
    assert child.wanted is fields.get("wanted", True)


def test_without_a_watchdog_there_is_no_hurry() -> None:
    """A loop that may be blocked for ever may be so when a new supervisor comes."""
    spec = service_spec(SPEC, watchdog=0.0)

    assert restored(one(), spec, now=100.0).deadline == inf


def test_what_counts_towards_failed_is_kept() -> None:
    """A crash loop is not forgiven because the supervisor died; a time to come is no crash."""
    fields = one(restarts=(90.0, 95.0, 101.0), attempts=2, restarted=7, probes=1, since=101.0)

    child = restored(fields, SPEC, now=100.0)

    assert (child.restarts, child.attempts, child.restarted) == ((90.0, 95.0), 2, 7)
    assert (child.probes, child.since) == (1, 100.0)


@given(st.sampled_from(State), st.booleans(), st.floats(0, 200), st.booleans(), st.booleans())
def test_nothing_rests_that_is_wanted(
    state: State, wanted: bool, deadline: float, process: bool, bounded: bool
) -> None:
    """Whatever was written down: a restored service has a process to hear of, or a time when
    something happens, or waits for its slot, or was given up or never asked for."""
    fields = one(
        state=state,
        wanted=wanted,
        deadline=deadline if bounded else None,
        token=TOKEN.hex() if process else "",
    )

    child = restored(fields, SPEC, now=100.0)

    resting = child.state in {State.REGISTERED, State.STOPPED, State.FAILED, State.BACKOFF}
    assert has_process(child.state) <= (child.deadline < inf)
    assert resting or has_process(child.state) or child.state is State.QUEUED
    if child.state is not state:
        assert child.state is (State.QUEUED if wanted else State.STOPPED)

"""What `garrison chaos` decides: which fault is next; what was late, lost or out of order."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.support.proc import stat
from tests.support.waiting import until

from garrison.ipc.system import process_tree
from garrison.supervisor.chaos.observe import (
    IncarnationHistory,
    Tail,
    start_again,
    start_command,
)
from garrison.supervisor.chaos.results import (
    LATE_S,
    DeliveryLog,
    Histogram,
    Stalls,
    Tally,
    is_late,
    takers_of,
)
from garrison.supervisor.chaos.schedule import (
    ALONE,
    AT_ONCE,
    HOST,
    FaultSchedule,
    PlannedFault,
)

LASTING = (b"sh", b"-c", b"sleep 60; :", b"sh", b"--events-only")
NAMES = [f"s{n}" for n in range(10)]


def run_through(schedule: FaultSchedule, most: int = 10_000) -> list[tuple[PlannedFault, str]]:
    """Return a schedule's faults in order; those that run together end together."""
    done: list[tuple[PlannedFault, str]] = []
    for now in range(most):
        under_way: list[tuple[PlannedFault, str]] = []
        while (begun := schedule.next(float(now))) is not None:
            under_way.append(begun)
        kinds = Counter(fault for fault, _ in under_way)
        assert len({name for _, name in under_way}) == len(under_way)  # one fault each
        assert all(count <= AT_ONCE.get(fault, 1) for fault, count in kinds.items())
        assert not ALONE & set(kinds) or len(under_way) == 1
        for _, name in under_way:
            schedule.ended(name, float(now))
        done += under_way
        if not under_way:
            break
    return done


def takers(*faults: PlannedFault) -> dict[PlannedFault, list[str]]:
    """Return the services that take each."""
    return {fault: [HOST] if fault is PlannedFault.SUPERVISOR else list(NAMES) for fault in faults}


@pytest.mark.parametrize("total", [1, 7, 300])
@pytest.mark.parametrize(
    "faults",
    [
        (PlannedFault.KILL,),
        (PlannedFault.SUPERVISOR,),
        (PlannedFault.FLOOD, PlannedFault.KILL, PlannedFault.STOP),
        (*PlannedFault,),
    ],
)
def test_a_total_is_divided_evenly(faults: tuple[PlannedFault, ...], total: int) -> None:
    """Among the kinds, and each kind among its services. Kinds that run alone do."""
    schedule = FaultSchedule(takers(*faults), total, 0.0)
    done = run_through(schedule)

    assert len(done) == total == schedule.begun
    assert schedule.spent
    kinds = Counter(fault for fault, _ in done)
    assert max(kinds.values()) - min(kinds[fault] for fault in faults) <= 1
    killed = Counter(name for fault, name in done if fault is PlannedFault.KILL)
    assert not killed or max(killed.values()) - min(killed.values()) <= 1 + (len(killed) < 10)


def test_kinds_take_turns() -> None:
    """No kind is left for the end."""
    done = run_through(FaultSchedule(takers(PlannedFault.KILL, PlannedFault.SUPERVISOR), 100, 0.0))
    first = [fault for fault, _ in done[:50]]

    assert 20 <= first.count(PlannedFault.SUPERVISOR) <= 30


def test_without_a_total_there_is_no_end_and_pauses_between_faults_of_all_services() -> None:
    """The runner ends such a run by time."""
    schedule = FaultSchedule(takers(PlannedFault.KILL, PlannedFault.SUPERVISOR), None, 0.0)

    assert schedule.next(0.0) == (PlannedFault.SUPERVISOR, HOST)
    assert schedule.next(0.0) is None
    schedule.ended(HOST, 1.0)
    begun = schedule.next(1.1)
    assert begun is not None
    assert begun[0] is PlannedFault.KILL
    assert (
        schedule.next(9.0) == (PlannedFault.KILL, "s1") or schedule.next(9.0) is None
    )  # it begins after the kill
    assert not schedule.spent


def test_never_more_than_half_of_the_services() -> None:
    """The others answer the callers. A single service takes faults all the same."""
    three = FaultSchedule({PlannedFault.HANG: ["a", "b", "c"]}, None, 0.0)
    assert three.next(0.0) == (PlannedFault.HANG, "a")
    assert three.next(0.0) is None


def test_a_dropped_service_takes_no_more_faults() -> None:
    """Without services the schedule is spent."""
    schedule = FaultSchedule({PlannedFault.KILL: ["a", "b"]}, 10, 0.0)
    schedule.drop("b")
    assert {name for _, name in run_through(schedule, 3)} == {"a"}
    schedule.drop("a")
    assert schedule.spent
    assert schedule.next(9.0) is None


def test_percentiles_are_right_to_a_hundredth() -> None:
    """And the longest is exact."""
    spread = Histogram()
    assert (spread.at(0.5), spread.most) == (0.0, 0.0)
    for n in range(1, 1001):
        spread.add(n / 1000)

    assert spread.at(0.5) == pytest.approx(0.5, rel=0.011)
    assert spread.at(0.99) == pytest.approx(0.99, rel=0.011)
    assert spread.at(1.0) == spread.most == 1.0
    spread.add(0.0)  # a clock may stand still
    assert spread.count == 1001


@pytest.mark.parametrize(
    ("ended", "stalls", "late"),
    [
        (9.9, [], False),
        (10.0 + LATE_S, [], False),
        (10.3, [], True),
        (10.6, [(9.9, 10.5)], False),  # its loop was stalled until 10.5
        (10.6, [(9.0, 9.9)], True),  # a stall, but before the deadline
        (11.0, [(10.0, 10.2), (10.4, 10.6)], True),  # 0.6 s of it are the host's own
    ],
)
def test_a_call_is_late_by_the_time_that_its_own_loop_had(
    ended: float, stalls: list[tuple[float, float]], late: bool
) -> None:
    """Stalls of the caller's own loop are not counted."""
    seen = Stalls()
    for span in stalls:
        seen.add(*span)

    assert is_late(10.0, ended, seen) is late


def test_a_stall_that_has_not_ended_counts() -> None:
    """The check can come before the watch has recorded the stall."""
    seen = Stalls()
    seen.expect(10.0)
    assert not is_late(10.0, 11.0, seen)
    seen.expect(11.02)
    assert is_late(10.0, 11.0, seen)


def posted(*acknowledged: int) -> DeliveryLog:
    """Return the log of one receiver with these acknowledged messages."""
    made = DeliveryLog()
    for number in acknowledged:
        made.posted(number, f"id-{number}")
    return made


@pytest.mark.parametrize(
    ("came", "waiting", "again", "misplaced"),
    [
        ([1, 2, 3], [], 0, 0),
        ([1, 3], [2], 0, 0),
        ([1, 3, 2], [], 0, 1),
        ([1, 1, 2, 3, 3], [], 2, 0),  # at least once
        ([1, 2, 3, 9], [], 1, 0),  # 9 was not acknowledged
    ],
)
def test_deliveries_are_compared_with_acknowledgements(
    came: list[int], waiting: list[int], again: int, misplaced: int
) -> None:
    """In order, at least once."""
    made = posted(1, 2, 3)
    for number in came:
        made.came(number, posting=0)

    assert (list(made.waiting), made.again, made.misplaced) == (waiting, again, misplaced)
    assert made.delivered == 3 - len(waiting)


def test_one_may_come_before_its_acknowledgement() -> None:
    """The receiver's file and the answer to the poster race."""
    made = posted()
    made.came(1, posting=1)
    made.posted(1, "id-1")
    assert (made.delivered, made.again, made.waiting) == (1, 0, {})
    made.came(2, posting=2)
    made.unsure(2)  # the mailbox died before it could say so
    made.came(2, posting=3)
    assert (made.delivered, made.misplaced) == (1, 0)


def test_no_order_is_expected_of_concurrent_receivers_and_dead_letters() -> None:
    """Neither has one."""
    wide, dead = posted(1, 2), posted(1, 2)
    wide.in_order, dead.strict = False, False
    for made in (wide, dead):
        made.came(2, posting=0)
        made.came(1, posting=0)
        assert (made.misplaced, made.waiting) == (0, {})


ZEROS = {
    "late": "past_deadline",
    "unended": "never_ended",
    "second": "second_answers",
    "wrong": "wrong_answers",
    "lost": "messages_lost",
    "undelivered": "undelivered",
    "orphans": "orphans",
    "not_back": "not_back",
    "restarted": "restarted_with_supervisor",
}


@pytest.mark.parametrize(("field", "name"), ZEROS.items())
def test_a_counter_that_is_not_zero_is_a_failure(field: str, name: str) -> None:
    """Whatever else succeeded."""
    tally = Tally()
    tally.recovered(PlannedFault.KILL, "a", 0.01)
    assert tally.ok
    setattr(tally, field, 1)

    assert not tally.ok
    assert [key for key, count in tally.as_data()["zeros"].items() if count] == [name]


def test_a_message_out_of_order_is_a_failure() -> None:
    """Of any receiver."""
    tally = Tally()
    tally.deliveries = {"a": posted(1), "b": posted(1, 2)}
    tally.deliveries["b"].came(2, posting=0)
    tally.deliveries["b"].came(1, posting=0)

    assert tally.zeros()["out_of_order"] == 1
    assert not tally.ok


def test_recoveries_are_listed_by_fault_and_by_service() -> None:
    """All of a kind first."""
    tally = Tally()
    for name, seconds in (("b", 0.2), ("a", 0.1), ("b", 0.4)):
        tally.recovered(PlannedFault.KILL, name, seconds)
    tally.recovered(PlannedFault.SUPERVISOR, HOST, 1.0)
    rows = tally.as_data()["recoveries"]

    assert [(row["fault"], row["service"], row["count"]) for row in rows] == [
        ("kill", None, 3),
        ("supervisor", None, 1),
        ("kill", "b", 2),
        ("kill", "a", 1),
    ]
    assert rows[0]["max_s"] == 0.4
    assert tally.faults == 4


def row(name: str, **facts: Any) -> dict[str, Any]:
    """Return what the supervisor reports of a service."""
    return {"name": name, "restart": "permanent", "watchdog": 10.0, "memory_max": 0} | facts


@pytest.mark.parametrize(
    ("fault", "facts", "takes"),
    [
        (PlannedFault.KILL, {}, True),
        (PlannedFault.KILL, {"restart": "transient"}, True),  # SIGKILL is a crash
        (PlannedFault.KILL, {"restart": "temporary"}, False),
        (PlannedFault.FLOOD, {"restart": "temporary"}, True),
        (PlannedFault.STOP, {"watchdog": 0.0}, False),
        (PlannedFault.HANG, {"watchdog": 0.0}, False),
        (PlannedFault.LEAK, {}, False),
        (PlannedFault.LEAK, {"memory_max": 500}, True),
        (PlannedFault.LEAK, {"memory_max": 501}, False),  # twice that is more than there is
    ],
)
def test_a_fault_without_recovery_is_not_injected(
    fault: PlannedFault, facts: dict[str, Any], takes: bool
) -> None:
    """The service is left out, with the reason."""
    names, left = takers_of(fault, [row("a", **facts)], room=1000.0)

    assert names == (["a"] if takes else [])
    assert bool(left) is not takes


def test_services_left_out_for_one_reason_are_one_sentence() -> None:
    """However many they are."""
    _, left = takers_of(PlannedFault.LEAK, [row(name) for name in NAMES], room=1e9)

    assert left == ["leak of s0, s1, s2 and 7 more: nothing would end it (memory_max is 0)"]


# --- processes from outside ------------------------------------------------------------------


def test_processes_of_an_ended_incarnation_are_found() -> None:
    """By their mark, or as the recorded worker. Those of a current incarnation are not listed."""
    past, token, other = IncarnationHistory(), b"t" * 16, b"u" * 16
    env = {**os.environ, process_tree.MARK: process_tree.incarnation_mark(token)}
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, env=env) as one:
        try:
            until(
                lambda: process_tree.MARK.encode() in Path(f"/proc/{one.pid}/environ").read_bytes()
            )
            assert past.left([]) == []  # of no incarnation that was seen
            past.seen(token)
            past.seen(other)
            assert past.left([]) == [one.pid]
            assert past.left([token]) == []
            past.harmed(one.pid, process_tree.start_ticks(one.pid))
            assert past.left([token, other]) == [one.pid]
            past.harmed(one.pid, 1)  # another process of that number
            assert past.left([token]) == [one.pid]
        finally:
            one.kill()
    assert past.left([]) == []


def test_numbers_are_read_as_they_are_appended(tmp_path: Path) -> None:
    """In whole lines; a truncated file is read from its beginning."""
    tail = Tail(tmp_path / "chaos-1")
    assert tail.numbers() == []
    tail.path.write_text("1\n2\n3")
    assert tail.numbers() == [1, 2]
    tail.path.write_text("1\n2\n34\n")
    assert tail.numbers() == [34]
    tail.path.write_text("5\n")
    assert tail.numbers() == [5]
    tail.remove()
    tail.remove()
    assert not tail.path.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can start a process as another user")
def test_root_starts_a_supervisor_again_as_its_user(tmp_path: Path) -> None:
    """With its arguments, its environment and its folder."""
    folder = Path(tempfile.mkdtemp(prefix="g", dir="/tmp"))
    folder.chmod(0o755)
    user = {"user": 65534, "group": 65534, "extra_groups": (65533,)}
    argv = ["sleep", "60"]
    first = subprocess.Popen(argv, env={"A": "=1\n"}, cwd=folder, start_new_session=True, **user)  # type: ignore[call-overload]
    again = None
    try:
        until(lambda: b"sleep" in Path(f"/proc/{first.pid}/cmdline").read_bytes()[:5])
        how = start_command(first.pid)
        assert (how.argv, how.environ, how.folder) == (
            (b"sleep", b"60"),
            {b"A": b"=1\n"},
            str(folder),
        )
        assert not how.watched
        again = start_again(replace(how, argv=LASTING), tmp_path / "log")
        ids = dict(
            line.split(":", 1)
            for line in Path(f"/proc/{again.pid}/status").read_text().splitlines()
            if ":" in line
        )
        assert set(ids["Uid"].split()) == set(ids["Gid"].split()) == {"65534"}
        assert ids["Groups"].split() == ["65533"]
        assert (tmp_path / "log").stat().st_uid == 65534
    finally:
        for process in filter(None, (first, again)):
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        shutil.rmtree(folder)
    assert not stat(first.pid)

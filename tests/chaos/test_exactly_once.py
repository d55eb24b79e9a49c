"""Every message is answered exactly once, in its room's order, whichever process is killed when.

The platform keeps count in a process of its own. The short form is in the default run; 10 kills of
each victim are `external`, because they take a minute. 200 are `soak`, which prints the table of
`docs/concepts/answers.md`.
"""

import contextlib
import dataclasses
import functools
import itertools
import os
import random
import signal
import time
from pathlib import Path

import pytest
from tests.support.exactly_once import FILES, KILL_S, SERVICES, SUPERVISOR, Kind, Trial, trial
from tests.support.waiting import until

LOOKUP = Kind(lookup=True)  # the short form's
DEDUPE = Kind(dedupe=True, uncertain="repeat")
BOTH = pytest.mark.parametrize(
    "kind", [LOOKUP, pytest.param(DEDUPE, marks=pytest.mark.external)], ids=["lookup", "dedupe"]
)
VICTIMS = [SUPERVISOR, *(victim for victim in SERVICES if victim != "database")]
WITH_DATABASE = [*VICTIMS, "database"]


def pairs(victims: list[str], count: int, seed: int = 1) -> list[tuple[str, ...]]:
    """Draw pairs of victims."""
    return random.Random(seed).sample(list(itertools.combinations(victims, 2)), count)


def test_every_victim_is_killed(tmp_path: Path) -> None:
    """Once each, and a pair."""
    with trial(LOOKUP) as one:
        for victims in [*((victim,) for victim in VICTIMS), ("platform", "agent")]:
            one.kill(*victims)
        assert one.faults() == {}


@BOTH
def test_all_three_files_are_restored_from_a_backup(kind: Kind, tmp_path: Path) -> None:
    """What was said since the backup is heard again, and is not said again."""
    with trial(kind) as one:
        one.burst()
        one.until_answered()
        one.until_idle()
        assert one.host.end() == 0
        one.back_up(tmp_path)
        one.host.up()
        for _ in range(3):
            one.burst(kinds=["short", "long"])
            one.until_answered()
        assert one.host.end() == 0
        one.restore(tmp_path)
        one.host.up()
        one.burst()
        one.until_answered()
        assert one.faults() == {}


@pytest.mark.parametrize(
    "file", [FILES[0], *(pytest.param(file, marks=pytest.mark.external) for file in FILES[1:])]
)
def test_one_file_of_three_is_lost_in_a_crash(file: str) -> None:
    """Nothing is said twice; what is asked afterwards is answered, in order."""
    with trial(LOOKUP) as one:
        one.burst()
        one.until_answered()
        one.burst()
        until(lambda: len(one.platform.answers()) > one.questions // 2)
        one.crash()
        one.lose(file)
        one.host.up()
        one.until_idle()
        before = set(one.platform.counts().unanswered)
        one.burst()
        until(lambda: set(one.platform.counts().unanswered) <= before)
        one.until_idle()
        counts = one.platform.counts()
        assert (counts.twice, counts.disordered, counts.stray) == ([], [], [])


def test_what_is_said_during_an_outage_is_answered_afterwards() -> None:
    """Of the bot, of the agent, and of the connection; in order, before what is said live."""
    with trial(LOOKUP) as one:
        for name in ("fakeplatform", "agent", "mailbox"):
            one.host.ask("stop", name)
            one.burst()
            one.host.ask("start", name)
            one.burst()
            one.until_answered()
        assert one.faults() == {}


@BOTH
def test_a_connection_that_breaks_during_a_send_is_no_second_message(kind: Kind) -> None:
    """Before the message arrives, or after it."""
    with trial(kind) as one:
        for fault in ("lose", "drop"):
            one.platform.fault("send", fault)
            one.burst()
        one.until_answered()
        assert one.faults() == {}


@BOTH
def test_a_send_of_a_killed_bot_that_is_still_under_way_is_no_second_message(kind: Kind) -> None:
    """The next incarnation waits for `settle` before it decides."""
    with trial(dataclasses.replace(kind, settle=1.5)) as one:
        one.platform.fault("send", "delay", seconds=1.0)
        one.burst(1, ["short"])
        until(lambda: one.platform.ask("under_way"), what="the message is under way")
        one.host.kill("fakeplatform")
        one.until_answered()
        until(lambda: not one.platform.ask("under_way"), what="the message has arrived")
        assert one.faults() == {}


@pytest.mark.external
def test_a_send_that_takes_too_long_is_no_second_message() -> None:
    """It has arrived; the platform is asked."""
    with trial(LOOKUP) as one:
        one.platform.fault("send", "stall", seconds=4.0)
        one.burst(1)
        one.until_answered()
        assert one.faults() == {}


def has_answered(one: Trial, count: int) -> bool:
    """Return True if there are so many answers."""
    return len(one.platform.answers()) >= count


@pytest.mark.external
def test_a_backlog_is_answered_in_order_while_processes_are_killed() -> None:
    """More messages than catch-up takes at a time, and than the agent is sent at a time."""
    with trial(LOOKUP) as one:
        one.host.ask("stop", "fakeplatform")
        for _ in range(100):
            one.burst(kinds=["short"])
        one.host.ask("start", "fakeplatform")
        for name in ("fakeplatform", "agent", "mailbox"):
            most = len(one.platform.answers()) + 30
            until(functools.partial(has_answered, one, most))
            one.host.ask("reset", name)
            one.host.kill(name)
        one.until_answered()
        assert one.faults() == {}


@pytest.mark.external
def test_every_process_is_killed_at_once_ten_times() -> None:
    """As in a power cut, but for what was not synced."""
    with trial(LOOKUP) as one:
        for _ in range(10):
            one.host.ask("reset", *one.host.rows())
            one.burst()
            time.sleep(one.drawn.uniform(0, KILL_S))  # the moment is what is tried
            one.crash()
            one.host.up()
            one.until_answered()
        assert one.faults() == {}


@pytest.mark.external
def test_frozen_processes_go_on_or_are_replaced() -> None:
    """One after the other within the watchdog's time, and all at once beyond it."""
    names = ("fakeplatform", "agent", "mailbox")
    with trial(LOOKUP, watchdog=3.0) as one:
        for name in names:
            one.burst()
            pid = one.host.kill(name, signal.SIGSTOP)
            time.sleep(0.5)  # within the watchdog's time
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
            one.until_answered()
        one.host.ask("reset", *names)
        one.burst()
        pids = [one.host.kill(name, signal.SIGSTOP) for name in names]
        for name, pid in zip(names, pids, strict=True):
            one.host.until_reborn(name, pid)
        one.until_answered()
        assert one.faults() == {}


# --- the matrix -------------------------------------------------------------------------------


def kill_each(one: Trial, victims: list[tuple[str, ...]], times: int) -> None:
    """Kill each of the victims so many times, and check."""
    for killed in victims:
        for _ in range(times):
            one.kill(*killed)
        assert one.faults() == {}, killed


@pytest.mark.external
def test_each_victim_is_killed_ten_times_with_lookup_and_a_database() -> None:
    """Also two pairs."""
    with trial(Kind(lookup=True, database=True)) as one:
        singles = [(victim,) for victim in WITH_DATABASE]
        kill_each(one, [*singles, *pairs(WITH_DATABASE, 2)], 10)


@pytest.mark.external
def test_the_bot_and_the_supervisor_are_killed_ten_times_with_dedupe() -> None:
    """A repeated nonce is the same message."""
    with trial(DEDUPE) as one:
        kill_each(one, [("platform",), (SUPERVISOR,)], 10)


@pytest.mark.external
@pytest.mark.parametrize("uncertain", ["skip", "repeat"])
def test_without_lookup_and_dedupe_what_is_uncertain_is_counted(uncertain: str) -> None:
    """`skip` says nothing twice and may leave a message unanswered, which the log calls uncertain;
    `repeat` leaves none unanswered and may say one twice."""
    with trial(Kind(uncertain=uncertain)) as one:
        for _ in range(20):
            one.kill("platform", answered=False)
        one.until_idle()
        counts = one.platform.counts()
        assert one.host.end(signal.SIGTERM) == 0
        outcomes = one.outcomes()
    assert (counts.disordered, counts.stray) == ([], [])
    if uncertain == "skip":
        assert counts.twice == []
        assert len(counts.unanswered) <= outcomes["uncertain"]
    else:
        assert counts.unanswered == []


@pytest.mark.soak
@pytest.mark.parametrize(
    ("kind", "victims"),
    [
        (Kind(lookup=True, database=True), WITH_DATABASE),
        (DEDUPE, VICTIMS),
        (Kind(uncertain="skip"), ["platform", SUPERVISOR]),
        (Kind(uncertain="repeat"), ["platform", SUPERVISOR]),
    ],
    ids=["lookup", "dedupe", "skip", "repeat"],
)
def test_the_full_matrix(kind: Kind, victims: list[str]) -> None:
    """Each victim 200 times, and pairs; a line of the table for each."""
    is_sure = kind.lookup or kind.dedupe
    drawn = pairs(victims, 2 if is_sure else 1)
    for killed in [*((victim,) for victim in victims), *drawn]:
        with trial(kind) as one:
            for _ in range(200):
                one.kill(*killed, answered=is_sure)
            faults, counts = one.faults(), one.platform.counts()
            assert one.host.end() == 0
            print(
                f"{'+'.join(killed):<20} kills={one.kills} hits={one.hits}",
                f"questions={len(counts.questions)} faults={faults} outcomes={one.outcomes()}",
                flush=True,
            )
        if is_sure:
            assert faults == {}

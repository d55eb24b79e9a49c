"""What a service reports for its operator: in several heartbeats, bounded, the same one rarely."""

import pytest

from garrison.workers.incidents import BEAT_MOST, BEATS, EVERY_S, KEPT_MOST, Incidents


def reported(incidents: Incidents) -> list[int]:
    """Return the numbers in all heartbeats to come."""
    found: list[int] = []
    while beat := incidents.of_beat():
        assert len(beat) <= BEAT_MOST
        found += [one.n for one in beat]
    return found


def test_each_is_in_several_heartbeats() -> None:
    """One of them may be lost; the supervisor knows them by number."""
    incidents = Incidents(lambda: 0.0)
    for n in range(40):
        incidents.add("mail.dead", f"reason {n}", "bot", {"id": str(n)})
    found = reported(incidents)

    assert sorted(found) == sorted([*range(1, 41)] * BEATS)
    assert found[:BEAT_MOST] == list(range(1, BEAT_MOST + 1))
    assert incidents.of_beat() == ()


def test_the_same_one_is_reported_once_in_a_minute() -> None:
    """What differs in its event, service or reason is another one."""
    now = 0.0
    incidents = Incidents(lambda: now)
    for _ in range(100):
        incidents.add("budget.reached", "it is used up", "", {})
    incidents.add("budget.reached", "it is used up", "other", {})
    now = EVERY_S
    incidents.add("budget.reached", "it is used up", "", {})
    assert set(reported(incidents)) == {1, 2, 3}


def test_a_flood_is_bounded_and_the_newest_are_kept() -> None:
    """A mailbox may give up ten thousand messages at once."""
    incidents = Incidents(lambda: 0.0)
    for n in range(10_000):
        incidents.add("mail.dead", f"reason {n}", "", {str(k): "v" for k in range(50)})
    found = reported(incidents)
    assert len(found) <= KEPT_MOST * BEATS
    assert set(found) == set(range(10_001 - KEPT_MOST, 10_001))


def test_an_event_of_the_supervisor_cannot_be_claimed() -> None:
    """A service reports what is its own."""
    with pytest.raises(ValueError, match=r"budget\.reached"):
        Incidents().add("service.state", "", "", {})

"""Processors are those of the affinity, within the quotas of the cgroup and of all above it."""

from pathlib import Path

import pytest

from garrison.supervisor.processes import cgroups
from garrison.supervisor.processes.processors import limited, processor_count


@pytest.mark.parametrize(
    ("there", "quotas", "expected"),
    [
        (8, [], 8),
        (8, ["max 100000\n"], 8),
        (8, ["200000 100000\n"], 2),
        (8, ["150000 100000\n"], 2),  # a part of one counts as one
        (8, ["1000 100000\n"], 1),
        (8, ["max 100000\n", "300000 100000\n", "400000 100000\n"], 3),  # the smallest of all
        (2, ["400000 100000\n"], 2),
        (4, ["", "max", "x y", "100000", "100000 0", "-1 100000"], 4),  # damaged
        (0, [], 1),
    ],
)
def test_processors_within_quotas(there: int, quotas: list[str], expected: int) -> None:
    """What cannot be read limits nothing."""
    assert limited(there, quotas) == expected


def test_the_cgroup_and_all_above_it_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A container's quota is above the cgroups that a host makes in it; without one, all count."""
    own = tmp_path / "container" / "garrison-supervisor"
    own.mkdir(parents=True)
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(8)))
    monkeypatch.setattr(cgroups, "own", lambda: own)
    assert processor_count() == 8
    (own / "cpu.max").write_text("max 100000\n")
    (own.parent / "cpu.max").write_text("250000 100000\n")
    assert processor_count() == 3
    monkeypatch.setattr(cgroups, "own", lambda: None)
    assert processor_count() == 8

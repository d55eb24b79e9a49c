"""A process's own cgroup, the cgroups of launchers that were killed, and limits by cgroup."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.host import ROOT

from garrison.ipc.system import process_tree
from garrison.supervisor.config.cgroup_limits import CgroupLimits
from garrison.supervisor.processes import cgroups

V1 = "32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu\n"


def proc(folder: Path, member: str, mounts: str) -> Path:
    """Write files like those in /proc/self."""
    (folder / "cgroup").write_text(f"4:memory:/somewhere\n{member}")
    (folder / "mountinfo").write_text(V1 + mounts)
    return folder


@pytest.mark.parametrize(
    ("member", "root", "point", "expected"),
    [
        ("/", "/", "/sys/fs/cgroup/unified", "/sys/fs/cgroup/unified"),
        ("/system.slice/g.service", "/", "/sys/fs/cgroup", "/sys/fs/cgroup/system.slice/g.service"),
        ("/a b", "/", r"/my\040cgroups", "/my cgroups/a b"),
        ("/docker/1/inner", "/docker/1", "/sys/fs/cgroup", "/sys/fs/cgroup/inner"),
        ("/docker/1", "/docker/1", "/sys/fs/cgroup", "/sys/fs/cgroup"),
        ("/docker/12", "/docker/1", "/sys/fs/cgroup", None),
        ("/../../outside", "/", "/sys/fs/cgroup", None),
    ],
)
def test_its_own_cgroup_is_found(
    tmp_path: Path, member: str, root: str, point: str, expected: str | None
) -> None:
    """Wherever it is mounted, with any root; None if the mount does not contain it."""
    mounts = f"41 31 0:38 {root} {point} rw shared:9 - cgroup2 cgroup2 rw\n"
    own = cgroups.own(proc(tmp_path, f"0::{member}\n", mounts))
    assert own == (None if expected is None else Path(expected))


def test_without_version_2_there_is_none(tmp_path: Path) -> None:
    """Version 1 cannot kill all processes of a cgroup at once."""
    assert cgroups.own(proc(tmp_path, "", "")) is None
    assert cgroups.own(tmp_path / "nowhere") is None


def test_only_cgroups_of_dead_launchers_are_removed(tmp_path: Path) -> None:
    """Those of running launchers and of other programs stay; a reused pid makes no difference."""
    me, start = os.getpid(), process_tree.start_ticks(os.getpid())
    names = [f"garrison-{me}-{start}", f"garrison-{me}-{start + 1}", "garrison-x", "other-1-2"]
    for name in names:
        (tmp_path / name / "1").mkdir(parents=True)
    cgroups.remove_leftovers(tmp_path)
    assert {one.name for one in tmp_path.iterdir()} == set(names) - {names[1]}


def test_a_folder_that_is_no_cgroup_gives_none(tmp_path: Path) -> None:
    """The reason is given, nothing is made, and workers run without."""
    groups = cgroups.Cgroups(tmp_path / "missing")
    assert "missing" in groups.problem
    assert groups.make() is None
    assert not cgroups.kill(None)
    assert cgroups.inside(None) == []
    cgroups.enter(None)
    groups.discard(None)
    groups.close()


# --- limits ---------------------------------------------------------------------------------


def group(folder: Path, has: str = "cpu memory pids", on: str = "", pids: str = "") -> Path:
    """Make what looks like a cgroup below the root."""
    folder.mkdir(parents=True, exist_ok=True)
    files = {"cgroup.controllers": has, "cgroup.subtree_control": on, "cgroup.procs": pids}
    for name, text in (files | {"cgroup.events": "", "cgroup.type": "domain\n"}).items():
        (folder / name).write_text(text)
    return folder


ALL = {"memory", "pids", "cpu"}


@pytest.mark.parametrize(
    ("has", "on", "pids", "expected", "why"),
    [
        ("cpu memory pids", "", "7", ALL, ""),
        ("cpu memory pids", "", "7 8", set(), "such as pid 8"),
        ("cpu memory pids", "cpu pids memory", "7 8", ALL, ""),
        ("cpu memory pids", "pids", "8", {"pids"}, "such as pid 8"),
        ("io hugetlb pids", "", "", {"pids"}, "has no controller memory, cpu"),
        ("hugetlb", "", "", set(), "has no controller memory, pids, cpu"),
    ],
)
def test_controllers_are_offered_if_they_can_be_enabled(
    tmp_path: Path, has: str, on: str, pids: str, expected: set[str], why: str
) -> None:
    """Other processes in the cgroup prevent that, unless the controllers are enabled already."""
    found, reason = cgroups.offered(group(tmp_path / "g", has, on, pids), {7})
    assert found == expected
    assert why in reason
    assert bool(why) == bool(reason)


def test_a_supervisor_in_its_leaf_counts_as_in_the_parent(tmp_path: Path) -> None:
    """Its workers' cgroups are beside the leaf, as are those of its launcher."""
    parent = group(tmp_path / "g", on="cpu memory pids")
    leaf = group(parent / cgroups.LEAF, has="", pids="7 9")
    assert cgroups.offered(leaf, {7}) == (frozenset(ALL), "")
    assert cgroups.parent_cgroup(leaf) == parent
    assert cgroups.parent_cgroup(parent) == parent


def test_without_a_cgroup_nothing_is_offered() -> None:
    """The reason is given."""
    found, why = cgroups.offered(None, {7})
    assert not found
    assert "no cgroup of version 2" in why


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        (CgroupLimits(), {}),
        (
            CgroupLimits(memory=5, tasks=6, cpu_weight=7),
            {"memory.max": "5", "memory.oom.group": "1", "pids.max": "6", "cpu.weight": "7"},
        ),
        (CgroupLimits(tasks=6), {"pids.max": "6"}),
    ],
)
def test_each_controller_gets_its_limits(limits: CgroupLimits, expected: dict[str, str]) -> None:
    """A limit that is not set is not written."""
    files: dict[str, str] = {}
    for setting in cgroups.SETTINGS.values():
        files |= setting(limits)
    assert files == expected


def test_an_oom_kill_is_seen(tmp_path: Path) -> None:
    """The kernel counts them in the cgroup's `memory.events`."""
    assert not cgroups.oom_killed(None)
    assert not cgroups.oom_killed(tmp_path)
    events = tmp_path / "memory.events"
    events.write_text("low 0\nhigh 0\nmax 7\noom 1\noom_kill 0\noom_group_kill 0\n")
    assert not cgroups.oom_killed(tmp_path)
    events.write_text("low 0\nhigh 0\nmax 7\noom 1\noom_kill 2\noom_group_kill 1\n")
    assert cgroups.oom_killed(tmp_path)


# With cgroups of version 1, this is often the only controller left for version 2.
STAND_IN = "hugetlb"
INSIDE = """
import os, sys
from garrison.supervisor.processes import cgroups
from garrison.supervisor.config.cgroup_limits import CgroupLimits
setting = {"hugetlb": lambda limits: {"hugetlb.2MB.max": str(limits.memory)}}
print(*cgroups.offered(cgroups.own(), {os.getpid()}, ("hugetlb",)))
groups = cgroups.Cgroups(cgroups.own(), setting)
cgroup = groups.make()
print(groups.apply_limits(cgroup, CgroupLimits(memory=8 << 20), {os.getpid()}))
limit = cgroup / "hugetlb.2MB.max"
print(limit.read_text().strip() if limit.exists() else "none")
print(cgroups.own().name)
groups.close()
"""


@pytest.fixture
def real() -> Iterator[Path]:
    """Make a real cgroup with a controller."""
    own = cgroups.own()
    if own is None or os.geteuid() != 0 or STAND_IN not in words(own / "cgroup.controllers"):
        pytest.skip(f"needs root, in a cgroup of version 2 that has {STAND_IN}")
    on = STAND_IN in words(own / "cgroup.subtree_control")
    try:
        (own / "cgroup.subtree_control").write_text(f"+{STAND_IN}")
    except OSError as error:
        pytest.skip(f"{own} gives no controller to others: {error}")
    folder = own / f"garrison-test-{os.getpid()}"
    folder.mkdir()
    yield folder
    for path in [*folder.glob("*/"), folder]:
        path.rmdir()
    if not on:
        (own / "cgroup.subtree_control").write_text(f"-{STAND_IN}")


def words(path: Path) -> list[str]:
    """Return the words of a file."""
    return path.read_text().split()


def run_inside(folder: Path) -> list[str]:
    """Run the steps of a launcher in a cgroup; return what it printed."""
    enter = f"import os; open('{folder}/cgroup.procs', 'w').write(str(os.getpid()))\n"
    words = [sys.executable, "-c", enter + INSIDE]
    env = {**os.environ, "PYTHONPATH": str(ROOT / ".src")}
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=20, env=env)
    assert done.returncode == 0, done
    return done.stdout.splitlines()


def test_the_launcher_moves_to_a_leaf_to_enable_a_controller(real: Path) -> None:
    """Only a cgroup without processes passes controllers on."""
    assert run_inside(real) == ["frozenset({'hugetlb'}) ", "[]", str(8 << 20), cgroups.LEAF]


def test_other_processes_are_not_moved(real: Path) -> None:
    """Another process stays in the cgroup, the worker runs without, and the reason is given."""
    other = subprocess.Popen(["sleep", "1000"])
    try:
        (real / "cgroup.procs").write_text(str(other.pid))
        offered, problems, limit, where = run_inside(real)
        assert cgroups.own(Path(f"/proc/{other.pid}")) == real
    finally:
        other.kill()
        other.wait()
    assert f"such as pid {other.pid}" in offered
    assert f"does not enforce hugetlb: other processes are in {real}" in problems
    assert (limit, where) == ("none", real.name)

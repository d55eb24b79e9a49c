"""Where a process's own cgroup is, and what becomes of those of launchers that were killed."""

import os
from pathlib import Path

import pytest

from garrison.ipc import tree
from garrison.supervisor import cgroups

V1 = "32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu\n"


def proc(folder: Path, member: str, mounts: str) -> Path:
    """Make what /proc/self says of cgroups."""
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
    """Wherever it is mounted, and from wherever on; not where the mount does not show it."""
    mounts = f"41 31 0:38 {root} {point} rw shared:9 - cgroup2 cgroup2 rw\n"
    own = cgroups.own(proc(tmp_path, f"0::{member}\n", mounts))
    assert own == (None if expected is None else Path(expected))


def test_without_version_2_there_is_none(tmp_path: Path) -> None:
    """Version 1 cannot end what is in a cgroup at once."""
    assert cgroups.own(proc(tmp_path, "", "")) is None
    assert cgroups.own(tmp_path / "nowhere") is None


def test_only_what_a_dead_launcher_left_is_removed(tmp_path: Path) -> None:
    """A living launcher's stay, and what is nobody's; a number that is used again deceives not."""
    me, start = os.getpid(), tree.started(os.getpid())
    names = [f"garrison-{me}-{start}", f"garrison-{me}-{start + 1}", "garrison-x", "other-1-2"]
    for name in names:
        (tmp_path / name / "1").mkdir(parents=True)
    cgroups.remove_leftovers(tmp_path)
    assert {one.name for one in tmp_path.iterdir()} == set(names) - {names[1]}


def test_a_folder_that_is_no_cgroup_gives_none(tmp_path: Path) -> None:
    """It says why, makes nothing, and a worker does without."""
    groups = cgroups.Cgroups(tmp_path / "missing")
    assert "missing" in groups.problem
    assert groups.make() is None
    assert not cgroups.kill(None)
    assert cgroups.inside(None) == []
    cgroups.enter(None)
    groups.discard(None)
    groups.close()

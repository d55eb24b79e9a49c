"""A cgroup for each worker, below the launcher's own: it ends all processes of a worker at once.

Some machines allow none: an ordinary user has no delegated cgroup, the kernel is older than 5.14,
or there is only cgroup version 1. Then process groups and subreapers alone end a worker's tree.

If the launcher's cgroup has controllers, a worker's cgroup also enforces limits, for growth that is
too fast for the supervisor's measurements. The kernel enables controllers only below a cgroup
without processes, so the supervisor and the launcher move to a cgroup of their own.
"""

import contextlib
import errno
import os
import re
import signal
import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import TypeAlias

from garrison.ipc.system import process_tree
from garrison.supervisor.config.cgroup_limits import CgroupLimits

LEAF = "garrison-supervisor"  # the cgroup of supervisor and launchers
EVACUATE_S = 0.2  # for workers just forked to enter their cgroups
PREFIX = "garrison-"
NAMED = re.compile(rf"{PREFIX}(\d+)-(\d+)")  # a launcher's pid and start ticks


Setting: TypeAlias = Callable[[CgroupLimits], dict[str, str]]  # limits → file: content

# Controller → what is written into its files; nothing if it has nothing to enforce
SETTINGS: Mapping[str, Setting] = {
    "memory": lambda limits: (
        {"memory.max": str(limits.memory), "memory.oom.group": "1"} if limits.memory else {}
    ),
    "pids": lambda limits: {"pids.max": str(limits.tasks)} if limits.tasks else {},
    "cpu": lambda limits: {"cpu.weight": str(limits.cpu_weight)} if limits.cpu_weight else {},
}


def own(proc: Path = Path("/proc/self")) -> Path | None:
    """Return the folder of this process's own cgroup of version 2, or None."""
    try:
        memberships = (proc / "cgroup").read_text().splitlines()
        mounts = (proc / "mountinfo").read_text().splitlines()
    except OSError:
        return None
    member = next((line[3:] for line in memberships if line.startswith("0::")), None)
    for line in mounts if member is not None else ():
        fields, _, kind = line.partition(" - ")
        if kind.split(" ", 1)[0] != "cgroup2":
            continue
        root, point = (_unescaped(field) for field in fields.split(" ")[3:5])
        if member is not None and (inside := _inside(member, root)) is not None:
            return Path(point) / inside
    return None


def cgroup_of(pid: int) -> Path | None:
    """Return the cgroup that a launcher made for a worker; None if the worker has left it."""
    found = own(Path(f"/proc/{pid}"))
    return found if found is not None and NAMED.fullmatch(found.parent.name) else None


def _unescaped(field: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), field)


def _inside(member: str, root: str) -> str | None:
    """Return a cgroup's path relative to a mount's root; None if it is not below it."""
    member, root = member.rstrip("/"), root.rstrip("/")
    if ".." in member.split("/") or not f"{member}/".startswith(f"{root}/"):
        return None
    return member[len(root) :].lstrip("/")


def offered(
    own: Path | None, ours: Collection[int], wanted: Collection[str] = tuple(SETTINGS)
) -> tuple[frozenset[str], str]:
    """Return which controllers a worker's cgroup can have, and why some are missing.

    Args:
        own: The cgroup of the supervisor or the launcher.
        ours: The pids of this host's processes, which can be moved out of it.
        wanted: The controllers.
    """
    none = frozenset[str]()
    if own is None:
        return none, "no cgroup of version 2 is mounted that the supervisor is in"
    parent = parent_cgroup(own)
    has, on = _words(parent / "cgroup.controllers"), _words(parent / "cgroup.subtree_control")
    there = frozenset(wanted) & has
    lacking = ", ".join(one for one in wanted if one not in there)
    why = f"the cgroup {parent} has no controller {lacking}" if lacking else ""
    if not os.access(parent / "cgroup.subtree_control", os.W_OK):
        return none, f"the cgroup {parent} is not delegated to this user"
    others = set(_processes(parent)) - set(ours)
    if there <= on or _is_root(parent) or not others:
        return there, why
    pids = " ".join(map(str, sorted(others)[:5]))
    return there & on, f"other processes are in the cgroup {parent} (such as pid {pids})"


def parent_cgroup(own: Path) -> Path:
    """Return the cgroup that contains workers' cgroups.

    It is this process's own, or the one that this process has moved out of.
    """
    return own.parent if own.name == LEAF else own


def oom_killed(cgroup: Path | None) -> bool:
    """Return whether the kernel's OOM killer has killed a process in a cgroup."""
    if cgroup is None:
        return False
    try:
        lines = (cgroup / "memory.events").read_text().splitlines()
    except OSError:
        return False
    return any(line.startswith("oom_kill ") and line != "oom_kill 0" for line in lines)


class Cgroups:
    """The cgroups of one launcher's workers.

    Args:
        own: The launcher's own cgroup; None: there is none.
        settings: What is written for each controller.

    Attributes:
        problem: Why workers have no cgroups, in words; empty if they have.
    """

    def __init__(self, own: Path | None, settings: Mapping[str, Setting] = SETTINGS) -> None:
        self.problem = ""
        self._settings = settings
        self._base: Path | None = None
        self._number = 0
        self._ended: list[Path] = []  # not removed yet
        if own is None:
            self.problem = "no cgroup of version 2 is mounted that this process is in"
            return
        parent = parent_cgroup(own)
        try:
            remove_leftovers(parent)
            self._base = self._make_base(parent)
        except OSError as error:
            self.problem = f"{parent} does not allow this process to create any: {error.strerror}"

    def _make_base(self, parent: Path) -> Path | None:
        base = parent / f"{PREFIX}{os.getpid()}-{process_tree.start_ticks(os.getpid())}"
        base.mkdir()
        kind = (base / "cgroup.type").read_text().strip()
        if kind != "domain":
            self.problem = f"a cgroup in {parent} has the type {kind}"
        elif not (base / "cgroup.kill").exists():
            self.problem = "the kernel has no cgroup.kill (Linux 5.14)"
        elif not os.access(parent / "cgroup.procs", os.W_OK):
            self.problem = f"no process can be moved out of {parent}"
        if self.problem:
            base.rmdir()
            return None
        return base

    def make(self) -> Path | None:
        """Make the cgroup of one worker; None if that is not possible."""
        if self._base is None:
            return None
        self._number += 1
        cgroup = self._base / str(self._number)
        try:
            cgroup.mkdir()
        except OSError:  # cgroup.max.descendants, or the parent was removed
            return None
        return cgroup

    def apply_limits(
        self, cgroup: Path | None, limits: CgroupLimits, ours: Collection[int]
    ) -> list[str]:
        """Make a cgroup enforce limits; return what failed, in words.

        A controller that the machine lacks is left out; the supervisor reports that.

        Args:
            cgroup: The worker's cgroup.
            limits: The limits.
            ours: The pids of the supervisor and the launcher.
        """
        problems: list[str] = []
        if cgroup is None:
            return problems
        for controller, setting in self._settings.items():
            files = setting(limits)
            try:
                if not files or not self._enable(controller, ours):
                    continue
                for name, value in files.items():
                    _write(cgroup / name, value.encode())
            except OSError as error:
                problems.append(f"its cgroup does not enforce {controller}: {error.strerror}")
        return problems

    def _enable(self, controller: str, ours: Collection[int]) -> bool:
        """Enable a controller for workers' cgroups; return False if there is none."""
        if self._base is None:
            return False
        parent = self._base.parent
        if controller not in _words(parent / "cgroup.controllers"):
            return False
        for folder in (parent, self._base):
            if controller in _words(folder / "cgroup.subtree_control"):
                continue
            try:
                _write(folder / "cgroup.subtree_control", f"+{controller}".encode())
            except OSError as error:
                if error.errno != errno.EBUSY or folder != parent:
                    raise
                _evacuate(parent, ours)
                _write(folder / "cgroup.subtree_control", f"+{controller}".encode())
        return True

    def discard(self, cgroup: Path | None) -> None:
        """Remove a cgroup, now or as soon as it is empty."""
        if cgroup is not None:
            self._ended.append(cgroup)
        self._ended = [one for one in self._ended if not _remove(one)]

    def close(self) -> None:
        """Remove all that are empty."""
        self.discard(None)
        if self._base is not None:
            _remove(self._base)
            remove_leftovers(self._base.parent)


def enter(cgroup: Path | None) -> None:
    """Move this process into a cgroup.

    This takes up to 20 ms, an RCU grace period of the kernel. So the spare worker does it itself,
    before it has an assignment.
    """
    if cgroup is None:
        return
    try:
        _write(cgroup / "cgroup.procs", b"0")
    except OSError as error:  # process group and subreaper still end its tree
        print(f"launcher: cannot enter {cgroup}: {error.strerror}", flush=True)


def signal_worker(pid: int, number: int, cgroup: Path | None) -> None:
    """Signal a worker's process group; SIGKILL also kills its whole cgroup."""
    process_tree.signal_group(pid, number)
    if number == signal.SIGKILL:
        kill(cgroup)


def kill(cgroup: Path | None) -> bool:
    """Kill everything in a cgroup and below; return whether processes were still there."""
    if cgroup is None:
        return False
    try:
        if b"populated 1" not in (cgroup / "cgroup.events").read_bytes():
            return False
        _write(cgroup / "cgroup.kill", b"1")
    except OSError:  # it was removed
        return False
    return True


def inside(cgroup: Path | None) -> list[int]:
    """Return the pids in a cgroup and below."""
    found: list[int] = []
    for path in () if cgroup is None else (cgroup, *cgroup.glob("**/")):
        with contextlib.suppress(OSError):
            found += map(int, (path / "cgroup.procs").read_text().split())
    return found


def remove_leftovers(parent: Path) -> None:
    """Remove the empty cgroups of launchers that were killed."""
    for base in parent.glob(f"{PREFIX}*"):
        named = NAMED.fullmatch(base.name)
        if named and process_tree.start_ticks(int(named[1])) != int(named[2]):
            for cgroup in base.iterdir():
                if cgroup.is_dir():
                    _remove(cgroup)
            _remove(base)


def _evacuate(parent: Path, ours: Collection[int]) -> None:
    """Move this host's own processes out of a cgroup that has no other processes.

    Raises:
        OSError: There are other processes, or ours cannot be moved.
    """
    deadline = time.monotonic() + EVACUATE_S
    while others := set(_processes(parent)) - set(ours):
        if others - set(process_tree.children()) or time.monotonic() >= deadline:
            pids = " ".join(map(str, sorted(others)[:5]))
            raise OSError(errno.EBUSY, f"other processes are in {parent} (such as pid {pids})")
        time.sleep(0.005)  # a worker just forked enters its own cgroup
    leaf = parent / LEAF
    leaf.mkdir(exist_ok=True)
    for pid in _processes(parent):
        _write(leaf / "cgroup.procs", str(pid).encode())


def _processes(cgroup: Path) -> list[int]:
    """Return the pids in a cgroup, not below."""
    try:
        return [int(pid) for pid in (cgroup / "cgroup.procs").read_text().split()]
    except (OSError, ValueError):
        return []


def _is_root(cgroup: Path) -> bool:
    """Return whether this is the root cgroup, which may have both processes and controllers."""
    return not (cgroup / "cgroup.events").exists()


def _words(path: Path) -> set[str]:
    try:
        return set(path.read_text().split())
    except OSError:
        return set()


def _write(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, data)
    finally:
        os.close(descriptor)


def _remove(cgroup: Path) -> bool:
    """Remove a cgroup with its child cgroups; return whether it is gone."""
    try:
        cgroup.rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        for path, folders, _ in os.walk(cgroup, topdown=False):
            for folder in folders:
                with contextlib.suppress(OSError):
                    Path(path, folder).rmdir()
        with contextlib.suppress(OSError):
            cgroup.rmdir()
        return not cgroup.exists()
    return True

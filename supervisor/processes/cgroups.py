"""A cgroup for each worker, below the launcher's own: whatever is in it can be ended at once.

Where none can be made (an ordinary user without a delegated cgroup, a kernel before 5.14, cgroups
of version 1 alone) there are none, and trees are ended by group and subreaper alone.

Where the launcher's cgroup offers controllers, a worker's cgroup also holds its service to limits,
as a wall behind what the supervisor watches. The kernel gives controllers only to a cgroup that no
process is in, so the supervisor and the launcher move to one of their own then.
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
from garrison.supervisor.config.spec import CgroupLimits

LEAF = "garrison-supervisor"  # where the supervisor and launchers are, beside their workers
ROOM_S = 0.2  # for workers just forked to go where they belong
PREFIX = "garrison-"
NAMED = re.compile(rf"{PREFIX}(\d+)-(\d+)")  # a launcher's pid, and when it began


Setting: TypeAlias = Callable[[CgroupLimits], dict[str, str]]  # → file: what to write there

# Controller → what is written into its files; none where there is nothing to hold
SETTINGS: Mapping[str, Setting] = {
    "memory": lambda walls: (
        {"memory.max": str(walls.memory), "memory.oom.group": "1"} if walls.memory else {}
    ),
    "pids": lambda walls: {"pids.max": str(walls.tasks)} if walls.tasks else {},
    "cpu": lambda walls: {"cpu.weight": str(walls.cpu_weight)} if walls.cpu_weight else {},
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
    """Return the cgroup that a launcher made for a worker, if the worker is still in it."""
    found = own(Path(f"/proc/{pid}"))
    return found if found is not None and NAMED.fullmatch(found.parent.name) else None


def _unescaped(field: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), field)


def _inside(member: str, root: str) -> str | None:
    """Return a cgroup's path from a mount's root on, or None where it is not in it."""
    member, root = member.rstrip("/"), root.rstrip("/")
    if ".." in member.split("/") or not f"{member}/".startswith(f"{root}/"):
        return None
    return member[len(root) :].lstrip("/")


def offered(
    own: Path | None, ours: Collection[int], wanted: Collection[str] = tuple(SETTINGS)
) -> tuple[frozenset[str], str]:
    """Return which controllers a worker's cgroup can have, and why not all that are wanted.

    Args:
        own: The cgroup that the supervisor or the launcher is in.
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
    """Return the cgroup that workers' cgroups are made in: this process's own, or the one that it
    has moved out of."""
    return own.parent if own.name == LEAF else own


def oom_killed(cgroup: Path | None) -> bool:
    """Tell whether the kernel has killed something in a cgroup for want of memory there."""
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
        own: The launcher's own cgroup; None is none at all.
        settings: What each controller can hold them to.

    Attributes:
        problem: Why there are none, in words; empty where there are.
    """

    def __init__(self, own: Path | None, settings: Mapping[str, Setting] = SETTINGS) -> None:
        self.problem = ""
        self._settings = settings
        self._base: Path | None = None
        self._number = 0
        self._ended: list[Path] = []  # not empty yet, or not to be removed
        if own is None:
            self.problem = "no cgroup of version 2 is mounted that this process is in"
            return
        parent = parent_cgroup(own)
        try:
            remove_leftovers(parent)
            self._base = self._made(parent)
        except OSError as error:
            self.problem = f"{parent} does not let this process make any: {error.strerror}"

    def _made(self, parent: Path) -> Path | None:
        base = parent / f"{PREFIX}{os.getpid()}-{process_tree.start_ticks(os.getpid())}"
        base.mkdir()
        kind = (base / "cgroup.type").read_text().strip()
        if kind != "domain":
            self.problem = f"what is made in {parent} is {kind}"
        elif not (base / "cgroup.kill").exists():
            self.problem = "the kernel has no cgroup.kill (Linux 5.14)"
        elif not os.access(parent / "cgroup.procs", os.W_OK):
            self.problem = f"no process can be moved out of {parent}"
        if self.problem:
            base.rmdir()
            return None
        return base

    def make(self) -> Path | None:
        """Make the cgroup of one worker; None where there are none."""
        if self._base is None:
            return None
        self._number += 1
        cgroup = self._base / str(self._number)
        try:
            cgroup.mkdir()
        except OSError:  # cgroup.max.descendants, or somebody removed what is above
            return None
        return cgroup

    def apply_limits(
        self, cgroup: Path | None, walls: CgroupLimits, ours: Collection[int]
    ) -> list[str]:
        """Hold a worker to limits; return what could not be, in words.

        What the machine has no controller for is left out: the supervisor says that.

        Args:
            cgroup: The worker's.
            walls: The limits.
            ours: The pids of the supervisor and the launcher.
        """
        problems: list[str] = []
        if cgroup is None:
            return problems
        for controller, setting in self._settings.items():
            files = setting(walls)
            try:
                if not files or not self._enabled(controller, ours):
                    continue
                for name, value in files.items():
                    _write(cgroup / name, value.encode())
            except OSError as error:
                problems.append(f"its cgroup does not hold {controller}: {error.strerror}")
        return problems

    def _enabled(self, controller: str, ours: Collection[int]) -> bool:
        """Have a controller in the workers' cgroups; False where there is none to be had."""
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
        """Remove a cgroup, now or as soon as nothing is in it any more."""
        if cgroup is not None:
            self._ended.append(cgroup)
        self._ended = [one for one in self._ended if not _removed(one)]

    def close(self) -> None:
        """Remove them all, but for those that the kernel has still somebody in."""
        self.discard(None)
        if self._base is not None:
            _removed(self._base)
            remove_leftovers(self._base.parent)


def enter(cgroup: Path | None) -> None:
    """Move this process into a cgroup.

    It takes up to 20 ms, an RCU grace period of the kernel's, so a worker that is forked ahead
    does it for itself, before it has an order.
    """
    if cgroup is None:
        return
    try:
        _write(cgroup / "cgroup.procs", b"0")
    except OSError as error:  # its tree is ended by group and subreaper all the same
        print(f"launcher: {cgroup} cannot be entered: {error.strerror}", flush=True)


def signal_worker(pid: int, number: int, cgroup: Path | None) -> None:
    """Signal a worker and its group, as `tree.signal_group`; a KILL takes its whole cgroup."""
    process_tree.signal_group(pid, number)
    if number == signal.SIGKILL:
        kill(cgroup)


def kill(cgroup: Path | None) -> bool:
    """Kill everything in a cgroup, and below; tell whether something still is there."""
    if cgroup is None:
        return False
    try:
        if b"populated 1" not in (cgroup / "cgroup.events").read_bytes():
            return False
        _write(cgroup / "cgroup.kill", b"1")
    except OSError:  # it was removed by somebody
        return False
    return True


def inside(cgroup: Path | None) -> list[int]:
    """Return the pids of all that is in a cgroup, and below."""
    found: list[int] = []
    for path in () if cgroup is None else (cgroup, *cgroup.glob("**/")):
        with contextlib.suppress(OSError):
            found += map(int, (path / "cgroup.procs").read_text().split())
    return found


def remove_leftovers(parent: Path) -> None:
    """Remove the cgroups of launchers that were killed, but for what still lives in them."""
    for base in parent.glob(f"{PREFIX}*"):
        named = NAMED.fullmatch(base.name)
        if named and process_tree.start_ticks(int(named[1])) != int(named[2]):
            for cgroup in base.iterdir():
                if cgroup.is_dir():
                    _removed(cgroup)
            _removed(base)


def _evacuate(parent: Path, ours: Collection[int]) -> None:
    """Move this host's own processes out of a cgroup that has nobody else in it.

    Raises:
        OSError: There are others, or they cannot be moved.
    """
    deadline = time.monotonic() + ROOM_S
    while others := set(_processes(parent)) - set(ours):
        if others - set(process_tree.children()) or time.monotonic() >= deadline:
            pids = " ".join(map(str, sorted(others)[:5]))
            raise OSError(errno.EBUSY, f"other processes are in {parent} (such as pid {pids})")
        time.sleep(0.005)  # a worker just forked goes into its own cgroup by itself
    leaf = parent / LEAF
    leaf.mkdir(exist_ok=True)
    for pid in _processes(parent):
        _write(leaf / "cgroup.procs", str(pid).encode())


def _processes(cgroup: Path) -> list[int]:
    """Return the pids of what is in a cgroup, and not below."""
    try:
        return [int(pid) for pid in (cgroup / "cgroup.procs").read_text().split()]
    except (OSError, ValueError):
        return []


def _is_root(cgroup: Path) -> bool:
    """Tell whether a cgroup is the machine's own, where processes and controllers go together."""
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


def _removed(cgroup: Path) -> bool:
    """Remove a cgroup with those that its processes made in it; tell whether it is gone."""
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

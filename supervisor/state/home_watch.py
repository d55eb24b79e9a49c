"""Watches the paths of a running host: what was removed or moved is restored, or given up.

Locks and listening sockets are known by their inodes. A path that no longer leads to them gets new
ones, unless another supervisor has taken it: then this one yields. Times are monotonic seconds.
"""

import os
import time
from math import inf
from pathlib import Path
from typing import Any, TypeAlias

from garrison.ipc.errors import GarrisonError
from garrison.ipc.system.file_id import file_id
from garrison.ipc.system.locks import is_at_path
from garrison.supervisor.bus.endpoints import Endpoints
from garrison.supervisor.config.load import Config

from .home import AlreadyRunning, home_lock, make_folders, run_lock, take_lock
from .identity import ConfigIdentity
from .ownership import check_home

WATCH_S = 0.5
EARLY_S = 0.1  # that a turn of the loop which happens anyway may look
PARENT_S = 5.0  # for the folder around a home to come back, before it is made anew

Event: TypeAlias = tuple[str, dict[str, Any]]  # name and data


class Displaced(GarrisonError):
    """Another supervisor has taken the path of this one's home; this one ends."""

    code = "displaced"


class HomeWatch:
    """Watches the home of this supervisor.

    Args:
        config: The config; its home is locked.
        locks: Descriptors of the home's locks, as of `lock_home`; new ones replace or join them.
        endpoints: The sockets.
        identity: The config's names; those that another host gives up are taken.

    Attributes:
        due: When to call `turn`.
        displaced: Why this supervisor must end; None: it has its home.
        restored: Folders were made anew, so what belongs in them is to be written again.
    """

    def __init__(
        self, config: Config, locks: list[int], endpoints: Endpoints, identity: ConfigIdentity
    ) -> None:
        self._host, self._locks, self._endpoints = config.host, locks, endpoints
        self.identity = identity
        self._paths = (home_lock(config.host), run_lock(config.host))
        self._problem = ""  # why something is not restored, as recorded last
        self._alone_since = inf  # since when the folder around the home has been missing
        self.due = time.monotonic() + WATCH_S
        self.displaced: Displaced | None = None
        self.restored = False

    def is_near(self, now: float) -> bool:
        """Return whether `turn` is due, or soon will be: the loop then need not wake for it."""
        return now >= self.due - EARLY_S

    def turn(self) -> list[Event]:
        """Look at every path, and restore what is lost; return what happened."""
        self.due = time.monotonic() + WATCH_S
        self.restored = False
        self.identity.take_free()
        try:
            events = [*self._restore_home(), *self._restore_sockets()]
        except AlreadyRunning as error:
            self.due = inf
            self.displaced = Displaced(
                f"{error}. That supervisor has taken the path of this one's home, which was "
                f"removed or moved to {self._moved_to() or 'nowhere'}; this one ends"
            )
            return [("host.displaced", {"problem": str(self.displaced)})]
        except (OSError, GarrisonError) as error:
            return self._report(str(error))
        self._problem = ""
        return events

    def _report(self, problem: str) -> list[Event]:
        """Return the event of a problem, once until there is another."""
        if problem == self._problem:
            return []
        self._problem = problem
        return [("host.not_restored", {"problem": problem, "moved_to": self._moved_to()})]

    # --- folders and locks ------------------------------------------------------------------

    def _restore_home(self) -> list[Event]:
        """Make lost folders and locks anew.

        Raises:
            AlreadyRunning: Another supervisor has one of the locks.
            OSError, GarrisonError: It is not possible now.
        """
        lost = [n for n, path in enumerate(self._paths) if not is_at_path(self._locks[n], path)]
        host = self._host
        folders = [f for f in (host.home, host.run, host.state, host.logs) if not f.is_dir()]
        if not lost and not folders:
            self._alone_since = inf
            return []
        self._await_parent()
        moved_to = self._moved_to()
        check_home(host)
        for n in lost:
            self._relock(n)
        make_folders(host)
        self._endpoints.restore_access()
        self.restored = bool(folders) or 0 in lost
        shown = ", ".join(str(self._paths[n]) for n in lost)
        names = ", ".join(map(str, folders))
        return [("host.home_restored", {"folders": names, "locks": shown, "moved_to": moved_to})]

    def _await_parent(self) -> None:
        """Raise GarrisonError while the folder around the home is missing, for a while.

        A deployment may be about to move another one there, which would move into a new one.
        """
        if self._host.home.parent.is_dir():
            self._alone_since = inf
            return
        now = time.monotonic()
        self._alone_since = min(self._alone_since, now)
        if now < self._alone_since + PARENT_S:
            raise GarrisonError(f"{self._host.home.parent} was removed or moved")

    def _relock(self, number: int) -> None:
        """Lock a path anew. The lock of a moved home is kept, so that it stays this host's."""
        path, former = self._paths[number], self._locks[number]
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        own = {file_id(os.fstat(lock)): lock for lock in self._locks}  # of a home that came back
        taken = take_lock(path, path.parent, own)
        if taken in self._locks:
            self._locks.remove(taken)
        self._locks[number] = taken
        if os.fstat(former).st_nlink:
            self._locks.append(former)
        else:
            os.close(former)

    def _moved_to(self) -> str:
        """Return where the home is now; empty if it was removed, or is where it was."""
        found = os.readlink(f"/proc/self/fd/{self._locks[0]}")  # noqa: PTH115
        gone = found.endswith(" (deleted)") or Path(found) in self._paths
        return "" if gone else str(Path(found).parent)

    # --- sockets ----------------------------------------------------------------------------

    def _restore_sockets(self) -> list[Event]:
        restored = self._endpoints.listeners.restore()
        if not restored:
            return []
        return [("host.sockets_restored", {"sockets": ", ".join(restored)})]

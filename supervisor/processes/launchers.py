"""All launchers of this host: one of each interpreter forks, retired ones keep their workers."""

import contextlib
import time
from collections.abc import Iterator, Mapping
from math import inf
from pathlib import Path

from garrison.ipc.errors import GarrisonError
from garrison.supervisor.config.environment import base_environment

from . import launcher_process
from .early_launcher import EarlyLauncher
from .inquiry import stamp_of
from .launcher_process import LEAVE_WAIT, OWN_PYTHON, LauncherProcess, UnderPython
from .protocol import CheckFresh, LeaveCommand, Preload

IDLE_S = 60.0  # that a launcher under another interpreter is kept without workers


class LauncherSet:
    """The launchers.

    Args:
        run: The folder of their sockets.
        logs: The folder of their log.
        environment: Their environment, which workers inherit.
        orphan_grace: Seconds that they outlive this process.
        each_cgroup: Whether each worker has a cgroup of its own, where possible.
        early: The first launcher, if it was started already.

    Attributes:
        modules: What each new launcher preloads, those under other interpreters aside.
        last_number: The number in the path of the last launcher's socket.
    """

    def __init__(
        self,
        run: Path,
        logs: Path,
        environment: Mapping[str, str],
        orphan_grace: float,
        each_cgroup: bool,
        early: EarlyLauncher | None = None,
    ) -> None:
        self._early = early
        self._run, self._logs, self._environment = run, logs, dict(environment)
        self._orphan_grace, self._each_cgroup = orphan_grace, each_cgroup
        self._launchers: list[LauncherProcess] = []
        self._leaving = False
        self._checking: set[LauncherProcess] = set()  # that have not answered yet
        self._changed: tuple[str, ...] | None = None  # None: nothing is being checked
        self.modules: tuple[str, ...] = ()
        self.last_number = 0

    def __iter__(self) -> Iterator[LauncherProcess]:
        return iter([*self._launchers])

    @property
    def pid(self) -> int | None:
        """Return the pid of the launcher that forks under the host's own interpreter, or None."""
        current = self._current()
        return current.pid if current is not None else None

    def sockets(self) -> list[int]:
        """Return the descriptors to poll."""
        return [launcher.socket.fileno() for launcher in self._launchers]

    def current(self) -> LauncherProcess:
        """Return the launcher that forks under the host's own interpreter; start it if need be.

        Raises:
            OSError, GarrisonError: It cannot be started.
        """
        return self._current() or self._start()

    def _current(self, python: str = "") -> LauncherProcess | None:
        found = (one for one in reversed(self._launchers) if one.under.path == python)
        return next((one for one in found if not one.retired), None)

    def under(self, python: str) -> LauncherProcess | None:
        """Return the launcher that forks under an interpreter; None until its query is answered.

        A launcher is retired if its venv was made anew since.

        Raises:
            InterpreterProblem: There is no such interpreter any more.
            OSError, GarrisonError: The launcher of the host's own cannot be started.
        """
        if not python:
            return self.current()
        launcher, stamp = self._current(python), stamp_of(python)
        if launcher is not None and launcher.under.stamp != stamp:
            self._retire(launcher)
            return None
        return launcher

    def start_under(self, under: UnderPython) -> LauncherProcess:
        """Return the launcher that forks under an interpreter; start one if there is none.

        Raises:
            OSError, GarrisonError: It cannot be started.
        """
        return self._current(under.path) or self._start(under)

    def used(self) -> set[str]:
        """Return the other interpreters that have workers."""
        return {one.under.path for one in self._launchers if one.under.path and one.keys}

    @property
    def idle_due(self) -> float:
        """Return when `retire_idle` has something to do."""
        return min((one.idle_since + IDLE_S for one in self._idle()), default=inf)

    def retire_idle(self) -> None:
        """End the launchers under other interpreters that have had no workers for long."""
        now = time.monotonic()
        for launcher in self._idle():
            if launcher.idle_since + IDLE_S <= now:
                self._retire(launcher)

    def _idle(self) -> list[LauncherProcess]:
        others = [one for one in self._launchers if one.under.path and not one.retired]
        return [one for one in others if not one.keys]

    def _retire(self, launcher: LauncherProcess) -> None:
        launcher.retired = True
        launcher.send(LeaveCommand())

    def _start(self, under: UnderPython = OWN_PYTHON) -> LauncherProcess:
        self.last_number += 1
        path = launcher_process.socket_path(self._run, self.last_number)
        environment = base_environment(self._environment, foreign=bool(under.path))
        launcher = None
        if under.path:  # the first number is its own now
            self._drop_early()
        elif self._early is not None:
            launcher = launcher_process.take_early(self._early, path, environment)
        if launcher is None:
            launcher = launcher_process.start(
                path,
                self._logs / "launcher.log",
                environment,
                self._orphan_grace,
                self._each_cgroup,
                under,
            )
        self._launchers.append(launcher)
        if self.modules and not under.path:
            _import(launcher, self.modules)
        return launcher

    def preload(self, modules: tuple[str, ...]) -> None:
        """Import modules in the launcher that forks now, and in later ones."""
        self.modules = ()  # if a launcher must be started here, it imports them once
        _import(self.current(), modules)
        self.modules = modules

    def check_fresh(self) -> None:
        """Have every launcher that forks check the files that it has imported."""
        self._changed = ()
        queried = [self.current(), *(one for one in self._launchers if one.under.path)]
        self._checking = {one for one in queried if not one.retired and one.send(CheckFresh())}

    def note_fresh(self, launcher: LauncherProcess, changed: tuple[str, ...]) -> None:
        """Note an answer. A launcher under another interpreter is retired if a file has changed."""
        self._checking.discard(launcher)
        if not launcher.under.path:
            self._changed = changed
        elif changed and not launcher.retired:
            self._retire(launcher)

    def take_changed(self) -> tuple[str, ...] | None:
        """Return, once, which files of the host's own launcher changed; None: not yet known."""
        if self._checking:
            return None
        changed, self._changed = self._changed, None
        return changed

    def replace(self, modules: tuple[str, ...]) -> None:
        """Start a new launcher; the former one ends when its last workers have ended."""
        for launcher in self._launchers:
            if not launcher.retired and not launcher.under.path:
                self._retire(launcher)
        self.modules = modules
        self._start()

    def kill_importing(self) -> None:
        """Kill the launchers that are importing."""
        for launcher in self._launchers:
            if launcher.importing:
                launcher.kill()

    def add(self, launcher: LauncherProcess, modules: tuple[str, ...]) -> None:
        """Add a former supervisor's launcher, with the modules that it has preloaded."""
        self._drop_early()
        self._launchers.append(launcher)
        if not launcher.retired and not launcher.under.path:
            self.modules = modules

    def remove(self, launcher: LauncherProcess) -> None:
        """Remove a launcher that has ended, and start the next one.

        The next restart then does not wait for a new process and its imports. One that had no
        workers is replaced when a worker is to be forked: a launcher that cannot live is not
        started without end.
        """
        self._launchers.remove(launcher)
        self._checking.discard(launcher)
        launcher.kill()  # its socket is closed, so it is of no use even if it still runs
        launcher.reap()
        if launcher.importing:
            self.modules = ()  # else the next launcher would end from it as well
        if launcher.keys and not self._leaving:
            with contextlib.suppress(OSError, GarrisonError):  # the next fork tries it again
                self.start_under(launcher.under)

    def _drop_early(self) -> None:
        if self._early is not None:
            self._early.drop()

    def close(self) -> None:
        """Disconnect from all; they continue to run, for a next supervisor."""
        self._drop_early()
        for launcher in self._launchers:
            launcher.disconnect()
        self._launchers.clear()

    def leave(self, kill: bool) -> None:
        """Make all launchers end.

        All services have ended by now. A probe of a plugin, or a worker that is not this host's,
        must neither keep its launcher nor outlive it.
        """
        self._leaving = True
        self._drop_early()
        for launcher in self._launchers:
            launcher.send(LeaveCommand(kill or bool(launcher.keys)))

    def wait_for_exit(self) -> None:
        """Wait until all have ended; kill those that have not ended in time."""
        for launcher in self._launchers:
            launcher.wait_for_exit(LEAVE_WAIT)
        self._launchers.clear()


def _import(launcher: LauncherProcess, modules: tuple[str, ...]) -> None:
    launcher.importing = True
    launcher.send(Preload(modules))

"""All launchers of this host: one forks new workers, retired ones keep the workers they have."""

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path

from garrison.ipc.errors import GarrisonError

from . import launcher_process
from .launcher_process import LEAVE_WAIT, LauncherProcess
from .protocol import LeaveCommand, Preload


class LauncherSet:
    """The launchers.

    Args:
        run: The folder of their sockets.
        logs: The folder of their log.
        environment: Their environment, which workers inherit.
        orphan_grace: Seconds that they outlive this process.
        each_cgroup: Whether each worker has a cgroup of its own, where possible.

    Attributes:
        modules: What each new launcher preloads.
        last_number: The number in the path of the last launcher's socket.
    """

    def __init__(
        self,
        run: Path,
        logs: Path,
        environment: Mapping[str, str],
        orphan_grace: float,
        each_cgroup: bool,
    ) -> None:
        self._run, self._logs, self._environment = run, logs, dict(environment)
        self._orphan_grace, self._each_cgroup = orphan_grace, each_cgroup
        self._launchers: list[LauncherProcess] = []
        self._leaving = False
        self.modules: tuple[str, ...] = ()
        self.last_number = 0

    def __iter__(self) -> Iterator[LauncherProcess]:
        return iter([*self._launchers])

    @property
    def pid(self) -> int | None:
        """Return the pid of the launcher that forks now; None if there is none."""
        current = self._current()
        return current.pid if current is not None else None

    def sockets(self) -> list[int]:
        """Return the descriptors to poll."""
        return [launcher.socket.fileno() for launcher in self._launchers]

    def current(self) -> LauncherProcess:
        """Return the launcher that forks now; start one if there is none.

        Raises:
            OSError, GarrisonError: It cannot be started.
        """
        return self._current() or self._start()

    def _current(self) -> LauncherProcess | None:
        return next((one for one in reversed(self._launchers) if not one.retired), None)

    def _start(self) -> LauncherProcess:
        self.last_number += 1
        launcher = launcher_process.start(
            self._run / f"launcher-{self.last_number}.sock",
            self._logs / "launcher.log",
            self._environment,
            self._orphan_grace,
            self._each_cgroup,
        )
        self._launchers.append(launcher)
        if self.modules:
            _import(launcher, self.modules)
        return launcher

    def preload(self, modules: tuple[str, ...]) -> None:
        """Import modules in the launcher that forks now, and in later ones."""
        self.modules = ()  # if a launcher must be started here, it imports them once
        _import(self.current(), modules)
        self.modules = modules

    def replace(self, modules: tuple[str, ...]) -> None:
        """Start a new launcher; the others end when their last workers have ended."""
        for launcher in self._launchers:
            if not launcher.retired:
                launcher.retired = True
                launcher.send(LeaveCommand())
        self.modules = modules
        self._start()

    def kill_importing(self) -> None:
        """Kill the launchers that are importing."""
        for launcher in self._launchers:
            if launcher.importing:
                launcher.kill()

    def add(self, launcher: LauncherProcess, modules: tuple[str, ...]) -> None:
        """Add a former supervisor's launcher, with the modules that it has preloaded."""
        self._launchers.append(launcher)
        if not launcher.retired:
            self.modules = modules

    def remove(self, launcher: LauncherProcess) -> None:
        """Remove a launcher that has ended, and start the next one.

        The next restart then does not wait for a new process and its imports. One that had no
        workers is replaced when a worker is to be forked: a launcher that cannot live is not
        started without end.
        """
        self._launchers.remove(launcher)
        launcher.kill()  # its socket is closed, so it is of no use even if it still runs
        launcher.reap()
        if launcher.importing:
            self.modules = ()  # else the next launcher would end from it as well
        if launcher.keys and not self._leaving:
            with contextlib.suppress(OSError, GarrisonError):  # the next fork tries it again
                self.current()

    def close(self) -> None:
        """Disconnect from all; they continue to run, for a next supervisor."""
        for launcher in self._launchers:
            launcher.disconnect()
        self._launchers.clear()

    def leave(self, kill: bool) -> None:
        """Make all launchers end.

        All services have ended by now. A probe of a plugin, or a worker that is not this host's,
        must neither keep its launcher nor outlive it.
        """
        self._leaving = True
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

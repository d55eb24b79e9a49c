"""Connects to the launchers of a former supervisor and reads their inventories; never blocks."""

import os
import socket
import time
from pathlib import Path

import msgspec

from garrison.ipc.messages import BAD_BYTES

from . import protocol
from .engine import Found, Key
from .launcher_process import LauncherProcess, connected, remove_stale, socket_number
from .protocol import EndedReport, ForkedReport, InventoryEnd, Report, decode_report

MEET_WAIT = 2.0  # seconds for a launcher to send its inventory


class Inventory(msgspec.Struct, eq=False):
    """What one launcher reports to a new supervisor."""

    launcher: LauncherProcess
    reports: list[tuple[Report, list[int]]] = msgspec.field(
        default_factory=list
    )  # with descriptors
    end: InventoryEnd | None = None  # None: not complete yet

    def read(self) -> bool:
        """Read what has arrived; return whether the inventory is complete.

        Raises:
            OSError, or an error of BAD_BYTES: The launcher is of no use.
        """
        while self.end is None:
            try:
                data, fds = self.launcher.receive()
            except BlockingIOError:
                return False
            if not data:
                raise ConnectionError("it has just ended")
            report = decode_report(data)
            if not isinstance(report, InventoryEnd):
                self.reports.append((report, fds))
                continue
            for fd in fds:
                os.close(fd)
            if report.version != protocol.VERSION:
                text = f"it uses protocol version {report.version}, not {protocol.VERSION}"
                raise ConnectionError(text)
            self.end = report
        return True

    def discard(self) -> None:
        """End the launcher; its workers lose their launcher and are found by their handles."""
        for _, fds in self.reports:
            for fd in fds:
                os.close(fd)
        self.launcher.kill()
        self.launcher.reap()


class LauncherTakeover:
    """The adoption of all launchers whose sockets are in a folder.

    Attributes:
        complete: Inventories of the launchers that were adopted.
        refused: Launchers that could not be adopted, and why.
        last_number: The highest number of a launcher's socket.
    """

    def __init__(self, run: Path) -> None:
        self.complete: list[Inventory] = []
        self.refused: list[str] = []
        self.last_number = 0
        self._deadline = time.monotonic() + MEET_WAIT
        self._unconnected: list[Path] = []
        self._incomplete: list[Inventory] = []
        for path in sorted(run.glob("launcher-*.sock"), key=socket_number):
            self.last_number = max(self.last_number, socket_number(path))
            self._unconnected.append(path)
        self._connect_all()

    @property
    def finished(self) -> bool:
        """Return whether every launcher was adopted or refused."""
        return not self._unconnected and not self._incomplete

    @property
    def due(self) -> float:
        """Return when `turn` must be called, though no descriptor is ready."""
        if self.finished:
            return 0.0
        return time.monotonic() + 0.05 if self._unconnected else self._deadline

    def descriptors(self) -> list[int]:
        """Return the descriptors to poll for reading."""
        return [one.launcher.socket.fileno() for one in self._incomplete]

    def turn(self) -> None:
        """Read what has arrived; refuse launchers that have not answered in time."""
        self._connect_all()
        late = time.monotonic() >= self._deadline
        for one in list(self._incomplete):
            try:
                if one.read():
                    self._incomplete.remove(one)
                    self.complete.append(one)
                elif late:
                    raise ConnectionError(f"it did not answer within {MEET_WAIT:g} s")
            except (OSError, *BAD_BYTES) as error:
                self._incomplete.remove(one)
                one.discard()
                self.refused.append(f"{Path(one.launcher.path).name}: {error}; it was ended")
        if self.finished:
            self.complete.sort(key=lambda one: socket_number(Path(one.launcher.path)))

    def _connect_all(self) -> None:
        late = time.monotonic() >= self._deadline
        waiting, self._unconnected = self._unconnected, []
        for path in waiting:
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            connection.setblocking(False)
            try:
                connection.connect(str(path))
            except BlockingIOError:  # too many supervisors have connected while it was stopped
                connection.close()
                if not late:
                    self._unconnected.append(path)
                    continue
                self.refused.append(f"{path.name}: it did not answer within {MEET_WAIT:g} s")
                continue
            except OSError:  # the launcher has ended
                connection.close()
                remove_stale(path)
                continue
            try:
                self._incomplete.append(Inventory(connected(connection, path)))
            except OSError as error:
                self.refused.append(f"{path.name}: {error}")
                connection.close()
                remove_stale(path)

    def found(self) -> Found:
        """Return what the launchers have, once `finished`."""
        running: dict[Key, str] = {}
        ended: set[Key] = set()
        ending: set[Key] = set()
        modules: tuple[str, ...] = ()
        over, outdated = True, False
        for inventory in self.complete:
            assert inventory.end is not None
            names = {r.key: r.name for r, _ in inventory.reports if isinstance(r, ForkedReport)}
            running |= names
            ended |= {r.key for r, _ in inventory.reports if isinstance(r, EndedReport)}
            if inventory.end.ending:
                ending |= names.keys()
            else:
                over = False
            if not inventory.end.retired and not inventory.launcher.under.path:
                modules = inventory.end.modules
                outdated = inventory.end.code != protocol.CODE
        return Found(
            running=running,
            ended=frozenset(ended),
            ending=frozenset(ending),
            modules=modules,
            launchers=len(self.complete),
            over=over,
            outdated=outdated,
            refused=tuple(self.refused),
        )

    def finish(self) -> None:
        """Wait until every launcher has been adopted or refused: `MEET_WAIT` at most."""
        while not self.finished:
            self.turn()
            if not self.finished:
                time.sleep(0.002)

"""The steps of `garrison update` while a supervisor runs, and the way back from each.

Durations are seconds.
"""

import os
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from garrison.ipc.errors import OrderFailed, SupervisorGone
from garrison.supervisor.update.environment import python_of, remove_all_but, remove_version, switch
from garrison.supervisor.update.journal import Phase, Update, keeps_data, title, to_move
from garrison.supervisor.update.journal_file import DATA, data_folder, write_update
from garrison.supervisor.update.recovery import finish

from .client import NO_LIMIT, request
from .update_gate import check_link

SETTLE_S = 60.0
POLL_S = 0.05
MOVES_MOST = 3  # of one service, which others may have restarted meanwhile
COMES_BACK_S = 3.0  # for another supervisor, as systemd starts one


class PutBack(Exception):
    """Why an update is put back."""


class UpdateSteps:
    """Carries out one update, whose lock is held.

    Args:
        home: The host's home.
        state: Its folder of state.
        update: The update; every step writes it.
        supervisor: The supervisor's pid.
        configs: The files of its config.
        own: Plugins that have interpreters of their own.
        period: How long each service has to run.
        show: Called with how far it is: services done, of how many, and what is done.
    """

    def __init__(
        self,
        home: Path,
        state: Path,
        update: Update,
        supervisor: int,
        configs: list[str],
        own: set[str],
        period: float,
        show: Callable[[int, int, str], None],
    ) -> None:
        self._home, self._state, self.update = home, state, update
        self._supervisor, self._configs, self._own = supervisor, configs, own
        self._period, self._show = period, show
        self._pidfd = os.pidfd_open(supervisor)
        self.notes: list[str] = []

    def close(self) -> None:
        """Release the supervisor's descriptor."""
        os.close(self._pidfd)

    def write(self, **changes: Any) -> None:
        """Write the journal with some changes."""
        self.update = msgspec.structs.replace(self.update, **changes)
        write_update(self._state, self.update)

    def event(self, name: str, **data: Any) -> None:
        """Have the supervisor record an event of the update."""
        request(self._home, "update", step="event", event=name, data=data, wait=SETTLE_S)

    # --- forward ----------------------------------------------------------------------------

    def carry_out(self) -> None:
        """Move the services, then the supervisor, then the environment's path.

        Raises:
            OrderFailed, SupervisorGone, LinkProblem: Something did not come up.
        """
        self.write(phase=Phase.MOVING)
        self._order("update", step="watch")
        self._move_all()
        self.write(phase=Phase.HANDING)
        self._hand_over(python_of(self.update.staged))
        self._order("update", step="watch")
        self.write(phase=Phase.COMMITTING)
        switch(Path(self.update.environment), Path(self.update.staged), Path(self.update.former))
        self.write(phase=Phase.DONE)
        self.event("done", changed=title(self.update), former=self.update.former)

    def _move_all(self) -> None:
        staged, done = python_of(self.update.staged), 0
        while names := to_move(rows := self._rows(), staged, self._own):
            name, total = names[0], done + len(names)
            if self.update.passed.count(name) >= MOVES_MOST:
                text = f"{name} was restarted by the former version again and again"
                raise OrderFailed("overtaken", text)
            self._show(done, total, name)
            before = next(row for row in rows if row["name"] == name)
            row = self._move(name, staged, "copy", self._period)
            if before["link"] is not None or row["link"] is not None:
                check_link(self._home, name)
            done += 1
            self.write(passed=(*self.update.passed, name))

    def _rows(self) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = self._order("status", detail=True)["services"]
        return rows

    def _move(self, name: str, python: str, data: str, period: float) -> dict[str, Any]:
        row: dict[str, Any] = self._order(
            "update",
            (name,),
            step="move",
            python=python,
            data=data,
            number=self.update.number,
            period=period,
        )
        return row

    def _hand_over(self, python: str) -> None:
        """Have the supervisor's process become that of another version.

        Raises:
            OrderFailed, SupervisorGone: It cannot, or does not come up.
        """
        before = self._order("status")
        boot = before["supervisor"]["boot"]
        try:
            self._order("upgrade", python=python)
        except SupervisorGone:  # its answer was lost with it; or it has ended
            if self._has_ended():
                raise
        deadline = time.monotonic() + SETTLE_S
        while time.monotonic() < deadline:
            try:
                head = self._order("status")["supervisor"]
            except SupervisorGone:
                if self._has_ended():
                    raise
                continue
            if head["boot"] != boot and head["settled"]:
                break
            time.sleep(POLL_S)
        else:
            text = f"the supervisor did not come up by {python} within {SETTLE_S:g} s"
            raise OrderFailed("timed_out", text)
        lost = [row["name"] for row in before["services"] if row["state"] == "running"]
        now = {row["name"]: row["state"] for row in self._rows()}
        lost = [name for name in lost if now.get(name) != "running"]
        if lost:
            text = f"{lost[0]} does not run by the new supervisor: {now.get(lost[0], 'gone')}"
            raise OrderFailed("failed", text)

    def _order(self, verb: str, names: tuple[str, ...] = (), **options: Any) -> Any:
        return request(self._home, verb, names, NO_LIMIT, pidfd=self._pidfd, once=True, **options)

    def _has_ended(self) -> bool:
        return bool(select.select([self._pidfd], [], [], 0)[0])

    # --- back -------------------------------------------------------------------------------

    def put_back(self, reason: str) -> None:
        """Put services, data and supervisor back, and remove the new environment.

        Raises:
            OrderFailed: A service does not run by the former version either.
        """
        self.write(phase=Phase.RETURNING, reason=reason)
        try:
            problems = self._return_all()
        except SupervisorGone:
            problems = []
            self._return_without_supervisor()
        if not self.update.goes_back:
            remove_version(Path(self.update.staged), Path(self.update.environment))
        self._record_put_back(reason)
        self.write(phase=Phase.PUT_BACK)
        self.notes += problems

    def _record_put_back(self, reason: str) -> None:
        try:
            self.event("put_back", changed=title(self.update), reason=reason)
        except (SupervisorGone, OrderFailed):
            self.notes.append("the host does not run: garrison up starts it")

    def _return_all(self) -> list[str]:
        """Put back all services; return what did not work."""
        former = python_of(self.update.current)
        if self._runs_by(self.update.staged):
            self._return_supervisor()
        rows = {row["name"]: row for row in self._rows()}
        folder, problems = data_folder(self._state, self.update.number), list[str]()
        copies = folder / "before"
        names = [one.name for one in copies.iterdir()] if copies.is_dir() else []
        staged = python_of(self.update.staged)
        names += [
            name
            for name, row in rows.items()
            if (row["python"] or {}).get("path") == staged and name not in names
        ]
        for name in names:
            if name not in rows or name.endswith(".partial"):
                continue
            self._show(0, 0, f"{name} to {former}")
            if problem := self._return_one(name):
                problems.append(problem)
        if (folder / "failed").is_dir():
            self.write(set_aside=str(folder / "failed"))
        return problems

    def _return_supervisor(self) -> None:
        """Have the supervisor become the former version again; it is ended if it cannot.

        Raises:
            SupervisorGone: It has ended.
        """
        try:
            self._hand_over(python_of(self.update.environment))
        except OrderFailed as error:
            if not self._runs_by(self.update.staged):
                return  # a service does not run: it is put back next
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
            select.select([self._pidfd], [], [], SETTLE_S)
            raise SupervisorGone(str(self._home), "it could not be replaced") from error

    def _return_one(self, name: str) -> str:
        """Put one service back; return why it does not run."""
        try:
            if not keeps_data(self.update, name):
                self._move(name, "", "restore", 0.0)
                return ""
            try:
                self._move(name, "", "keep", min(self._period, 5.0))
            except OrderFailed:
                self._move(name, "", "restore", 0.0)
        except OrderFailed as error:
            return f"{name} does not run by {self.update.before} either: {error}"
        return ""

    def _runs_by(self, environment: str) -> bool:
        try:
            words = Path(f"/proc/{self._supervisor}/cmdline").read_bytes()
        except OSError:
            return False
        return words.startswith(os.fsencode(environment) + b"/")

    def _return_without_supervisor(self) -> None:
        """Put everything back, and start the host again unless something else does.

        Raises:
            OrderFailed: It has not ended, and does not answer.
        """
        if not self._has_ended() and not self._runs_by(self.update.staged):
            text = "the supervisor does not answer; once it does, it puts the update back"
            raise OrderFailed("failed", f"{text}: garrison events -f shows that")
        self.update = finish(self._state, self.update, lambda _: None)
        deadline = time.monotonic() + COMES_BACK_S
        while time.monotonic() < deadline:
            try:
                request(self._home, "status")
                return  # something else has started it
            except SupervisorGone:
                time.sleep(POLL_S)
        configs = [word for path in self._configs for word in ("--config", path)]
        command = [python_of(self.update.environment), "-P", "-m", "garrison.supervisor.cli"]
        subprocess.run(
            [*command, "--home", str(self._home), "up", "--detach", *configs],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=2 * SETTLE_S,
            check=False,
        )
        self.notes.append("the host was started again, in the background")

    def clean_up(self) -> None:
        """Remove what only the way back needed: copies of data, and versions before the former."""
        for folder in (self._state / DATA).glob("*"):
            shutil.rmtree(folder, ignore_errors=True)
        environment = Path(self.update.environment)
        kept = {Path(self.update.staged), Path(self.update.former), Path(self.update.backup)}
        remove_all_but(environment, kept)

"""A host for tests, with the check that no process and no descriptor outlives it.

A home is in /tmp under a short name, because a Unix socket's path is limited to 107 bytes. Every
process of a host has a mark in its environment, so that leftovers are found, also those that called
`setsid` and forked twice. Durations are seconds.
"""

import contextlib
import gc
import json
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import pytest
from tests.support.commands import ROOT as ROOT
from tests.support.commands import ForkedProcess, Process, forkable, inherited, run_forked, server
from tests.support.picture import picture
from tests.support.proc import MARK, bearing, descriptors
from tests.support.waiting import LOOK_S, PATIENCE, until

from garrison.ipc import Client, OrderFailed, ServiceProxy, SupervisorGone, connect
from garrison.supervisor.cli.client import Conversation, request

SERVICES = ROOT / "tests" / "services"
# Orphans wait this long for the next supervisor: longer than a loaded machine needs to start one.
LONG_GRACE = "[host]\norphan_grace = 60.0\n"
KEPT = {"deaths", "services", "updates", "update.lock"}  # in the folder of state
COMMAND = (sys.executable, "-m", "garrison.supervisor.cli")


def found(client: Client, name: str) -> ServiceProxy:
    """Return a service that is there."""
    proxy = client.get_service(name)
    assert proxy is not None, f"no service {name}"
    return proxy


@dataclass(frozen=True)
class Ran:
    """Output and exit code of a command."""

    code: int
    out: str
    err: str

    @property
    def answer(self) -> dict[str, Any]:
        """Return its one JSON value."""
        value: dict[str, Any] = json.loads(self.out)
        return value

    @property
    def answers(self) -> list[dict[str, Any]]:
        """Return its JSON values, one a line."""
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def data(self) -> Any:
        """Return the data of its one JSON value."""
        return self.answer["data"]


@dataclass(frozen=True)
class Begun:
    """A command that runs, and the file with all that it prints."""

    process: Process
    output: Path

    def end(self, timeout: float = PATIENCE * 2) -> Ran:
        """Return how it ended; kill it at the timeout."""
        try:
            code = self.process.wait(timeout)
        finally:
            self.kill()
        out = self.output.read_text("utf-8", "replace")
        assert "Traceback" not in out, out
        return Ran(code, out, "")

    def kill(self) -> None:
        """Kill it, and wait for its end."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


class Host:
    """One home and its supervisor.

    Args:
        config: The text of its `config.toml`.
        plugins: Names of files in tests/services to put beside it.
        files: Name → text of further files there.
        env: Additions to the supervisor's environment.
        limit: Limit of descriptors of each process; 0 changes nothing.
        forked: Fork supervisors with their imports done. /proc then shows the command server's
            command and environment as theirs.
    """

    def __init__(
        self,
        config: str = "",
        plugins: Iterable[str] = (),
        files: Mapping[str, str] | None = None,
        env: Mapping[str, str] | None = None,
        limit: int = 0,
        forked: bool = True,
    ) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="g", dir="/tmp"))
        self.home = self.folder / "h"
        self.config = self.folder / "config.toml"
        self.mark = uuid.uuid4().hex
        self.env = dict(env or {})
        self.process: Process | None = None
        self.python = sys.executable
        self.prefix: tuple[str, ...] = ()  # a prefix of its commands, such as setpriv
        self._limit = limit
        self._forked = forked
        self._ups = 0
        self._begun: list[Begun] = []
        self.write("config.toml", config)
        for plugin in plugins:
            self.write(f"{plugin}.py", (SERVICES / f"{plugin}.py").read_text())
        for name, text in (files or {}).items():
            self.write(name, text)

    def write(self, name: str, text: str) -> Path:
        """Write a file beside the config."""
        path = self.folder / name
        path.write_text(text)
        if path.suffix == ".env":  # refused when others can read it
            path.chmod(0o600)
        return path

    # --- the supervisor ---------------------------------------------------------------------

    @property
    def environ(self) -> dict[str, str]:
        """Return the environment of its commands."""
        return {**inherited(), MARK: self.mark, **self.env}

    def start(self, *options: str) -> Process:
        """Start the supervisor without waiting."""
        self._ups += 1
        words = ("up", "-c", str(self.config), "--home", str(self.home), *options)
        command = (*self._limited(), *self._command)
        with (
            Path(os.devnull).open("rb") as nothing,
            (self.folder / f"up-{self._ups}.out").open("wb") as out,
        ):
            if self._forked and command == COMMAND and forkable(self.environ):
                standard = (nothing.fileno(), out.fileno(), out.fileno())
                self.process = ForkedProcess(words, self.folder, self.environ, standard)
            else:
                self.process = subprocess.Popen(
                    [*command, *words],
                    cwd=self.folder,
                    env=self.environ,
                    stdin=nothing,
                    stdout=out,
                    stderr=out,
                )
        return self.process

    def _limited(self) -> tuple[str, ...]:
        return ("prlimit", f"--nofile={self._limit}") if self._limit else ()

    @property
    def _command(self) -> tuple[str, ...]:
        return (*self.prefix, self.python, *COMMAND[1:])

    def up(self, *options: str) -> Self:
        """Start the supervisor; return once its services run or have failed."""
        process = self.start(*options)

        def settled() -> bool:
            if process.poll() is not None:
                pytest.fail(f"the supervisor ended at once ({process.poll()}):\n{self.output}")
            try:
                head: dict[str, Any] = status()["supervisor"]
            except SupervisorGone:
                return False
            return bool(head["pid"] == process.pid and head["settled"])

        with self.shown(), self.repeating("status") as status:
            until(settled, what="the supervisor has settled")
        return self

    @contextlib.contextmanager
    def shown(self) -> Iterator[None]:
        """Show what the host looks like where a wait in the block was in vain."""
        try:
            yield
        except pytest.fail.Exception as failure:
            pytest.fail(f"{failure}\n{self.picture()}")

    def picture(self) -> str:
        """Return what the host looks like now, for a test that fails."""
        ended = self.process is None or self.process.poll() is not None
        output = self.folder / f"up-{self._ups}.out"
        pid = 0 if ended else self.pid
        return picture(self.home, pid, self.processes(), output, lambda: self.ask("status", wait=0))

    def head(self) -> dict[str, Any] | None:
        """Return the supervisor's part of `status`; None if no supervisor answers."""
        try:
            head: dict[str, Any] = self.ask("status")["supervisor"]
        except SupervisorGone:
            return None
        return head

    @property
    def pid(self) -> int:
        """Return the supervisor's pid."""
        assert self.process is not None
        return self.process.pid

    @property
    def launcher(self) -> int:
        """Return the pid of the launcher that forks now, once there is one."""
        pid: int = until(lambda: self.ask("status")["supervisor"]["launcher_pid"])
        return pid

    @property
    def output(self) -> str:
        """Return what the supervisor has printed since it was started last."""
        return (self.folder / f"up-{self._ups}.out").read_text("utf-8", "replace")

    def end(self, number: int = signal.SIGTERM, timeout: float = PATIENCE) -> int:
        """Signal the supervisor, wait for its end, and return its exit code."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            pytest.fail(f"it does not end\n{self.picture()}")

    def restart(self) -> Self:
        """End the supervisor in order, and start it again."""
        assert self.end() == 0
        return self.up()

    # --- asking -----------------------------------------------------------------------------

    def ask(self, verb: str, *names: str, wait: float = PATIENCE, **options: Any) -> Any:
        """Send an order as the command line does, without a process for it."""
        return request(self.home, verb, names, wait, **options)

    @contextlib.contextmanager
    def repeating(self, verb: str, *names: str) -> Iterator[Callable[[], Any]]:
        """Yield a function that sends an order, over one connection while a supervisor answers."""
        conversation = Conversation(self.home)
        try:
            yield lambda: conversation.request(verb, names)
        finally:
            conversation.close()

    def run(
        self,
        *words: str,
        json: bool = False,
        input: str | None = None,
        timeout: float = 60.0,
        home: bool = True,
        env: Mapping[str, str] | None = None,
        before: Iterable[str] = (),
    ) -> Ran:
        """Run a command; a mistake of the user must not print a traceback."""
        options = ["--home", str(self.home)] if home else []
        words = (*options, *(["--json"] if json else []), *words)
        environ = {**self.environ, **(env or {})}
        before = (*before, *self._command)
        if before == COMMAND and forkable(environ):
            done = run_forked(words, self.folder, environ, input, timeout)
        else:
            done = subprocess.run(
                [*before, *words],
                cwd=self.folder,
                env=environ,
                input=input,
                stdin=subprocess.DEVNULL if input is None else None,
                capture_output=True,
                text=True,
                timeout=timeout,
                check=False,
            )
        assert "call" in words or "Traceback (most recent" not in done.stderr, done
        assert "garrison/supervisor" not in done.stderr, done
        return Ran(done.returncode, done.stdout, done.stderr)

    def begin(self, *words: str) -> "Begun":
        """Begin a forked command without waiting for it; it reads nothing."""
        output = self.folder / f"begun-{len(self._begun)}.out"
        words = ("--home", str(self.home), *words)
        with Path(os.devnull).open("rb") as nothing, output.open("wb") as out:
            standard = (nothing.fileno(), out.fileno(), out.fileno())
            process = ForkedProcess(words, self.folder, self.environ, standard)
        begun = Begun(process, output)
        self._begun.append(begun)
        return begun

    def connect(self) -> AbstractAsyncContextManager[Client]:
        """Connect as a program."""
        return connect(self.home)

    async def call(self, name: str, method: str, *args: Any) -> Any:
        """Connect as a program, make one call and return its result."""
        async with self.connect() as client:
            return await getattr(found(client, name), method)(*args)

    def status(self, name: str) -> dict[str, Any]:
        """Return the row of one service from `status`."""
        row: dict[str, Any] = self.ask("status", name)["services"][0]
        return row

    def rows(self) -> dict[str, dict[str, Any]]:
        """Return the row of each service, by NAME."""
        return {row["name"]: row for row in self.ask("status")["services"]}

    def log(self, name: str) -> str:
        """Return the log of a service."""
        path = self.home / "logs" / f"{name}.log"
        return path.read_text("utf-8", "replace") if path.exists() else ""

    def events(self, event: str = "", service: str = "") -> list[dict[str, Any]]:
        """Return events from the event log, filtered by event and service."""
        path = self.home / "logs" / "events.jsonl"
        whole, _, _ = path.read_text().rpartition("\n")  # the last line may be being written
        recorded = [json.loads(line) for line in whole.splitlines()]
        return [
            one
            for one in recorded
            if event in {"", one["event"]} and service in {"", one["service"]}
        ]

    def wait_for(self, name: str, state: str, timeout: float = PATIENCE) -> dict[str, Any]:
        """Return a service's row once it is in a state."""
        try:
            self.ask("wait", name, state=state, wait=timeout)
        except OrderFailed as error:
            pytest.fail(f"{error}\n{self.picture()}")
        return self.status(name)

    def kill(self, name: str, number: int = signal.SIGKILL) -> int:
        """Signal a service's process; return its pid."""
        row = self.status(name)
        pid: int | None = row["pid"]
        if pid is None:
            pytest.fail(f"{name} has no process: {row}\n{self.picture()}")
        os.kill(pid, number)
        return pid

    def until_reborn(self, name: str, old: int, timeout: float = PATIENCE) -> dict[str, Any]:
        """Return a service's row once it runs under another pid than the old one."""

        def reborn() -> dict[str, Any] | None:
            row: dict[str, Any] = status()["services"][0]
            return row if row["state"] == "running" and row["pid"] not in {None, old} else None

        with self.shown(), self.repeating("status", name) as status:
            row = until(reborn, timeout, f"{name} runs again, not as {old}")
        assert row is not None
        return row

    def processes(self) -> set[int]:
        """Return all processes that were started by this host's commands."""
        found = bearing(self.mark)
        if self.process is not None and self.process.poll() is None:
            found.add(self.process.pid)  # it has no mark if it was forked
        return found

    # --- its end ----------------------------------------------------------------------------

    def close(self) -> None:
        """End it, and check that no process and no temporary file is left."""
        code: int | None = None
        left: dict[int, str] | None = None  # it is not known yet
        for begun in self._begun:
            begun.kill()
        try:
            head = self.head()
            if head is not None and (self.process is None or head["pid"] != self.process.pid):
                _end_by_pid(head["pid"])  # it runs detached
            if self.process is not None:
                code = self.end()
            left = {pid: _command(pid) for pid in _those_left(self.processes)}
            litter = self._litter() if code == 0 else []
            outputs = "".join(
                path.read_text("utf-8", "replace") for path in self.folder.glob("up-*.out")
            )
        finally:
            if left is None or left:
                _kill(self.processes())
            shutil.rmtree(self.folder, ignore_errors=True)
        assert not left, f"these outlived the supervisor: {left}"
        assert not litter, f"the home has litter: {litter}"
        ours = re.search(r"^Traceback \(most recent.*", outputs, re.MULTILINE | re.DOTALL)
        assert ours is None, ours and ours[0]

    def _litter(self) -> list[str]:
        """Return unexpected files of the home."""
        rotated = {f".{number}" for number in range(1, 10)}
        kept = {
            "run": {".lock"},
            "state": {".json"},
            "state/deaths": {".json"},
            "logs": {".log", ".jsonl", *rotated},
        }
        return [
            str(path)
            for part, suffixes in kept.items()
            for path in (self.home / part).glob("*")
            if path.suffix not in suffixes and path.name not in KEPT
        ]


def _end_by_pid(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        watched = os.pidfd_open(pid)
        try:
            os.kill(pid, signal.SIGTERM)
            select.select([watched], [], [], PATIENCE)
        finally:
            os.close(watched)


def _those_left(processes: Callable[[], set[int]]) -> set[int]:
    deadline = time.monotonic() + PATIENCE
    while (left := processes()) and time.monotonic() < deadline:
        time.sleep(LOOK_S)
    return left


def _kill(pids: Iterable[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
    except OSError:
        return "gone meanwhile"


@contextlib.contextmanager
def hosting(
    config: str = "",
    plugins: Iterable[str] = (),
    files: Mapping[str, str] | None = None,
    env: Mapping[str, str] | None = None,
    up: bool = True,
    limit: int = 0,
    forked: bool = True,
) -> Iterator[Host]:
    """Run a host; check afterwards that no process and no descriptor outlived it."""
    server()  # before: its descriptor is there until the session ends
    before = descriptors()
    host = Host(config, plugins, files, env, limit, forked)
    try:
        yield host.up() if up else host
    finally:
        host.close()
    if opened := _opened_since(before):
        gc.collect()  # only then, as it takes longer than all else here
        opened = _opened_since(before)
    assert not opened, f"these descriptors outlived the host: {opened}"


def _opened_since(before: Mapping[str, str]) -> dict[str, str]:
    return {fd: target for fd, target in descriptors().items() if fd not in before}


Hosting = Callable[..., Host]

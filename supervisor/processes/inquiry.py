"""Asks another Python what it is, in a process of its own; never blocks, except `ask`.

Times are monotonic seconds.
"""

import contextlib
import hashlib
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from garrison.supervisor.config.environment import base_environment

from . import interpreters
from .interpreters import ANSWER_BYTES, ASK_S, QUESTION, Interpreter

GARRISON_IN = "lib/python3*/site-packages/garrison-*.dist-info"  # of a venv; another version's too
ENDING_S = 0.02  # a process that has closed its output is ending
# Its life has an end without this process, too: an alarm remains set across `exec`.
BOUNDED = f"""\
import os, signal, sys
signal.alarm({ASK_S:.0f} + 5)
try:
    os.execv(sys.argv[1], sys.argv[1:])
except OSError as error:
    sys.exit(error.strerror)
"""


class InterpreterProblem(Exception):
    """An interpreter cannot run workers. The text says why and what to do."""


def stamp_of(path: str) -> str:
    """Return what changes with the interpreter at a path, its venv, or the garrison in it.

    Raises:
        InterpreterProblem: It is not there, or cannot be executed.
    """
    venv = Path(path).parent.parent
    try:
        found = Path(path).stat()
    except OSError as error:
        where = "" if not Path(path).is_symlink() else ", which its link names"
        reason = error.strerror or str(error)
        raise InterpreterProblem(f"there is no {path}{where}: {reason}; make the venv") from None
    if Path(path).is_dir():
        inside = Path(path) / "bin" / "python"
        hint = f"; write {inside}" if inside.exists() else ""
        raise InterpreterProblem(f"{path} is a folder and no interpreter{hint}")
    if not os.access(path, os.X_OK):
        raise InterpreterProblem(f"{path} cannot be executed: run chmod +x {path}")
    stamps = [_stamp(found)]
    for one in (venv / "pyvenv.cfg", *sorted(venv.glob(GARRISON_IN))):
        with contextlib.suppress(OSError):
            stamps.append(_stamp(one.stat()))
    return hashlib.sha256(repr(stamps).encode()).hexdigest()[:16]


def interpreter_stamp(path: str) -> str:
    """Return the stamp of an interpreter, or the reason why it has none; empty without a path."""
    try:
        return stamp_of(path) if path else ""
    except InterpreterProblem as error:
        return str(error)


def _stamp(found: os.stat_result) -> tuple[int, ...]:
    return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size


class Inquiry:
    """One question to an interpreter.

    Args:
        path: The interpreter.
        environment: Of workers.

    Attributes:
        pid: Of the process, which nothing else must reap.
        due: When the answer is late.

    Raises:
        InterpreterProblem: It cannot be started.
    """

    def __init__(self, path: str, environment: Mapping[str, str]) -> None:
        self.path, self.stamp = path, stamp_of(path)
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", BOUNDED, path, "-c", QUESTION],
                env=base_environment(environment, foreign=True),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                bufsize=0,
            )
        except OSError as error:
            raise InterpreterProblem(f"{path} cannot be run: {error.strerror or error}") from None
        assert self._process.stdout is not None
        self._pipe = self._process.stdout
        os.set_blocking(self._pipe.fileno(), False)
        self._output = b""
        self.pid = self._process.pid
        self.due = time.monotonic() + ASK_S

    def fileno(self) -> int:
        """Return the descriptor that is readable when there is something to read."""
        return self._pipe.fileno()

    def read(self) -> Interpreter | None:
        """Return the answer; None: not yet.

        Raises:
            InterpreterProblem: There is none, or not in time. The process has ended.
        """
        with contextlib.suppress(BlockingIOError):
            while data := os.read(self._pipe.fileno(), ANSWER_BYTES):
                self._output = (self._output + data)[-ANSWER_BYTES:]
                if interpreters.read_answer(self._output) is not None:
                    break
            answer = interpreters.read_answer(self._output)
            if answer is None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._process.wait(ENDING_S)
            status = self._end()
            if answer is not None:
                return answer
            lines = self._output.decode("utf-8", "replace").strip().splitlines() or [""]
            words = f": {lines[-1][:300]}" if lines[-1] else f" (exit status {status})"
            raise InterpreterProblem(f"{self.path} is no Python that answers{words}")
        if time.monotonic() >= self.due:
            self._end()
            raise InterpreterProblem(
                f"{self.path} did not answer within {ASK_S:g} s: try {self.path} -c pass"
            )
        return None

    def cancel(self) -> None:
        """End the process."""
        self._end()

    def _end(self) -> int:
        """End the process and what it started; return its exit status."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._pipe.close()
        return self._process.wait()


def ask(path: str, environment: Mapping[str, str], version: str) -> Interpreter:
    """Return what an interpreter is; waits for the answer, `ASK_S` at most.

    Raises:
        InterpreterProblem: It cannot run workers of this version.
    """
    inquiry = Inquiry(path, environment)
    try:
        while (found := inquiry.read()) is None:
            left = max(inquiry.due - time.monotonic(), 0.0)
            select.select([inquiry.fileno()], [], [], left)
    except BaseException:
        with contextlib.suppress(ValueError):  # it is closed
            inquiry.cancel()
        raise
    if problem := interpreters.problem_of(path, found, version):
        raise InterpreterProblem(problem)
    return found

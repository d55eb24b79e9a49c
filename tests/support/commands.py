"""Runs `garrison` commands as children of the command server. Durations are seconds."""

import array
import atexit
import contextlib
import functools
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from tests.support.proc import MARK, NO_MARK, ROOM

ROOT = Path(__file__).resolve().parents[2]
PIPE_BYTES = 65_536  # what a pipe takes before anyone reads


def inherited() -> dict[str, str]:
    """Return the environment that commands have from this process."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in {"GARRISON_HOME", "COLUMNS"}
    }
    return {**kept, "PYTHONPATH": str(ROOT / ".src")}


def forkable(env: Mapping[str, str]) -> bool:
    """Return True if a command with this environment may be forked: Python starts the same."""
    return same_python(env, inherited())


def same_python(env: Mapping[str, str], other: Mapping[str, str]) -> bool:
    """Return True if Python starts the same with both environments."""
    return _of_python(env) == _of_python(other)


def _of_python(env: Mapping[str, str]) -> dict[str, str]:
    return {
        name: value for name, value in env.items() if name.startswith(("PYTHON", "LC_", "LANG"))
    }


@functools.cache
def server() -> socket.socket:
    """Start the command server of this process, once; return the socket for its requests."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.support.command_server", ROOM],
        cwd=ROOT,
        env={**inherited(), MARK: NO_MARK},
        stdin=theirs.fileno(),
        start_new_session=True,
    )
    theirs.close()

    def end() -> None:
        ours.close()
        process.wait()

    atexit.register(end)
    return ours


class Process(Protocol):
    """A running command, forked or not."""

    @property
    def pid(self) -> int: ...
    def poll(self) -> int | None: ...
    def wait(self, timeout: float | None = None) -> int: ...
    def send_signal(self, sig: int) -> None: ...


class ForkedProcess:
    """A `garrison` command in a child of the command server, used as a Popen is.

    Args:
        argv: Its words, without `garrison`.
        standard: Descriptors for its standard input, output and error.
    """

    def __init__(
        self, argv: Sequence[str], cwd: Path, env: Mapping[str, str], standard: tuple[int, int, int]
    ) -> None:
        self.argv = list(argv)
        self._code: int | None = None
        report, report_in = os.pipe()
        self._report = os.fdopen(report, "rb", buffering=0)
        request = json.dumps({"argv": self.argv, "cwd": str(cwd), "env": dict(env)}).encode()
        fds = array.array("i", [*standard, report_in])
        server().sendmsg([request], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)])
        os.close(report_in)
        self.pid = self._reported()

    def _reported(self) -> int:
        line = self._report.readline()
        assert line, "the command server has ended"
        return int(line)

    def poll(self) -> int | None:
        """Return its exit code, negative for a signal; None if it runs."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self._code

    def wait(self, timeout: float | None = None) -> int:
        """Return its exit code once it has ended. Raises subprocess.TimeoutExpired."""
        if self._code is None:
            if not select.select([self._report], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(self.argv, timeout or 0)
            self._code = self._reported()
            self._report.close()
        return self._code

    def send_signal(self, sig: int) -> None:
        """Signal it, if it runs."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):  # its end is not reported yet
                os.kill(self.pid, sig)

    def terminate(self) -> None:
        """Ask it to end, if it runs."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Kill it, if it runs."""
        self.send_signal(signal.SIGKILL)


CLIENT = """\
#!{python} -ISE
# `garrison` for a shell: has the command server run it. $COMMAND_SERVER is the server's descriptor.
import _socket, array, json, os, sys

report, report_in = os.pipe()
environ = {{**os.environ}}
requests = _socket.socket(fileno=int(environ.pop("COMMAND_SERVER")))
request = {{"argv": sys.argv[1:], "cwd": os.getcwd(), "env": environ}}
fds = array.array("i", [0, 1, 2, report_in])
requests.sendmsg([json.dumps(request).encode()], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, fds)])
os.close(report_in)
code = int(os.fdopen(report, "rb").read().split()[1])
os._exit(code if code >= 0 else 128 - code)
"""


def run_shell(
    line: str, cwd: Path, env: Mapping[str, str], text: str = "", timeout: float = 60.0
) -> str:
    """Run a line of shell, in which `garrison` is forked; return what it prints, errors too.

    Args:
        env: Must be forkable.
        text: The standard input of the shell.

    Raises:
        subprocess.TimeoutExpired: The shell was killed, after this many seconds.
    """
    assert forkable(env)
    requests = server().fileno()
    with tempfile.TemporaryDirectory(prefix="g", dir="/tmp") as folder:
        client = Path(folder) / "garrison"
        client.write_text(CLIENT.format(python=sys.executable))
        client.chmod(0o755)
        done = subprocess.run(
            ["sh", "-c", line],
            cwd=cwd,
            env={**env, "PATH": f"{folder}:{env['PATH']}", "COMMAND_SERVER": str(requests)},
            input=text,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=(requests,),
            text=True,
            timeout=timeout,
            check=False,
        )
    return done.stdout


def run_forked(
    argv: Sequence[str],
    cwd: Path,
    env: Mapping[str, str],
    text: str | None = None,
    timeout: float = 60.0,
) -> subprocess.CompletedProcess[str]:
    """Run `garrison ARGV` in a child of the command server, with a text as standard input.

    Raises:
        subprocess.TimeoutExpired: It was killed, after this many seconds.
    """
    deadline = time.monotonic() + timeout
    (out, out_in), (err, err_in) = os.pipe(), os.pipe()
    stdin = _stdin_of(text)
    try:
        process = ForkedProcess(argv, cwd, env, (stdin, out_in, err_in))
    finally:
        for fd in (stdin, out_in, err_in):
            os.close(fd)
    with os.fdopen(out, "rb", buffering=0) as output, os.fdopen(err, "rb", buffering=0) as errors:
        got = {output: b"", errors: b""}
        unread = set(got)
        while unread:
            ready, _, _ = select.select(unread, [], [], max(deadline - time.monotonic(), 0))
            if not ready:
                process.send_signal(signal.SIGKILL)
                process.wait()
                raise subprocess.TimeoutExpired(process.argv, timeout, got[output], got[errors])
            for file in ready:
                more = file.read(PIPE_BYTES)
                got[file] += more
                unread -= set() if more else {file}
        code = process.wait(max(deadline - time.monotonic(), 0))
    texts = (got[output].decode(), got[errors].decode())
    return subprocess.CompletedProcess(process.argv, code, *texts)


def _stdin_of(text: str | None) -> int:
    """Return a descriptor from which a text can be read, or nothing."""
    if text is None:
        return os.open(os.devnull, os.O_RDONLY)
    data = text.encode()
    assert len(data) <= PIPE_BYTES
    reading, writing = os.pipe()
    os.write(writing, data)
    os.close(writing)
    return reading

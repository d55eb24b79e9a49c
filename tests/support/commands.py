"""Runs `garrison` commands, each in a process of its own: forked from a server, or started anew."""

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
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

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
    return _of_python(env) == _of_python(inherited())


def _of_python(env: Mapping[str, str]) -> dict[str, str]:
    return {
        name: value for name, value in env.items() if name.startswith(("PYTHON", "LC_", "LANG"))
    }


@functools.cache
def server() -> socket.socket:
    """Start the command server of this process, once; return the socket for its requests."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.support.command_server"],
        cwd=ROOT,
        env=inherited(),
        stdin=theirs.fileno(),
        start_new_session=True,
    )
    theirs.close()

    def end() -> None:
        ours.close()
        process.wait()

    atexit.register(end)
    return ours


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
    requests = server()
    deadline = time.monotonic() + timeout
    stdin = _stdin_of(text)
    with _pipe() as (report, report_in), _pipe() as (out, out_in), _pipe() as (err, err_in):
        fds = array.array("i", [stdin, out_in, err_in, report_in])
        request = json.dumps({"argv": list(argv), "cwd": str(cwd), "env": dict(env)}).encode()
        requests.sendmsg([request], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)])
        for fd in fds:
            os.close(fd)
        got = {report: b"", out: b"", err: b""}
        unread = set(got)
        while unread:
            ready, _, _ = select.select(unread, [], [], max(deadline - time.monotonic(), 0))
            if not ready:
                os.kill(int(got[report].split()[0]), signal.SIGKILL)
                raise subprocess.TimeoutExpired(list(argv), timeout, got[out], got[err])
            for fd in ready:
                more = os.read(fd, PIPE_BYTES)
                got[fd] += more
                unread -= set() if more else {fd}
    _, code = got[report].split()
    return subprocess.CompletedProcess(list(argv), int(code), got[out].decode(), got[err].decode())


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


@contextlib.contextmanager
def _pipe() -> Iterator[tuple[int, int]]:
    """Open a pipe; its writing end is closed by the block, the reading end afterwards."""
    reading, writing = os.pipe()
    try:
        yield reading, writing
    finally:
        os.close(reading)

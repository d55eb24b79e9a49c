"""How an update that was killed ends the processes of the new version."""

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support.proc import alive
from tests.support.waiting import LONGEST, SOON

from garrison.supervisor.update import recovery

# A launcher, a template that blocks all signals, and a worker that ends in order by SIGTERM
LAUNCHER = r"""
import os, signal, sys
if not (template := os.fork()):
    signal.pthread_sigmask(signal.SIG_BLOCK, set(signal.Signals))
    os.write(1, b"%d\n" % os.getpid())
    while True:
        signal.sigtimedwait({signal.SIGUSR1}, 1000)
if not (worker := os.fork()):
    heard, signalled = os.pipe()
    os.set_blocking(signalled, False)
    signal.set_wakeup_fd(signalled)
    signal.signal(signal.SIGTERM, lambda *_: None)
    os.write(1, b"%d\n" % os.getpid())
    os.read(heard, 1)
    open(sys.argv[1], "w").close()
    os._exit(0)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
os.wait()
signal.pause()
"""


@pytest.mark.parametrize(
    ("status", "number", "is_blocked"),
    [
        ("Name:\tx\nSigBlk:\t0000000000004000\nSigIgn:\t0\n", signal.SIGTERM, True),
        ("Name:\tx\nSigBlk:\tfffffffe7ffbfeff\n", signal.SIGTERM, True),
        ("SigBlk:\t0000000000000000\nSigIgn:\t0000000000004000\n", signal.SIGTERM, False),
        ("SigBlk:\t0000000000000001\n", signal.SIGHUP, True),
        ("Name:\tx\n", signal.SIGTERM, False),
    ],
)
def test_what_a_process_blocks(status: str, number: int, is_blocked: bool) -> None:
    """By its mask; a signal that is ignored is not blocked."""
    assert recovery.blocks(status, number) is is_blocked


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_what_cannot_end_by_itself_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The template blocks SIGTERM; workers end in order, and everything else is killed."""
    monkeypatch.setattr(recovery, "END_S", 2 * LONGEST)  # a wait for it fails the test
    python, drained = tmp_path / "bin" / "python", tmp_path / "drained"
    python.parent.mkdir()
    python.symlink_to(os.path.realpath(sys.executable))
    command = [str(python), "-S", "-c", LAUNCHER, str(drained)]
    launcher = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert launcher.stdout is not None
    pids = [launcher.pid]
    try:
        pids += [int(launcher.stdout.readline()) for _ in range(2)]
        recovery.end_processes(tmp_path)
        assert launcher.wait(SOON) == -signal.SIGKILL
    finally:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        launcher.communicate()
    assert drained.exists()
    assert not any(map(alive, pids))

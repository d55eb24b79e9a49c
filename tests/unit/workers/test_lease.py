"""A worker's lease: the page, and the kernel timer behind it."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
from tests.support.waiting import ending_within, until

from garrison.ipc.system import process_tree
from garrison.ipc.system.lease_page import LeaseReader, LeaseWriter, boottime_ns
from garrison.workers.process.exit import CRASHED
from garrison.workers.process.lease import AFTER_NS, Lease

SECOND = 1_000_000_000


def test_a_page_is_over_until_it_is_renewed(tmp_path: Path) -> None:
    """Readers see each renewal, also of a writer that came back and one that opened it anew."""
    writer = LeaseWriter(tmp_path / "lease")
    reader = LeaseReader(str(tmp_path / "lease"))
    assert reader.is_over

    writer.set(boottime_ns() + 60 * SECOND)
    assert not reader.is_over
    writer.close()
    again = LeaseWriter(tmp_path / "lease")
    assert again.until_ns == reader.until_ns
    again.set(boottime_ns() - 1)
    assert reader.is_over
    again.close()


@contextmanager
def leased(path: Path, work: Callable[[], None]) -> Iterator[int]:
    """Run a process with this lease; yield its pid once it works."""
    read, write = os.pipe()
    pid = os.fork()
    if not pid:
        lease = Lease(str(path))
        lease.begin()
        os.write(write, b".")
        work()
        os._exit(3)
    try:
        os.close(write)
        os.read(read, 1)
        yield pid
    finally:
        os.close(read)
        try:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        except (ProcessLookupError, ChildProcessError):
            pass


def stopped() -> None:
    """Stop, as by an operator's SIGSTOP."""
    os.kill(os.getpid(), signal.SIGSTOP)
    time.sleep(60)


def blocked() -> None:
    """Start a process and block, as a loop may."""
    process_tree.become_subreaper()
    subprocess.Popen(["sleep", "60"], start_new_session=True)
    time.sleep(60)


def test_a_process_that_is_stopped_ends_with_its_lease(tmp_path: Path) -> None:
    """No other process need end it."""
    writer = LeaseWriter(tmp_path / "lease")
    writer.set(boottime_ns() + SECOND // 2)
    with leased(tmp_path / "lease", stopped) as pid, ending_within(30.0):
        _, status = os.waitpid(pid, 0)
    assert os.WIFSIGNALED(status)
    assert os.WTERMSIG(status) == signal.SIGKILL
    assert boottime_ns() >= writer.until_ns + AFTER_NS


def test_a_process_that_is_blocked_ends_with_all_that_it_started(tmp_path: Path) -> None:
    """With its lease, though no other process ends it."""
    writer = LeaseWriter(tmp_path / "lease")
    writer.set(boottime_ns() + SECOND // 2)
    with leased(tmp_path / "lease", blocked) as pid, ending_within(30.0):
        (child,) = until(lambda: psutil.Process(pid).children())
        _, status = os.waitpid(pid, 0)
        child.wait(10.0)
    assert os.waitstatus_to_exitcode(status) == CRASHED
    assert boottime_ns() >= writer.until_ns


def test_a_renewed_lease_ends_nobody(tmp_path: Path) -> None:
    """A process whose loop is blocked for longer than a lease lives on while the node renews."""
    writer = LeaseWriter(tmp_path / "lease")
    writer.set(boottime_ns() + SECOND // 2)
    with leased(tmp_path / "lease", lambda: time.sleep(2.5)) as pid, ending_within(30.0):
        writer.set(boottime_ns() + 60 * SECOND)
        _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 3

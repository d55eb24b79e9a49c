"""Start time, memory and CPU time of a process."""

import os
import subprocess
import sys
import time

import psutil

from garrison.ipc.system import process_tree

HELD = 64 << 20  # bytes
SPINS = f"""
import sys, time
held = b"." * {HELD}
until = time.process_time() + 0.3
while time.process_time() < until:
    pass
print(flush=True)
sys.stdin.read()
"""


def test_usage_is_what_the_process_has_used() -> None:
    """As psutil has it; when it began names it for good, and after its end there is nothing."""
    with subprocess.Popen(
        [sys.executable, "-c", SPINS], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdout.readline()
        began, rss, used = process_tree.usage(process.pid)
        known = psutil.Process(process.pid)
        times = known.cpu_times()
        assert (
            began == process_tree.start_ticks(process.pid) > process_tree.start_ticks(os.getpid())
        )
        assert abs(rss - known.memory_info().rss) <= 1 << 20
        assert rss > HELD
        assert abs(used - (times.user + times.system)) <= 0.05
        assert used >= 0.25
        process.stdin.close()
        process.wait()
    assert process_tree.usage(process.pid) == (0, 0, 0.0)


def test_nothing_is_told_of_who_is_not_there() -> None:
    """No error either: it may have ended since it was listed."""
    assert process_tree.usage(2**22 + 1) == (0, 0, 0.0)


def test_a_name_with_spaces_and_brackets_shifts_no_field() -> None:
    """The second field of `stat` is what the program calls itself."""
    code = "import ctypes, sys; ctypes.CDLL(None).prctl(15, b') R 1 (', 0, 0, 0); print(flush=True)"
    with subprocess.Popen(
        [sys.executable, "-c", f"{code}; sys.stdin.read()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        began, rss, used = process_tree.usage(process.pid)
        age = time.clock_gettime(time.CLOCK_BOOTTIME) - began / process_tree.TICKS
        assert 0 <= age < 60
        assert rss > 1 << 20
        assert 0 <= used < 60
        process.kill()


def test_a_bare_fork_runs_no_hook_and_its_child_forks_on() -> None:
    """The hooks run in the child's child alone, which falls to whoever adopts it."""
    program = """
import os
from garrison.ipc.system import process_tree

process_tree.become_subreaper()
reader, writer = os.pipe()
os.register_at_fork(after_in_child=lambda: os.write(writer, b"h"))
between = process_tree.bare_fork()
if between == 0:
    if os.fork() == 0:
        os.write(writer, b"g")
    os._exit(0)
assert os.waitpid(between, 0) == (between, 0)
assert os.wait()[1] == 0
print(os.read(reader, 9).decode())
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.split() == ["hg"]

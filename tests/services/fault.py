"""A service that does what no service should: dies, blocks, breaks its own process, or others."""

import asyncio
import contextlib
import ctypes
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from typing import Any, Self

from garrison.workers import Plugin, Runtime, Service

FLOOD_BYTES = 16 << 20
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_CHILD_SUBREAPER = 1, 4, 36  # linux/prctl.h

# Two processes, each in a session of its own; where one dies the other starts it again.
RESPAWN = """
import os, select, sys
def live():
    while True:
        me = os.getpid()
        child = os.fork()
        if child == 0:
            os.setsid()
            watched = os.pidfd_open(me)
            select.select([watched], [], [])
            os.close(watched)
        else:
            os.waitpid(child, 0)
live()
"""
# A process that is never the same for longer than a moment.
RUNAWAY = """
import os
while os.fork() == 0:
    os.setsid()
"""


def die(number: int) -> None:
    """End by a signal."""
    os.kill(os.getpid(), number)


def overflow() -> None:
    """Use up the C stack."""
    sys.setrecursionlimit(1 << 30)
    value: list[Any] = []
    for _ in range(1 << 18):
        value = [value]
    repr(value)


def flood() -> None:
    """Write without ever ending a line, and die in the midst of it."""
    for _ in range(FLOOD_BYTES >> 20):
        os.write(1, bytes(1 << 20))
    die(signal.SIGKILL)


def lose_folder() -> None:
    """Stand in a folder that is gone."""
    folder = tempfile.mkdtemp()
    os.chdir(folder)
    shutil.rmtree(folder)
    os._exit(4)


def lose_environment() -> None:
    """Clear the environment."""
    os.environ.clear()
    os.umask(0o777)
    os._exit(4)


def exhaust() -> None:
    """Use up every descriptor, and children besides."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
    with contextlib.suppress(OSError):
        while True:
            os.open("/dev/null", os.O_RDONLY)
    os._exit(4)


def break_away() -> None:
    """Leave group and session, with children that do the same, and keep no orphan."""
    for leave in (os.setsid, os.setpgrp):
        with contextlib.suppress(PermissionError):
            leave()
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
    ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
    leave_family()
    die(signal.SIGKILL)


def leave_family() -> None:
    """Have children in every session but this one."""
    for script in (
        "setsid sleep 10000 &",
        "(setsid sh -c 'setsid sleep 10000 & sleep 10000' &) &",
        "trap '' TERM HUP INT; sleep 10000 & kill -STOP $!",
        "kill -STOP $$ & exec sleep 10000",
    ):
        subprocess.Popen(["sh", "-c", script])
    if shutil.which("unshare"):
        for how in (["-Urpf"], ["-pf"]):
            subprocess.Popen(["unshare", *how, "sleep", "10000"], stderr=subprocess.DEVNULL)
    time.sleep(0.1)


def respawn() -> None:
    """Leave processes behind that start each other again."""
    for _ in range(2):
        subprocess.Popen([sys.executable, "-ISc", RESPAWN], start_new_session=True)
    time.sleep(0.3)
    die(signal.SIGKILL)


def run_away() -> None:
    """Leave a process behind that forks faster than anyone looks."""
    subprocess.Popen([sys.executable, "-ISc", RUNAWAY], start_new_session=True)
    time.sleep(0.3)
    die(signal.SIGKILL)


def stop_loop() -> None:
    """Stop the loop that everything runs in."""
    asyncio.get_running_loop().stop()


def cancel_everything() -> None:
    """Cancel every task, also those of the host."""
    for task in asyncio.all_tasks():
        task.cancel()


def end_parent() -> None:
    """Kill the parent process, then exit."""
    os.kill(os.getppid(), signal.SIGKILL)
    os._exit(5)


def end_threads_late() -> None:
    """End with a thread that will not."""
    threading.Thread(target=time.sleep, args=(600,)).start()
    raise SystemExit(6)


FAULTS: dict[str, Callable[[], object]] = {
    "SIGKILL": lambda: die(signal.SIGKILL),
    "SIGSEGV": lambda: ctypes.string_at(0),
    "SIGABRT": os.abort,
    "SIGHUP": lambda: die(signal.SIGHUP),
    "exit 0": lambda: os._exit(0),
    "SystemExit": end_threads_late,
    "stack overflow": overflow,
    "descriptors closed": lambda: os.closerange(3, 65_536),
    "everything closed": lambda: os.closerange(0, 65_536),
    "descriptors exhausted": exhaust,
    "flood": flood,
    "folder lost": lose_folder,
    "environment lost": lose_environment,
    "own group killed": lambda: os.killpg(0, signal.SIGKILL),
    "breaks away": break_away,
    "loop stopped": stop_loop,
    "everything cancelled": cancel_everything,
    "respawns": respawn,
    "runs away": run_away,
    "parent killed": end_parent,
}


# --- what blocks the loop -----------------------------------------------------------------------


def sleep_long() -> None:
    """Block without using the processor."""
    time.sleep(600)


def spin_long() -> None:
    """Block, using all of it."""
    while True:
        pass


def call_c_long() -> None:
    """Block in C, without the interpreter's lock; no signal's handler ends it."""
    _wait_in(ctypes.CDLL(None))


def call_c_with_lock_long() -> None:
    """Block in C, holding the interpreter's lock."""
    _wait_in(ctypes.PyDLL(None))


def _wait_in(libc: Any) -> None:
    mutex = ctypes.create_string_buffer(256)  # zeros are an unlocked one
    for _ in range(2):  # the second never returns
        libc.pthread_mutex_lock(mutex)


def stop_itself() -> None:
    """Stop, so that no signal but KILL is taken."""
    die(signal.SIGSTOP)


def be_deaf() -> None:
    """Ignore every signal that can be ignored, and block."""
    for number in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}:
        with contextlib.suppress(OSError, ValueError):
            signal.signal(number, signal.SIG_IGN)
    sleep_long()


def be_masked() -> None:
    """Block every signal, then the loop, with children that do the same."""
    signal.pthread_sigmask(signal.SIG_BLOCK, set(signal.Signals))
    leave_family()
    time.sleep(600)


BLOCKS: dict[str, Callable[[], object]] = {
    one.__name__: one
    for one in (
        sleep_long,
        spin_long,
        call_c_long,
        call_c_with_lock_long,
        stop_itself,
        be_deaf,
        be_masked,
    )
}
DUMPED = ("sleep_long", "spin_long", "call_c_long", "call_c_with_lock_long")  # by a stack dump


# --- what goes wrong in init, start and stop ----------------------------------------------------


def fail(runtime: Runtime, phase: str) -> None:
    """Fail in a phase, if the service's MODE selects it."""
    mode = str(runtime.get_setting("MODE", ""))
    if not mode.startswith(phase):
        return
    match mode.removeprefix(phase).strip():
        case "raises":
            raise RuntimeError(f"{phase} cannot")
        case "runs out of memory":
            raise MemoryError
        case "exits":
            os._exit(0)
        case "blocks":
            time.sleep(600)
        case "is killed":
            leave_family()
            die(signal.SIGKILL)


async def init(config: object, runtime: Runtime) -> None:
    """Go wrong before any service starts."""
    fail(runtime, "init")
    if runtime.get_setting("MODE") == "init hangs":
        await asyncio.Event().wait()


class FaultService(Service):
    """Goes wrong."""

    service_type = "fault"

    @classmethod
    async def start(cls, runtime: Runtime) -> Self:
        fail(runtime, "start")
        if runtime.get_setting("MODE") == "start hangs":
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.Event().wait()
            await asyncio.Event().wait()
        return cls(runtime)

    async def stop(self) -> None:
        fail(self.runtime, "stop")
        if self.runtime.get_setting("MODE") == "stop hangs":
            await asyncio.Event().wait()

    async def pid(self) -> int:
        """Return the worker's pid."""
        return os.getpid()

    async def do(self, fault: str) -> None:
        """Do one of the above, in the loop."""
        (FAULTS | BLOCKS)[fault]()


plugin = Plugin(name="fault", services=[FaultService], init=init)

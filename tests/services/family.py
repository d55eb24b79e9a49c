"""A service that starts processes in every way that there is, and waits for them late."""

import asyncio
import multiprocessing
import os
import pty
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any, Self

from multiprocess.context import ForkContext

from garrison.workers import Plugin, Runtime, Service

Wait = Callable[[], int]


def exit_with(code: int) -> list[str]:
    """Return the command of a process that ends at once."""
    return ["/bin/sh", "-c", f"exit {code}"]


def popen(code: int, **options: Any) -> Wait:
    """Start a child as most do."""
    return subprocess.Popen(exit_with(code), **options).wait


def popen_in_thread(code: int) -> Wait:
    """Start a child in a thread that ends."""
    made: list[subprocess.Popen[bytes]] = []
    thread = threading.Thread(target=lambda: made.append(subprocess.Popen(exit_with(code))))
    thread.start()
    thread.join()
    return made[0].wait


def with_preexec(code: int) -> Wait:
    """Start a child by way of fork instead of vfork."""
    return popen(code, preexec_fn=os.getpid)


def forked(code: int) -> Wait:
    """Fork."""
    return waiting_for(os.fork() or os._exit(code))


def forked_with_terminal(code: int) -> Wait:
    """Fork, with a terminal."""
    pid, descriptor = pty.fork()
    wait = waiting_for(pid or os._exit(code))

    def wait_and_close() -> int:
        try:
            return wait()
        finally:
            os.close(descriptor)

    return wait_and_close


def posix_spawned(code: int) -> Wait:
    """Start a child without any hook being run."""
    return waiting_for(os.posix_spawn("/bin/sh", exit_with(code), os.environ))


def spawned(code: int) -> Wait:
    """Start a child as in the old days."""
    return waiting_for(os.spawnv(os.P_NOWAIT, "/bin/sh", exit_with(code)))


def waiting_for(pid: int) -> Wait:
    """Return what waits for a pid."""
    return lambda: os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def multi(context: Any, code: int) -> Wait:
    """Start a child as multiprocessing does."""
    process = context.Process(target=sys.exit, args=(code,))
    process.start()

    def wait() -> int:
        process.join()
        exitcode: int = process.exitcode
        return exitcode

    return wait


WAYS: dict[str, Callable[[int], Wait]] = {
    "popen": popen,
    "popen in a thread": popen_in_thread,
    "popen with preexec": with_preexec,
    "fork": forked,
    "pty.fork": forked_with_terminal,
    "posix_spawn": posix_spawned,
    "spawnv": spawned,
    "multiprocess": lambda code: multi(ForkContext(), code),
    "multiprocessing": lambda code: multi(multiprocessing.get_context("fork"), code),
    "multiprocessing spawn": lambda code: multi(multiprocessing.get_context("spawn"), code),
}
ORPHANS = {
    "in the background": "sleep 0.1 &",
    "at once": "true & exit",
    "in a session": "setsid sleep 0.1 &",
    "forked twice": "(sh -c 'sleep 0.1 & sleep 0.1' &) &",
    "many": "for n in 1 2 3 4 5 6 7 8 9; do true & done",
}


class FamilyService(Service):
    """Has children."""

    service_type = "family"

    @classmethod
    async def start(cls, runtime: Runtime) -> Self:
        service = cls(runtime)
        service.waits = {}
        service.kept = []
        return service

    async def begin(self) -> int:
        """Start a child in each way, each with another exit code; return the worker's pid."""
        for code, (way, begin) in enumerate(WAYS.items(), 1):
            self.waits[way] = code, begin(code)
        program = await asyncio.create_subprocess_exec(*exit_with(99))
        self.kept.append(program)
        return os.getpid()

    async def outcome(self) -> dict[str, list[int]]:
        """Wait for each child; return the code that it was to end with, and the one that it had."""
        found = {}
        for way, (code, wait) in self.waits.items():
            try:
                found[way] = [code, await asyncio.to_thread(wait)]
            except ChildProcessError:
                found[way] = [code, -1]
        found["asyncio"] = [99, await self.kept[0].wait()]
        return found

    def leave_orphans(self) -> int:
        """Have orphans fall to this process in every way; return its pid."""
        for script in ORPHANS.values():
            subprocess.run(["sh", "-c", script], check=True)
        child = os.fork()
        if child == 0:
            if os.fork() == 0:
                os.setsid()
                os._exit(3)
            os._exit(0)
        os.waitpid(child, 0)
        subprocess.Popen(["sleep", "0.1"])  # nothing refers to it
        return os.getpid()

    async def leave_many(self, number: int, at_once: int) -> int:
        """Have many orphans appear while other children are started; return this process's pid."""
        free = asyncio.Semaphore(at_once)

        async def leave() -> None:
            async with free:
                program = await asyncio.create_subprocess_exec(
                    "sh", "-c", "sleep 0.05 & sleep 0.03"
                )
                await program.wait()

        await asyncio.gather(*(leave() for _ in range(number)))
        return os.getpid()


plugin = Plugin(name="family", services=[FamilyService])

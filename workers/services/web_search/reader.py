"""Runs the program that reads pages as text: one child, killed where a page takes too long.

A page of anyone's may have the parser run for hours, take all memory or end its process; a thread
could not be ended. Durations are seconds.
"""

import asyncio
import contextlib
import importlib.util
import os
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from pathlib import Path
from typing import Any

import msgspec

from garrison.ipc import DeclaredError

from ..http_support.fetching import FetchError
from .extractor import LENGTH, LENGTHS

PROGRAM = Path(__file__).with_name("extractor.py")
LIBRARIES = ("trafilatura", "lxml_html_clean")
REQUIREMENT = "trafilatura>=2.0' 'lxml_html_clean>=0.4"
IDLE_S = 120.0  # without a page: it ends, for its memory
PAGES_MOST = 500  # of one child; what the libraries keep grows with each
PASSED_ON = ("PATH", "LANG", "LC_ALL", "PYTHONPATH", "TMPDIR", "HOME")  # of the environment


class ReadPage(msgspec.Struct):
    """What the program found in a page."""

    text: str = ""
    title: str = ""
    published: str = ""
    is_cut: bool = False
    problem: str = ""


class LibraryMissing(DeclaredError):
    """A library that is needed for this call alone is not installed."""


class PageReader:
    """Reads pages one after the other.

    Args:
        seconds: For one page.
        most: Characters of its text.
    """

    def __init__(self, seconds: float, most: int) -> None:
        self._seconds, self._most = seconds, most
        self._lock = asyncio.Lock()
        self._child: Process | None = None
        self._pages = 0
        self._idle: asyncio.TimerHandle | None = None

    async def read(self, page: bytes, url: str, charset: str) -> ReadPage:
        """Return what is in a page.

        Raises:
            LibraryMissing: The libraries are not installed.
            FetchError: It cannot be read, or not in time.
        """
        async with self._lock:
            self._stop_waiting()
            child = await self._running()
            try:
                async with asyncio.timeout(self._seconds):
                    found = await self._exchange(child, page, url, charset)
            except BaseException as error:
                await self._kill()  # it may still answer, or never
                if isinstance(error, TimeoutError):
                    text = f"{url[:200]} could not be read as text within {self._seconds:g} s"
                    raise FetchError(text, kind="time") from error
                if isinstance(error, OSError | EOFError | msgspec.DecodeError):
                    text = f"{url[:200]} cannot be read as text: the parser ended"
                    raise FetchError(text, kind="damaged") from error
                raise
            self._pages += 1
            if self._pages >= PAGES_MOST:
                await self._kill()
            else:
                self._idle = asyncio.get_running_loop().call_later(IDLE_S, self._end_idle)
        if found.problem:
            raise FetchError(f"{url[:200]} cannot be read: {found.problem}", kind="damaged")
        return found

    async def close(self) -> None:
        """End the child."""
        self._stop_waiting()
        await self._kill()

    @property
    def pid(self) -> int | None:
        """Return the pid of the child, if there is one."""
        return None if self._child is None else self._child.pid

    async def _running(self) -> Process:
        if self._child is not None and self._child.returncode is None:
            return self._child
        missing = [one for one in LIBRARIES if importlib.util.find_spec(one) is None]
        if missing:
            raise LibraryMissing(
                f"the library {missing[0]} is not installed: run {sys.executable} -m pip install "
                f"'{REQUIREMENT}'"
            )
        self._pages = 0
        environment = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
        self._child = await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",
            str(PROGRAM),
            stdin=PIPE,
            stdout=PIPE,
            stderr=DEVNULL,
            env=environment,
        )
        return self._child

    async def _exchange(self, child: Process, page: bytes, url: str, charset: str) -> ReadPage:
        about: dict[str, Any] = {"url": url, "charset": charset, "most": self._most}
        head = msgspec.json.encode({**about, "seconds": self._seconds})
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write(LENGTHS.pack(len(head), len(page)) + head)
        child.stdin.write(page)
        await child.stdin.drain()
        (length,) = LENGTH.unpack(await child.stdout.readexactly(LENGTH.size))
        if length > 16 * self._most + 4096:
            raise EOFError
        return msgspec.json.decode(await child.stdout.readexactly(length), type=ReadPage)

    def _end_idle(self) -> None:
        child, self._child = self._child, None
        if child is not None and child.stdin is not None:
            child.stdin.close()  # it ends with its input

    def _stop_waiting(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None

    async def _kill(self) -> None:
        child, self._child = self._child, None
        if child is None:
            return
        with contextlib.suppress(ProcessLookupError):
            child.kill()
        await child.wait()

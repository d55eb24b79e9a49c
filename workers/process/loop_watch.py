"""Logs the stack of an event loop that has been blocked for longer than a second.

A thread looks while the loop is blocked; the watchdog would end the service much later. The thread
sleeps until the loop would be late, so an idle worker wakes once a second. Durations are seconds.
"""

import _thread
import asyncio
import logging
import sys
import threading
import time
import traceback

from .tracebacks import LOOP, is_authors_frame

log = logging.getLogger(__name__)

TICK_S = 0.25  # between two signs of life of the loop
BLOCKED_S = 1.0  # without one: blocked
QUIET_S = 60.0  # between two entries of the log
FRAMES_MOST = 30  # of a stack, innermost last


class LoopWatch:
    """Watches the running loop from a thread of its own.

    Args:
        service: NAME of the service.
    """

    def __init__(self, service: str) -> None:
        self._service = service
        self._loop = asyncio.get_running_loop()
        self._thread_id = threading.get_ident()
        self._clock = time.pthread_getcpuclockid(self._thread_id)
        self._turned = time.monotonic()
        self._logged_at = float("-inf")
        self._ended = threading.Event()

    def begin(self) -> None:
        """Watch from now on, until `end`."""
        self._tick()
        _thread.start_new_thread(self._watch, ())  # a Thread's start waits until it runs

    def end(self) -> None:
        """Watch no longer."""
        self._ended.set()

    def _tick(self) -> None:
        self._turned = time.monotonic()
        if not self._ended.is_set():
            self._loop.call_later(TICK_S, self._tick)

    def _watch(self) -> None:
        while True:
            due, used = self._turned + BLOCKED_S, time.clock_gettime(self._clock)
            if self._ended.wait(max(due - time.monotonic(), 0.01)):
                return
            now = time.monotonic()
            turned = self._turned
            if now < turned + BLOCKED_S:
                continue
            ran = time.clock_gettime(self._clock) - used
            if now >= self._logged_at + QUIET_S:
                self._report(now, now - turned, has_run=ran > (now - turned) / 2)
            self._wait_for_turn(turned)

    def _wait_for_turn(self, turned: float) -> None:
        while self._turned == turned and not self._ended.wait(TICK_S):
            pass

    def _report(self, now: float, age: float, has_run: bool) -> None:
        frame = sys._current_frames().get(self._thread_id)
        stack = traceback.extract_stack(frame) if frame is not None else []
        # What is below the loop is how this process came to be.
        begin = max((n for n, one in enumerate(stack, 1) if LOOP.search(one.filename)), default=0)
        authors = (n for n in range(begin, len(stack)) if is_authors_frame(stack[n]))
        first = next(authors, len(stack))
        # Without the service's code on its stack the loop is not blocked: the process was stopped,
        # or had no processor. Unless C code that keeps the interpreter has just ended.
        if first == len(stack) and not has_run:
            return
        self._logged_at = now
        shown = "".join(traceback.format_list(stack[first:][-FRAMES_MOST:]))
        shown = shown or "  (C code that had ended when the stack was read)"
        log.warning(
            "loop.blocked service=%s blocked_s=%.1f: the event loop has not turned for that long; "
            "it is at\n%s",
            self._service,
            age,
            shown.rstrip(),
        )

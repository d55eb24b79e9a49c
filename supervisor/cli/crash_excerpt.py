"""The few lines of a crash report that say most: where it was, and its last words. Pure."""

import re
import sysconfig
from collections import Counter
from collections.abc import Iterable, Iterator

from garrison.supervisor.crashes.report import CrashReport

CALLS_MOST = 4
FRAMES_MOST = 3  # of one stack
LOG_MOST = 3  # lines
OWN_LOGGER = " garrison.workers.process."  # its lines repeat the cause
STDLIB = sysconfig.get_path("stdlib")
# Also the library that forks workers
OWN = re.compile(r"/garrison/(?!workers/services/)|-packages/multiprocess/|^<frozen ")
FRAME = re.compile(r'\s*File "([^"]+)", line \d+')
THREAD = re.compile(r"^(?:Current thread|Thread) 0x")
# A line of code, or the exception at the end
TRACEBACK = re.compile(r"^(?:Traceback |  |[A-Za-z_][\w.]*(?:: |$))")
CHAINED = ("The above exception was the direct cause", "During handling of the above exception")


def calls_in_flight(report: CrashReport) -> list[str]:
    """Return the calls that a service was handling when it died, and who waited for them."""
    calls = Counter(
        f"{one.method} of {one.service}" for one in report.in_flight if one.direction == "in"
    )
    if not calls:
        return []
    shown = [f"{name} ({count} times)" if count > 1 else name for name, count in calls.items()]
    more = f" and {len(shown) - CALLS_MOST} more" if len(shown) > CALLS_MOST else ""
    return [f"it was handling {', '.join(shown[:CALLS_MOST])}{more}"]


def last_frames(report: CrashReport) -> list[str]:
    """Return where a service died: the last frame of its traceback, or the main thread's."""
    if report.exception is not None and report.exception.traceback:
        return _innermost(report.exception.traceback.splitlines())
    return _main_thread(report.stacks.splitlines())


def _innermost(lines: list[str]) -> list[str]:
    """Return the last frame of a traceback, with its line of code."""
    places = [number for number, line in enumerate(lines) if FRAME.match(line)]
    if not places:
        return []
    last = places[-1]
    code = lines[last + 1 : last + 2]
    return [lines[last].strip(), *(f"  {one.strip()}" for one in code if one.startswith("    "))]


def _main_thread(lines: list[str]) -> list[str]:
    """Return the author's innermost frames of the thread that is listed last: the main one."""
    found = list[str]()
    for line in lines:
        if THREAD.match(line):
            found = []
        elif len(found) < FRAMES_MOST and (frame := FRAME.match(line)) and _is_authors(frame[1]):
            found.append(line.strip())
    return found


def _is_authors(file: str) -> bool:
    is_stdlib = file.startswith(STDLIB) and "-packages/" not in file
    return not is_stdlib and not OWN.search(file)


def log_excerpt(report: CrashReport) -> list[str]:
    """Return a service's last lines: of tracebacks the exception alone, unless the cause has it."""
    return list(_last(_without_tracebacks(report.log, report.cause)))


def _without_tracebacks(lines: Iterable[str], cause: str) -> Iterator[str]:
    inside = False
    for line in lines:
        begins = line.startswith("Traceback ") or bool(FRAME.match(line))
        inside = begins or (inside and bool(TRACEBACK.match(line)))
        message = line.partition(": ")[2] or line
        is_exception = inside and not begins and line[:1].strip() and message not in cause
        is_stack = inside or THREAD.match(line) or line.startswith(CHAINED)
        if (is_exception or not is_stack) and line.strip() and OWN_LOGGER not in line:
            yield line


def _last(lines: Iterable[str]) -> list[str]:
    return list(lines)[-LOG_MOST:]

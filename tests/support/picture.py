"""What a host looks like when a wait of a test was in vain.

Nothing here fails: what cannot be had is left out, or shown as the error that it met.
"""

import contextlib
import json
import os
import signal
import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from tests.support.proc import children, stat

EVENTS = 60  # the last ones
LINES = 15  # of each log, the last ones
LINE_MOST = 600  # characters
STACK_SIGNAL = (
    signal.SIGWINCH
)  # a supervisor that the tests forked writes its stacks: it handles all others
STACK_S = 2.0  # for that, at most
LOOK_S = 0.02


def picture(
    home: Path, supervisor: int, marked: Collection[int], output: Path, status: Callable[[], Any]
) -> str:
    """Return what a host looks like now.

    Args:
        home: The host's.
        supervisor: Its pid; 0 if it has ended.
        marked: The other processes of the host.
        output: The file that the supervisor prints to.
        status: Orders it; may raise.
    """
    parts = {
        "status": _status(status),
        "events": "\n".join(last_lines(home / "logs" / "events.jsonl", EVENTS)),
        "stacks of the supervisor": dumped(supervisor, output),
        "processes": "\n".join(_process(pid) for pid in _with_children({supervisor, *marked})),
        "folder of sockets": "\n".join(_folder(home / "run")),
        "snapshot": _text(home / "state" / "living.json")[:20_000],
        **{
            f"log {path.name}": "\n".join(last_lines(path, LINES))
            for path in sorted((home / "logs").glob("*.log"))
        },
        "output": "\n".join(last_lines(output, LINES)),
    }
    return "\n".join(f"--- {name}\n{text}" for name, text in parts.items())


def last_lines(path: Path, count: int) -> list[str]:
    """Return the last lines of a file, each cut; none if there is no such file."""
    return [line[:LINE_MOST] for line in _text(path).splitlines()[-count:]]


def dumped(pid: int, output: Path) -> str:
    """Have a forked supervisor write its stacks to its output, and return them."""
    before = _size(output)
    if not pid or not _catches(pid, STACK_SIGNAL):
        return "none: it has ended, or was not forked by the tests"
    with contextlib.suppress(OSError):
        os.kill(pid, STACK_SIGNAL)
    until = time.monotonic() + STACK_S
    while _size(output) == before and time.monotonic() < until:
        time.sleep(LOOK_S)
    time.sleep(LOOK_S)  # the rest of them
    return _text(output)[before:]


def _status(status: Callable[[], Any]) -> str:
    try:
        found: Mapping[str, Any] = status()
    except Exception as error:  # noqa: BLE001 (any error is shown)
        return f"no status: {error!r}"
    rows = [json.dumps(row) for row in found.get("services", ())]
    return "\n".join([json.dumps(found.get("supervisor")), *rows])


def _with_children(pids: Collection[int]) -> list[int]:
    """Return processes with all below them."""
    found: dict[int, None] = {}
    left = [pid for pid in pids if pid]
    while left:
        pid = left.pop()
        if pid not in found:
            found[pid] = None
            left += children(pid)
    return sorted(found)


def _process(pid: int) -> str:
    fields = stat(pid)
    if not fields:
        return f"{pid} has ended"
    shown = {"state": fields[0], "parent": fields[1]}
    for name in ("comm", "wchan"):
        shown[name] = _text(Path(f"/proc/{pid}/{name}")).strip()
    command = _text(Path(f"/proc/{pid}/cmdline")).replace("\0", " ").strip()
    return f"{pid} {' '.join(f'{name}={value}' for name, value in shown.items())} {command[:200]}"


def _folder(folder: Path) -> list[str]:
    with contextlib.suppress(OSError):
        return sorted(path.name for path in folder.iterdir())
    return []


def _catches(pid: int, number: int) -> bool:
    caught = _text(Path(f"/proc/{pid}/status")).partition("\nSigCgt:")[2].split()[:1]
    return bool(caught) and bool(int(caught[0], 16) & 1 << number - 1)


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8", "replace")
    except OSError:
        return ""


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0

"""Finishes an update that was killed, before a host is started again: it runs one version, whole.

Durations are seconds.
"""

import contextlib
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from garrison.ipc.errors import OrderFailed
from garrison.ipc.system.locks import hold_lock

from .data import BEFORE, FAILED, put_back
from .environment import remove_version, switch
from .journal import Phase, Recovery, Update, keeps_data, recovery, title
from .journal_file import LOCK, data_folder, read_update, write_update

LOCK_S = 90.0  # for the command of an update to put it back itself
END_S = 10.0  # for a service's process to end by itself
LOOK_S = 0.02
KILLED = "it was killed before it was done"


def recover(state: Path, say: Callable[[str], None]) -> Update | None:
    """Finish an update that nothing carries out any more; no supervisor runs.

    Args:
        state: The folder of the home's state.
        say: Prints a line.

    Returns:
        The update, if it was finished here, with the phase that it has now.

    Raises:
        OrderFailed: Another process carries it out, and does not finish.
        OSError: It cannot be finished.
    """
    if recovery(read_update(state)) is Recovery.NOTHING:
        return None
    lock = _lock(state, say)
    try:
        update = read_update(state)  # its command may have finished it meanwhile
        if update is None or recovery(update) is Recovery.NOTHING:
            return update
        return finish(state, update, say)
    finally:
        os.close(lock)


def _lock(state: Path, say: Callable[[str], None]) -> int:
    until, has_warned = time.monotonic() + LOCK_S, False
    while (lock := hold_lock(state / LOCK)) is None:
        if time.monotonic() >= until:
            text = "an update is under way, and its command does not end: garrison events shows it"
            raise OrderFailed("failed", text)
        if not has_warned:
            say("an update is under way: its command puts it back first")
            has_warned = True
        time.sleep(LOOK_S)
    return lock


def finish(state: Path, update: Update, say: Callable[[str], None]) -> Update:
    """Finish an update whose lock is held, while no supervisor runs; return it as it is now."""
    environment, staged = Path(update.environment), Path(update.staged)
    match recovery(update):
        case Recovery.DISCARD:
            say(f"the update ({title(update)}) was not begun: {KILLED}")
            update = msgspec.structs.replace(update, phase=Phase.PUT_BACK, reason=KILLED)
        case Recovery.RETURN:
            end_processes(staged)
            update = restore_all(state, update, say)
            say(f"the update ({title(update)}) was put back: {update.reason}")
        case Recovery.COMMIT:
            switch(environment, staged, Path(update.former))
            update = msgspec.structs.replace(update, phase=Phase.DONE)
            say(f"the update ({title(update)}) is done")
        case Recovery.NOTHING:
            return update
    if update.phase is Phase.PUT_BACK and not update.goes_back:
        remove_version(staged, environment)
    write_update(state, update)
    return update


def restore_all(state: Path, update: Update, say: Callable[[str], None]) -> Update:
    """Put back the data of every service whose new version may have run; none runs now."""
    folder, kept = data_folder(state, update.number), list[str]()
    copies = folder / BEFORE
    for copy in sorted(copies.iterdir()) if copies.is_dir() else []:
        if copy.name.endswith(".partial"):
            continue
        if keeps_data(update, copy.name):
            kept.append(copy.name)
            say(f"{copy.name} keeps what it took meanwhile; as it was before: {copy}")
        else:
            put_back(state / "services" / copy.name, copy, folder / FAILED / copy.name)
    aside = str(folder / FAILED) if (folder / FAILED).is_dir() else ""
    return msgspec.structs.replace(
        update, phase=Phase.PUT_BACK, reason=update.reason or KILLED, set_aside=aside
    )


# --- processes ----------------------------------------------------------------------------


def end_processes(staged: Path) -> None:
    """End every process that runs by an environment: workers first, by themselves if they can."""
    running = _running(staged)
    workers = [
        pid for pid, parent in running.items() if parent in running and not _is_blocking(pid)
    ]
    for pid in workers:
        _signal(pid, staged, signal.SIGTERM)
    until = time.monotonic() + END_S
    while any(pid in _running(staged) for pid in workers) and time.monotonic() < until:
        time.sleep(LOOK_S)
    until = time.monotonic() + END_S
    while (left := _running(staged)) and time.monotonic() < until:
        for pid in left:
            _signal(pid, staged, signal.SIGKILL)
        time.sleep(LOOK_S)
    if left:
        raise OrderFailed("failed", f"processes of {staged} do not end: {sorted(left)}")


def _running(staged: Path) -> dict[int, int]:
    """Return the processes that run by an environment, each with its parent."""
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        with contextlib.suppress(OSError, IndexError, ValueError):
            if _runs_by(int(entry.name), staged):
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                if fields[0] != "Z":
                    found[int(entry.name)] = int(fields[1])
    return found


def _is_blocking(pid: int) -> bool:
    """Return whether a process blocks SIGTERM, as does the template, which forks workers."""
    with contextlib.suppress(OSError):
        return blocks(Path(f"/proc/{pid}/status").read_text("utf-8", "replace"), signal.SIGTERM)
    return False


def blocks(status: str, number: int) -> bool:
    """Return whether a process blocks a signal, by its `status` in /proc."""
    masks = [line.split()[1] for line in status.splitlines() if line.startswith("SigBlk:")]
    return bool(masks) and bool(int(masks[0], 16) >> (number - 1) & 1)


def _runs_by(pid: int, staged: Path) -> bool:
    command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0]
    return command.startswith(os.fsencode(staged) + b"/")


def _signal(pid: int, staged: Path, number: int) -> None:
    with contextlib.suppress(OSError):
        pidfd = os.pidfd_open(pid)
        try:
            if _runs_by(pid, staged):
                signal.pidfd_send_signal(pidfd, number)
        finally:
            os.close(pidfd)

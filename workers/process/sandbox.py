"""Puts a worker under its service's limits, before any code of its plugin runs.

What a service relies on, or what is about security, must be: where it cannot, the service does not
start. What the machine does not grant, as a lower `nice` for an ordinary user, it runs without.
"""

import ctypes
import os
import resource
from pathlib import Path

from garrison.ipc.errors import PermanentFailure
from garrison.ipc.messages import Limits

from .identity import become

PR_SET_NO_NEW_PRIVS = 38  # linux/prctl.h
NR_OPEN = Path("/proc/sys/fs/nr_open")  # no process may have more descriptors
ADJUSTMENT = Path("/proc/self/oom_score_adj")


def apply_limits(limits: Limits) -> list[str]:
    """Put this process, and what it will start, under limits; return what was not granted.

    Raises:
        PermanentFailure: What must be cannot be.
    """
    refused = [*_files(limits.open_files), *_nice(limits.nice), *_oom(limits.oom_score_adj)]
    become(limits)  # from here on without rights that the above may need
    if limits.umask is not None:
        os.umask(limits.umask)
    if limits.working_directory:
        _go_to(limits.working_directory)
    if limits.no_new_privs:
        _gain_nothing()
    return refused


def _files(wanted: int) -> list[str]:
    if not wanted:
        return []
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, wanted))
    except (OSError, ValueError):  # ValueError: more than the hard limit, for an ordinary user
        most = int(NR_OPEN.read_text())
        gets = min(most, wanted) if hard == resource.RLIM_INFINITY else min(hard, most, wanted)
        resource.setrlimit(resource.RLIMIT_NOFILE, (gets, gets))
        return [f"open_files = {wanted}: the machine allows {gets}, so it runs with those"]
    return []


def _nice(wanted: int | None) -> list[str]:
    if wanted is None:
        return []
    try:
        os.setpriority(os.PRIO_PROCESS, 0, wanted)
    except OSError as error:
        has = os.getpriority(os.PRIO_PROCESS, 0)
        return [f"nice = {wanted}: {error.strerror}, so it runs with {has}"]
    return []


def _oom(wanted: int | None) -> list[str]:
    if wanted is None:
        return []
    try:
        ADJUSTMENT.write_text(str(wanted))
    except OSError as error:
        has = ADJUSTMENT.read_text().strip()
        return [f"oom_score_adj = {wanted}: {error.strerror}, so it runs with {has}"]
    return []


def _go_to(folder: str) -> None:
    try:
        os.chdir(folder)
    except OSError as error:
        what = "make it"
        if isinstance(error, PermissionError):
            what = f"let user {os.geteuid()} into it and through what is above it"
        raise PermanentFailure(
            f"its working_directory {folder} cannot be entered: {error.strerror}; {what}, or "
            "name another"
        ) from error


def _gain_nothing() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        why = os.strerror(ctypes.get_errno())
        raise PermanentFailure(f"no_new_privs cannot be set: {why}")

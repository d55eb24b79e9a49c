"""What `status` tells of the host and of each service."""

import contextlib
import os
import time
from importlib.metadata import PackageNotFoundError, version
from math import inf
from typing import TYPE_CHECKING, Any

import psutil

from garrison.ipc.messages import State

from .policy import has_process
from .roster import Post, Unread

if TYPE_CHECKING:
    from .loop import Supervisor

LAST_LINES = 12  # of a traceback
DEATHS = 5  # that are told of one service

_processes: dict[int, psutil.Process] = {}  # for cpu_percent, which is since the last question


def own_version() -> str:
    """Return the installed version of garrison."""
    try:
        return version("garrison")
    except PackageNotFoundError:  # run from a checkout that is not installed
        return "0+checkout"


def supervisor_row(host: "Supervisor") -> dict[str, Any]:
    """Return what is told of the supervisor itself."""
    rss, cpu = _usage(os.getpid())
    return {
        "pid": os.getpid(),
        "launcher_pid": host.engine.pid,
        "version": own_version(),
        "home": str(host.config.host.home),
        "config": str(host.config.path),
        "boot": host.boot,
        "uptime_s": time.monotonic() - host.began,
        "stopping": host.stopping,
        "registered": host.registration.finished,
        "settled": host.settled,
        "rss_bytes": rss,
        "cpu_percent": cpu,
        "descriptors": _descriptors(),
        "messages": host.bus.carried,
        "refused_frames": host.hearing.refused,
    }


def service_row(host: "Supervisor", post: Post, detail: bool) -> dict[str, Any]:
    """Return what is told of one service."""
    child, now = post.child, time.monotonic()
    live = has_process(child.state) and post.pid != 0
    rss, cpu = _usage(post.pid) if live else (0, 0.0)
    row = {
        "name": post.name,
        "service_type": post.spec.service_type,
        "plugin": post.spec.plugin,
        "agent": post.spec.agent or None,
        "state": child.state.value,
        "wanted": child.wanted,
        "pid": post.pid or None,
        "generation": child.generation,
        "uptime_s": now - child.since if child.state is State.RUNNING else 0.0,
        "restarts": child.restarted,
        "last_exit": post.last_exit or None,
        "reason": reason(host, post) or None,
        "traceback": _last(post.traceback),
        "rss_bytes": rss,
        "cpu_percent": cpu,
        "in_flight": post.in_flight,
        "facts": post.facts,
        "beat_age_s": now - post.beat_at if live and post.beat_at else None,
    }
    return row | _detail(host, post) if detail else row


def unread_row(unread: Unread, detail: bool) -> dict[str, Any]:
    """Return what is told of a plugin that could not be read: one failed service of its NAME."""
    row: dict[str, Any] = {
        "name": unread.name,
        "service_type": None,
        "plugin": unread.name,
        "agent": None,
        "state": (State.REGISTERED if unread.reading else State.FAILED).value,
        "wanted": True,
        "pid": None,
        "generation": 0,
        "uptime_s": 0.0,
        "restarts": max(unread.tries - 1, 0),
        "last_exit": None,
        "reason": unread.reason if unread.reading else f"its plugin: {unread.reason}",
        "traceback": _last(unread.traceback),
        "rss_bytes": 0,
        "cpu_percent": 0.0,
        "in_flight": 0,
        "facts": {},
        "beat_age_s": None,
    }
    if detail:
        again = unread.again_at - time.monotonic()
        row["again_in_s"] = None if again == inf else max(again, 0.0)
    return row


def reason(host: "Supervisor", post: Post) -> str:
    """Return why a service does not run, in words."""
    if post.state is State.RUNNING:
        return ""
    if post.state is State.QUEUED:
        return host.roster.waiting_reason(post) or post.reason
    return post.reason


def _detail(host: "Supervisor", post: Post) -> dict[str, Any]:
    """Return what `status NAME` tells besides."""
    child, spec = post.child, post.spec
    timed = child.state in {State.BACKOFF, State.FAILED} and child.deadline < inf
    callers = host.bus.pairs.to(post.token) if post.token else {}
    by_token = host.roster.by_token
    return {
        "capability_description": post.manifest.description,
        "character": spec.speaks_for.character.name,
        "methods": list(post.manifest.methods),
        "left_out": post.manifest.left_out,
        "actions": list(post.manifest.actions),
        "providers": list(post.manifest.providers),
        "evaluators": list(post.manifest.evaluators),
        "models": list(post.manifest.models),
        "sends_for": list(post.manifest.sends_for),
        "events": list(post.events),
        "depends_on": list(spec.depends_on),
        "bind_to": list(spec.bind_to),
        "restart": spec.restart.value,
        "autostart": spec.autostart,
        "again_in_s": max(child.deadline - time.monotonic(), 0.0) if timed else None,
        "log": str(host.config.host.logs / f"{post.name}.log"),
        "messages_from": {
            by_token[token].name: count for token, count in callers.items() if token in by_token
        },
        "refused_frames": post.refused,
        "last_exit_time": post.last_exit_at or None,
        "deaths": host.deaths.last(post.name, DEATHS),
    }


def _last(traceback: str) -> list[str]:
    return traceback.rstrip().splitlines()[-LAST_LINES:]


def _descriptors() -> int:
    """Return how many descriptors this process has open; 0 where none is left to count them."""
    with contextlib.suppress(OSError):
        return len(os.listdir("/proc/self/fd")) - 1  # noqa: PTH208 (its own is gone by now)
    return 0


def _usage(pid: int) -> tuple[int, float]:
    """Return resident bytes, and per cent of one processor since the last question."""
    with contextlib.suppress(psutil.Error):
        process = _processes.get(pid)
        if process is None or not process.is_running():
            if len(_processes) > 1000:
                _processes.clear()
            process = _processes[pid] = psutil.Process(pid)
        with process.oneshot():
            return process.memory_info().rss, process.cpu_percent()
    return 0, 0.0

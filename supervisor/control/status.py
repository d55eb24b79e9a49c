"""What `status` tells of the host and of each service."""

import contextlib
import os
import time
from importlib.metadata import PackageNotFoundError, version
from math import inf
from typing import TYPE_CHECKING, Any

from garrison.ipc.messages import State
from garrison.ipc.system import process_tree
from garrison.supervisor.lifecycle.limits import Used
from garrison.supervisor.lifecycle.policy import has_process
from garrison.supervisor.lifecycle.services import Service, UnreadablePlugin
from garrison.supervisor.processes.capabilities import format_unsupported, unsupported_limits
from garrison.supervisor.processes.engine import Measured

if TYPE_CHECKING:
    from garrison.supervisor.loop import Supervisor

LAST_LINES = 12  # of a traceback
DEATHS = 5  # that are told of one service

_asked: dict[int, tuple[int, float, float]] = {}  # pid → when it began, had used what, and when


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
        **host.engine.status(),
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


def service_row(host: "Supervisor", post: Service, detail: bool) -> dict[str, Any]:
    """Return what is told of one service."""
    child, now = post.child, time.monotonic()
    live = has_process(child.state) and post.current.pid != 0
    measured = host.engine.measure(post.current.token, tree=detail) if live else Measured()
    row = {
        "name": post.name,
        "service_type": post.spec.service_type,
        "plugin": post.spec.plugin,
        "agent": post.spec.agent.name or None,
        "state": child.state.value,
        "wanted": child.wanted,
        "pid": post.current.pid or None,
        "uid": post.current.uid if live and post.current.uid >= 0 else None,
        "generation": child.generation,
        "uptime_s": now - child.since if child.state is State.RUNNING else 0.0,
        "restarts": child.restarted,
        "last_exit": post.last_exit or None,
        "reason": reason(host, post) or None,
        "traceback": _last(post.traceback),
        "rss_bytes": measured.rss_bytes,
        "cpu_percent": measured.cpu_percent,
        "memory_max": post.spec.limits.memory_max or None,
        "processes_max": post.spec.limits.processes or None,
        "tree": _tree(measured.tree),
        "in_flight": post.current.in_flight,
        "facts": post.current.facts,
        "health": _health(post, now),
        "beat_age_s": now - post.current.beat_at if live and post.current.beat_at else None,
    }
    return row | _detail(host, post) if detail else row


def unread_row(unread: UnreadablePlugin, detail: bool) -> dict[str, Any]:
    """Return what is told of a plugin that could not be read: one failed service of its NAME."""
    row: dict[str, Any] = {
        "name": unread.name,
        "service_type": None,
        "plugin": unread.name,
        "agent": None,
        "state": (State.REGISTERED if unread.reading else State.FAILED).value,
        "wanted": True,
        "pid": None,
        "uid": None,
        "generation": 0,
        "uptime_s": 0.0,
        "restarts": max(unread.tries - 1, 0),
        "last_exit": None,
        "reason": unread.reason if unread.reading else f"its plugin: {unread.reason}",
        "traceback": _last(unread.traceback),
        "rss_bytes": 0,
        "cpu_percent": 0.0,
        "memory_max": None,
        "processes_max": None,
        "tree": None,
        "in_flight": 0,
        "facts": {},
        "health": None,
        "beat_age_s": None,
    }
    if detail:
        again = unread.again_at - time.monotonic()
        row["again_in_s"] = None if again == inf else max(again, 0.0)
    return row


def reason(host: "Supervisor", post: Service) -> str:
    """Return why a service does not run, in words."""
    if post.state is State.RUNNING:
        return ""
    if post.state is State.QUEUED:
        return host.roster.waiting_reason(post) or post.reason
    return post.reason


def _detail(host: "Supervisor", post: Service) -> dict[str, Any]:
    """Return what `status NAME` tells besides."""
    child, spec = post.child, post.spec
    timed = child.state in {State.BACKOFF, State.FAILED} and child.deadline < inf
    callers = host.bus.pairs.to(post.current.token) if post.current.token else {}
    by_token = host.roster.by_token
    return {
        "capability_description": post.manifest.description,
        "character": spec.agent.character.name,
        "methods": list(post.manifest.methods),
        "left_out": post.manifest.left_out,
        "actions": list(post.manifest.actions),
        "providers": list(post.manifest.providers),
        "evaluators": list(post.manifest.evaluators),
        "models": list(post.manifest.models),
        "sends_for": list(post.manifest.sends_for),
        "events": list(post.current.events),
        "depends_on": list(spec.supervision.depends_on),
        "bind_to": list(spec.supervision.bind_to),
        "notes": list(post.manifest.notes),
        "restart": spec.supervision.restart.value,
        "autostart": spec.supervision.autostart,
        "again_in_s": max(child.deadline - time.monotonic(), 0.0) if timed else None,
        "log": str(host.config.host.logs / f"{post.name}.log"),
        "messages_from": {
            by_token[token].name: count for token, count in callers.items() if token in by_token
        },
        "refused_frames": post.current.refused_frames,
        "last_exit_time": post.last_exit_at or None,
        "deaths": host.deaths.recent(post.name, DEATHS),
        "unheld": [
            format_unsupported(post.name, one) for one in unsupported_limits(spec, host.machine)
        ],
    }


def _health(post: Service, now: float) -> dict[str, Any] | None:
    """Return what its own `health` said last; None where it has said nothing."""
    if post.current.health is None or not has_process(post.state):
        return None
    return {
        "well": not post.current.health.problem,
        "problem": post.current.health.problem or None,
        "age_s": now - post.current.health_at,
        "took_s": post.current.health.took_s,
    }


def _tree(used: Used | None) -> dict[str, Any] | None:
    """Return what a service has with all that it started, as of the last look."""
    if used is None:
        return None
    return {"memory_bytes": used.memory, "processes": used.processes, "more": used.least}


def _last(traceback: str) -> list[str]:
    return traceback.rstrip().splitlines()[-LAST_LINES:]


def _descriptors() -> int:
    """Return how many descriptors this process has open; 0 where none is left to count them."""
    with contextlib.suppress(OSError):
        return len(os.listdir("/proc/self/fd")) - 1  # noqa: PTH208 (its own is gone by now)
    return 0


def _usage(pid: int) -> tuple[int, float]:
    """Return resident bytes, and per cent of one processor since the last question."""
    began, rss, used = process_tree.usage(pid)
    now = time.monotonic()
    if len(_asked) > 1000:
        _asked.clear()
    before = _asked.get(pid)
    _asked[pid] = began, used, now
    if before is None or before[0] != began or now <= before[2]:
        return rss, 0.0
    return rss, round(max(used - before[1], 0.0) / (now - before[2]) * 100, 1)

"""How the stacks of a running service are shown to people."""

import re
import sysconfig
from collections.abc import Iterable, Iterator
from typing import Any

from rich.console import RenderableType
from rich.text import Text

from .table import folded, indented
from .text import counted, sanitize

STDLIB = sysconfig.get_path("stdlib")
BLOCKED = (
    "! its loop is blocked: the main thread shows where. Tasks can be listed only while it turns"
)
OLDER = (
    "! it runs an older release of garrison, which cannot list its tasks; a restart loads this one"
)
COMMAND = "this is the worker that runs a command, not the command"
OWN = re.compile(r"/garrison/(?!workers/services/)")


def stacks(data: dict[str, Any], everything: bool) -> Iterable[RenderableType]:
    """Return the stacks, the innermost frame last; frames of an author's code are bold.

    Args:
        data: The result of `stack`.
        everything: Show garrison's own frames, tasks and threads, too.
    """
    head = f"{data['name']} (pid {data['pid']}, generation {data['generation']}, {data['state']})"
    yield Text(sanitize(head), "bold")
    if data["plugin"] == "command":
        yield folded(f"{COMMAND}: garrison status {data['name']} --tree shows its processes")
    if data["from_log"]:
        yield folded(BLOCKED if data["loop_blocked"] else OLDER)
    yield from map(folded, _calls(data))
    hidden = 0
    for kind, listed in (("task", data["tasks"]), ("thread", data["threads"])):
        for one in listed:
            frames = one["frames"] if everything else authors_part(one["frames"])
            runs_loop = one["name"] == "MainThread" and not data["from_log"]
            if kind == "thread" and runs_loop and not everything:
                yield Text.assemble("thread ", ("MainThread", "bold"), " runs the loop")
            elif frames:
                yield from _stack(kind, one, frames)
            else:
                hidden += 1
        if more := data[f"more_{kind}s"]:
            yield folded(f"and {more} more {kind}s")
    if hidden:
        yield folded(f"{hidden} of garrison's own and idle ones are left out: --all shows them")


def _calls(data: dict[str, Any]) -> Iterator[str]:
    """Yield a line for each call that has not ended."""
    for one in data["calls"]:
        items = f", {counted(one['items'], 'item')}" if one["items"] else ""
        what = sanitize(f"{one['service']}.{one['method']}")
        if one["direction"] == "in":
            what = sanitize(f"{one['method']} of {one['service']}")
        verb = "handles" if one["direction"] == "in" else "waits for"
        yield f"{verb} {what}, for {one['age_s']:.1f} s{items}"
    if data["more_calls"]:
        yield f"and {counted(data['more_calls'], 'more call')}"


def authors_part(frames: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the frames below garrison's own; none if none of them is of an author's code.

    Args:
        frames: Of one stack, the innermost last.
    """
    own = [number for number, frame in enumerate(frames) if OWN.search(frame["file"])]
    below = frames[own[-1] + 1 :] if own else frames
    return below if any(map(_is_authors, below)) else []


def _stack(
    kind: str, one: dict[str, Any], frames: list[dict[str, Any]]
) -> Iterator[RenderableType]:
    ident = f" ({one['ident']})" if one["ident"] else ""
    yield Text.assemble(f"{kind} ", (sanitize(one["name"]), "bold"), ident)
    if one["left_out"]:
        yield indented(folded(f"{one['left_out']} outer frames are left out"))
    for frame in frames:
        style = "bold" if _is_authors(frame) else "dim"
        place = f"{frame['file']}:{frame['line']} in {frame['function']}"
        yield indented(Text(sanitize(place), style, overflow="fold"))
        if frame["code"] and _is_authors(frame):
            yield indented(indented(folded(frame["code"])))


def _is_authors(frame: dict[str, Any]) -> bool:
    file: str = frame["file"]
    is_stdlib = file.startswith((STDLIB, "<frozen ")) and "-packages/" not in file
    return not is_stdlib and not OWN.search(file)

"""The processes of services: each worker and what it has started. Sizes are bytes."""

import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

import psutil

SAMPLE_S: Final = 0.2  # over which the use of a processor is measured
PROCESSES_MOST: Final = 500  # of one service
WORDS_MOST: Final = 60  # characters of a command
INTERPRETERS: Final = ("python", "node", "ruby", "perl", "bash", "sh", "java", "deno", "bun", "php")
HIDDEN: Final = "…"


class ServiceProcess(NamedTuple):
    """One process below a worker."""

    pid: int
    parent: int
    command: str  # without values of arguments
    memory_bytes: int
    cpu_percent: float
    age_s: float
    state: str  # as psutil names it: "running", "sleeping", "stopped", "zombie"


def below(pids: Sequence[int]) -> dict[int, list[ServiceProcess]]:
    """Return the processes below each of these, each after its parent, as a tree is drawn.

    Takes `SAMPLE_S` if there are any.

    Args:
        pids: Of workers, in this PID namespace.
    """
    found = {pid: list(_descendants(pid)) for pid in pids}
    before = {one.pid: _used_s(one) for tree in found.values() for one in tree}
    if before:
        time.sleep(SAMPLE_S)
    return {pid: in_tree_order(pid, _described(tree, before)) for pid, tree in found.items()}


def in_tree_order(root: int, processes: Iterable[ServiceProcess]) -> list[ServiceProcess]:
    """Return processes so that each comes after its parent and before that one's next child.

    Args:
        root: The pid of the worker.
        processes: Those below it. One whose parent is not among them is treated as its child.
    """
    known = {one.pid: one for one in processes}
    children: dict[int, list[ServiceProcess]] = {}
    for one in known.values():
        parent = one.parent if one.parent in known and one.parent != one.pid else root
        children.setdefault(parent, []).append(one)
    ordered, pending = list[ServiceProcess](), children.pop(root, [])[::-1]
    while pending:
        ordered.append(pending.pop())
        pending += children.pop(ordered[-1].pid, [])[::-1]
    return ordered


def _descendants(pid: int) -> Iterator[psutil.Process]:
    try:
        yield from psutil.Process(pid).children(recursive=True)[:PROCESSES_MOST]
    except psutil.Error:  # it has ended
        return


def _used_s(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.Error:
        return 0.0
    return float(times.user + times.system)


def _described(
    processes: Iterable[psutil.Process], before: Mapping[int, float]
) -> Iterator[ServiceProcess]:
    now = time.time()
    for one in processes:
        try:
            with one.oneshot():
                used = max(_used_s(one) - before.get(one.pid, 0.0), 0.0)
                yield ServiceProcess(
                    one.pid,
                    one.ppid(),
                    command_words(one.cmdline() or [one.name()]),
                    one.memory_info().rss,
                    100 * used / SAMPLE_S,
                    max(now - one.create_time(), 0.0),
                    one.status(),
                )
        except psutil.Error:  # it has ended, or is another user's
            continue


def command_words(arguments: Sequence[str]) -> str:
    """Return a command that can be shown: arguments may hold secrets.

    It has the program, the script of an interpreter, and the names of options.

    Args:
        arguments: Of the process, the program first.
    """
    program, *rest = arguments
    first = program.split(" ", 1)[0]  # a process may set its title: "nginx: worker"
    words = [os.path.basename(first) or first]  # noqa: PTH119 (of any text)
    is_interpreter = words[0].startswith(INTERPRETERS)
    for number, one in enumerate(rest):
        if one.startswith("-"):
            name, is_assigned, _ = one.partition("=")
            words.append(f"{name}={HIDDEN}" if is_assigned else _option(name))
        elif is_interpreter and (number == 0 or rest[number - 1] == "-m"):
            words.append(os.path.basename(one) or one)  # noqa: PTH119
            is_interpreter = False
        elif words[-1] != HIDDEN:
            words.append(HIDDEN)
    text = " ".join(words)
    return text if len(text) <= WORDS_MOST else text[: WORDS_MOST - 1] + HIDDEN


def _option(name: str) -> str:
    """Return an option's name; a short one may have its value attached."""
    return name if name.startswith("--") or len(name) <= 2 else name[:2] + HIDDEN


def as_data(processes: Iterable[ServiceProcess]) -> list[dict[str, Any]]:
    """Return processes as JSON has them."""
    return [one._asdict() for one in processes]

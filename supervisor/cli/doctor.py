"""The verb that says what this machine cannot do for a host, and what mends it: `doctor`."""

import os
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import click

from garrison.ipc.errors import ConfigError, GarrisonError, SupervisorGone
from garrison.ipc.system.installed import installed_version
from garrison.supervisor.config.load import Config, load
from garrison.supervisor.processes.capabilities import CONTROLLERS, UNLIMITED, Capabilities
from garrison.supervisor.processes.detect import detect_capabilities
from garrison.supervisor.processes.inquiry import InterpreterProblem, ask
from garrison.supervisor.state.ownership import UnsafeHome, check_home

from .client import request
from .errors import DONE, FAILED
from .output import Invocation, options

NARROW = 60  # columns below which each finding has lines of its own
PYTHONS = ((3, 11), (3, 14))
FILES_LEAST = 4096  # descriptors of a supervisor with some fifty services
DISK_LEAST = 1 << 30  # bytes free, for logs, crash reports and a database


class Finding(NamedTuple):
    """One thing that was looked at."""

    what: str
    state: str  # in words
    mend: str = ""  # what to do; empty: it is as it should be


@click.command(epilog="Example: garrison doctor")
@options
def doctor(invocation: Invocation) -> int:
    """Show what this machine lacks for a host.

    With what mends it. Reads only; exits 1 if something is to be mended. Errors of the
    config itself are those of garrison check.
    """
    config, problem = _config(invocation)
    findings = [*problem, *examine(config, invocation.home)]
    bad = [one for one in findings if one.mend]
    invocation.answer({"findings": [one._asdict() for one in findings], "sound": not bad})
    columns = shutil.get_terminal_size((200, 50)).columns
    for line in lines_of(findings, columns):
        invocation.say(line)
    return FAILED if bad else DONE


def _config(invocation: Invocation) -> tuple[Config | None, list[Finding]]:
    """Return the config, if there is one that can be used, and what is wrong with it."""
    if not invocation.config[0].exists():
        return None, []
    try:
        return load(invocation.config, invocation.home_option), []
    except ConfigError as error:
        return None, [Finding("config", f"{error}", "Run garrison check")]


def lines_of(findings: Sequence[Finding], columns: int) -> Iterator[str]:
    """Yield the findings, those to be mended last: they are seen first.

    Args:
        findings: All.
        columns: Of the terminal. In a narrow one, each has lines of its own.
    """
    width = max(len(one.what) for one in findings)
    for one in sorted(findings, key=lambda one: bool(one.mend)):
        mark = click.style("!", fg="yellow") if one.mend else click.style("✓", fg="green")
        indent = " " * (width + 4 if columns >= NARROW else 2)
        text = one.state.rstrip(".") + (f". {one.mend}" if one.mend else "")
        wrapped = textwrap.wrap(text, max(columns - len(indent), 20), break_long_words=False)
        if columns >= NARROW:
            first, *rest = wrapped
            yield f"{mark} {one.what:<{width}}  {first}"
        else:
            yield f"{mark} {one.what}"
            rest = wrapped
        yield from (f"{indent}{line}" for line in rest)


def examine(config: Config | None, home: Path) -> Iterator[Finding]:
    """Yield everything that is looked at."""
    each = config.host.cgroups if config is not None else True
    machine = detect_capabilities(each)
    yield python(sys.version_info[:2])
    yield pidfds(getattr(os, "pidfd_open", None))
    yield descriptors(machine)
    yield cgroups(machine)
    yield user(machine)
    yield memory(Path("/proc/self/smaps_rollup"))
    if config is not None:
        yield private_home(config)
        yield disk(config.host.state)
        yield from libraries(config, os.environ)
        yield from interpreters(config, os.environ)
    yield supervisor(home)


def python(version: tuple[int, ...]) -> Finding:
    """Return whether this Python is one that garrison is tested with."""
    first, last = PYTHONS
    shown = ".".join(map(str, version))
    if first <= version <= last:
        return Finding("python", shown)
    known = f"{first[0]}.{first[1]} to {last[0]}.{last[1]}"
    return Finding("python", shown, f"Use {known}: no other is tested")


def pidfds(opens: Callable[[int], int] | None) -> Finding:
    """Return whether processes can be named by descriptors, without which nothing works."""
    try:
        assert opens is not None
        os.close(opens(os.getpid()))
    except (AssertionError, OSError):
        return Finding("pidfd", "missing", "Use Linux 5.4 or later; a sandbox may forbid it, too")
    return Finding("pidfd", "there")


def descriptors(machine: Capabilities) -> Finding:
    """Return whether the supervisor may open enough files."""
    hard = machine.files_hard
    if hard == UNLIMITED or hard >= FILES_LEAST:
        return Finding("open files", "no limit" if hard == UNLIMITED else f"up to {hard:,}")
    mend = f"Raise the hard limit to {FILES_LEAST:,}: LimitNOFILE= of a unit, or limits.conf"
    return Finding("open files", f"up to {hard:,}", mend)


def cgroups(machine: Capabilities) -> Finding:
    """Return whether the kernel can hold limits of services."""
    missing = [one for one in CONTROLLERS.values() if one not in machine.controllers]
    if not missing:
        return Finding("cgroups", f"with {', '.join(sorted(machine.controllers))}")
    keys = ", ".join(key for key, one in CONTROLLERS.items() if one in missing)
    return Finding(
        "cgroups",
        machine.no_controllers or f"without {', '.join(missing)}",
        f"The kernel does not hold {keys}; memory_max and processes are then held by restarts. "
        "Delegate a cgroup: garrison systemd writes a unit that does",
    )


def user(machine: Capabilities) -> Finding:
    """Return who services can run as."""
    if machine.root:
        return Finding("user", "root: services can run as users of their own")
    return Finding("user", f"uid {os.geteuid()}: every service runs as this user")


def memory(rollup: Path) -> Finding:
    """Return whether shared memory is distinguished from a service's own."""
    try:
        rollup.read_bytes()
    except OSError as error:
        mend = "memory_max counts shared pages once for each process; mount /proc without hidepid"
        return Finding("memory", f"{rollup} cannot be read: {error.strerror}", mend)
    return Finding("memory", "shared pages are counted once")


def private_home(config: Config) -> Finding:
    """Return whether the home is safe from other users."""
    home = config.host.home
    try:
        check_home(config.host, change=False)
    except UnsafeHome as error:
        return Finding("home", str(home), str(error))
    return Finding("home", f"{home} is this user's own")


def disk(state: Path) -> Finding:
    """Return whether there is room for what is kept."""
    there = next(one for one in (state, *state.parents) if one.exists())
    free = shutil.disk_usage(there).free
    shown = f"{free / (1 << 30):.1f} GiB free at {there}"
    if free >= DISK_LEAST:
        return Finding("disk", shown)
    return Finding("disk", shown, "Make room: a full disk stops the mailbox and the database")


def libraries(config: Config, environ: Mapping[str, str]) -> Iterator[Finding]:
    """Yield each configured plugin whose library is not installed."""
    from .catalogue import installed_plugins, pip_command

    used = {spec.use: name for name, spec in config.plugins.items() if spec.python is None}
    complete = True
    for plugin in installed_plugins(environ, tuple(used)) if used else ():
        if plugin.missing:
            complete = False
            state = f"{used[plugin.name]} lacks {', '.join(plugin.missing)}"
            yield Finding("library", state, f"Run {pip_command(plugin.missing)}")
    if complete:
        yield Finding("library", "every plugin of the config has its libraries")


def interpreters(config: Config, environ: Mapping[str, str]) -> Iterator[Finding]:
    """Yield each other interpreter that a plugin names, and whether it can run services."""
    for path in dict.fromkeys(one.interpreter for one in config.plugins.values() if one.python):
        try:
            found = ask(path, environ, installed_version())
        except InterpreterProblem as error:
            yield Finding(
                "python", f"that of {_plugins_of(config, path)} cannot be used", str(error)
            )
            continue
        version = tuple(int(part) for part in found.python.split(".")[:2] if part.isdigit())
        state = f"{found.python}, garrison {found.garrison}: {path}"
        yield python(version)._replace(state=state)


def _plugins_of(config: Config, path: str) -> str:
    return ", ".join(name for name, one in config.plugins.items() if one.interpreter == path)


def supervisor(home: Path) -> Finding:
    """Return whether a host runs here, and by which version."""
    installed = installed_version()
    try:
        head: dict[str, Any] = request(home, "status")["supervisor"]
    except SupervisorGone:
        return Finding("host", f"does not run; version {installed} is installed")
    except GarrisonError as error:
        return Finding("host", "does not answer", f"{error}")
    if head["version"] != installed:
        state = f"runs {head['version']}, and {installed} is installed"
        return Finding("host", state, "Run garrison upgrade")
    return Finding("host", f"runs {installed} (pid {head['pid']})")

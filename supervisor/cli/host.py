"""Verbs about the host: up, down, upgrade, check, init, version."""

import contextlib
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

import click

from garrison.ipc.errors import OrderFailed, SupervisorGone
from garrison.ipc.sockets import raise_descriptor_limit
from garrison.ipc.system import log_stream, malloc, process_tree
from garrison.supervisor.config.load import Config, load
from garrison.supervisor.control.status import own_version
from garrison.supervisor.state.home import check_paths_unchanged, make_private

from .client import request
from .output import CONFIG_UNUSABLE, DONE, SETTINGS, answer, envelope, fail, options, say

DETACH_S = 60.0  # for the services to settle
LOOK_S = 0.05

_config_option = click.option(
    "-c",
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("config.toml"),
    show_default=True,
    help="The configuration.",
)


@click.command()
@_config_option
@click.option("--detach", is_flag=True, help="Return once the services run; go on without them.")
@click.option("--events-only", is_flag=True, hidden=True)
@click.option("--prove", is_flag=True, hidden=True)
@options
def up(config: Path, detach: bool, events_only: bool, prove: bool) -> int:
    """Run the host in the foreground; Ctrl-C stops it in order, twice at once."""
    SETTINGS.config = config
    loaded = load(config, SETTINGS.said_home)
    if prove:
        return _prove(loaded)
    return _detached(loaded) if detach else _foreground(loaded, events_only)


def _foreground(config: Config, events_only: bool) -> int:
    from garrison.supervisor.logs.console import Console
    from garrison.supervisor.logs.events import EventLog
    from garrison.supervisor.loop import Supervisor
    from garrison.supervisor.state.handover import SIGNALS, take_handover

    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # until the loop listens: then all ends well
    raise_descriptor_limit()
    malloc.keep_freed_memory()
    if stat.S_ISREG(os.fstat(1).st_mode):
        log_stream.install(log_stream.standard())
    process_tree.forbid_cores()  # it has every service's secrets in its memory
    host = config.host
    make_private(host.home)
    make_private(host.logs)
    journal = EventLog(host.logs / "events.jsonl")
    journal.recall()
    console = Console(
        host.logs,
        SETTINGS.garrison(_next_verb(config)),
        envelope if SETTINGS.json else None,
        not events_only,
    )
    journal.listeners.append(console.heard)
    handover = take_handover(os.environ)
    supervisor = Supervisor(config, os.environ, journal, handover)
    say(f"garrison {own_version()}, home {host.home}, config {config.path}")
    console.start()
    try:
        supervisor.run()
    finally:
        console.close()
    upgrade = supervisor.upgrade
    if upgrade.successor:
        _exec_successor(upgrade.successor, upgrade.environ, config, events_only)
    return DONE if supervisor.failure is None else fail(supervisor.failure)


def _exec_successor(
    python: str, environ: dict[str, str], config: Config, events_only: bool
) -> NoReturn:
    """Put a new supervisor in this one's place: the same process, with its environment of old."""
    from garrison.supervisor.state.handover import supervisor_command

    words = supervisor_command(python, config)
    words += [*(["--events-only"] if events_only else []), *(["--json"] if SETTINGS.json else [])]
    sys.stdout.flush()
    os.execve(python, words, environ)


def _prove(config: Config) -> int:
    """Do all that a supervisor does before it touches anything: show that it could take over."""
    from garrison.supervisor.state import adoption
    from garrison.supervisor.state.snapshot import load_snapshot

    check_paths_unchanged(config)
    living, problem = load_snapshot(config.host.state, set_aside=False)
    if living is None:
        raise OrderFailed("failed", problem or f"{config.host.state}/living.json is not there")
    adoption.adoptable(config, living)
    return DONE


def _next_verb(config: Config) -> str:
    return "chat" if "chat" in config.plugins else "status"


def _detached(config: Config) -> int:
    from garrison.supervisor.state.handover import supervisor_command

    home = config.host.home
    make_private(home)
    make_private(config.host.logs)
    log = config.host.logs / "supervisor.log"
    with log.open("ab") as output:
        begun = output.tell()
        process = subprocess.Popen(
            [*supervisor_command(sys.executable, config), "--events-only"],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    until = time.monotonic() + DETACH_S
    data: dict[str, Any] = {}
    while time.monotonic() < until:
        if process.poll() is not None:
            raise _ended_early(process.returncode, log, begun)
        with contextlib.suppress(SupervisorGone):
            data = request(home, "status")
            head = data["supervisor"]
            if head["pid"] == process.pid and head["settled"]:
                break
        time.sleep(LOOK_S)
    answer(data)
    if not SETTINGS.json and data:
        from .render import (
            status as render,  # rich takes a while to import; the other verbs do without
        )

        render.show(*render.status_table(data))
    say(f"now: {SETTINGS.garrison(_next_verb(config))}")
    return DONE


def _ended_early(code: int, log: Path, begun: int) -> OrderFailed:
    with log.open("rb") as file:
        file.seek(begun)
        lines = file.read().decode("utf-8", "replace").strip().splitlines()
    errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    text = errors[-1] if errors else f"the supervisor ended at once (exit {code}); see {log}"
    return OrderFailed("ConfigError" if code == CONFIG_UNUSABLE else "failed", text)


@click.command()
@options
def down() -> int:
    """Stop every service in reverse order of the starts, then the supervisor."""
    home = SETTINGS.home
    pid = request(home, "status", ())["supervisor"]["pid"]
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return DONE
    until = time.monotonic() + DETACH_S
    try:
        while True:
            try:
                request(home, "down", pidfd=pidfd)
            except SupervisorGone:  # it ended before its answer was read
                if not process_tree.ended(pidfd, LOOK_S) and time.monotonic() < until:
                    continue  # or became another by an upgrade, which has not been asked
            break
        if not process_tree.ended(pidfd, DETACH_S):
            raise OrderFailed("timed_out", f"pid {pid} has not ended within {DETACH_S:g} s")
    finally:
        os.close(pidfd)
    answer({"pid": pid})
    say(f"stopped (pid {pid})")
    return DONE


@click.command()
@options
def upgrade() -> int:
    """Put the installed version in the running supervisor's place; no service ends for it."""
    from garrison.supervisor.state.adoption import adoptable
    from garrison.supervisor.state.snapshot import load_snapshot

    home = SETTINGS.home
    before = request(home, "status")
    head = before["supervisor"]
    config = load(Path(head["config"]), home)
    check_paths_unchanged(config)
    living, problem = load_snapshot(config.host.state, set_aside=False)
    if living is None:
        raise OrderFailed("failed", problem or f"{config.host.state}/living.json is not there")
    adoptable(config, living)  # a config that does not fit is found here, not by the successor
    try:
        request(home, "upgrade", python=sys.executable)
    except SupervisorGone:  # unless another upgrade at the same moment was faster
        if request(home, "status")["supervisor"]["boot"] == head["boot"]:
            raise
    after = _successor(home, head)
    changed = [row["name"] for row in after["services"] if row["pid"] not in _pids(before)]
    answer({"pid": head["pid"], "from": head["version"], "version": own_version(), **after})
    say(f"upgraded {head['version']} to {own_version()} (pid {head['pid']})")
    kept = len(after["services"]) - len(changed)
    going = "1 service goes on as it was" if kept == 1 else f"{kept} services go on as they were"
    say(f"{going}; restart each for its new code when it suits you")
    for name in changed:
        say(f"{name} was replaced or is not running; garrison status {name} says why")
    return DONE


def _pids(status: dict[str, Any]) -> set[int | None]:
    return {row["pid"] for row in status["services"]}


def _successor(home: Path, head: dict[str, Any]) -> dict[str, Any]:
    """Return the status once a new supervisor has adopted everything."""
    until = time.monotonic() + DETACH_S
    while time.monotonic() < until:
        with contextlib.suppress(SupervisorGone):
            data: dict[str, Any] = request(home, "status")
            now = data["supervisor"]
            if now["boot"] != head["boot"] and now["settled"]:
                return data
        time.sleep(LOOK_S)
    text = f"no new supervisor answered within {DETACH_S:g} s; look at {home}/logs/supervisor.log"
    raise OrderFailed("timed_out", f"{text}, and run: garrison up")


@click.command()
@_config_option
@options
def check(config: Path) -> int:
    """Look whether a configuration can be used, and read its plugins, each on its own."""
    from garrison.supervisor.check import check_config

    found = check_config(load(config, SETTINGS.said_home), os.environ)
    if SETTINGS.json and not found.usable:
        raise OrderFailed("ConfigError", found.errors[0], found.as_data())
    answer(found.as_data())
    for line in found.lines():
        say(line)
    return DONE if found.usable else CONFIG_UNUSABLE


@click.command()
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False))
@options
def init(directory: Path) -> int:
    """Make a directory with a config and a first service that run."""
    from .init import write_template

    made = write_template(directory)
    answer({"files": [str(path) for path in made]})
    for path in made:
        say(f"wrote {path}")
    say(f"now: cd {directory} && garrison up")
    return DONE


@click.command()
@options
def version() -> int:
    """Show the version."""
    answer({"version": own_version()})
    say(f"garrison {own_version()}")
    return DONE

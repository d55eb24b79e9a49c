"""Verbs about the host: up, down, upgrade. Durations are seconds."""

import contextlib
import gc
import importlib
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from garrison.ipc.errors import ConfigError, OrderFailed, SupervisorGone
from garrison.ipc.system import log_stream, malloc, process_tree
from garrison.ipc.system.descriptors import check_descriptor_limit, raise_descriptor_limit
from garrison.ipc.system.installed import installed_version
from garrison.ipc.system.locks import is_locked
from garrison.supervisor.config.host_spec import HostSpec, LogFormat
from garrison.supervisor.config.load import Config, load
from garrison.supervisor.state.accepted_store import open_config
from garrison.supervisor.state.home import check_paths_unchanged, make_private
from garrison.supervisor.state.ownership import check_home

from .client import NO_LIMIT, EndingSupervisor, request
from .errors import CONFIG_UNUSABLE, DONE, FAILED, NOT_RUNNING
from .output import Invocation, encode, envelope, options
from .progress import OrderProgress, Progress

if TYPE_CHECKING:
    from garrison.supervisor.loop import Supervisor
    from garrison.supervisor.processes.early_launcher import EarlyLauncher
    from garrison.supervisor.state.handover import Handover
    from garrison.supervisor.state.identity import ConfigIdentity

SETTLE_S = 60.0  # for the services to run or fail, and for a supervisor to end
POLL_S = 0.05


@click.command(epilog="Examples: garrison up; garrison up -c bot.toml --detach")
@click.option("--detach", is_flag=True, help="Run in the background; return once services run.")
@click.option("--strict", is_flag=True, help="Refuse a configuration that does not fit in part.")
@click.option("--watch", is_flag=True, help="Restart services whose code or config was saved.")
@click.option(
    "--another",
    is_flag=True,
    help="Allow a second host of this configuration, with another home.",
)
@click.option("--events-only", is_flag=True, hidden=True)
@click.option("--check-takeover", "--prove", "check_takeover", is_flag=True, hidden=True)
@options
def up(
    invocation: Invocation,
    detach: bool,
    strict: bool,
    watch: bool,
    another: bool,
    events_only: bool,
    check_takeover: bool,
) -> int:
    """Run the host in the foreground.

    Ctrl-C stops the services in order; a second Ctrl-C kills them. With --detach, exits 3 if a
    service that is wanted does not run.

    A part of the configuration that does not fit is replaced by what the host accepted last, and
    reported; with --strict, or if nothing was accepted yet, it is an error: exit 5.
    """
    if strict:
        config = replace(load(invocation.config, invocation.home_option), strict=True)
    else:
        config = open_config(invocation.config, invocation.home_option, os.environ)
    if check_takeover:
        return _check_takeover(config)
    if detach and watch:
        raise click.UsageError(
            "--watch prints what it restarts, so it cannot be combined with --detach"
        )
    check_descriptor_limit(len(config.plugins))  # each has a service, usually more
    if detach:
        gc.enable()
        return _run_detached(invocation, config, another)
    return _run_foreground(invocation, config, events_only, another=another, watch=watch)


def _run_foreground(
    invocation: Invocation, config: Config, events_only: bool, *, another: bool, watch: bool
) -> int:
    from garrison.supervisor.processes import early_launcher
    from garrison.supervisor.signals import blocked_at_start
    from garrison.supervisor.state.handover import take_handover
    from garrison.supervisor.state.identity import ConfigIdentity

    signal.pthread_sigmask(signal.SIG_BLOCK, blocked_at_start())  # until the loop handles them
    raise_descriptor_limit()
    malloc.keep_freed_memory()
    if stat.S_ISREG(os.fstat(1).st_mode):
        log_stream.install(log_stream.standard())
        if Path(own := log_stream.path_of(1)).parent == config.host.logs:  # with --detach
            log_stream.follow(own)
    process_tree.forbid_cores()  # this process has every service's secrets in its memory
    host = config.host
    handover = take_handover(os.environ)
    identity = ConfigIdentity(config, handover.names)
    identity.claim(alone=not (another or handover.locks))  # before anything is written
    if not handover.locks:
        _finish_update(host.state)
    _make_for_logs(host)
    early = invocation.early or (None if handover.locks else early_launcher.begin(os.environ))
    try:
        if early is not None:
            _configure_early(early, config)
        supervisor, written = _supervise(
            invocation, config, identity, handover, early, events_only=events_only, watch=watch
        )
    finally:
        if early is not None:
            early.drop()
    upgrade = supervisor.upgrade
    if upgrade.successor:
        flags = ["--events-only"] if events_only else []
        flags += ["--json"] if invocation.json else []
        flags += ["--watch"] if watch else []
        _exec_successor(upgrade.successor, upgrade.environ, config, flags)
    if not written:  # nothing more can be printed, and the thread has the stream's lock
        os._exit(DONE if supervisor.failure is None else FAILED)
    return DONE if supervisor.failure is None else invocation.fail(supervisor.failure)


def _configure_early(early: "EarlyLauncher", config: Config) -> None:
    """Send a launcher that was started early what it needs; end it if a former one may run."""
    from garrison.supervisor.processes.launcher_process import configure_early

    log = config.host.logs / "launcher.log"
    if not configure_early(early, config.host, log, config.plugins.values()):
        early.drop()


def _supervise(
    invocation: Invocation,
    config: Config,
    identity: "ConfigIdentity",
    handover: "Handover",
    early: "EarlyLauncher | None",
    *,
    events_only: bool,
    watch: bool,
) -> tuple["Supervisor", bool]:
    """Run the supervisor until its end; return it, and whether all output was written."""
    from garrison.supervisor.components import local_engine
    from garrison.supervisor.logs.console import Console
    from garrison.supervisor.logs.events import EventLog
    from garrison.supervisor.loop import Supervisor

    host = config.host
    journal = EventLog(host.logs / "events.jsonl", host.log_bytes, host.log_files)
    journal.recall()
    console = Console(
        host.logs,
        invocation.command(_next_verb(config)),
        _encoder(invocation, host),
        not events_only,
    )
    journal.listeners.append(console.on_event)
    engine = partial(local_engine, early=early)
    supervisor = Supervisor(config, os.environ, journal, identity, handover, engine)
    console.say(f"garrison {installed_version()}, home {host.home}, config {config.shown}")
    console.start()
    gc.freeze()  # what was imported is not looked through
    gc.enable()
    try:
        with _watching(invocation, config) if watch else contextlib.nullcontext():
            supervisor.run()
    finally:
        written = console.close()
    return supervisor, written


def _finish_update(state: Path) -> None:
    """Have a host whose update was killed run one version, whole: the former, or the new one."""
    if not (state / "update.json").exists():
        return
    from garrison.supervisor.update.journal import Phase
    from garrison.supervisor.update.recovery import recover

    if is_locked(state.parent / "supervisor.lock"):
        return  # a host runs, and this one will be refused
    done = recover(state, lambda line: click.echo(line, err=True))
    if done is not None and done.phase is Phase.DONE and done.staged != sys.prefix:
        environment = f"{done.environment}/bin/python"
        os.execv(environment, [environment, "-P", "-m", "garrison.supervisor.cli", *sys.argv[1:]])


def _encoder(invocation: Invocation, host: HostSpec) -> Callable[[Any], str] | None:
    """Return what encodes an event or a line for programs; None: they are printed for people."""
    if invocation.json:
        return envelope
    return _json_line if host.log_format is LogFormat.JSON else None


def _json_line(value: Any) -> str:
    """Return an event, or a line of a service, as an object with its time."""
    if isinstance(value, dict):
        now = datetime.fromtimestamp(time.time(), UTC).isoformat(timespec="milliseconds")
        value = {"time": now.replace("+00:00", "Z"), **value}
    return encode(value).decode()


@contextlib.contextmanager
def _watching(invocation: Invocation, config: Config) -> Iterator[None]:
    from .watch import Watcher

    watcher = Watcher(config, invocation.say)
    watcher.start()
    try:
        yield
    finally:
        watcher.close()


def _exec_successor(
    python: str, environ: dict[str, str], config: Config, flags: list[str]
) -> NoReturn:
    """Replace this process's program with a new supervisor, in the environment of the first."""
    from garrison.supervisor.state.handover import supervisor_command

    os.execve(python, [*supervisor_command(python, config), *flags], environ)


def _check_takeover(config: Config) -> int:
    """Check that this version can adopt the running workers; change nothing."""
    importlib.import_module("garrison.supervisor.loop")  # else a broken version would take over
    from garrison.supervisor.state.adoption import adoptable
    from garrison.supervisor.state.snapshot import load_snapshot

    check_paths_unchanged(config)
    snapshot, problem = load_snapshot(config.host.state, set_aside=False)
    if snapshot is None:
        raise OrderFailed("failed", problem or f"{config.host.state}/living.json is not there")
    adoptable(config, snapshot)
    return DONE


def _next_verb(config: Config) -> str:
    return "chat" if "chat" in config.plugins else "status"


def _make_for_logs(host: HostSpec) -> None:
    """Make the folders that are needed before the home is locked."""
    check_home(host)
    make_private(host.home)
    make_private(host.logs)


def _run_detached(invocation: Invocation, config: Config, another: bool) -> int:
    from garrison.supervisor.state.identity import check_alone

    log = config.host.logs / "supervisor.log"
    if not another:
        check_alone(config)
    process, begun = _spawn(config, log, ["--another"] if another else [])
    with OrderProgress("up", "starting", quiet=invocation.hides_progress) as shown:
        data = _until_settled(config, process, lambda: _ended_early(process, log, begun), shown)
    invocation.answer(data)
    if not invocation.json and data:
        from .render.status_table import status_table

        for line in status_table(data):
            invocation.say(line)
    invocation.say(f"now: {invocation.command(_next_verb(config))}")
    running = all(row["state"] == "running" for row in data.get("services", ()) if row["wanted"])
    return DONE if running else NOT_RUNNING


def _until_settled(
    config: Config,
    process: subprocess.Popen[bytes],
    ended: Callable[[], OrderFailed],
    shown: OrderProgress,
) -> dict[str, Any]:
    """Return the status once a new supervisor's services run or have failed, or a minute is over.

    Raises:
        OrderFailed: What `ended` returns, if the supervisor has ended.
    """
    deadline = time.monotonic() + SETTLE_S
    data: dict[str, Any] = {}
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise ended()
        with contextlib.suppress(SupervisorGone):
            data = request(config.host.home, "status")
            head = data["supervisor"]
            if head["pid"] == process.pid:
                if head["settled"]:
                    break
                shown.look(data)
        time.sleep(POLL_S)
    return data


def _spawn(config: Config, log: Path, flags: list[str]) -> tuple[subprocess.Popen[bytes], int]:
    """Start a supervisor in the background; return it, and where its output begins in the log."""
    from garrison.supervisor.state.handover import supervisor_command

    _make_for_logs(config.host)
    options = ["--events-only", *flags, *(["--strict"] if config.strict else [])]
    with os.fdopen(log_stream.open_log(str(log)), "ab") as output:
        begun = output.tell()
        process = subprocess.Popen(
            [*supervisor_command(sys.executable, config), *options],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    return process, begun


def _ended_early(process: subprocess.Popen[bytes], log: Path, begun: int) -> OrderFailed:
    code = process.returncode
    with log.open("rb") as file:
        file.seek(begun)
        lines = file.read().decode("utf-8", "replace").strip().splitlines()
    errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    text = errors[-1] if errors else f"the supervisor ended at once (exit {code}); see {log}"
    return OrderFailed("ConfigError" if code == CONFIG_UNUSABLE else "failed", text)


@click.command(epilog="Example: garrison down")
@options
def down(invocation: Invocation) -> int:
    """Stop every service, then the supervisor. Dependents are stopped first.

    Run by a service, it returns at once.
    """
    home = invocation.home
    ending = EndingSupervisor(home, request(home, "status")["supervisor"])
    try:
        with OrderProgress("down", "stopping", quiet=invocation.hides_progress) as shown:
            answer = _order_down(home, ending, shown)
        if sender := answer.get("from_inside"):
            invocation.answer({"pid": ending.pid, **answer})
            invocation.say(
                f"the host is being stopped; not waited for: this order comes from inside {sender}"
            )
            return DONE
        if not ending.ended(SETTLE_S):
            raise OrderFailed("timed_out", f"pid {ending.pid} has not ended within {SETTLE_S:g} s")
    finally:
        ending.close()
    invocation.answer({"pid": ending.pid})
    invocation.say(f"stopped (pid {ending.pid})")
    return DONE


def _order_down(home: Path, ending: EndingSupervisor, shown: OrderProgress) -> dict[str, Any]:
    """Have the supervisor stop everything; return its answer, empty if it ended before that."""
    deadline = time.monotonic() + SETTLE_S
    while True:
        try:
            answer: dict[str, Any] = request(
                home,
                "down",
                wait=NO_LIMIT,
                pidfd=ending.pidfd,
                once=True,
                watch=shown.watch,
            )
        except SupervisorGone:
            # It ended before its answer was read. Or an upgrade replaced it, and the next
            # supervisor has not received the order.
            if not ending.ended(POLL_S) and time.monotonic() < deadline:
                continue
            return {}
        return answer


@click.command(epilog="Example: pip install --upgrade garrison && garrison upgrade")
@options
def upgrade(invocation: Invocation) -> int:
    """Replace the running supervisor with the installed version. Services keep running.

    A configuration that does not fit is refused, unless the host runs without that part already.
    """
    home = invocation.home
    before = request(home, "status")
    head = before["supervisor"]
    _check_config(head, home)
    with Progress(None, "upgrading", quiet=invocation.hides_progress):
        try:
            request(home, "upgrade", wait=NO_LIMIT, once=True, python=sys.executable)
        except SupervisorGone:  # unless a concurrent upgrade was faster
            if request(home, "status")["supervisor"]["boot"] == head["boot"]:
                raise
        after = _successor(home, head)
    version = after["supervisor"]["version"]
    data = {"pid": head["pid"], "from": head["version"], "version": version, **after}
    invocation.answer(data)
    invocation.say(_upgraded(head, version))
    pids = _pids(before) - {None}
    kept = [row["name"] for row in after["services"] if row["pid"] in pids]
    changed = [
        row["name"] for row in after["services"] if row["wanted"] and row["name"] not in kept
    ]
    running = "1 service runs on" if len(kept) == 1 else f"{len(kept)} services run on"
    newer = version != head["version"]
    more = " with the former code; restart each when it suits you" if newer else ""
    invocation.say(f"{running}{more}")
    for rejected in after["supervisor"].get("config_rejected", ()):
        invocation.say(f"! config rejected: {rejected['text']}")
    for name in changed:
        invocation.say(f"{name} was replaced or is not running: garrison status {name} says why")
    return DONE


def _upgraded(head: dict[str, Any], version: str) -> str:
    """Return what became of the supervisor, as a line."""
    if version != head["version"]:
        return f"upgraded {head['version']} to {version} (pid {head['pid']})"
    return (
        f"the version is the same, {version}: the supervisor was replaced, and has read the "
        f"config (pid {head['pid']})"
    )


def _check_config(head: dict[str, Any], home: Path) -> None:
    """Check the config with the installed version, while the supervisor runs on.

    Args:
        head: The supervisor's row of `status`.
        home: The home.

    Raises:
        ConfigError: A part of it does not fit, and the host does not run without it yet.
    """
    paths = tuple(map(Path, head.get("config_paths") or [head["config"]]))
    try:
        _check_takeover(load(paths, home))
    except ConfigError as error:
        if not head.get("config_rejected"):
            text = f"{error.problem}. Nothing was changed: correct it, then run garrison upgrade"
            raise ConfigError(text, path=error.path, line=error.line, key=error.key) from error
        _check_takeover(open_config(paths, home, os.environ))


def _pids(status: dict[str, Any]) -> set[int | None]:
    return {row["pid"] for row in status["services"]}


def _successor(home: Path, head: dict[str, Any]) -> dict[str, Any]:
    """Return the status once a new supervisor has adopted the workers."""
    deadline = time.monotonic() + SETTLE_S
    while time.monotonic() < deadline:
        with contextlib.suppress(SupervisorGone):
            data: dict[str, Any] = request(home, "status")
            now = data["supervisor"]
            if now["boot"] != head["boot"] and now["settled"]:
                return data
        time.sleep(POLL_S)
    text = f"no new supervisor answered within {SETTLE_S:g} s; see {home}/logs/supervisor.log"
    raise OrderFailed("timed_out", f"{text}, then run: garrison up")

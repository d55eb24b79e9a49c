"""The verb that puts a new version in place, and the former one back where it does not come up."""

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import click
import msgspec

from garrison.ipc.errors import GarrisonError, OrderFailed, SupervisorGone
from garrison.ipc.system import process_tree
from garrison.ipc.system.locks import hold_lock
from garrison.supervisor.config.load import Config
from garrison.supervisor.state.accepted_store import open_config
from garrison.supervisor.update.environment import (
    current_of,
    facts_of,
    next_number,
    own_environment,
    remove_version,
    versions_of,
)
from garrison.supervisor.update.journal import (
    Phase,
    Recovery,
    Update,
    former_of,
    recovery,
    title,
    to_move,
)
from garrison.supervisor.update.journal_file import LOCK, read_update
from garrison.supervisor.update.recovery import finish
from garrison.supervisor.update.refusals import refusal

from .client import is_operator, request
from .durations import Span
from .errors import DONE
from .output import Invocation, options
from .progress import Progress
from .update_packages import planned_version, versions_in
from .update_staging import (
    GARRISON,
    Sources,
    changed_packages,
    check_sources,
    check_space,
    make_environment,
    prove,
)
from .update_steps import UpdateSteps

PERIOD_S = 30.0
GOES_ON = "everything is as it was"


@click.command(epilog="Example: garrison update --from dist/garrison-0.2.0-py3-none-any.whl")
@click.option(
    "--from",
    "source",
    type=click.Path(path_type=Path, exists=True),
    metavar="WHEEL|CHECKOUT",
    help="The new version of garrison.",
)
@click.option(
    "--plugin",
    "plugins",
    multiple=True,
    metavar="NAME=WHEEL|FOLDER",
    help="The new version of a plugin's package; repeatable.",
)
@click.option(
    "--index",
    default="",
    metavar="URL",
    help="Where missing dependencies are looked for; `default` is pip's. Without: nowhere.",
)
@click.option(
    "--period",
    type=Span(),
    default=PERIOD_S,
    show_default=True,
    metavar="S",
    help="How long each service has to run, in good health, before the next one.",
)
@click.option("--back", is_flag=True, help="Return to the version before the last update.")
@click.option("--dry-run", is_flag=True, help="Show what would change.")
@click.option("--resume", is_flag=True, hidden=True)
@options
def update(
    invocation: Invocation,
    source: Path | None,
    plugins: tuple[str, ...],
    index: str,
    period: float,
    back: bool,
    dry_run: bool,
    resume: bool,
) -> int:
    """Run a new version, with a way back.

    Packages are installed beside the running ones, a backup is made, and the services move one by
    one. Packages and data are put back where one does not run for --period.
    """
    sources = Sources(source, _named(plugins), index)
    if resume + back + bool(sources.all) != 1:
        raise click.UsageError("name what is new, with --from or --plugin, or use --back")
    with _Host(invocation) as host:
        if resume:
            return host.resume()
        plan = host.plan_back() if back else host.plan(sources)
        if dry_run:
            return _show_plan(invocation, host, plan, sources)
        return _carry_out(invocation, host, plan, sources, period)


def _named(plugins: tuple[str, ...]) -> dict[str, Path]:
    found = dict[str, Path]()
    for word in plugins:
        name, equals, path = word.partition("=")
        if not (name and equals and Path(path).exists()):
            raise click.UsageError(
                f"--plugin {word}: write NAME=WHEEL or NAME=FOLDER that is there"
            )
        found[name] = Path(path)
    return found


class _Host:
    """The running host that is updated, and the lock of its update.

    Args:
        invocation: The command line.
    """

    def __init__(self, invocation: Invocation) -> None:
        self._invocation, self.home = invocation, invocation.home
        if is_operator(self.home):
            raise OrderFailed("not_allowed", "an update is for the host's own user, and root")
        if process_tree.own_mark():
            text = "a service cannot update its own host, which would end it: run it outside"
            raise OrderFailed("failed", text)
        self.status = request(self.home, "status", detail=True)
        self.head = self.status["supervisor"]
        self.configs: list[str] = self.head.get("config_paths") or [self.head["config"]]
        self.config: Config = open_config(tuple(map(Path, self.configs)), self.home, os.environ)
        self.state = self.config.host.state
        self.own = {name for name, one in self.config.plugins.items() if one.python is not None}
        self.environment = own_environment()

    def __enter__(self) -> "_Host":
        lock = hold_lock(self.state / LOCK)
        if lock is None:
            raise OrderFailed("failed", "an update of this host is under way: garrison events -f")
        self._lock = lock
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._lock)

    def steps(self, plan: Update, period: float, progress: Progress) -> UpdateSteps:
        """Return what carries out an update."""

        def show(done: int, total: int, detail: str) -> None:
            progress.total = total or None
            progress.update(done if total else None, detail)

        pid = self.head["pid"]
        return UpdateSteps(self.home, self.state, plan, pid, self.configs, self.own, period, show)

    # --- plans ------------------------------------------------------------------------------

    def plan(self, sources: Sources) -> Update:
        """Return an update to something new. Raises OrderFailed: it cannot be made here."""
        self._check_unfinished()
        text = refusal(facts_of(self.environment, self.head["pid"], self.home))
        if text:
            raise OrderFailed("failed", text)
        if self.head["upgrade_pending"]:
            text = f"{self.head['installed']} is installed, and {self.head['version']} runs"
            raise OrderFailed("failed", f"{text}: run garrison upgrade first")
        for name in sources.plugins:
            self._check_plugin(name)
        check_sources(sources)
        check_space(self.environment, self.state, sources)
        last = read_update(self.state)
        number = max(next_number(self.environment), last.number + 1 if last is not None else 0)
        current, versions = current_of(self.environment), versions_of(self.environment)
        former = current if self.environment.is_symlink() else versions / "1"
        return self._update(number, current, versions / str(number), former)

    def _check_plugin(self, name: str) -> None:
        if name not in self.config.plugins:
            known = ", ".join(self.config.plugins)
            raise OrderFailed("usage", f"--plugin {name}: the config has no such plugin: {known}")
        if name in self.own:
            python = self.config.plugins[name].interpreter
            text = f"--plugin {name}: it runs by {python}: install its new version there, then"
            raise OrderFailed("failed", f"{text} garrison restart --try its services")

    def plan_back(self) -> Update:
        """Return the way back to the version before. Raises OrderFailed: there is none."""
        self._check_unfinished()
        last = read_update(self.state)
        former = Path(former_of(last))
        if last is None or not former_of(last) or not former.is_dir():
            raise OrderFailed("failed", "there is no former version: none was updated here")
        current = current_of(self.environment)
        if not self.environment.is_symlink() or current == former:
            text = f"{self.environment} is no longer as the last update has left it"
            raise OrderFailed("failed", f"{text}: it was made anew since")
        plan = self._update(last.number + 1, current, former, current)
        return msgspec.structs.replace(plan, goes_back=True, after=_version(former))

    def _update(self, number: int, current: Path, staged: Path, former: Path) -> Update:
        return Update(
            number,
            Phase.STAGING,
            str(self.environment),
            str(current),
            str(staged),
            str(former),
            before=self.head["version"],
            after="",
            at=time.time(),
            kept=former_of(read_update(self.state)),
            kinds={row["name"]: row["service_type"] for row in self.status["services"]},
        )

    def _check_unfinished(self) -> None:
        """Put an update back first whose command was killed."""
        last = read_update(self.state)
        if last is not None and recovery(last) is not Recovery.NOTHING:
            self.resume()
            text = f"the update ({title(last)}) was not finished, and is put back now; try again"
            raise OrderFailed("failed", text)

    def resume(self) -> int:
        """Put back an update whose command was killed."""
        last = read_update(self.state)
        if last is None or recovery(last) is Recovery.NOTHING:
            return DONE
        if recovery(last) is not Recovery.RETURN:
            finish(self.state, last, self._invocation.say)
            return DONE
        quiet = self._invocation.hides_progress
        with Progress(None, "putting back", quiet=quiet) as progress:
            steps = self.steps(last, 0.0, progress)
            steps.put_back(last.reason or "its command was killed")
        return DONE


def _version(environment: Path) -> str:
    return versions_in(environment).get(GARRISON, "")


# --- carrying it out --------------------------------------------------------------------------


def _carry_out(
    invocation: Invocation, host: _Host, plan: Update, sources: Sources, period: float
) -> int:
    began = time.monotonic()
    with (
        _interrupted_by_signals(),
        Progress(None, "updating", quiet=invocation.hides_progress, goes_on=GOES_ON) as progress,
    ):
        steps = host.steps(plan, period, progress)
        try:
            _stage(invocation, host, steps, sources, progress)
        except BaseException as error:
            _discard(steps, error)
            raise
        try:
            steps.carry_out()
        except (GarrisonError, OSError, KeyboardInterrupt) as error:
            _put_back(invocation, steps, progress, error)
        steps.clean_up()
    return _report(invocation, steps, time.monotonic() - began)


def _stage(
    invocation: Invocation,
    host: _Host,
    steps: UpdateSteps,
    sources: Sources,
    progress: Progress,
) -> None:
    """Make and prove the new environment, and make the backup."""
    plan = steps.update
    environment, current, staged = map(Path, (plan.environment, plan.current, plan.staged))
    versions = versions_of(environment)
    versions.mkdir(exist_ok=True)
    steps.write(phase=Phase.STAGING)

    def show(what: str) -> None:
        progress.update(None, what)

    if not plan.goes_back:
        make_environment(environment, current, staged, sources, show)
    show("check of the new version")
    steps.write(after=_version(staged), packages=changed_packages(current, staged))
    prove(current, staged, host.home, host.configs)
    show("backup")
    backup = versions / f"before-{plan.number}.tar.gz"
    _back_up(invocation, backup, show)
    steps.write(backup=str(backup))
    steps.event("begun", changed=title(steps.update), backup=str(backup))


def _back_up(invocation: Invocation, file: Path, show: Any) -> None:
    from garrison.supervisor.backup.making import make

    from .backup import backup_plan

    plan, hold, unlock = backup_plan(invocation, False)
    try:
        make(file, plan, hold, show)
    finally:
        unlock()


def _discard(steps: UpdateSteps, error: BaseException) -> None:
    """Remove what an update has made that was not begun."""
    reason = str(error) or type(error).__name__
    with contextlib.suppress(OSError):
        steps.write(phase=Phase.PUT_BACK, reason=reason)
    if not steps.update.goes_back:
        remove_version(Path(steps.update.staged), Path(steps.update.environment))


def _put_back(
    invocation: Invocation, steps: UpdateSteps, progress: Progress, error: BaseException
) -> NoReturn:
    """Put everything back, and raise OrderFailed with what has happened."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # the way back is not left half done
    gone = isinstance(error, SupervisorGone)
    reason = "the supervisor has ended" if gone else str(error) or "it was interrupted"
    invocation.say(f"putting back: {reason}", error=not invocation.json)
    progress.update(None, "putting back")
    steps.put_back(reason)
    update, aside = steps.update, steps.update.set_aside
    text = f"the update ({title(update)}) was put back: {reason}"
    if aside:
        text += f". What the new version had written is in {aside}"
    text += "".join(f". {note}" for note in steps.notes)
    data = {**_data(update), "put_back": True, "reason": reason, "set_aside": aside or None}
    raise OrderFailed("failed", text, data) from error


@contextlib.contextmanager
def _interrupted_by_signals() -> Iterator[None]:
    """Have SIGTERM and SIGHUP end this command as Ctrl-C does: in order."""

    def interrupt(number: int, frame: object) -> NoReturn:
        raise KeyboardInterrupt

    former = {one: signal.signal(one, interrupt) for one in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


# --- output -----------------------------------------------------------------------------------


def _data(update: Update) -> dict[str, Any]:
    return {
        "from": update.before,
        "to": update.after,
        "packages": {
            name: {"from": before or None, "to": after or None}
            for name, (before, after) in update.packages.items()
        },
        "services": list(update.passed),
        "environment": update.environment,
        "former": update.former,
        "backup": update.backup or None,
    }


def _report(invocation: Invocation, steps: UpdateSteps, seconds: float) -> int:
    update = steps.update
    invocation.answer({**_data(update), "put_back": False, "seconds": round(seconds, 3)})
    for line in _package_lines(update.packages):
        invocation.say(line)
    number = len(update.passed)
    moved = "1 service has" if number == 1 else f"{number} services have"
    invocation.say(f"updated; {moved} moved, in {seconds:.0f} s")
    invocation.say(f"backup: {update.backup}")
    invocation.say(f"to return: {invocation.command('update --back')}")
    return DONE


def _package_lines(packages: dict[str, tuple[str, str]]) -> list[str]:
    return [
        f"{name} {before or 'new'} → {after or 'removed'}"
        for name, (before, after) in packages.items()
    ]


def _show_plan(invocation: Invocation, host: _Host, plan: Update, sources: Sources) -> int:
    """Print what an update would change; nothing is made for that."""
    installed = versions_in(Path(plan.current))
    if plan.goes_back:
        packages = changed_packages(Path(plan.current), Path(plan.staged))
    else:
        packages = {}
        for path in sources.all:
            name, version = planned_version(path)
            packages[name] = (installed.get(name, ""), version)
    moved = to_move(host.status["services"], "", host.own)
    resting = [
        row["name"]
        for row in host.status["services"]
        if row["name"] not in moved and row["plugin"] not in host.own
    ]
    data = _data(msgspec.structs.replace(plan, packages=packages))
    invocation.answer({**data, "services": moved, "not_running": resting, "dry_run": True})
    for line in _package_lines(packages):
        invocation.say(line)
    invocation.say(f"restarts, in this order: {', '.join(moved) or 'none'}")
    if resting:
        invocation.say(f"not running, so not tried: {', '.join(resting)}")
    if host.own:
        invocation.say(f"left alone, by interpreters of their own: {', '.join(sorted(host.own))}")
    return DONE

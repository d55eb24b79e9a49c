"""Verbs that move a host, or save it: backup and restore."""

import contextlib
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from garrison.ipc.errors import ConfigError, OrderFailed, SupervisorGone
from garrison.ipc.system import process_tree
from garrison.ipc.system.locks import is_locked
from garrison.supervisor.cli.render.text import counted, sanitize

from .client import is_here, is_operator, request
from .errors import DONE
from .output import Invocation, options
from .progress import Progress

HOLD_S = 3.0  # the services' processes are stopped for at most; most often it is milliseconds
ANSWER_S = 10.0
NOT_SAVED, NOT_RESTORED = "nothing was saved", "nothing was restored"
SHOWN_MOST = 6  # names in one line


@click.command(epilog="Example: garrison backup /var/backups/bots-$(date +%F).tar.gz")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE")
@click.option("--with-secrets", is_flag=True, help="Also env_files and files of secrets.")
@click.option("--force", is_flag=True, help="Replace FILE if it is there.")
@options
def backup(invocation: Invocation, file: Path, with_secrets: bool, force: bool) -> int:
    """Save a host into one file, while it runs.

    Config, orders, data folders, databases and mailbox are saved as of one moment, for which the
    services are held, most often for milliseconds. Secrets are left out unless --with-secrets.
    """
    from garrison.supervisor.backup.making import make
    from garrison.supervisor.backup.manifest import BackupError

    if file.exists() and not force:
        raise BackupError(f"{file} is there already: name another file, or add --force")
    if not file.absolute().parent.is_dir():
        raise BackupError(f"there is no folder {file.absolute().parent}: make it")
    with Progress(None, "saving", quiet=invocation.hides_progress, goes_on=NOT_SAVED) as shown:
        plan, hold, unlock = backup_plan(invocation, with_secrets)
        try:
            manifest = make(file.absolute(), plan, hold, lambda what: shown.update(None, what))
        finally:
            unlock()
    data = {
        "file": str(file.absolute()),
        "bytes": file.stat().st_size,
        "services": manifest.services,
        "files": len(manifest.files),
        "held_s": manifest.held_s,
        "with_secrets": with_secrets,
        "left_out": manifest.left_out,
        "damaged": manifest.damaged,
        "needs": manifest.needs,
    }
    invocation.answer(data)
    for line in _saved(data, manifest):
        invocation.say(sanitize(line))
    return DONE


def backup_plan(
    invocation: Invocation, with_secrets: bool
) -> tuple[Any, "SupervisorHold | None", Callable[[], None]]:
    """Return what is saved, what holds the services if they run, and what to call at the end."""
    from garrison.supervisor.backup.making import Plan
    from garrison.supervisor.backup.references import references
    from garrison.supervisor.config.document import Document
    from garrison.supervisor.state.accepted_store import open_config
    from garrison.supervisor.state.home import check_no_backup, lock_for_backup

    paths, home = invocation.config, invocation.home
    if is_operator(home):
        raise OrderFailed("not_allowed", "a backup is made by the host's own user, or root")
    check_no_backup(home)
    running = is_locked(home / "supervisor.lock")
    rows: list[dict[str, Any]] = []
    if running:
        data = request(home, "status")
        rows, head = data["services"], data["supervisor"]
        paths = tuple(map(Path, head.get("config_paths") or [head["config"]]))
    config = open_config(paths, home if running else invocation.home_option, os.environ)
    configs = config_paths(config)
    tables = list[dict[str, Any]]()
    for one in configs:
        with contextlib.suppress(ConfigError):  # it is saved all the same; what it names is not
            tables.append(Document.read(one).tables)
    named = references(tables)
    if running:
        names = [row["name"] for row in rows]
        commands = [row["name"] for row in rows if row["plugin"] == "command"]
        hold = SupervisorHold(home)
        return Plan(config, configs, named, names, commands, True, with_secrets), hold, _nothing
    if not config.host.home.is_dir():
        raise ConfigError(f"there is no home {config.host.home}: nothing has run here yet")
    lock = lock_for_backup(config.host.home)
    names, commands = _names_on_disk(config)
    plan = Plan(config, configs, named, names, commands, False, with_secrets)
    return plan, None, lambda: os.close(lock)


def config_paths(config: Any) -> list[Path]:
    """Return the files that a config was read from, the first one's folder being the config's."""
    return list(config.files)


def _nothing() -> None:
    """Do nothing."""


def _names_on_disk(config: Any) -> tuple[list[str], list[str]]:
    """Return the NAMEs of a host that does not run, and which of them are plain commands.

    Plugins are read for it; a data folder counts too, for one that cannot be read.
    """
    from garrison.supervisor.check import check_config

    specs = check_config(config, os.environ).services
    names = [spec.name for spec in specs]
    with contextlib.suppress(OSError):
        names += sorted(one.name for one in (config.host.state / "services").iterdir())
    commands = [spec.name for spec in specs if spec.plugin == "command"]
    return list(dict.fromkeys(names)), commands


class SupervisorHold:
    """Has the supervisor stop the services' processes for a moment.

    Args:
        home: The home.
    """

    def __init__(self, home: Path) -> None:
        self._home = home
        self._pids: list[tuple[int, int]] = []  # pid, start; in case the supervisor is killed

    def begin(self) -> float:
        """Stop them; return for how many seconds at most."""
        rows = request(self._home, "status")["services"]
        rows += [{**row["reload"], "node": row["node"]} for row in rows if row.get("reload")]
        pids = [row["pid"] for row in rows if row["pid"] and is_here(row)]
        self._pids = [(pid, process_tree.start_ticks(pid)) for pid in pids]
        seconds: float = request(self._home, "hold", wait=ANSWER_S, seconds=HOLD_S)["seconds"]
        return seconds

    def end(self) -> list[str] | None:
        """Resume them; return the services to which something happened. None: they went on."""
        try:
            disturbed: list[str] = request(self._home, "release", wait=ANSWER_S)["disturbed"]
            return disturbed
        except OrderFailed:
            return None
        except SupervisorGone:
            self._continue_all()
            raise

    def _continue_all(self) -> None:
        """Have the workers go on, and all that they have started, as a supervisor would."""
        from garrison.supervisor.holding import tree_of

        for worker, ticks in self._pids:
            for pid, _ in reversed(list(tree_of(worker, ticks))):
                process_tree.signal_one(pid, signal.SIGCONT)


def _saved(data: dict[str, Any], manifest: Any) -> list[str]:
    size, held = data["bytes"], manifest.held_s * 1000
    shown = f"{size / 1e6:.1f} MB" if size >= 1e5 else f"{size / 1e3:.0f} kB"
    lines = [
        f"saved {counted(len(manifest.services), 'service')}, "
        f"{counted(len(manifest.files), 'file')}, to {data['file']} ({shown})"
    ]
    if manifest.running:
        lines.append(f"the services were held for {held:.0f} ms")
    if manifest.with_secrets:
        lines.append("! it has SECRETS: keep it as you keep passwords")
    lines += [f"! damaged, saved as it is: {one}" for one in manifest.damaged]
    return [*lines, *needs_lines(manifest, "another machine needs")]


def needs_lines(manifest: Any, head: str) -> list[str]:
    """Return what a machine needs for a host that is not in its backup, as lines."""
    needs = manifest.needs
    python = ".".join(manifest.python.split(".")[:2])
    found = [f"garrison {manifest.garrison}, Python {python}, {len(needs.packages)} packages"]
    if needs.secrets:
        found.append(f"secrets: {_several(_secret(*one) for one in needs.secrets.items())}")
    if needs.users:
        found.append(f"users: {_several(needs.users)}")
    if needs.programs:
        found.append(f"programs: {_several(needs.programs)}")
    if needs.databases:
        found.append(f"databases, which have backups of their own: {_several(needs.databases)}")
    if needs.files:
        found.append(f"files that are not in it: {_several(needs.files)}")
    return [f"{head}:", *(f"  {line}" for line in found)]


def _secret(name: str, source: str) -> str:
    return f"{name} ({source})" if source and source != name else name


def _several(words: Any) -> str:
    shown = list(words)
    more = f" and {len(shown) - SHOWN_MOST} more" if len(shown) > SHOWN_MOST else ""
    return ", ".join(shown[:SHOWN_MOST]) + more


@click.command(epilog="Example: garrison restore bots.tar.gz --into /srv/bots")
@click.argument(
    "file", type=click.Path(path_type=Path, exists=True, dir_okay=False), metavar="FILE"
)
@click.option(
    "--into",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path(),
    metavar="DIR",
    help="The folder of the config. Default: this one.",
)
@options
def restore(invocation: Invocation, file: Path, into: Path) -> int:
    """Restore a backup, with every service paused.

    Nothing that is there is overwritten. Every file is checked before any is put in place. The host
    that was saved may still run and answer, so services take nothing until garrison resume.
    """
    from garrison.supervisor.backup.manifest import missing_packages
    from garrison.supervisor.backup.needs import installed_packages
    from garrison.supervisor.backup.placing import restore as place

    with Progress(
        None, "restoring", quiet=invocation.hides_progress, goes_on=NOT_RESTORED
    ) as shown:
        done = place(file, into, invocation.home_option, lambda what: shown.update(None, what))
    missing = missing_packages(done.manifest.needs.packages, installed_packages())
    invocation.answer(
        {
            "config": str(done.config),
            "home": str(done.home),
            "services": done.manifest.services,
            "missing_packages": missing,
            "needs": done.manifest.needs,
        }
    )
    for line in _restored(invocation, done, missing):
        invocation.say(sanitize(line))
    return DONE


def _restored(invocation: Invocation, done: Any, missing: list[str]) -> list[str]:
    manifest, folder = done.manifest, done.config.parent
    home = f" --home {invocation.home_option}" if invocation.home_option else ""
    config = "" if done.config.name == "config.toml" else f" -c {done.config.name}"
    needs, steps = manifest.needs, list[str]()
    lacking = [one for one in needs.programs if shutil.which(one.partition(" (")[0]) is None]
    if missing:
        listed = folder / "restored-packages.txt"
        steps.append(f"install {len(missing)} packages as they were: {listed}")
    if needs.secrets and not manifest.with_secrets:
        secrets = _several(_secret(*one) for one in needs.secrets.items())
        steps.append(f"put the secrets in place: {secrets}")
    if needs.users:
        steps.append(f"make the users that services run as: {_several(needs.users)}")
    if lacking:
        steps.append(f"install programs: {_several(lacking)}")
    if needs.databases:
        steps.append(f"give this machine access to these databases: {_several(needs.databases)}")
    if any(one.path.startswith("outside/") for one in manifest.files):
        steps.append(f"move the files of {folder}/outside to where the config names them")
    if home:
        steps.append(
            f'write home = "{done.home}" under [host] of {done.config}: without it or --home, '
            "garrison up starts an empty host there, with nothing paused"
        )
    former = "end the former host:" if manifest.running else "do not start the former host again"
    former += " garrison down," if manifest.running else ","
    steps += [
        f"cd {folder} && garrison{home} check{config}",
        f"garrison{home} up --detach{config}",
        f"{former} on {manifest.machine}",
        f"garrison{home} resume --all",
    ]
    if manifest.commands:
        steps.append(f"garrison{home} start {' '.join(manifest.commands)}   # plain commands")
    return [
        f"restored {counted(len(manifest.services), 'service')} into {folder} (home {done.home}), "
        f"of {manifest.made_at}",
        "all of them are paused: none takes a message until step "
        f"{next(n for n, step in enumerate(steps, 1) if 'resume' in step)}",
        "next:",
        *(f"  {number}. {step}" for number, step in enumerate(steps, 1)),
    ]

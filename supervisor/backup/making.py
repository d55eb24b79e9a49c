"""Makes a backup: copies the files, checks the databases, writes the archive."""

import os
import platform
import pwd
import shutil
import socket
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from garrison.ipc.character import text_without_secrets
from garrison.ipc.system.installed import installed_version
from garrison.supervisor.config.load import Config

from .archive import digest, write_archive
from .collecting import Found, config_files, home_files
from .manifest import HOME, BackupError, BackupFile, Manifest
from .needs import needs_of
from .references import References
from .scratch import scratch_folder
from .staging import Hold, Staged, check_databases, stage

SPARE_BYTES = 64 * 1024 * 1024  # that stay free on the disk


@dataclass(frozen=True, slots=True)
class Plan:
    """What a backup is made of."""

    config: Config
    configs: list[Path]  # the config, and the files that it includes
    named: References
    services: list[str]  # NAMEs
    commands: list[str]  # of these, the plain commands
    running: bool
    secrets: bool


def make(file: Path, plan: Plan, hold: Hold | None, update: Callable[[str], None]) -> Manifest:
    """Make a backup.

    Args:
        file: The archive.
        plan: What is in it.
        hold: Stops the services for a moment; None: none runs.
        update: Called with what is being done.

    Raises:
        BackupError: It cannot be made.
        OSError: A file cannot be read, or there is no room.
    """
    host = plan.config.host
    if file.resolve().is_relative_to(host.home.resolve()):
        raise BackupError(f"{file} is in the home that is backed up: name a place outside it")
    beside = config_files(plan.configs, plan.named, plan.secrets)
    _check_space(file.parent, home_files(host), beside)
    with scratch_folder(".garrison-backup-", file.parent) as folder:
        staged = stage(folder, lambda: home_files(host), hold, update)
        check_databases(staged, update)
        of_config = stage(folder / "c", lambda: beside, None)
        for name, path in of_config.files.items():
            target = staged.path(name)
            target.parent.mkdir(parents=True, exist_ok=True)
            of_config.path(name).rename(target)
            staged.files[name] = path
        if not plan.secrets:
            _remove_secrets(staged, plan)
        manifest = _manifest(plan, staged, [*staged.left_out, *beside.left_out])
        write_archive(file, manifest, folder, update)
    return manifest


def _check_space(folder: Path, *found: Found) -> None:
    """Raise BackupError if a disk has no room for the copies and the archive."""
    needed = SPARE_BYTES
    for source in (source for one in found for source in one.files):
        needed += 2 * source.path.lstat().st_size if source.path.exists() else 0
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise BackupError(
            f"{folder} has {free / 1e6:,.0f} MB free, and the backup needs up to "
            f"{needed / 1e6:,.0f} MB there: make room, or name a file on another disk"
        )


def _remove_secrets(staged: Staged, plan: Plan) -> None:
    """Take the secrets out of the character files."""
    characters = {plan.configs[0].parent / one for one in plan.named.characters}
    wanted = {os.path.normpath(path) for path in characters}
    for name, path in staged.files.items():
        if os.path.normpath(path) in wanted:
            copy = staged.path(name)
            data = copy.read_bytes()
            if b"secrets" in data:
                copy.write_text(text_without_secrets(data), "utf-8")


def _manifest(plan: Plan, staged: Staged, left_out: list[str]) -> Manifest:
    names = sorted(staged.files, key=lambda name: (name.startswith(f"{HOME}/"), name))
    config = plan.configs[0]
    return Manifest(
        garrison=installed_version(),
        python=platform.python_version(),
        made_at=datetime.now(UTC).isoformat(timespec="seconds"),
        machine=socket.gethostname(),
        running=plan.running,
        held_s=round(staged.held_s, 4),
        config=config.name,
        folder=str(config.parent.resolve()),
        home=str(plan.config.host.home),
        services=tuple(plan.services),
        commands=tuple(plan.commands),
        with_secrets=plan.secrets,
        damaged=tuple(staged.damaged),
        left_out=tuple(left_out),
        needs=needs_of(plan.named, left_out),
        files=tuple(_file(staged, name) for name in names),
    )


def _file(staged: Staged, name: str) -> BackupFile:
    path, original = staged.path(name), staged.files[name].lstat()
    try:
        user = "" if original.st_uid == os.geteuid() else pwd.getpwuid(original.st_uid).pw_name
    except KeyError:
        user = str(original.st_uid)
    mode = original.st_mode & 0o777 if name.startswith("config/") else 0o600
    return BackupFile(name, path.stat().st_size, digest(path), mode, user)

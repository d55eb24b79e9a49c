"""Restores a backup: proves it, puts it in place as a whole, and leaves every service paused."""

import contextlib
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from garrison.ipc.errors import ConfigError
from garrison.ipc.system.installed import installed_version
from garrison.ipc.system.locks import is_locked
from garrison.supervisor.config.accepted import AcceptedConfig, StoredDocument
from garrison.supervisor.config.document import Document
from garrison.supervisor.lifecycle.pausing import PauseNote
from garrison.supervisor.state.orders import OperatorOrders

from .archive import ArchiveReader
from .manifest import CONFIG, HOME, BackupError, Manifest, version_problem
from .scratch import scratch_folder

WHY = "restored from a backup: the host that it was made of may still run"
SPARE_BYTES = 64 * 1024 * 1024
PREFIX = ".garrison-restore-"


@dataclass(frozen=True, slots=True)
class Restored:
    """Where a backup was restored."""

    manifest: Manifest
    config: Path
    home: Path


def restore(
    file: Path, into: Path, home: Path | None, update: Callable[[str], None] = lambda _: None
) -> Restored:
    """Restore a backup. What is there already is not overwritten.

    Args:
        file: The archive.
        into: The folder of the config.
        home: `--home`; None: where the config says, if that is in `into`.
        update: Called with what is being done.

    Raises:
        BackupError: It cannot be used, or something is in its way; nothing was changed.
        OSError: Likewise.
    """
    into = Path(os.path.abspath(into))  # noqa: PTH100 (links in it are kept as they were given)
    with ArchiveReader(file) as archive:
        manifest = archive.manifest
        if problem := version_problem(manifest.garrison, installed_version()):
            raise BackupError(f"{file} cannot be restored here: {problem}")
        created = _made(into)
        try:
            _check_space(into, manifest)
            with scratch_folder(PREFIX, into) as parts, contextlib.ExitStack() as stack:
                return _Restoring(archive, into, home, parts, stack, update).run()
        except BaseException:
            for folder in created:
                with contextlib.suppress(OSError):
                    folder.rmdir()  # only if nothing is in it
            raise


class _Restoring:
    """One restore."""

    def __init__(
        self,
        archive: ArchiveReader,
        into: Path,
        home: Path | None,
        parts: Path,
        stack: contextlib.ExitStack,
        update: Callable[[str], None],
    ) -> None:
        self._archive, self._manifest = archive, archive.manifest
        self._stack = stack  # removes what is left of the new home
        self._into, self._home_option, self._parts = into, home, parts
        self._update = update
        self._home: Path | None = None
        self._new_home: Path | None = None  # what is to become the home, on its disk
        self._state: Path | None = None  # where the config has it, if that is not in the home

    def run(self) -> Restored:
        """Prove every file, then put all in place."""
        for one in self._archive.extract(self._target):
            self._update(one.path)
        home, new = self._places()
        _set_orders(new / "state", self._manifest)
        _move_accepted(new / "state", self._manifest.folder, str(self._into))
        self._place(home, new)
        return Restored(self._manifest, self._into / self._manifest.config, home)

    def _target(self, name: str) -> Path:
        if name.startswith(f"{HOME}/"):
            return self._places()[1] / name.removeprefix(f"{HOME}/")
        return self._parts / name

    def _places(self) -> tuple[Path, Path]:
        """Return the home, and the folder that becomes it. The config was written before."""
        if self._home is None or self._new_home is None:
            self._check_config()
            self._home = self._find_home()
            near = next(one for one in self._home.parents if one.is_dir())
            self._new_home = self._stack.enter_context(scratch_folder(PREFIX, near))
        return self._home, self._new_home

    def _check_config(self) -> None:
        """Raise BackupError if a file is in the way of one of the config."""
        folder = self._parts / CONFIG
        for path in sorted(folder.rglob("*")):
            there = self._into / path.relative_to(folder)
            if path.is_file() and os.path.lexists(there) and not _same(path, there):
                raise BackupError(
                    f"{there} is there already, and is not as in the backup: move it away, or "
                    "restore with --into DIR into another folder. Nothing was restored"
                )

    def _find_home(self) -> Path:
        path = self._parts / CONFIG / self._manifest.config
        try:
            document = Document.read(path)
            named, state = document.home(), document.state()
        except ConfigError as error:
            raise BackupError(f"the config in the backup cannot be used: {error}") from None
        named = self._rebased(named)
        if state is not None:
            self._state = self._rebased(state)
            _check_free(self._state)
        home = Path(os.path.abspath(self._home_option or named))  # noqa: PTH100 (as above)
        places = [home] if self._state is None else [home, self._state]
        for place in places:
            if self._home_option is None and not place.is_relative_to(self._into):
                raise BackupError(
                    f"the config places what garrison writes in {place}, outside {self._into}: if "
                    f"that is right on this machine, run: garrison --home {home} restore …"
                )
        _check_free(home)
        return home

    def _rebased(self, path: Path) -> Path:
        """Return where a path in the copied folder of the config will be, without any ".."."""
        folder = (self._parts / CONFIG).resolve()
        if path.is_relative_to(folder):
            path = self._into / path.relative_to(folder)
        return Path(os.path.abspath(path))  # noqa: PTH100 (what is there is not the archive's)

    def _place(self, home: Path, new: Path) -> None:
        """Put the home in place, then the config: without a config nothing can be started."""
        _check_free(home)
        home.parent.mkdir(parents=True, exist_ok=True)
        if self._state is not None and self._state != home / "state":
            _check_free(self._state)
            self._state.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(new / "state", self._state)
        new.rename(home)
        for folder in (CONFIG, "outside"):
            source = self._parts / folder
            target = self._into if folder == CONFIG else self._into / folder
            for path in sorted(source.rglob("*")):
                there = target / path.relative_to(source)
                if path.is_file() and not there.exists():
                    there.parent.mkdir(parents=True, exist_ok=True)
                    path.rename(there)
        needed = "".join(f"{one}\n" for one in self._manifest.needs.packages)
        (self._into / "restored-packages.txt").write_text(needed, "utf-8")


def _set_orders(state: Path, manifest: Manifest) -> None:
    """Have every service paused, and plain commands stopped, which cannot be paused."""
    path = state / "orders.json"
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        orders = msgspec.json.decode(path.read_bytes(), type=OperatorOrders)
    except FileNotFoundError:
        orders = OperatorOrders()
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise BackupError(f"orders.json in the backup cannot be used: {error}") from None
    commands = set(manifest.commands)
    paused = [name for name in manifest.services if name not in commands]
    orders.paused = list(dict.fromkeys([*orders.paused, *paused]))
    note = PauseNote(time.time(), "restore", WHY)
    orders.pauses = {**dict.fromkeys(paused, note), **orders.pauses}
    orders.stopped = list(dict.fromkeys([*orders.stopped, *manifest.commands]))
    orders.started = [name for name in orders.started if name not in commands]
    path.write_bytes(msgspec.json.format(msgspec.json.encode(orders)))


def _move_accepted(state: Path, before: str, now: str) -> None:
    """Have the accepted config name the folder where the config is now."""
    path = state / "accepted.json"
    with contextlib.suppress(FileNotFoundError, msgspec.MsgspecError, UnicodeDecodeError):
        accepted = msgspec.json.decode(path.read_bytes(), type=AcceptedConfig)
        documents = {key: _moved(one, before, now) for key, one in accepted.documents.items()}
        moved = msgspec.structs.replace(accepted, documents=documents)
        path.write_bytes(msgspec.json.format(msgspec.json.encode(moved)))


def _moved(one: StoredDocument, before: str, now: str) -> StoredDocument:
    def move(text: str) -> str:
        inside = text == before or text.startswith(f"{before}/")
        return now + text[len(before) :] if inside else text

    return msgspec.structs.replace(
        one,
        path=move(one.path),
        folder=move(one.folder),
        characters={move(path): text for path, text in one.characters.items()},
    )


def _check_free(home: Path) -> None:
    """Raise BackupError if a home is not absent or empty."""
    if is_locked(home / "supervisor.lock"):
        raise BackupError(f"a host runs in {home}: it is not overwritten. Nothing was restored")
    if os.path.lexists(home) and (home.is_symlink() or not home.is_dir() or any(home.iterdir())):
        raise BackupError(
            f"{home} is not empty, and it is not overwritten: move it away, or restore with "
            "--into DIR. Nothing was restored"
        )


def _check_space(folder: Path, manifest: Manifest) -> None:
    free, needed = shutil.disk_usage(folder).free, manifest.size + SPARE_BYTES
    if needed > free:
        raise BackupError(
            f"{folder} has {free / 1e6:,.0f} MB free, and the backup needs {needed / 1e6:,.0f} "
            "MB: make room, or restore into another folder. Nothing was restored"
        )


def _made(folder: Path) -> list[Path]:
    """Make a folder and those above it; return those that were not there, the innermost first."""
    missing = [one for one in (folder, *folder.parents) if not one.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    return missing


def _same(one: Path, other: Path) -> bool:
    return other.is_file() and one.read_bytes() == other.read_bytes()

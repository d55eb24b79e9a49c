"""Moves what is kept under one NAME of a service to another: `renames.json` and what it is about.

A rename is written down before its first step and after its last one, and each step can be done
again. A supervisor that is killed meanwhile leaves it to the next one.
"""

import contextlib
import os
from collections.abc import Collection, Iterable
from pathlib import Path

import msgspec

from garrison.ipc.errors import GarrisonError
from garrison.ipc.log_files import rotated_path
from garrison.supervisor.config.host_spec import HostSpec
from garrison.supervisor.lifecycle.renames import Left, Renaming, after_rename, former_names

from .accepted_store import AcceptedStore
from .atomic import write_atomic
from .home import make_private
from .orders import OrderStore
from .stored import FORMAT, read_stored


class CannotRename(GarrisonError):
    """What a service has left cannot be moved to its new NAME; it is where it was."""

    code = "failed"


class StoredRenames(msgspec.Struct):
    """The content of `renames.json`."""

    format: int = FORMAT
    begun: list[Renaming] = []
    done: list[Renaming] = []  # the newest last


class RenameStore:
    """The renames of a host.

    Args:
        host: The settings of the host.
        orders: The operator's orders.
        accepted: The accepted config.

    Attributes:
        problem: Why the file could not be used; empty if it could.
    """

    def __init__(self, host: HostSpec, orders: OrderStore, accepted: AcceptedStore) -> None:
        self._file, self._data = host.state / "renames.json", host.state / "services"
        self._logs, self._log_files = host.logs, host.kept_logs[1]
        self._orders, self._accepted = orders, accepted
        stored, self.problem = read_stored(self._file, StoredRenames)
        self._stored = stored or StoredRenames()

    def left(self, services: Collection[str], names: Iterable[str]) -> Left:
        """Return what the host has of some NAMEs.

        Args:
            services: Those of the services that it has.
            names: The NAMEs to look at.
        """
        names = set(names)
        accepted = self._accepted.stored
        known = set(accepted.services) if accepted is not None else set[str]()
        orders = self._orders.orders
        known |= {*orders.stopped, *orders.started, *orders.paused}
        data = {name for name in names if _has_files(self._data / name)}
        return Left(services, known & names, data)

    def former(self, name: str) -> tuple[str, ...]:
        """Return every NAME that a service had before."""
        return former_names(self._stored.done, name)

    def release(self, names: Iterable[str]) -> None:
        """Note that services have these NAMEs again: what is left of them is their own.

        Raises:
            OSError: The disk does not take it.
        """
        names = set(names)
        kept = [one for one in self._stored.done if one.old not in names]
        if len(kept) < len(self._stored.done):
            self._stored.done = kept
            self._save()

    def finish(self, names: Collection[str]) -> list[Renaming]:
        """Finish the renames that a former supervisor has begun; return what was done.

        Args:
            names: The services that the host has now. A rename whose new NAME is not among them,
                but whose old one is, is undone: the config that had it cannot be used.
        """
        done = list[Renaming]()
        for one in list(self._stored.begun):
            back = one.old in names and one.new not in names
            renaming = Renaming(one.new, one.old, one.logs) if back else one
            self._move(renaming)
            self._note_end(one, not back)
            done.append(renaming)
        return done

    def carry_out(self, renaming: Renaming) -> None:
        """Move everything; neither service has a process.

        Raises:
            CannotRename: Nothing was changed.
        """
        logs = not any(map(Path.exists, self._log_paths(renaming.new)))
        renaming = msgspec.structs.replace(renaming, logs=logs)
        try:
            self._stored.begun.append(renaming)
            self._save()
            self._move(renaming)
        except OSError as error:
            with contextlib.suppress(OSError):
                self._move(Renaming(renaming.new, renaming.old, logs))
                self._note_end(renaming, is_done=False)
            text = error.strerror or str(error)
            raise CannotRename(
                f"what {renaming.old} has left cannot be moved to {renaming.new}: {text}. "
                f"Nothing was moved; see {self._data / renaming.old}"
            ) from error
        self._note_end(renaming, is_done=True)

    def _note_end(self, begun: Renaming, is_done: bool) -> None:
        self._stored.begun.remove(begun)
        if is_done:
            self._stored.done = after_rename(self._stored.done, begun)
            self._accepted.forget(begun.old)
        self._save()

    def _save(self) -> None:
        content = msgspec.json.format(msgspec.json.encode(self._stored))
        write_atomic(self._file, content, sync=True)

    def _move(self, renaming: Renaming) -> None:
        """Move what is on disk; what was moved already is not there any more."""
        make_private(self._data)
        source, target = self._data / renaming.old, self._data / renaming.new
        if source.is_symlink() or source.exists():
            if _has_files(target):
                raise FileExistsError(17, "both have data folders with files", str(target))
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                target.rmdir()
            source.rename(target)
            _sync_folder(self._data)
        self._orders.rename(renaming.old, renaming.new)
        if renaming.logs:
            pairs = zip(self._log_paths(renaming.old), self._log_paths(renaming.new), strict=True)
            for former, present in pairs:
                with contextlib.suppress(FileNotFoundError):
                    former.rename(present)

    def _log_paths(self, name: str) -> list[Path]:
        """Return the paths that the log files of a service may have."""
        path = self._logs / f"{name}.log"
        return [path, *(rotated_path(path, number) for number in range(1, self._log_files))]


def _has_files(folder: Path) -> bool:
    """Return True if a data folder has anything in it."""
    try:
        with os.scandir(folder) as entries:
            return next(entries, None) is not None
    except NotADirectoryError:
        return True
    except OSError:
        return False


def _sync_folder(folder: Path) -> None:
    """Have the names in a folder survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

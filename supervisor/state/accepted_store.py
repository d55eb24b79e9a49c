"""The accepted config on disk, `accepted.json`, and reading a config with it.

The file is synced: it must survive a power cut, after which the config on disk may be unusable.
"""

import contextlib
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path

import msgspec

from garrison.ipc.errors import ConfigError
from garrison.supervisor.config.accepted import (
    Accepted,
    AcceptedConfig,
    FailedTrial,
    with_only,
    without_service,
)
from garrison.supervisor.config.document import as_given
from garrison.supervisor.config.homes import accepted_file, home_beside
from garrison.supervisor.config.load import Config, load
from garrison.supervisor.config.main_file import ConfigPaths, as_paths, read_main
from garrison.supervisor.config.named_home import home_override

from .atomic import write_atomic
from .save_problem import SaveProblem
from .stored import read_stored


def load_accepted(file: Path, set_aside: bool = True) -> tuple[Accepted | None, str]:
    """Return what the host accepted last, and a problem in words if the file cannot be used.

    Args:
        file: The file; that it is absent is no problem.
        set_aside: Whether to rename a file that cannot be used.
    """
    stored, problem = read_stored(file, AcceptedConfig, set_aside)
    if stored is None:
        return None, problem
    try:
        return Accepted.parse(stored), ""
    except ConfigError as error:
        return None, f"{file} cannot be used ({error})"


def open_config(path: ConfigPaths, home: Path | None, environ: Mapping[str, str]) -> Config:
    """Read a configuration; the accepted one of its home takes the place of what does not fit.

    Where the file does not name a home, because it cannot be read, that is `--home`,
    `$GARRISON_HOME`, or `.garrison` beside it.

    Args:
        path: The file, or the main file and its overlays.
        home: `--home`.
        environ: The environment, for `GARRISON_HOME`.

    Raises:
        ConfigError: It cannot be used, and there is no accepted config in the home.
    """
    own: Path | None = None
    with contextlib.suppress(ConfigError):
        own = read_main(path).home()
    place = home_override(home, environ) or own or home_beside(path)
    accepted, _ = load_accepted(accepted_file(place), set_aside=False)
    # Another file that cannot be read is a slip of the pen: the host was not started with it.
    if accepted is not None and (own is not None or _is_of(accepted, as_paths(path)[0])):
        return load(path, home if own is not None else place, environ, accepted)
    return load(path, home, environ)


def _is_of(accepted: Accepted, path: Path) -> bool:
    return accepted.path == str(as_given(path))


class AcceptedStore:
    """The accepted config and its file.

    Args:
        state: The folder of the file.
        report_unsaved: Called once for each new reason why the file cannot be written.

    Attributes:
        problem: Why the file could not be used; empty if it could.
        watched: NAMEs of services whose trial is under way here.
    """

    def __init__(self, state: Path, report_unsaved: Callable[[str], None]) -> None:
        self._file = state / accepted_file(Path()).name
        self._save_problem = SaveProblem(report_unsaved)
        self._unsaved = False
        self.watched = set[str]()  # NAMEs whose trial this supervisor watches
        self.accepted, self.problem = load_accepted(self._file)

    @property
    def stored(self) -> AcceptedConfig | None:
        """Return what is accepted; None: nothing yet."""
        return self.accepted.stored if self.accepted is not None else None

    def take(self, stored: AcceptedConfig) -> None:
        """Accept a config, and write it if it is another."""
        if stored != self.stored:
            self.accepted, self._unsaved = Accepted.parse(stored), True
        if self._unsaved:
            self._save(stored)

    def begin_trials(self, names: Iterable[str], period: float) -> None:
        """Note that services are tried: what was accepted of them stays so until that is over."""
        if (stored := self.stored) is not None:
            trials = {**stored.trials, **dict.fromkeys(names, period)}
            failed = {name: one for name, one in stored.failed.items() if name not in trials}
            self.take(msgspec.structs.replace(stored, trials=trials, failed=failed))

    def end_trials(self, names: Collection[str], failed: Mapping[str, FailedTrial]) -> None:
        """Note that a trial is over; what failed is not used while it is as it was."""
        if (stored := self.stored) is not None:
            trials = {name: one for name, one in stored.trials.items() if name not in names}
            failed = {**stored.failed, **failed}
            self.take(msgspec.structs.replace(stored, trials=trials, failed=failed))

    def forget(self, name: str) -> None:
        """Take a service out of what is accepted: it is no service of this host any more."""
        if (stored := self.stored) is not None and name in stored.services:
            self.take(without_service(stored, name))

    def keep(self, plugins: Collection[str], agents: Collection[str]) -> None:
        """Take all other plugins and agents out of what is accepted: nothing has them any more."""
        if (stored := self.stored) is not None:
            self.take(with_only(stored, plugins, agents))

    def _save(self, stored: AcceptedConfig) -> None:
        content = msgspec.json.format(msgspec.json.encode(stored))
        try:
            write_atomic(self._file, content, sync=True)
        except OSError as error:
            self._save_problem.note(error)
        else:
            self._unsaved = False
            self._save_problem.clear()

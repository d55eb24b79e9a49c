"""Restarts services whose code or config was saved: `garrison up --watch`. Durations are seconds.

A thread looks at the files beside the config, and gives the supervisor orders as the command line
does, so a mistake leaves the running service as it is.
"""

import contextlib
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

from garrison.ipc.errors import ConfigError, GarrisonError
from garrison.supervisor.config.files import included_by, read_files
from garrison.supervisor.config.load import Config
from garrison.supervisor.config.main_file import ConfigPaths

from .client import request

LOOK_S = 0.3  # between two looks; a file is saved once it is the same in two of them
RESTART_S = 120.0  # for the restarts after one change
FILES_MOST = 5000
CLOSE_S = 1.0
FOREIGN = {"__pycache__", "node_modules", "site-packages", "venv", "env", "build", "dist"}

Stamps: TypeAlias = dict[Path, tuple[int, int, int, int]]  # file → mtime, size, inode, mode
Row: TypeAlias = dict[str, Any]  # of `status`


class Watcher:
    """Restarts what was saved.

    Args:
        config: The host's config.
        say: Prints a line for people.
    """

    def __init__(self, config: Config, say: Callable[[str], None]) -> None:
        self._home, self._path, self._say = config.host.home, config.path, say
        self._paths, self._tables = config.paths, _tables(config.paths)
        self._configs = set(self._config_files())  # as of the last reading
        self._seen = self._before = self._stamps()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)

    def start(self) -> None:
        """Start to look."""
        self._thread.start()

    def close(self) -> None:
        """Look no more; an order that is under way goes on."""
        self._stop.set()
        self._thread.join(CLOSE_S)

    def _run(self) -> None:
        while not self._stop.wait(LOOK_S):
            try:
                self._look()
            except GarrisonError as error:  # the supervisor is ending, or being upgraded
                self._say(f"watch: {error}")
            except Exception as error:  # noqa: BLE001 (the next change is looked at all the same)
                self._say(f"watch: {type(error).__name__}: {error}")

    def _look(self) -> None:
        now = self._stamps()
        settled, self._before = now == self._before, now
        if not settled or now == self._seen:
            return
        changed = [path for path in now.keys() | self._seen.keys() if self._is_new(path, now)]
        self._seen = now
        rows: list[Row] = [
            one for one in request(self._home, "status")["services"] if one["wanted"]
        ]
        names = self._affected(changed, rows)
        if not names:
            return
        saved = ", ".join(sorted(os.path.relpath(path, self._path.parent) for path in changed))
        self._say(f"saved {saved}: restarting {', '.join(sorted(names))}")
        for plugin in dict.fromkeys(row["plugin"] for row in rows):
            own = tuple(row["name"] for row in rows if row["plugin"] == plugin)
            self._restart(tuple(name for name in own if name in names))

    def _is_new(self, path: Path, now: Stamps) -> bool:
        return now.get(path) != self._seen.get(path)

    def _restart(self, names: tuple[str, ...]) -> None:
        if not names:
            return
        try:
            request(self._home, "restart", names, RESTART_S)
        except GarrisonError as error:
            self._say(f"{', '.join(names)} was not restarted: {error}")

    # --- what is affected -------------------------------------------------------------------

    def _affected(self, changed: Iterable[Path], rows: list[Row]) -> set[str]:
        """Return the NAMEs of the services that the changed files belong to."""
        names: set[str] = set()
        before, configs = self._tables, self._configs | set(self._config_files())
        for path in changed:
            if path in configs and self._tables is before:  # all of them are read together
                names |= self._reconfigured(rows)
            elif path.suffix == ".py":
                names |= self._users_of(path, rows)
            else:
                names |= {row["name"] for row in rows if path in self._own_files(row)}
        return names

    def _users_of(self, path: Path, rows: list[Row]) -> set[str]:
        """Return the services of the plugin that a file is of; else all with code beside it."""
        modules = {row["name"]: self._module(row) for row in rows}
        top = path.relative_to(self._path.parent).parts[0].removesuffix(".py")
        own = {name for name, module in modules.items() if module == top}
        folder = self._path.parent
        beside = {
            name
            for name, module in modules.items()
            if (folder / f"{module}.py").exists() or (folder / module).is_dir()
        }
        return own or beside

    def _module(self, row: Row) -> str:
        plugin = self._tables.get("plugins", {}).get(row["plugin"], {})
        return str(plugin.get("use", row["plugin"])).partition(":")[0].partition(".")[0]

    def _reconfigured(self, rows: list[Row]) -> set[str]:
        """Return the services whose part of the config has changed."""
        before, after = self._tables, _tables(self._paths)
        if not after:
            self._say(f"{self._path.name} cannot be read, so nothing is restarted: garrison check")
            return set()
        self._tables, self._configs = after, set(self._config_files())
        return {row["name"] for row in rows if _sections(before, row) != _sections(after, row)}

    def _own_files(self, row: Row) -> set[Path]:
        """Return the environment and character files that a service's sections name."""
        parts = _sections(self._tables, row)
        return {self._path.parent / name for part in parts for name in _named_files(part)}

    # --- the files --------------------------------------------------------------------------

    def _stamps(self) -> Stamps:
        stamps: Stamps = {}
        for path in self._files():
            with contextlib.suppress(OSError):
                found = path.stat()
                # With the mode: a file that others can read is refused until it is closed for them.
                stamps[path] = found.st_mtime_ns, found.st_size, found.st_ino, found.st_mode
            if len(stamps) >= FILES_MOST:
                break
        return stamps

    def _config_files(self) -> Iterator[Path]:
        yield from self._paths
        for _, _, paths in included_by(self._tables, self._path.parent.resolve()):
            yield from paths

    def _files(self) -> Iterator[Path]:
        yield from self._config_files()
        parts = [self._tables.get("defaults")]
        for kind in ("services", "plugins", "agents"):
            parts += self._tables.get(kind, {}).values()
        for part in parts:
            if isinstance(part, dict):
                yield from (self._path.parent / name for name in _named_files(part))
        for folder, folders, files in os.walk(self._path.parent):
            here = Path(folder)
            folders[:] = [one for one in folders if _is_own(here / one, self._home)]
            yield from (here / one for one in files if one.endswith(".py"))


OWN_FILES = ("env_file", "character")  # keys whose value is a file


def _named_files(part: dict[str, Any]) -> Iterator[str]:
    """Yield the environment, character and secret files that a part of a config names."""
    secrets = part.get("secrets")
    sources = list(secrets.values()) if isinstance(secrets, dict) else []
    named = [part.get(key) for key in OWN_FILES]
    named += [source.get("file") for source in sources if isinstance(source, dict)]
    yield from (name for name in named if isinstance(name, str))


def _is_own(folder: Path, home: Path) -> bool:
    foreign = folder.name.startswith(".") or folder.name in FOREIGN
    return not foreign and folder != home and not (folder / "pyvenv.cfg").exists()


def _tables(paths: ConfigPaths) -> dict[str, Any]:
    """Return a config's tables as they are written; none if it cannot be read."""
    try:
        return read_files(paths).document.tables
    except ConfigError:
        return {}


def _sections(tables: dict[str, Any], row: Row) -> list[dict[str, Any]]:
    """Return the parts of a config that a service is configured by."""
    name, agent = row["name"], row["agent"] or ""
    keys = (("services", name), ("plugins", row["plugin"]), ("agents", agent))
    parts = [tables.get("defaults", {})]
    parts += [tables.get(kind, {}).get(key, {}) for kind, key in keys]
    parts.append(tables.get("services", {}).get(name.removeprefix(f"{agent}."), {}))
    return [part for part in parts if isinstance(part, dict)]

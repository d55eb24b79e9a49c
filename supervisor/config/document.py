"""A TOML file with the lines of its keys; an error names file, line and key."""

import contextlib
import errno
import os
import re
import stat
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from garrison.ipc.errors import ConfigError

from . import values
from .toml_lines import Lines, dotted


@dataclass(frozen=True)
class Document:
    """A parsed TOML file, with the lines of its keys."""

    path: Path  # as the caller wrote it; errors show it so
    # Absolute; relative paths in the file begin here. Resolved once: a link on the way to it may be
    # moved to another release while services of this one run.
    directory: Path
    text: str
    tables: dict[str, Any] = field(repr=False)
    lines: Lines = field(compare=False, repr=False)
    characters: Mapping[str, str] | None = None  # path → text; None: they are on disk

    @classmethod
    def read(cls, path: Path, directory: Path | None = None) -> Self:
        """Read and parse a file.

        Args:
            path: The file.
            directory: Where relative paths in it begin; None: at its own folder.

        Raises:
            ConfigError: It is missing or unreadable, or it is not TOML in UTF-8.
        """
        text = _text(path)
        return cls.parse(path, directory or as_given(path).parent.resolve(), text)

    @classmethod
    def parse(
        cls, path: Path, directory: Path, text: str, characters: Mapping[str, str] | None = None
    ) -> Self:
        """Parse a text.

        Args:
            path: What errors call it.
            directory: Where relative paths in it begin.
            text: The text.
            characters: The character files that it names, if they are not to be read from disk.

        Raises:
            ConfigError: It is not TOML.
        """
        try:
            return cls(path, directory, text, tomllib.loads(text), Lines(text), characters)
        except RecursionError:
            raise ConfigError("tables or lists are nested too deeply", path=str(path)) from None
        except ValueError as error:  # also from int(), for a number of thousands of digits
            raise _syntax_error(path, text, str(error)) from None

    @property
    def digest(self) -> str:
        """Return the digest of its text."""
        import hashlib  # slow to import, and most commands need no digest

        return hashlib.sha256(self.text.encode()).hexdigest()

    def error_at(self, keys: Sequence[str | int], problem: str) -> ConfigError:
        """Return the error of one key, with its line or that of the nearest table around it."""
        line = self.lines.find(keys)
        return ConfigError(problem, path=str(self.path), line=line, key=dotted(keys))

    def of_unit(self, unit: tuple[str, ...]) -> "Document":
        """Return the document that a part of the config is read from."""
        return self

    def shared_place(self, key: str) -> str:
        """Return what is wrong with a folder of `[host]` that several environments have."""
        return ""

    def home(self) -> Path:
        """Return the home: `[host] home`, else `.garrison` beside the file.

        Raises:
            ConfigError: The key has no path.
        """
        return self._folder_of_host("home") or self.directory / HOME_BESIDE

    def state(self) -> Path | None:
        """Return `[host] state`; None: it is in the home.

        Raises:
            ConfigError: The key has no path.
        """
        return self._folder_of_host("state")

    def _folder_of_host(self, key: str) -> Path | None:
        try:
            with values.at_path("host"):
                host = values.any_table(self.tables.get("host", {}))
                with values.at_path(key):
                    return self.directory / values.path(host[key]) if key in host else None
        except values.ConfigValueError as error:
            raise self.error_at(error.keys, error.problem) from None

    def absolute(self, keys: Mapping[str, Any]) -> dict[str, Any]:
        """Return a table of the file with absolute paths."""

        def absolute(value: Any) -> Any:
            return self.directory / value if isinstance(value, Path) else value

        table = {key: absolute(value) for key, value in keys.items()}
        if secrets := keys.get("secrets"):
            table["secrets"] = {name: absolute(source) for name, source in secrets.items()}
        return table


NO_FILE = "it is no regular file, and garrison reads it again at each restart"
HOME_BESIDE = ".garrison"  # the home's name beside a config that names no other


def as_given(path: Path) -> Path:
    """Return an absolute path as the user would write it.

    A relative one begins at the folder that the shell shows: through a link, if that is how the
    user came there.
    """
    path = path.expanduser()
    shown = os.environ.get("PWD", "")
    with contextlib.suppress(OSError):
        if not path.is_absolute() and Path(shown).is_absolute() and Path(shown).samefile("."):
            return Path(shown) / path
    return path.absolute()


def read_file(path: Path) -> bytes:
    """Return the content of a regular file. A pipe would block, or be empty at the next reading.

    Raises:
        OSError: It cannot be read.
    """
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
    with open(path, "rb", opener=lambda name, _: os.open(name, flags)) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, NO_FILE)
        return file.read()


def _text(path: Path) -> str:
    try:
        # Some editors on Windows write a BOM.
        return read_file(path.expanduser()).decode("utf-8-sig")
    except FileNotFoundError:
        problem = "there is no such file; `garrison init DIR` makes a directory with one"
    except UnicodeDecodeError as error:
        problem = f"it is not UTF-8 text (byte {error.start:,}); save it as UTF-8"
    except (OSError, RuntimeError) as error:
        problem = f"it cannot be read: {getattr(error, 'strerror', None) or error}"
    raise ConfigError(problem, path=str(path))


def _syntax_error(path: Path, text: str, message: str) -> ConfigError:
    """Return tomllib's error, with the line in the error's own field."""
    position = re.search(r" \(at (?:line (\d+), column (\d+)|end of document)\)", message)
    problem = f"not TOML: {message[: position.start()] if position else message}"
    if position and position[2]:
        problem += f" at column {position[2]}"
    if "Invalid value" in message:
        problem += '; text is in "quotes", a switch is true or false'
    if "twice" in message:
        problem += "; write a table in one place: if it is NAME = { … }, into the braces"
    line = int(position[1]) if position and position[1] else text.rstrip("\n").count("\n") + 1
    return ConfigError(problem, path=str(path), line=line if position else None)

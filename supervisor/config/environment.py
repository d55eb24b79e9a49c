"""A worker's environment: an allow-list, and what the service's spec adds to it.

Nothing else is passed on, so one service's token is not in the environment of another, nor in the
launcher's. No error text holds a value.
"""

import contextlib
import os
import re
import shlex
import stat
import struct
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from garrison.ipc.character import secrets_of
from garrison.ipc.errors import StartError

from .hook_secrets import spare_secrets
from .passed_variables import is_passed_to_all
from .spec import ServiceSpec

# Of the host's own interpreter: its libraries are of no use to another one.
OF_ONE_INTERPRETER = frozenset({"VIRTUAL_ENV", "PYTHONPATH"})
# Folders of the supervisor's own user; another user cannot open them
USER_FOLDERS = frozenset(
    f"XDG_{what}"
    for what in ("RUNTIME_DIR", "CACHE_HOME", "CONFIG_HOME", "DATA_HOME", "STATE_HOME", "BIN_HOME")
)

LINE = re.compile(r"(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)\s*=([^\0]*)")
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,99}")
SINGLE = re.compile(r"'([^']*)'\s*(?:#.*)?")
DOUBLE = re.compile(r'"((?:[^"\\]|\\.)*)"\s*(?:#.*)?')
ESCAPES = {"n": "\n", "r": "\r", "t": "\t", '"': '"', "\\": "\\", "$": "$"}

CREDENTIALS = "CREDENTIALS_DIRECTORY"  # set by systemd, see systemd.exec(5)
SUPERVISORS = "the supervisor's environment"  # as the source of a secret
MOST_BYTES = 1 << 20  # of a file with secrets
NAMES_MOST = 1_000  # names of variables that a worker receives; further ones are left out
ACL = "system.posix_acl_access"
ACL_ENTRY = struct.Struct("<HHI")  # linux/posix_acl_xattr.h: tag, permissions, id
ACL_VERSION_BYTES = 4
ACL_USER_OBJ, ACL_USER, ACL_MASK = 0x01, 0x02, 0x10


class UnusableFile(Exception):
    """A file of secrets cannot be used. The text says why and what to do."""


def read_private(path: Path) -> bytes:
    """Return the content of a file that its owner alone can read.

    Raises:
        FileNotFoundError: There is no such file.
        UnusableFile: It cannot be read, or other users can read it.
    """
    data, problem = read_with_permission_problem(path)
    if problem:
        raise UnusableFile(problem)
    return data


def read_with_permission_problem(path: Path) -> tuple[bytes, str]:
    """Return the content of a file, and why it must hold no secret; empty: it may.

    Raises:
        FileNotFoundError: There is no such file.
        UnusableFile: It cannot be read.
    """
    problem = ""
    try:
        # O_NONBLOCK: opening a pipe without a writer must not block. The mode is checked on the
        # open file, so that the file checked is the file read.
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
        with open(path, "rb", opener=lambda name, _: os.open(name, flags)) as file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode):
                raise UnusableFile("cannot be read: it is no regular file")
            if found.st_mode & 0o077 and not _is_owners_alone(file.fileno(), found.st_mode):
                problem = (
                    f"has mode {stat.S_IMODE(found.st_mode):04o}, so others can get at it: "
                    f"chmod 600 {shlex.quote(str(path))}"
                )
            data = file.read(MOST_BYTES + 1)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise UnusableFile(f"cannot be read: {error.strerror or type(error).__name__}") from error
    if len(data) > MOST_BYTES:
        raise UnusableFile(f"is larger than {MOST_BYTES:,} bytes")
    return data, problem


def _is_owners_alone(descriptor: int, mode: int) -> bool:
    """Return True if an access list alone makes a file's mode look open to others.

    With such a list the group's bits are a mask. systemd uses one to let the unit's user in.
    """
    try:
        packed = os.getxattr(descriptor, ACL)
    except OSError:  # it has none
        return False
    entries = ACL_ENTRY.iter_unpack(packed[ACL_VERSION_BYTES:])
    others = [
        permissions
        for tag, permissions, uid in entries
        if tag not in {ACL_USER_OBJ, ACL_MASK} and (tag, uid) != (ACL_USER, os.geteuid())
    ]
    return not mode & 0o007 and not any(others)


def base_environment(environ: Mapping[str, str], foreign: bool = False) -> dict[str, str]:
    """Return the variables that every process gets. They are the launcher's whole environment.

    Args:
        environ: The supervisor's.
        foreign: The process is under another interpreter than the host's own.
    """
    left_out = OF_ONE_INTERPRETER if foreign else frozenset()
    passed = {name: value for name, value in environ.items() if is_passed_to_all(name)}
    return {name: value for name, value in passed.items() if name not in left_out}


def _without_user_folders(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the base environment for a process of another user."""
    return {
        name: value for name, value in base_environment(environ).items() if name not in USER_FOLDERS
    }


class SecretFiles:
    """Reads files of secrets, and keeps of each whether it is the same one at another reading.

    Args:
        environ: The supervisor's environment. systemd writes its credentials anew at each start of
            the unit, so they are never the same, and left out.

    Attributes:
        stamps: Path → inode, mtime in ns, size.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._credentials = environ.get(CREDENTIALS, "")
        self.stamps = dict[str, tuple[int, int, int]]()

    def read(self, path: Path) -> bytes:
        """Return the content of a file. Raises as `read_private`."""
        if not self._credentials or not path.is_relative_to(self._credentials):
            # Before it is read: a change meanwhile is then seen as one
            with contextlib.suppress(OSError):
                found = path.stat()
                self.stamps[str(path)] = (found.st_ino, found.st_mtime_ns, found.st_size)
        return read_private(path)


class FoundSecret(NamedTuple):
    """The value of a secret, and where it was found."""

    value: str
    source: str  # in words, without the value


class ServiceEnvironment(NamedTuple):
    """What one service is given; its worker sees both as one environment."""

    public: dict[str, str]
    secrets: dict[str, FoundSecret]

    @property
    def values(self) -> dict[str, str]:
        """Return the secrets."""
        return {name: found.value for name, found in self.secrets.items()}

    @property
    def names(self) -> list[str]:
        """Return the names of the variables that not every service is given."""
        return [name for name in self.public if not is_passed_to_all(name)]

    @property
    def sources(self) -> dict[str, str]:
        """Return where each secret was found, in words."""
        return {name: found.source for name, found in self.secrets.items()}


def worker_environment(
    spec: ServiceSpec,
    environ: Mapping[str, str],
    read: Callable[[Path], bytes] = read_private,
    of_user: Mapping[str, str] | None = None,
) -> tuple[dict[str, str], dict[str, str]]:
    """Return the environment and the secrets of one service, as `service_environment` finds them.

    Raises:
        StartError: A secret is not found, or a file of secrets is unusable.
    """
    found = service_environment(spec, environ, read, of_user)
    return found.public, found.values


def service_environment(
    spec: ServiceSpec,
    environ: Mapping[str, str],
    read: Callable[[Path], bytes] = read_private,
    of_user: Mapping[str, str] | None = None,
    foreign: bool = False,
) -> ServiceEnvironment:
    """Return the environment and the secrets of one service.

    From weak to strong: the allow-list, `pass_env`, `env_file`, `env`, `secrets`. `env_file` counts
    as secret because tokens are kept there: its values must not pass through the launcher's memory,
    which every later worker inherits.

    Args:
        spec: The service.
        environ: The supervisor's environment.
        read: Returns the content of a file.
        of_user: HOME and the like of the service's user; None: it is the supervisor's user.
        foreign: It runs under another interpreter than the host's own.

    Raises:
        StartError: A secret is not found, or a file of secrets is unusable.
    """
    own = own_environment(spec, environ, read)
    base = base_environment(environ, foreign)
    if of_user is not None:
        base = {**_without_user_folders(base), **of_user}
    environment = {**base, **own.public}
    public = {name: value for name, value in environment.items() if name not in own.secrets}
    return ServiceEnvironment(public, own.secrets)


def own_environment(
    spec: ServiceSpec,
    environ: Mapping[str, str],
    read: Callable[[Path], bytes] = read_private,
) -> ServiceEnvironment:
    """Return what one service is given besides what every process gets.

    Args:
        spec: The service.
        environ: The supervisor's environment.
        read: Returns the content of a file.

    Raises:
        StartError: A secret is not found, or a file of secrets is unusable.
    """
    search, own = _Search(spec, environ, read), spec.environment
    passed = {name: environ[name] for name in own.pass_env if name in environ}
    secrets = {
        name: FoundSecret(value, search.env_file)
        for name, value in search.from_file.items()
        if name not in own.env
    }
    spare = spare_secrets(spec.plugin, spec.config)
    for name, source in own.secrets.items():
        with contextlib.suppress(*((StartError,) if name in spare else ())):
            secrets[name] = search.find(name, source)
    variables = {**passed, **own.env}
    public = {name: value for name, value in variables.items() if name not in secrets}
    return ServiceEnvironment(public, secrets)


def host_secret(
    name: str, environ: Mapping[str, str], read: Callable[[Path], bytes] = read_private
) -> str:
    """Return a secret of the host's own, as `secrets` of a service would find it: from systemd's
    credentials, or from the supervisor's environment; empty if neither has it.

    Raises:
        UnusableFile: The credential is unusable.
    """
    if folder := environ.get(CREDENTIALS, ""):
        with contextlib.suppress(FileNotFoundError):
            return os.fsdecode(read(Path(folder) / name)).strip()
    return environ.get(name, "").strip()


def not_granted(environ: Mapping[str, str], found: ServiceEnvironment) -> tuple[str, ...]:
    """Return the names of secrets and variables that the supervisor could grant, but
    a service does not receive. Its worker names one that is requested; no value is sent.

    Args:
        environ: The supervisor's environment.
        found: What the service is given.
    """
    names = {name for name, value in environ.items() if value}
    if folder := environ.get(CREDENTIALS, ""):
        with contextlib.suppress(OSError):
            names.update(path.name for path in Path(folder).iterdir())
    left = names - found.public.keys() - found.secrets.keys()
    return tuple(sorted(name for name in left if NAME.fullmatch(name)))[:NAMES_MOST]


def differing_sources(
    spec: ServiceSpec,
    environ: Mapping[str, str],
    read: Callable[[Path], bytes] = read_private,
) -> dict[str, list[str]]:
    """Return the variables that have one value in one place and another in a second one.

    Returns:
        Name → the places in words, the one whose value is used first.

    Raises:
        StartError: The `env_file` is unusable.
    """
    search, own = _Search(spec, environ, read), spec.environment
    found = dict[str, list[FoundSecret]]()
    for name, value in search.from_file.items():
        places = [FoundSecret(own.env[name], "env")] if name in own.env else []
        places.append(FoundSecret(value, search.env_file))
        if name in own.pass_env and name in environ:
            places.append(FoundSecret(environ[name], SUPERVISORS))
        found[name] = places
    for name, source in own.secrets.items():
        places = []
        with contextlib.suppress(StartError):  # of a place that is not reached
            places.extend(search.places(name, source))
        found[name] = places
    return {
        name: [place.source for place in places]
        for name, places in found.items()
        if len({place.value for place in places}) > 1
    }


class _Search:
    """The search for the secrets of one service.

    Raises:
        StartError: The `env_file` is unusable.
    """

    def __init__(
        self, spec: ServiceSpec, environ: Mapping[str, str], read: Callable[[Path], bytes]
    ) -> None:
        self._spec, self._environ, self._read = spec, environ, read
        self._folder = environ.get(CREDENTIALS, "")
        self.from_file = _env_file(spec, read)
        self.env_file = f"env_file {spec.environment.env_file}"

    def find(self, name: str, source: str | Path) -> FoundSecret:
        """Return a secret from the first place that has it."""
        empty = list[str]()
        for found in self.places(name, source, empty):
            return found
        raise self._missing(name, source, empty)

    def places(
        self, name: str, source: str | Path, empty: list[str] | None = None
    ) -> Iterator[FoundSecret]:
        """Yield a secret from each place that has it, in the order in which they count.

        The service's own file comes before the supervisor's environment: what was exported before
        the start outlives every edit of a file. An empty value is none: no service can use one.

        Args:
            name: The secret's name in the worker.
            source: The name of where it comes from, or its own file.
            empty: Collects the places where it is empty.
        """
        for found in self._candidates(name, source):
            if found.value.strip():
                yield found
            elif empty is not None:
                empty.append(found.source)

    def _candidates(self, name: str, source: str | Path) -> Iterator[FoundSecret]:
        spec, agent = self._spec, self._spec.agent
        if isinstance(source, Path):
            try:
                value = _file_content(spec, name, source, self._read)
            except FileNotFoundError:
                raise StartError(spec.name, f"secret {name}: there is no file {source}") from None
            yield FoundSecret(value, f"file {source}")
            return
        if (value := secrets_of(agent.character).get(source, "")) != "":
            problem = agent.open_to_others or ("has a NUL in it" if "\0" in value else "")
            if problem:
                raise StartError(spec.name, f"secret {name}: {agent.file} {problem}")
            yield FoundSecret(value, f"character {agent.file}")
        if self._folder:
            path = Path(self._folder) / source
            with contextlib.suppress(FileNotFoundError):
                value = _file_content(spec, name, path, self._read)
                yield FoundSecret(value, f"credential {path}")
        if source in self.from_file:
            yield FoundSecret(self.from_file[source], self.env_file)
        if source in self._environ:
            yield FoundSecret(self._environ[source], SUPERVISORS)

    def _missing(self, name: str, source: str | Path, empty: list[str]) -> StartError:
        spec, agent = self._spec, self._spec.agent
        if isinstance(source, Path):
            return StartError(spec.name, f"secret {name}: {source} is empty; put the value into it")
        file = spec.environment.env_file
        env_file = "an env_file" if file is None else str(file)
        credentials = f", or into {self._folder}" if self._folder else ""
        character = f", or into the secrets of {agent.file}" if agent.file is not None else ""
        problem = f"is empty in {', '.join(empty)}" if empty else "is not set"
        return StartError(
            spec.name,
            f"secret {name} {problem}: export {source} where the supervisor starts, "
            f"or put it into {env_file}{credentials}{character}",
        )


def _file_content(spec: ServiceSpec, name: str, path: Path, read: Callable[[Path], bytes]) -> str:
    """Return the secret that is a file's content, without the end of its last line."""
    try:
        data = read(path)
    except UnusableFile as error:
        raise StartError(spec.name, f"secret {name}: {path} {error}") from error
    if b"\0" in data:
        raise StartError(
            spec.name, f"secret {name}: {path} has a NUL in it, which no variable can hold"
        )
    return os.fsdecode(data.removesuffix(b"\n").removesuffix(b"\r"))


def _env_file(spec: ServiceSpec, read: Callable[[Path], bytes]) -> dict[str, str]:
    """Return the variables of the service's `env_file`; the last line of a name counts."""
    if spec.environment.env_file is None:
        return {}
    try:
        text = read(spec.environment.env_file).decode("utf-8-sig")
    except FileNotFoundError:
        problem = "cannot be read: there is no such file"
        raise StartError(spec.name, f"env_file {spec.environment.env_file} {problem}") from None
    except UnusableFile as error:
        raise StartError(spec.name, f"env_file {spec.environment.env_file} {error}") from error
    except UnicodeDecodeError:  # without its cause, which holds the file's bytes
        raise StartError(
            spec.name, f"env_file {spec.environment.env_file} is not UTF-8 text"
        ) from None
    variables = dict[str, str]()
    for number, line in enumerate(text.replace("\r\n", "\n").split("\n"), start=1):
        if (entry := line.strip()) and not entry.startswith("#"):
            name, value = _entry(entry, f"{spec.environment.env_file}:{number}", spec.name)
            variables[name] = value
    return variables


def _entry(entry: str, where: str, service: str) -> tuple[str, str]:
    """Return the name and value of one line, as a shell would read it, without its expansions."""
    if found := LINE.fullmatch(entry):
        name, rest = found.groups()
        value = rest.strip()
        if quoted := SINGLE.fullmatch(value):
            return name, quoted[1]
        if quoted := DOUBLE.fullmatch(value):
            return name, re.sub(r"\\(.)", lambda at: ESCAPES.get(at[1], at[0]), quoted[1])
        if not value.startswith(("'", '"')):
            return name, re.sub(r"\s#.*", "", rest).strip()
    problem = "is not KEY=VALUE, KEY='VALUE' or KEY=\"VALUE\""
    raise StartError(service, f"env_file {where} {problem}")

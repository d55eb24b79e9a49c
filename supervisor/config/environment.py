"""What a worker's environment is: an allow-list, and what the service's spec adds to it.

Nothing else passes, so one service's token is not in another's environment, nor in the launcher's.
No text here holds a value.
"""

import contextlib
import os
import re
import shlex
import stat
import struct
from collections.abc import Callable, Mapping
from pathlib import Path

from garrison.ipc.character import secrets_of
from garrison.ipc.errors import StartError

from .spec import ServiceSpec

# What programs need to find themselves, their user, their language and their certificates. Left
# out on purpose: HTTP_PROXY and its kin, which often hold a password (`pass_env` hands them on);
# TERM, for a worker's output is a file; LD_PRELOAD and PYTHONHOME, PYTHONSTARTUP and PYTHONINSPECT,
# which are about one program alone.
ALLOWED = frozenset(
    {
        *("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "TZ", "TMPDIR"),
        *("VIRTUAL_ENV", "PYTHONPATH", "PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE"),
        *("PYTHONPYCACHEPREFIX", "PYTHONHASHSEED", "PYTHONUTF8", "PYTHONWARNINGS"),
        *("PYTHONDEVMODE", "PYTHONASYNCIODEBUG", "LD_LIBRARY_PATH"),
        *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"),
    }
)
ALLOWED_PREFIXES = ("LC_", "XDG_")
# Where the supervisor's own user has its files, which are closed to another
ONE_USERS = frozenset(
    f"XDG_{what}"
    for what in ("RUNTIME_DIR", "CACHE_HOME", "CONFIG_HOME", "DATA_HOME", "STATE_HOME", "BIN_HOME")
)

LINE = re.compile(r"(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)\s*=([^\0]*)")
SINGLE = re.compile(r"'([^']*)'\s*(?:#.*)?")
DOUBLE = re.compile(r'"((?:[^"\\]|\\.)*)"\s*(?:#.*)?')
ESCAPES = {"n": "\n", "r": "\r", "t": "\t", '"': '"', "\\": "\\", "$": "$"}

CREDENTIALS = "CREDENTIALS_DIRECTORY"  # where systemd puts them, see systemd.exec(5)
MOST_BYTES = 1 << 20  # of a file with secrets
ACL = "system.posix_acl_access"
ACL_ENTRY = struct.Struct("<HHI")  # linux/posix_acl_xattr.h: tag, permissions, id
ACL_VERSION_BYTES = 4
ACL_USER_OBJ, ACL_USER, ACL_MASK = 0x01, 0x02, 0x10


class Unusable(Exception):
    """A file with secrets that cannot be used; the text says why, and what to do."""


def read_private(path: Path) -> bytes:
    """Return what a file holds that its owner alone can read.

    Raises:
        FileNotFoundError: It is not there.
        Unusable: It cannot be read, or others than its owner could.
    """
    data, problem = read_with_permission_problem(path)
    if problem:
        raise Unusable(problem)
    return data


def read_with_permission_problem(path: Path) -> tuple[bytes, str]:
    """Return what a file holds, and why it must hold no secret: empty where it may.

    Raises:
        FileNotFoundError: It is not there.
        Unusable: It cannot be read.
    """
    problem = ""
    try:
        # Not blocked by a pipe that nobody writes to; looked at once it is open, so that what is
        # looked at is what is read.
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
        with open(path, "rb", opener=lambda name, _: os.open(name, flags)) as file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode):
                raise Unusable("cannot be read: it is no regular file")
            if found.st_mode & 0o077 and not _is_ours_alone(file.fileno(), found.st_mode):
                problem = (
                    f"has mode {stat.S_IMODE(found.st_mode):04o}, so others can get at it: "
                    f"chmod 600 {shlex.quote(str(path))}"
                )
            data = file.read(MOST_BYTES + 1)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise Unusable(f"cannot be read: {error.strerror or type(error).__name__}") from error
    if len(data) > MOST_BYTES:
        raise Unusable(f"is larger than {MOST_BYTES:,} bytes")
    return data, problem


def _is_ours_alone(descriptor: int, mode: int) -> bool:
    """Tell whether the mode of a file only looks open: with an access list its group's bits are a
    mask, and systemd lets the unit's user in by such a list."""
    try:
        packed = os.getxattr(descriptor, ACL)
    except OSError:  # it has none
        return False
    entries = ACL_ENTRY.iter_unpack(packed[ACL_VERSION_BYTES:])
    others = [
        permissions
        for tag, permissions, who in entries
        if tag not in {ACL_USER_OBJ, ACL_MASK} and (tag, who) != (ACL_USER, os.geteuid())
    ]
    return not mode & 0o007 and not any(others)


def is_passed_to_all(name: str) -> bool:
    """Tell whether every service is given a variable."""
    return name in ALLOWED or name.startswith(ALLOWED_PREFIXES)


def base_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return what of an environment everyone may see; it is the launcher's whole environment."""
    return {name: value for name, value in environ.items() if is_passed_to_all(name)}


def _anybodys(environ: Mapping[str, str]) -> dict[str, str]:
    """Return what of an environment everyone may see, but for where one user's files are."""
    return {
        name: value for name, value in base_environment(environ).items() if name not in ONE_USERS
    }


def worker_environment(
    spec: ServiceSpec,
    environ: Mapping[str, str],
    read: Callable[[Path], bytes] = read_private,
    of_user: Mapping[str, str] | None = None,
) -> tuple[dict[str, str], dict[str, str]]:
    """Return the environment and the secrets of one service; its worker sees both as one.

    From weak to strong: the allow-list, `pass_env`, `env_file`, `env`, `secrets`. A secret is
    looked for in the agent's character first. What came from `env_file` counts as secret, for that
    is where tokens are kept: it must not pass through the launcher's memory, which is in every
    later worker's.

    Args:
        spec: The service.
        environ: The supervisor's environment.
        read: Returns what a file holds.
        of_user: HOME and the like of the user that it runs as, where that is another one.

    Raises:
        StartError: A secret is nowhere, or a file of secrets is unusable.
    """
    from_file = _file(spec, read)
    environment = {
        **(base_environment(environ) if of_user is None else {**_anybodys(environ), **of_user}),
        **{name: environ[name] for name in spec.environment.pass_env if name in environ},
        **spec.environment.env,
    }
    secrets = {name: value for name, value in from_file.items() if name not in spec.environment.env}
    known, folder = {**from_file, **environ}, environ.get(CREDENTIALS, "")
    for name, source in spec.environment.secrets.items():
        secrets[name] = _secret(spec, name, source, known, folder, read)
    public = {name: value for name, value in environment.items() if name not in secrets}
    return public, secrets


def _secret(
    spec: ServiceSpec,
    name: str,
    source: str | Path,
    known: Mapping[str, str],
    folder: str,
    read: Callable[[Path], bytes],
) -> str:
    """Return a secret: from its own file, or from where its name is found first."""
    agent = spec.agent
    if isinstance(source, Path):
        try:
            return _whole(spec, name, source, read)
        except FileNotFoundError:
            raise StartError(spec.name, f"secret {name}: there is no file {source}") from None
    if (told := secrets_of(agent.character).get(source)) is not None:
        problem = agent.open_to_others or ("holds a NUL in it" if "\0" in told else "")
        if problem:
            raise StartError(spec.name, f"secret {name}: {agent.file} {problem}")
        return told
    if folder:
        with contextlib.suppress(FileNotFoundError):
            return _whole(spec, name, Path(folder) / source, read)
    if source in known:
        return known[source]
    where = "an env_file" if spec.environment.env_file is None else str(spec.environment.env_file)
    also = f", or into {folder}" if folder else ""
    character = f", or into the secrets of {agent.file}" if agent.file is not None else ""
    raise StartError(
        spec.name,
        f"secret {name} is not set: export {source} where the supervisor starts, "
        f"or put it into {where}{also}{character}",
    )


def _whole(spec: ServiceSpec, name: str, path: Path, read: Callable[[Path], bytes]) -> str:
    """Return the secret that is all of a file, but for the end of its last line."""
    try:
        data = read(path)
    except Unusable as error:
        raise StartError(spec.name, f"secret {name}: {path} {error}") from error
    if b"\0" in data:
        raise StartError(spec.name, f"secret {name}: {path} holds a NUL, which no variable can")
    return os.fsdecode(data.removesuffix(b"\n").removesuffix(b"\r"))


def _file(spec: ServiceSpec, read: Callable[[Path], bytes]) -> dict[str, str]:
    """Return what the service's `env_file` says, the last word on a name."""
    if spec.environment.env_file is None:
        return {}
    try:
        text = read(spec.environment.env_file).decode("utf-8-sig")
    except FileNotFoundError:
        problem = "cannot be read: there is no such file"
        raise StartError(spec.name, f"env_file {spec.environment.env_file} {problem}") from None
    except Unusable as error:
        raise StartError(spec.name, f"env_file {spec.environment.env_file} {error}") from error
    except UnicodeDecodeError:  # not its cause: that holds the file's bytes
        raise StartError(
            spec.name, f"env_file {spec.environment.env_file} is not UTF-8 text"
        ) from None
    said = dict[str, str]()
    for number, line in enumerate(text.replace("\r\n", "\n").split("\n"), start=1):
        if (entry := line.strip()) and not entry.startswith("#"):
            name, value = _entry(entry, f"{spec.environment.env_file}:{number}", spec.name)
            said[name] = value
    return said


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

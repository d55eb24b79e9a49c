"""What a worker's environment is: an allow-list, and what the service's spec adds to it.

Nothing else passes, so one service's token is not in another's environment, nor in the launcher's.
No text here holds a value.
"""

import errno
import re
from collections.abc import Callable, Mapping
from pathlib import Path

from garrison.ipc.errors import StartError
from garrison.supervisor.spec import ServiceSpec

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

LINE = re.compile(r"(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)\s*=([^\0]*)")
SINGLE = re.compile(r"'([^']*)'\s*(?:#.*)?")
DOUBLE = re.compile(r'"((?:[^"\\]|\\.)*)"\s*(?:#.*)?')
ESCAPES = {"n": "\n", "r": "\r", "t": "\t", '"': '"', "\\": "\\", "$": "$"}


def read_text(path: Path) -> str:
    """Return a file's text. Raises OSError where it is a pipe or the like, which could block."""
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "it is no regular file")
    return path.read_text("utf-8-sig")


def scrubbed(environ: Mapping[str, str]) -> dict[str, str]:
    """Return what of an environment everyone may see; it is the launcher's whole environment."""
    return {
        name: value
        for name, value in environ.items()
        if name in ALLOWED or name.startswith(ALLOWED_PREFIXES)
    }


def worker_environment(
    spec: ServiceSpec, environ: Mapping[str, str], read: Callable[[Path], str] = read_text
) -> tuple[dict[str, str], dict[str, str]]:
    """Return the environment and the secrets of one service; its worker sees both as one.

    From weak to strong: the allow-list, `pass_env`, `env_file`, `env`, `secrets`. What came from
    `env_file` counts as secret, for that is where tokens are kept: it must not pass through the
    launcher's memory, which is in every later worker's.

    Args:
        spec: The service.
        environ: The supervisor's environment.
        read: Returns a file's text.

    Raises:
        StartError: A secret is nowhere, or `env_file` is unusable.
    """
    from_file = _file(spec, read)
    environment = {
        **scrubbed(environ),
        **{name: environ[name] for name in spec.pass_env if name in environ},
        **spec.env,
    }
    secrets = {name: value for name, value in from_file.items() if name not in spec.env}
    for name, source in spec.secrets.items():
        secrets[name] = _secret(spec, name, source, {**from_file, **environ})
    public = {name: value for name, value in environment.items() if name not in secrets}
    return public, secrets


def _secret(spec: ServiceSpec, name: str, source: str, known: Mapping[str, str]) -> str:
    if source in known:
        return known[source]
    where = "an env_file" if spec.env_file is None else str(spec.env_file)
    raise StartError(
        spec.name,
        f"secret {name} is not set: export {source} where the supervisor starts, "
        f"or put it into {where}",
    )


def _file(spec: ServiceSpec, read: Callable[[Path], str]) -> dict[str, str]:
    """Return what the service's `env_file` says, the last word on a name."""
    if spec.env_file is None:
        return {}
    try:
        text = read(spec.env_file)
    except OSError as error:
        problem = f"cannot be read: {error.strerror or type(error).__name__}"
        raise StartError(spec.name, f"env_file {spec.env_file} {problem}") from error
    except UnicodeDecodeError:  # not its cause: that holds the file's bytes
        raise StartError(spec.name, f"env_file {spec.env_file} is not UTF-8 text") from None
    said = dict[str, str]()
    for number, line in enumerate(text.split("\n"), start=1):
        if (entry := line.strip()) and not entry.startswith("#"):
            name, value = _entry(entry, f"{spec.env_file}:{number}", spec.name)
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

"""What a server gets of the environment and of the secrets: only what its config names. Pure."""

from collections.abc import Mapping

from .config import PLACEHOLDER, ServerConfig

# What programs need to find themselves, their user and their language. Nothing else is inherited.
INHERITED = ["HOME", "LANG", "LC_ALL", "LC_CTYPE", "LOGNAME", "PATH", "SHELL", "TERM", "TMPDIR"]
INHERITED += ["TZ", "USER"]
INCARNATION = "GARRISON_INCARNATION"  # by which garrison finds what an ended worker had started
MARK = "GARRISON_MCP_SERVER"  # by which the service finds what one server has started


def missing_secrets(server: ServerConfig, secrets: Mapping[str, str]) -> list[str]:
    """Return the NAMEs of a server's secrets that have no value."""
    return [name for name in server.secrets if not secrets.get(name)]


def unsendable(server: ServerConfig, secrets: Mapping[str, str]) -> list[str]:
    """Return the NAMEs of secrets that cannot be in a header or an environment."""
    bad = "\0\r\n" if server.url else "\0"
    return [name for name in server.secrets if set(secrets[name]) & set(bad)]


def environment(
    server: ServerConfig, secrets: Mapping[str, str], own: Mapping[str, str], mark: str
) -> dict[str, str]:
    """Return the environment of a server's process.

    Args:
        server: Its config.
        secrets: NAME and value of its secrets.
        own: The environment of this process.
        mark: The value of `MARK`.
    """
    inherited = {name: own[name] for name in (*INHERITED, INCARNATION) if name in own}
    granted = {name: secrets[name] for name in server.secrets}
    return {**inherited, **granted, **filled(server.env, secrets), MARK: mark}


def filled(texts: Mapping[str, str], secrets: Mapping[str, str]) -> dict[str, str]:
    """Return texts with the values of secrets in place of ${NAME}."""
    return {
        name: PLACEHOLDER.sub(lambda found: secrets[found[1]], text) for name, text in texts.items()
    }

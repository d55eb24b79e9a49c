"""What a server gets of the environment and of the secrets: only what its config names. Pure."""

from collections.abc import Mapping

from .config import PLACEHOLDER, ServerConfig


def missing_secrets(server: ServerConfig, secrets: Mapping[str, str]) -> list[str]:
    """Return the NAMEs of a server's secrets that have no value."""
    return [name for name in server.secrets if not secrets.get(name)]


def unsendable(server: ServerConfig, secrets: Mapping[str, str]) -> list[str]:
    """Return the NAMEs of secrets that cannot be in a header or an environment."""
    bad = "\0\r\n" if server.url else "\0"
    return [name for name in server.secrets if set(secrets[name]) & set(bad)]


def environment(server: ServerConfig, secrets: Mapping[str, str]) -> dict[str, str]:
    """Return what a server's process gets besides what every process needs."""
    return {name: secrets[name] for name in server.secrets} | filled(server.env, secrets)


def filled(texts: Mapping[str, str], secrets: Mapping[str, str]) -> dict[str, str]:
    """Return texts with the values of secrets in place of ${NAME}."""
    return {
        name: PLACEHOLDER.sub(lambda found: secrets[found[1]], text) for name, text in texts.items()
    }

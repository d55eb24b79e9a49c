"""Config keys of the mcp service. Durations are seconds, sizes bytes."""

import re
from typing import Annotated
from urllib.parse import urlsplit

import msgspec

NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,31}")
PLACEHOLDER = re.compile(r"\$\{([^}]*)\}")
TOOLS_MOST = 1000  # of one server
SERVERS_MOST = 64
Positive = Annotated[int, msgspec.Meta(ge=1)]
Count = Annotated[int, msgspec.Meta(ge=0)]
Seconds = Annotated[float, msgspec.Meta(gt=0, le=3600)]


class ServerConfig(msgspec.Struct):
    """`[services.mcp.config.servers.NAME]`: one server, started here or at an address."""

    command: str = ""  # starts the server, which talks on its standard input and output
    args: list[str] = []
    env: dict[str, str] = {}  # with ${NAME} in place of a secret
    cwd: str = ""
    url: str = ""  # of a server that is reached over HTTP
    headers: dict[str, str] = {}  # as `env`
    secrets: list[str] = []  # NAMEs of the service's secrets that this server gets
    allow: list[str] = []  # names or patterns of the tools that are offered; none: all but harmful
    deny: list[str] = []  # of those that are not
    resources: list[str] = []  # URIs or patterns of the resources that each answer is given
    resource_bytes: Positive = 16_384  # of their texts together
    attachments: bool = True  # images and sounds of a result are sent to the room
    sampling: bool = False  # it may use the agent's models
    connect_timeout: Seconds = 30.0  # to start, and to list what it has
    timeout: Seconds = 60.0  # of a call
    concurrency: Positive = 8  # calls at a time; further ones wait
    answer_bytes: Positive = 4 << 20  # of one answer

    def problem(self) -> str:
        """Return what is wrong that no type says; empty if nothing is.

        The text names the key; it does not contain its value, which may be secret.
        """
        if bool(self.command) == bool(self.url):
            return "it has either a `command` or a `url`"
        unused = ("args", "env", "cwd") if self.url else ("headers",)
        for key in unused:
            if getattr(self, key):
                return f"`{key}` is of a server with a {'command' if self.url else 'url'}"
        if any(PLACEHOLDER.search(text) for text in (self.command, *self.args)):
            return "`command` and `args` take no ${NAME}: other users see them; use `env`"
        return (_url_problem(self.url) if self.url else "") or _texts_problem(self)


class Config(msgspec.Struct):
    """`[services.mcp.config]`."""

    servers: dict[str, ServerConfig] = {}
    wait: Annotated[float, msgspec.Meta(ge=0, le=600)] = 5.0  # for servers at the start, at most
    probe: Annotated[float, msgspec.Meta(ge=0)] = 60.0  # between checks of an idle server; 0: never

    def __post_init__(self) -> None:
        """Check the names. Raises ValueError."""
        if len(self.servers) > SERVERS_MOST:
            raise ValueError(f"there are {len(self.servers)} servers; {SERVERS_MOST} at most")
        for name, server in self.servers.items():
            if not NAME.fullmatch(name):
                raise ValueError(
                    f"{name!r:.40} is no name of a server: a letter, then up to 31 letters, "
                    "digits, _ and -"
                )
            if problem := server.problem():
                raise ValueError(f"the server {name}: {problem}")


def placeholders(texts: list[str]) -> set[str]:
    """Return the NAMEs of secrets that texts contain as ${NAME}."""
    return {name for text in texts for name in PLACEHOLDER.findall(text)}


def _url_problem(url: str) -> str:
    try:
        parts = urlsplit(url)
        is_url = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
        has_user = "@" in parts.netloc
    except ValueError:  # a port or an address in brackets that is none
        is_url = has_user = False
    if not is_url:
        return "`url` is no address: write it as https://HOST/mcp"
    if has_user or PLACEHOLDER.search(url):
        return "`url` must not contain a secret: use `headers`"
    return ""


def _texts_problem(server: ServerConfig) -> str:
    for name in sorted(placeholders([*server.env.values(), *server.headers.values()])):
        if name not in server.secrets:
            return f"${{{name[:40]}}} is not among its `secrets`"
    for key in ("env", "headers"):
        for name, value in getattr(server, key).items():
            if not name or any(c in name + value for c in "\0\r\n") or "=" in name:
                return f"`{key}` has a name or a value that cannot be sent"
    if any("\0" in text for text in (server.command, *server.args, server.cwd)):
        return "`command`, `args` and `cwd` cannot contain a NUL"
    return ""

"""Config keys of the sql service."""

from typing import Annotated
from urllib.parse import parse_qs, urlsplit

import msgspec
from msgspec import Meta

Seconds = Annotated[float, Meta(gt=0, le=3600)]


class DatabaseConfig(msgspec.Struct):
    """`[services.sql.config.databases.NAME]`. Times are seconds, sizes bytes."""

    url: str = ""  # sqlite:////path, or postgresql://user@host:port/database
    url_secret: str = ""  # NAME of a secret that holds the url
    password_secret: str = ""  # NAME of a secret that holds the password alone
    write: bool = False  # `execute` is allowed
    agent: bool = False  # the agent may read it
    seconds: Seconds = 10.0  # for a statement
    rows: Annotated[int, Meta(ge=1, le=100_000)] = 1000  # of a result
    size: Annotated[int, Meta(ge=1024, le=32 << 20)] = 1 << 20  # of a result, and of one value
    pool: Annotated[int, Meta(ge=1, le=50)] = 4  # statements at a time

    def __post_init__(self) -> None:
        if bool(self.url) == bool(self.url_secret):
            raise ValueError("a database has either a url or a url_secret")
        if self.url:
            check_url(self.url)
            if has_password(self.url):
                raise ValueError(
                    "url has a password, which everyone may read who may read this config or "
                    "`garrison status`: put it into a secret, and that one's NAME into "
                    "password_secret"
                )


def check_url(url: str) -> None:
    """Check the address of a database.

    Raises:
        ValueError: It is none; the text does not have it, as it may have a password.
    """
    try:
        parts = urlsplit(url)
        is_file = parts.scheme == "sqlite" and parts.path.startswith(("//", "/~/"))
        is_server = parts.scheme in {"postgresql", "postgres"} and parts.port != 0
    except ValueError:
        is_file = is_server = False
    if not is_file and not is_server:
        raise ValueError(
            "url is no address of a database: write it as sqlite:////FOLDER/FILE, with the whole "
            "path, or as postgresql://USER@HOST:5432/DATABASE"
        )


def has_password(url: str) -> bool:
    """Return whether an address has a password, in either place for it."""
    parts = urlsplit(url)
    return bool(parts.password) or "password" in parse_qs(parts.query)


class Config(msgspec.Struct):
    """`[services.sql.config]`."""

    databases: dict[str, DatabaseConfig] = {}
    schema_in_prompt: bool = True  # of the databases that the agent may read
    schema_characters: Annotated[int, Meta(ge=200, le=100_000)] = 4000
    result_characters: Annotated[int, Meta(ge=200, le=8000)] = 6000  # that a model is sent

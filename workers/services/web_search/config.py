"""Config keys of the web_search service."""

from typing import Annotated, Literal
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

Seconds = Annotated[float, Meta(gt=0, le=600)]
Count = Annotated[int, Meta(ge=0)]
Port = Annotated[int, Meta(ge=1, le=65535)]
EngineName = Literal["", "searxng", "tavily", "brave", "ddgs"]


class Config(msgspec.Struct):
    """`[services.web_search.config]`. Times are seconds, sizes bytes."""

    engine: EngineName = ""  # empty: by `url`, else by the key that there is, else ddgs
    url: str = ""  # of SearXNG, or of a server with the engine's API
    backend: str = "auto"  # of ddgs: "duckduckgo", "mojeek, wikipedia", …
    limit: Annotated[int, Meta(ge=1, le=50)] = 8  # results, where a call does not say
    language: str = ""  # such as "de"; empty: the engine's choice
    safe_search: bool = True
    timeout: Seconds = 15.0  # for a search
    concurrency: Annotated[int, Meta(ge=1, le=64)] = 4  # searches and pages at a time
    rpm: Count = 0  # searches per minute; 0 is no limit
    cache_s: Annotated[float, Meta(ge=0)] = 600.0  # how long results and pages are kept
    cache_entries: Count = 256
    cache_bytes: Count = 16 << 20
    actions: bool = True  # WEB_SEARCH and READ_WEB_PAGE are offered to models
    in_prompt: bool = True  # "search for …" puts findings into the prompt
    page_timeout: Seconds = 20.0  # for a page, with its redirects
    page_bytes: Annotated[int, Meta(ge=1024, le=64 << 20)] = 2 << 20  # the rest is cut
    page_characters: Annotated[int, Meta(ge=100, le=1 << 20)] = 20_000  # of its text
    ports: list[Port] = msgspec.field(
        default_factory=lambda: [80, 443]
    )  # that pages may be at; none: any port
    allow_private: bool = False  # pages of this machine and its networks too
    user_agent: str = "garrison/0.1 (+a bot that reads single pages)"

    def __post_init__(self) -> None:
        try:
            parts = urlsplit(self.url)
            is_url = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
        except ValueError:
            is_url = False
        if self.url and not is_url:
            raise ValueError("url is no address: write it as http://HOST:PORT")

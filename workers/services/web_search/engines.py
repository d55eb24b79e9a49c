"""Engines with an HTTP API: what is sent to each, and what its answers mean. Pure."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from . import results as read
from .config import Config
from .results import SearchResult

BRAVE_MOST = 20  # results of one answer


class Request(NamedTuple):
    """A request of an engine."""

    method: str
    url: str
    headers: Mapping[str, str] = {}
    params: Mapping[str, str] = {}
    json: Mapping[str, Any] | None = None


class Engine(NamedTuple):
    """An engine with an HTTP API."""

    name: str
    request: Callable[[Config, str, str, int], Request]  # config, key, query, limit
    results: Callable[[Any], list[SearchResult]]
    key_name: str = ""  # NAME of its secret; empty: it needs none
    keys_url: str = ""  # the page where a key is to be had
    refusals: frozenset[int] = frozenset({401, 403})  # statuses: the key is not accepted
    spent: frozenset[int] = frozenset({402})  # statuses: the account has nothing left


def _searxng(config: Config, key: str, query: str, limit: int) -> Request:
    params = {"q": query, "format": "json", "safesearch": "1" if config.safe_search else "0"}
    if config.language:
        params["language"] = config.language
    return Request("GET", f"{config.url.rstrip('/')}/search", params=params)


def _tavily(config: Config, key: str, query: str, limit: int) -> Request:
    url = config.url or "https://api.tavily.com"
    body = {"query": query, "max_results": min(limit, 20), "search_depth": "basic"}
    return Request(
        "POST", f"{url.rstrip('/')}/search", {"Authorization": f"Bearer {key}"}, json=body
    )


def _brave(config: Config, key: str, query: str, limit: int) -> Request:
    url = config.url or "https://api.search.brave.com"
    params = {
        "q": query,
        "count": str(min(limit, BRAVE_MOST)),
        "safesearch": "moderate" if config.safe_search else "off",
        "text_decorations": "false",
    }
    if config.language:
        params["search_lang"] = config.language
    return Request(
        "GET", f"{url.rstrip('/')}/res/v1/web/search", {"X-Subscription-Token": key}, params
    )


ENGINES: Mapping[str, Engine] = {
    engine.name: engine
    for engine in (
        Engine("searxng", _searxng, read.of_searxng),
        Engine(
            "tavily",
            _tavily,
            read.of_tavily,
            "TAVILY_API_KEY",
            "https://app.tavily.com",
            spent=frozenset({402, 432, 433}),
        ),
        Engine(
            "brave",
            _brave,
            read.of_brave,
            "BRAVE_API_KEY",
            "https://api-dashboard.search.brave.com",
            refusals=frozenset({401, 403, 422}),  # 422: SUBSCRIPTION_TOKEN_INVALID
        ),
    )
}
DDGS = "ddgs"


def chosen(config: Config, has_key: Callable[[str], bool]) -> str:
    """Return the name of the engine that is used.

    Args:
        config: The service's.
        has_key: Whether there is a secret of this NAME.
    """
    if config.engine:
        return config.engine
    if config.url:
        return "searxng"
    with_key = (one.name for one in ENGINES.values() if one.key_name and has_key(one.key_name))
    return next(with_key, DDGS)

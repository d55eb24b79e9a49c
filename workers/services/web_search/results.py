"""What a search finds, and how it is read from the answers of engines. Pure.

All texts come from pages of anyone: they are bounded, and have no control characters.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

TITLE_MOST, SNIPPET_MOST, URL_MOST, DATE_MOST = 300, 1000, 2000, 40  # characters
CONTROL = (
    dict.fromkeys((*range(32), *range(127, 160), *range(8203, 8208), *range(8234, 8239)), " ")
    | dict.fromkeys((*range(0x2060, 0x2070), 0xFEFF), " ")
    | dict.fromkeys(range(0xE0000, 0xE0080), "")
)


class SearchResult(msgspec.Struct):
    """One page that was found."""

    title: str
    url: str
    snippet: str = ""
    published: str = ""  # as the engine says it; "" if it does not


class SearchResults(msgspec.Struct):
    """What a search found, the best first."""

    query: str
    engine: str
    results: list[SearchResult] = []


class Page(msgspec.Struct):
    """A page as text."""

    url: str  # after redirects
    title: str = ""
    text: str = ""
    published: str = ""
    content_type: str = ""
    is_cut: bool = False  # the page is longer


class Unreadable(ValueError):
    """An answer has another form than the engine's API."""


class EnginesAway(Exception):
    """No result, because the engines behind this one do not answer."""


def one_line(text: Any, most: int) -> str:
    """Return a text on one line, without what is not shown."""
    if not isinstance(text, str):
        return ""
    return " ".join(text[: 4 * most].translate(CONTROL).split())[:most]


def of_searxng(answer: Any) -> list[SearchResult]:
    """Return the results in an answer of SearXNG, or of searx.

    Raises:
        EnginesAway: There are none, and not all of its engines answered.
    """
    found = _results(_list(answer, "results"), "url", "content", "publishedDate")
    away = answer.get("unresponsive_engines")
    if not found and isinstance(away, list) and away:
        names = [": ".join(map(str, one)) if isinstance(one, list) else str(one) for one in away]
        raise EnginesAway(one_line("; ".join(names), SNIPPET_MOST))
    return found


def of_tavily(answer: Any) -> list[SearchResult]:
    """Return the results in an answer of Tavily."""
    return _results(_list(answer, "results"), "url", "content", "published_date")


def of_brave(answer: Any) -> list[SearchResult]:
    """Return the results in an answer of Brave; without any there is no `web`."""
    web = answer.get("web") if isinstance(answer, Mapping) else None
    if web is None and isinstance(answer, Mapping) and "query" in answer:
        return []
    return _results(_list(web, "results"), "url", "description", "page_age")


def of_ddgs(answer: Any) -> list[SearchResult]:
    """Return the results in a list of ddgs."""
    return _results(_list({"results": answer}, "results"), "href", "body", "date")


def _list(answer: Any, key: str) -> list[Any]:
    found = answer.get(key) if isinstance(answer, Mapping) else None
    if not isinstance(found, list):
        raise Unreadable(f"its answer has no {key!r}")
    return found


def _results(found: Iterable[Any], url: str, snippet: str, published: str) -> list[SearchResult]:
    """Return results, each address once; what is no result is left out."""
    results: dict[str, SearchResult] = {}
    for one in found:
        if not isinstance(one, Mapping):
            continue
        address = one.get(url)
        if not isinstance(address, str) or not address.startswith(("http://", "https://")):
            continue
        if len(address) > URL_MOST or any(char.isspace() for char in address):
            continue
        result = SearchResult(
            one_line(one.get("title"), TITLE_MOST) or address[:TITLE_MOST],
            address,
            one_line(one.get(snippet), SNIPPET_MOST),
            one_line(one.get(published), DATE_MOST),
        )
        results.setdefault(address, result)
    return list(results.values())

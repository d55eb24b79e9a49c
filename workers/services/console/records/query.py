"""What an address asks for: services, a search, a time, a place. Pure.

Times are Unix seconds; those without an offset are in UTC, as everything on the page is.
"""

from collections.abc import Mapping
from datetime import UTC
from math import isfinite
from urllib.parse import urlencode

import msgspec

from garrison.ipc.record_pages import LATEST, Cursor, Question
from garrison.ipc.time_words import EXAMPLES, parse_time

from .event_words import GROUPS

NAMES_MOST = 50
LINES_MOST = 1000  # on one page
EVENTS_MOST = 300
SEARCH_MOST = 500  # characters
SPECIAL = frozenset("\\.^$*+?{}[]|()")  # of regular expressions


class Wrong(ValueError):
    """A part of an address is not what it must be; the text says what to write."""


class Query(msgspec.Struct, frozen=True):
    """A request, as it was written.

    Attributes:
        name: NAMEs and globs, between spaces or commas.
        grep: A regular expression.
        since: A time; empty: any.
        until: A time; empty: any.
        generation: Of an incarnation; "last"; empty: any.
        pid: Of its process; empty: any.
        groups: Chosen groups of events; none: all.
        earlier: The page ends there: `TIME,SKIP`.
        later: The page begins there.
    """

    name: str = ""
    grep: str = ""
    since: str = ""
    until: str = ""
    generation: str = ""
    pid: str = ""
    groups: tuple[str, ...] = ()
    earlier: str = ""
    later: str = ""

    @property
    def names(self) -> list[str]:
        """Return the NAMEs and globs."""
        return self.name.replace(",", " ").split()[:NAMES_MOST]

    @property
    def is_live(self) -> bool:
        """Return whether new lines belong to it: it ends now, and its search is a plain text."""
        return not self.until and not self.earlier and not SPECIAL & set(self.grep)

    @property
    def is_filtered(self) -> bool:
        """Return whether anything limits it besides services."""
        return bool(self.grep or self.since or self.until or self.generation or self.groups)

    @property
    def words(self) -> str:
        """Return what limits it, in words; empty: nothing does."""
        parts = [
            self.name,
            f"search {self.grep}" if self.grep else "",
            f"since {self.since}" if self.since else "",
            f"until {self.until}" if self.until else "",
            ", ".join(GROUPS[group] for group in self.groups),
        ]
        return "; ".join(part for part in parts if part)

    def address(self, path: str, **changes: str) -> str:
        """Return the address of a page with changes; empty values are left out."""
        values = {
            key: getattr(self, key)
            for key in ("name", "grep", "since", "until", "generation", "pid", "earlier", "later")
        } | dict.fromkeys(self.groups, "1")
        given = {key: value for key, value in (values | changes).items() if value}
        return f"{path}?{urlencode(given)}" if given else path


def query_of(values: Mapping[str, str]) -> Query:
    """Return what the parameters of an address ask for."""
    keys = ("name", "since", "until", "generation", "pid", "earlier", "later")
    text = {key: values.get(key, "").strip() for key in keys}
    groups = tuple(group for group in GROUPS if values.get(group))
    return Query(**text, grep=values.get("grep", ""), groups=groups)


def question_of(query: Query, now: float, of_events: bool = False) -> Question:
    """Return the request to the reader.

    Raises:
        Wrong: A time, a place or a number is not one; the search is too long.
    """
    if len(query.grep) > SEARCH_MOST:
        raise Wrong(f"a search has at most {SEARCH_MOST} characters")
    place = query.later or query.earlier
    since, until = _time(query.since, "since", now), _time(query.until, "until", now)
    generation = _generation(query.generation)
    if generation and (len(query.names) != 1 or set(query.name) & set("*?[")):
        raise Wrong("an incarnation is of one service: write its NAME")
    begins = since is not None or generation
    return Question(
        of_events=of_events,
        names=query.names,
        groups=list(query.groups),
        known_groups=list(GROUPS),
        since=since,
        until=until,
        now=now,
        pattern=query.grep,
        generation=generation,
        pid=_number(query.pid, "pid"),
        cursor=cursor_of(place) if place else None,
        forward=bool(query.later) or bool(begins and not query.earlier),
        most=EVENTS_MOST if of_events else LINES_MOST,
    )


def cursor_of(text: str) -> Cursor:
    """Return a place in an address. Raises Wrong."""
    at, _, skip = text.partition(",")
    try:
        cursor = Cursor(float(at), min(int(skip or 0), 10 * LINES_MOST))
    except ValueError:
        raise Wrong(f"{text[:50]!r} is no place in a log: begin again without it") from None
    if not isfinite(cursor.at) or cursor.skip < 0:
        raise Wrong(f"{text[:50]!r} is no place in a log: begin again without it")
    return cursor


def place_of(cursor: Cursor | None) -> str:
    """Return a place for an address."""
    return "" if cursor is None else f"{cursor.at!r},{cursor.skip}"


def _time(text: str, what: str, now: float) -> float | None:
    if not text:
        return None
    try:
        return parse_time(text, now, UTC)
    except (ValueError, OverflowError, OSError):
        raise Wrong(f"{what}: {text[:50]!r} is no time; write one as in {EXAMPLES}") from None


def _generation(text: str) -> int:
    return LATEST if text == "last" else _number(text, "generation")


def _number(text: str, what: str) -> int:
    if not text:
        return 0
    if not (text.isascii() and text.isdigit() and len(text) <= 9):
        raise Wrong(f"{what}: {text[:50]!r} is no number")
    return int(text)

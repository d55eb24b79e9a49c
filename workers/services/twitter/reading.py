"""What is read of X: pages of mentions and direct messages, and of what the bot itself wrote."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, NamedTuple, Protocol

from garrison.workers import Heard

from .client import Api, endpoint_of
from .incoming import (
    DIRECT,
    DIRECT_PREFIX,
    MENTIONED,
    Included,
    heard_direct,
    heard_post,
    posts_of,
    replied_to,
    unix,
)
from .text import full_text

POST_FIELDS = ["attachments", "conversation_id", "created_at", "entities", "lang", "note_post"]
EXPANSIONS = ["attachments.media_keys", "author_id", "referenced_posts"]
MEDIA_FIELDS = ["alt_text", "preview_image_url", "type", "url", "variants"]
EVENT_FIELDS = ["attachments", "created_at", "dm_conversation_id", "entities", "event_type", "text"]
PAGE_LEAST, PAGE_MOST = 5, 100  # posts of a page, as X allows


class Since(NamedTuple):
    """After what a stream is read: an id, or a Unix time where there is none."""

    id: str
    unix: float


class Page(NamedTuple):
    """One page, the newest first."""

    found: list[Heard]
    read: int  # posts that X counts
    next: str  # token of the next page; "": there is none


class Stream(Protocol):
    """Something that is read by pages."""

    name: str
    endpoint: str

    async def page(self, since: Since, token: str, most: int) -> Page:
        """Read one page of what came after `since`."""
        ...


class Mentions:
    """Posts that mention the bot, its own ones in threads among them."""

    name = MENTIONED

    def __init__(self, api: Api, own_id: str) -> None:
        self._api, self._own_id = api, own_id
        self._route = f"/2/users/{own_id}/mentions"
        self.endpoint = endpoint_of("GET", self._route)

    async def page(self, since: Since, token: str, most: int) -> Page:
        """Read one page of what came after `since`."""
        answer = await self._api.get(
            self._route,
            since_id=since.id,
            start_time="" if since.id else iso(since.unix),
            pagination_token=token,
            max_results=min(max(most, PAGE_LEAST), PAGE_MOST),
            post_fields=POST_FIELDS,
            expansions=EXPANSIONS,
            user_fields=["name", "username"],
            media_fields=MEDIA_FIELDS,
        )
        included, posts = Included(answer), posts_of(answer)
        found = [heard_post(post, included, self._own_id) for post in posts]
        return Page(found, len(posts), _next(answer))


class DirectMessages:
    """Direct messages of single persons; X has them of the last 30 days."""

    name = DIRECT

    def __init__(self, api: Api, own_id: str) -> None:
        self._api, self._own_id = api, own_id
        self.endpoint = endpoint_of("GET", "/2/dm_events")

    async def page(self, since: Since, token: str, most: int) -> Page:
        """Read one page; the last one is where the known ones begin."""
        answer = await self._api.get(
            "/2/dm_events",
            event_types=["MessageCreate"],
            max_results=PAGE_MOST,
            pagination_token=token,
            dm_event_fields=EVENT_FIELDS,
            expansions=["attachments.media_keys", "sender_id"],
            user_fields=["name", "username"],
            media_fields=MEDIA_FIELDS,
        )
        included, found, is_known = Included(answer), [], False
        for event in posts_of(answer):
            if _is_before(event, since):
                is_known = True
                continue
            heard = heard_direct(event, included, self._own_id)
            if heard is not None:
                found.append(heard)
        return Page(found, 0, "" if is_known else _next(answer))


class Own(NamedTuple):
    """Something that the bot itself wrote."""

    id: str
    text: str
    replied_to: str
    written: float  # Unix time; 0.0: not known


class OwnPosts:
    """What the bot wrote, for what may have been sent."""

    def __init__(self, api: Api, own_id: str) -> None:
        self._api, self._own_id = api, own_id

    async def posts(self, since: float, pages: int) -> list[Own]:
        """Return the bot's posts since a Unix time, the newest first."""
        found: list[Own] = []
        token = ""
        for _ in range(pages):
            answer = await self._api.get(
                f"/2/users/{self._own_id}/tweets",
                start_time=iso(since),
                max_results=PAGE_MOST,
                pagination_token=token,
                post_fields=["created_at", "entities", "note_post"],
                expansions=["referenced_posts"],
            )
            found += _own(posts_of(answer))
            token = _next(answer)
            if not token:
                break
        return [one for one in found if not one.written or one.written >= since]

    async def direct(self, channel: str, since: float) -> list[Own]:
        """Return the bot's direct messages to a person since a Unix time, the newest first."""
        person = channel.removeprefix(DIRECT_PREFIX)
        answer = await self._api.get(
            f"/2/dm_conversations/with/{person}/dm_events",
            event_types=["MessageCreate"],
            max_results=PAGE_MOST,
            dm_event_fields=EVENT_FIELDS,
            expansions=["sender_id"],
        )
        events = [one for one in posts_of(answer) if str(one.get("sender_id")) == self._own_id]
        return [one for one in _own(events) if not one.written or one.written >= since]


def iso(unix_s: float) -> str:
    """Return a Unix time as X takes it: whole seconds, rounded down."""
    return datetime.fromtimestamp(int(unix_s), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _own(posts: Iterable[dict[str, Any]]) -> list[Own]:
    return [
        Own(one["id"], full_text(one), replied_to(one), unix(one.get("created_at")))
        for one in posts
    ]


def _is_before(event: dict[str, Any], since: Since) -> bool:
    if since.id:
        return int(event["id"]) <= int(since.id)
    return unix(event.get("created_at")) < int(since.unix)


def _next(answer: dict[str, Any]) -> str:
    return str((answer.get("meta") or {}).get("next_token") or "")

"""Posts and direct messages of X as garrison's messages. Pure.

The channel of a post is its conversation, that of a direct message `dm:` and the other person's id.
"""

import mimetypes
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from garrison.workers import Content, Heard, Media, Memory

from .text import full_text, without_addressees

MENTIONED, DIRECT = "mentions", "direct_messages"  # streams: what positions count in
DIRECT_PREFIX = "dm:"
PHOTO = "photo"
POST_URL = "https://x.com/{name}/status/{id}"

Json = dict[str, Any]


class Included:
    """What an answer includes besides its posts: their authors and files.

    Args:
        answer: Of X.
    """

    def __init__(self, answer: Mapping[str, Any]) -> None:
        found = answer.get("includes") or {}
        self.users: dict[str, Json] = {str(one.get("id")): one for one in found.get("users") or ()}
        self._media: dict[str, Json] = {
            str(one.get("media_key")): one for one in found.get("media") or ()
        }

    def attachments(self, post: Mapping[str, Any]) -> list[Media]:
        """Return the files of a post or direct message, by their addresses at X."""
        keys = (post.get("attachments") or {}).get("media_keys") or ()
        found = [media(self._media[key]) for key in keys if key in self._media]
        return [one for one in found if one.url]


def posts_of(answer: Mapping[str, Any]) -> list[Json]:
    """Return the posts of an answer."""
    return [one for one in answer.get("data") or () if str(one.get("id", "")).isdigit()]


def in_order(posts: Iterable[Json]) -> list[Json]:
    """Return posts as they were written: X's newest come first."""
    return sorted(posts, key=lambda one: int(one["id"]))


def heard_post(post: Mapping[str, Any], included: Included, own_id: str) -> Heard:
    """Return a post as `Platform.receive` takes it.

    Args:
        post: Of X; it mentions the bot.
        included: Of the same answer.
        own_id: The bot's.
    """
    author = str(post.get("author_id", ""))
    channel = str(post.get("conversation_id") or post["id"])
    memory = Memory(
        id=post["id"],
        content=Content(
            text=without_addressees(full_text(post)),
            channel_type="GROUP",
            url=POST_URL.format(name=_username(author, included) or "i", id=post["id"]),
            in_reply_to=replied_to(post),
            attachments=included.attachments(post),
        ),
        entity_id=author,
        room_id=channel,
        created_at=unix(post.get("created_at")),
        metadata={
            "name": _name(author, included),
            "username": _username(author, included),
            "own": author == own_id,
            "mentioned": True,
            "language": str(post.get("lang") or ""),
        },
    )
    return Heard(memory, stream=MENTIONED, position=post["id"])


def heard_direct(event: Mapping[str, Any], included: Included, own_id: str) -> Heard | None:
    """Return a direct message as `Platform.receive` takes it; None: one of a group, or no message.

    Args:
        event: Of X.
        included: Of the same answer.
        own_id: The bot's.
    """
    sender = str(event.get("sender_id", ""))
    people = set(str(event.get("dm_conversation_id", "")).split("-")) - {own_id}
    if event.get("event_type") != "MessageCreate" or len(people) != 1 or "" in people:
        return None
    (other,) = people
    memory = Memory(
        id=event["id"],
        content=Content(
            text=full_text(event),
            channel_type="DM",
            attachments=included.attachments(event),
        ),
        entity_id=sender,
        room_id=f"{DIRECT_PREFIX}{other}",
        created_at=unix(event.get("created_at")),
        metadata={
            "name": _name(sender, included),
            "username": _username(sender, included),
            "own": sender == own_id,
            "mentioned": True,
        },
    )
    return Heard(memory, stream=DIRECT, position=event["id"])


def media(found: Mapping[str, Any]) -> Media:
    """Return a file at its address at X: a film's best version, or its picture."""
    kind = str(found.get("type") or "")
    films = [
        one
        for one in found.get("variants") or ()
        if one.get("url") and str(one.get("content_type", "")).startswith("video/")
    ]
    best = max(films, key=lambda one: int(one.get("bit_rate") or 0), default=None)
    if best is not None and kind != PHOTO:
        url, content_type = str(best["url"]), str(best["content_type"])
    else:
        url = str(found.get("url") or found.get("preview_image_url") or "")
        content_type = mimetypes.guess_type(url)[0] or "image/jpeg"
    return Media(
        url=url,
        id=str(found.get("media_key", "")),
        source="twitter",
        description=str(found.get("alt_text") or ""),
        content_type=content_type,
    )


def replied_to(post: Mapping[str, Any]) -> str:
    """Return the id of the post that one answers; "": it answers none."""
    for one in post.get("referenced_posts") or post.get("referenced_tweets") or ():
        if one.get("type") == "replied_to":
            return str(one.get("id") or "")
    return ""


def unix(text: object) -> float:
    """Return an ISO 8601 time in Unix seconds; 0.0: it is none."""
    try:
        return datetime.fromisoformat(str(text)).timestamp()
    except ValueError:
        return 0.0


def _username(user: str, included: Included) -> str:
    return str(included.users.get(user, {}).get("username") or "")


def _name(user: str, included: Included) -> str:
    return str(included.users.get(user, {}).get("name") or "") or _username(user, included)

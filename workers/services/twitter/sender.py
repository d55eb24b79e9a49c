"""Sends posts and direct messages, and looks up whether one is there."""

import time
from typing import Any

from garrison.workers import NotSent, Outgoing, RetryLater

from .client import Api, endpoint_of
from .files import File, sendable, upload
from .incoming import DIRECT_PREFIX
from .outcome import Duplicate, as_outcome, reason_of
from .reading import OwnPosts
from .text import POST_MOST, comparable, is_same, weight

TIMELINE = "timeline"  # the channel of posts that answer nothing
POSTS = endpoint_of("POST", "/2/tweets")
LOOKED_AT = 3  # pages of one's own posts, for one that may have been sent
UPLOAD_AGAIN_S = 1.0
SLACK_S = 60.0  # between X's clock and this one


class Sender:
    """What the bot writes.

    Args:
        api: X's.
        own: What it wrote.
        http: The module `aiohttp`.
        most: Largest file, in bytes.
    """

    def __init__(self, api: Api, own: OwnPosts, http: Any, most: int) -> None:
        self._api, self._own, self._http, self._most = api, own, http, most

    async def deliver(self, m: Outgoing) -> str:
        """Send a part; see `Platform.deliver`."""
        is_direct = m.channel.startswith(DIRECT_PREFIX)
        if not is_direct:
            self._check_limit()
        files, text = self._message(m)
        media = [await self._upload(file, is_direct) for file in files]
        try:
            if is_direct:
                return await self._send_direct(m.channel, text, media)
            return await self._post(m, text, media)
        except Exception as error:
            meant = as_outcome(error, self._http)
            if isinstance(meant, Duplicate) and m.unsure:
                return await self.was_delivered(m) or ""  # it arrived, and X shows it late
            if meant is error:
                raise
            raise meant from error

    async def was_delivered(self, m: Outgoing) -> str | None:
        """Return X's id of a part; None: it is not there."""
        _, text = self._message(m)
        wanted, since = comparable(text), m.began - SLACK_S
        if m.channel.startswith(DIRECT_PREFIX):
            found, parent = await self._own.direct(m.channel, since), ""
        else:
            found, parent = await self._own.posts(since, LOOKED_AT), parent_of(m)
        for one in found:
            if one.replied_to == parent and is_same(wanted, comparable(one.text)):
                return one.id
        return None

    def _check_limit(self) -> None:
        wait = self._api.limits.wait_s(POSTS, time.monotonic())
        if wait > 0.0:
            raise RetryLater(wait, "X's limit of posts is used up")

    def _message(self, m: Outgoing) -> tuple[list[File], str]:
        files, links = sendable(m.attachments, self._most)
        choices = " / ".join(choice.label for choice in m.choices)  # X has no buttons
        whole = "\n".join(filter(None, [m.text.strip(), choices]))
        text = whole if weight(whole) <= POST_MOST else m.text.strip()
        return files, "\n".join([text, *links]).strip()

    async def _upload(self, file: File, is_direct: bool) -> str:
        try:
            return await upload(self._api, file, is_direct)
        except NotSent:
            raise
        except Exception as error:
            meant = as_outcome(error, self._http)
            if meant is error:  # nothing was posted yet
                meant = RetryLater(UPLOAD_AGAIN_S, f"a file was not uploaded: {reason_of(error)}")
            raise meant from error

    async def _post(self, m: Outgoing, text: str, media: list[str]) -> str:
        body: dict[str, Any] = {"text": text}
        if parent := parent_of(m):
            body["reply"] = {"in_reply_to_tweet_id": parent}
        if media:
            body["media"] = {"media_ids": media}
        answer = await self._api.post("/2/tweets", body)
        return str(answer["data"]["id"])

    async def _send_direct(self, channel: str, text: str, media: list[str]) -> str:
        person = channel.removeprefix(DIRECT_PREFIX)
        if not person.isdigit():
            raise NotSent(f"a channel of direct messages is dm: and a number, not {channel!r:.60}")
        if len(media) > 1:
            raise NotSent("a direct message has one file at most")
        body: dict[str, Any] = {"text": text} if text else {}
        if media:
            body["attachments"] = [{"media_id": media[0]}]
        answer = await self._api.post(f"/2/dm_conversations/with/{person}/messages", body)
        return str(answer["data"]["dm_event_id"])


def parent_of(m: Outgoing) -> str:
    """Return the id of the post that a part replies to; "": it replies to none.

    The first part replies to the post that it answers, the others each to the one before. What
    answers nothing, in a conversation, replies to its first post.

    Raises:
        NotSent: The channel is none.
    """
    if m.previous.isdigit():
        return m.previous
    if m.answers.isdigit():
        return m.answers
    if m.channel == TIMELINE:
        return ""
    if not m.channel.isdigit():
        raise NotSent(
            f"a channel of X is {TIMELINE!r}, the number of a conversation, or dm: and that of a "
            f"person, not {m.channel!r:.60}"
        )
    return m.channel

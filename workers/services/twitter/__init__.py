"""The twitter service: a bot of X, by tweepy. Each mention gets one answer."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any, Self

from garrison.workers import (
    Heard,
    Outgoing,
    PermanentFailure,
    Platform,
    Plugin,
    RetryLater,
    Runtime,
    idempotent,
    load_library,
)

from . import config as keys
from .answer import status_of
from .budget import BudgetWatch
from .client import ACCESS_TOKEN, KEYS, Api
from .first_start import first_start
from .incoming import DIRECT_PREFIX
from .outcome import FORBIDDEN, PORTAL, TOO_MANY, UNAUTHORIZED, reason_of, wait_after
from .polling import Poller
from .reading import DirectMessages, Mentions, OwnPosts, Since, Stream
from .sender import Sender
from .text import POST_MOST, weight

REQUIREMENT = "tweepy[async]>=4.17"


class TwitterService(Platform):
    """A bot of X."""

    service_type = "twitter"
    capability_description = "A bot of X: answers mentions, and posts"
    credential = ACCESS_TOKEN
    secrets = dict.fromkeys(KEYS, f"{PORTAL}, under the app's Keys and tokens")
    max_length = POST_MOST
    deliver_timeout = 120.0  # with files

    class Config(keys.Config):
        """`[services.twitter.config]`."""

    config: Config

    @classmethod
    async def start(cls, runtime: Runtime) -> Self:
        service = cls(runtime)
        for module in ("tweepy", "async_lru"):  # the second comes with the extra of tweepy
            load_library(module, REQUIREMENT)
        service._http = load_library("aiohttp", REQUIREMENT)
        library = load_library("tweepy.asynchronous", REQUIREMENT)
        service._api = Api(runtime, service.config.base_url, library, service._http)
        try:
            await service._open()
        except BaseException:
            await service._api.close()
            raise
        return service

    async def _open(self) -> None:
        api, config = self._api, self.config
        self._own_id = await self._log_in()
        own = OwnPosts(api, self._own_id)
        self._sender = Sender(api, own, self._http, config.attachment_bytes)
        self._budget = BudgetWatch(api, self.runtime, config.monthly_reserve)
        streams: list[Stream] = [Mentions(api, self._own_id)]
        if config.direct_messages:
            streams.append(DirectMessages(api, self._own_id))
        self._pollers = [
            Poller(stream, api, self.runtime, config, self._budget, self) for stream in streams
        ]
        now = time.time()
        begin = await asyncio.to_thread(first_start, self.runtime.data_folder, now)
        for poller in self._pollers:
            poller.since = Since("", begin if config.catch_up else now)
            poller.missed = asyncio.get_running_loop().create_future()
        self._positioned = asyncio.Event()  # where to read on from is known
        if not config.catch_up:
            self._positioned.set()
        self._polls = [
            self.runtime.spawn(self._poll(poller), f"poll {poller.name}")
            for poller in self._pollers
        ]

    async def stop(self) -> None:
        """End the polls, and close all connections."""
        for poll in self._polls:
            poll.cancel()
        await self._api.close()

    async def _log_in(self) -> str:
        """Return the account's id.

        Raises:
            PermanentFailure: X refuses the tokens; the text states where to get others.
            RetryLater: X limits how often they are checked.
        """
        try:
            answer = await self._api.get("/2/users/me")
            return str(answer["data"]["id"])
        except Exception as error:
            status = status_of(error)
            if status in {UNAUTHORIZED, FORBIDDEN}:
                raise PermanentFailure(
                    f"X refuses the tokens {', '.join(KEYS)}: {reason_of(error)}. Make new ones at "
                    f"{PORTAL}, under the app's Keys and tokens; the app needs the permission Read "
                    "and write before they are made"
                ) from error
            if status != TOO_MANY:
                raise
            own_id: str = self._api.own_id
            if own_id:  # X allows few checks a day; reading shows whether it works
                return own_id
            raise RetryLater(wait_after(error), "X limits how often tokens are checked") from error

    # --- receiving --------------------------------------------------------------------------

    async def _poll(self, poller: Poller) -> None:
        await self._positioned.wait()
        if self.config.catch_up:  # here, so that tokens that X refuses end the service
            poller.missed.set_result(await poller.read_new())

        async def receive(heard: Heard) -> None:
            await self.receive(heard.memory, heard.stream, heard.position)

        await poller.run(receive)

    async def catch_up(self, since: dict[str, str]) -> AsyncIterator[Heard]:
        limit = self.config.catch_up
        oldest = 0.0 if limit is True else time.time() - float(limit)
        if not self._positioned.is_set():
            for poller in self._pollers:
                position = since.get(poller.name, "")
                poller.since = Since(position if position.isdigit() else "", poller.since.unix)
            self._positioned.set()
        for poller in self._pollers:
            for heard in await asyncio.shield(poller.missed):
                if heard.memory.created_at >= oldest:
                    yield heard

    # --- sending ----------------------------------------------------------------------------

    def length(self, text: str) -> int:
        return weight(text)

    async def deliver(self, m: Outgoing) -> str:
        return await self._sender.deliver(m)

    async def was_delivered(self, m: Outgoing) -> str | None:
        return await self._sender.was_delivered(m)

    # --- what others call -------------------------------------------------------------------

    @idempotent
    async def delete_post(self, post: str) -> bool:
        """Delete a post of the bot; return whether it is gone."""
        answer = await self._api.delete(f"/2/tweets/{_id(post)}")
        return bool((answer.get("data") or {}).get("deleted"))

    @idempotent
    async def like(self, post: str) -> None:
        """Like a post."""
        await self._api.post(f"/2/users/{self._own_id}/likes", {"tweet_id": _id(post)})

    @idempotent
    async def unlike(self, post: str) -> None:
        """Take a like back."""
        await self._api.delete(f"/2/users/{self._own_id}/likes/{_id(post)}")

    @idempotent
    async def repost(self, post: str) -> None:
        """Repost a post."""
        await self._api.post(f"/2/users/{self._own_id}/retweets", {"tweet_id": _id(post)})

    @idempotent
    async def unrepost(self, post: str) -> None:
        """Take a repost back."""
        await self._api.delete(f"/2/users/{self._own_id}/retweets/{_id(post)}")

    @idempotent
    async def forget_person(self, source: str, person: str) -> dict[str, int]:
        return await super().forget_person(source, f"{DIRECT_PREFIX}{person}")

    async def export_person(self, source: str, person: str) -> AsyncIterator[dict[str, Any]]:
        async for row in super().export_person(source, f"{DIRECT_PREFIX}{person}"):
            yield row

    async def direct_channel(self, person: str) -> str:
        return f"{DIRECT_PREFIX}{person}"

    # --- the connection ---------------------------------------------------------------------

    async def probe(self) -> None:
        try:
            await self._api.get("/2/users/me")
        except Exception as error:
            if status_of(error) == TOO_MANY:
                return  # X answers
            raise ConnectionError(f"X does not answer: {reason_of(error)}; see {PORTAL}") from error

    async def health(self) -> bool:
        """Return True: polls are repeated by themselves, and `status` shows where they fail."""
        mentions = self._pollers[0]
        facts = {"posts_read": float(mentions.read), "poll_s": mentions.pace.interval}
        if self._budget.left is not None:
            facts["posts_left"] = float(self._budget.left)
        self.runtime.report(**facts)
        return True


def _id(post: str) -> str:
    if not post.isdigit():
        raise ValueError(f"the id of a post is a number, not {post!r:.60}")
    return post


plugin = Plugin(name="twitter", services=[TwitterService], preload=["tweepy.asynchronous"])

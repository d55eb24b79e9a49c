"""X on loopback: the endpoints that the twitter service uses, held to X's published schema.

It runs in a process of its own, so that a killed bot does not harm it. Tests speak with it by
`x_client.py`. As with X, what is read back differs from what was sent: addresses are shortened,
characters escaped, and those who are answered stand in front. Durations are seconds.
"""

import asyncio
import base64
import html
import itertools
import json
import re
import sys
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote

from aiohttp import web
from oauthlib.oauth1.rfc5849 import signature
from oauthlib.oauth1.rfc5849.utils import parse_authorization_header
from tests.support.x_schema import JSON, PROBLEM, answer_problems, operation_of, request_problems

LIBRARY_URL = "https://api.twitter.com"  # what tweepy signs
SECRETS = ("key-secret", "token-secret")
APP_TOKEN = "app-token"
BOT, PERSON = ("7", "garrison"), ("9", "ada")
EPOCH_MS, SHIFT = 1_288_834_974_657, 22
ADDRESS = re.compile(r"https?://\S+")
OPEN_WINDOW = 900  # seconds
OPEN_LIMIT = 100_000  # requests: a test polls as fast as it likes
BODY_MOST = 8 << 20
FAULTS = ("before", "after", "half", "slow")  # others are statuses

Json = dict[str, Any]


class X:
    """The platform: posts, direct messages, uploads, and what is to go wrong."""

    def __init__(self) -> None:
        self.posts: list[Json] = []
        self.events: list[Json] = []
        self.uploads: dict[str, Json] = {}
        self.roots: dict[str, str] = {}  # a test's channel → the first post's id
        self.last: dict[str, str] = {}  # → the person's last post
        self.settings: Json = {"lag": 0.0, "refuse_duplicates": False, "cap": 10_000, "used": 0}
        self.limits: dict[str, Json] = {}  # endpoint → remaining, reset
        self.faults: list[Json] = []
        self.requests: Counter[str] = Counter()
        self.violations: list[str] = []
        self.acts: list[str] = []  # likes, reposts
        self._sequence = itertools.count()

    def new_id(self) -> str:
        """Return the next id: as X's, it grows with time."""
        return str(((int(time.time() * 1000) - EPOCH_MS) << SHIFT) + next(self._sequence))

    # --- requests -----------------------------------------------------------------------------

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """Answer one request of a bot, or have it go wrong."""
        found = operation_of(request.method, request.path)
        if found is None:
            self.violations.append(f"no operation {request.method} {request.path}")
            return web.json_response({"code": 34, "message": "not found"}, status=404)
        operation, path = found
        query = dict(request.query.items())
        body = await request.json() if request.can_read_body else None
        self.requests[operation.name] += 1
        fault = self._fault(operation.name)
        if fault and fault["kind"] == "before":
            return self._drop(request)
        if fault and fault["kind"] not in FAULTS:
            return self._status(operation.name, int(fault["kind"]), fault["seconds"])
        user = self._user(request)
        if user is None:
            return self._answer(operation, 401, *problem("not-authorized-for-resource", 401))
        if self._is_used_up(operation.name):
            return self._status(operation.name, 429, 0.0)
        self.violations += request_problems(operation, path, query, body)
        handle = getattr(self, HANDLERS[operation.name])
        status, answer = handle(path, query, body)
        kind = PROBLEM if status >= 400 else JSON
        response = self._answer(operation, status, answer, kind)
        return await self._faulty(request, response, fault)

    def _answer(self, operation: Any, status: int, body: Json, kind: str) -> web.Response:
        self.violations += answer_problems(operation, status, kind, body)
        text = json.dumps(body)
        headers = self._headers(operation.name)
        return web.Response(text=text, status=status, content_type=kind, headers=headers)

    def _headers(self, name: str) -> dict[str, str]:
        limit = self.limits.get(name) or {}
        remaining = limit.get("remaining", OPEN_LIMIT)
        reset = limit.get("reset", time.time() + OPEN_WINDOW)
        return {
            "x-rate-limit-limit": str(OPEN_LIMIT),
            "x-rate-limit-remaining": str(remaining),
            "x-rate-limit-reset": str(int(reset)),
        }

    def _is_used_up(self, name: str) -> bool:
        limit = self.limits.get(name)
        if limit is None:
            return False
        if time.time() >= limit["reset"]:
            del self.limits[name]
            return False
        if limit["remaining"] <= 0:
            return True
        limit["remaining"] -= 1
        return False

    def _status(self, name: str, status: int, seconds: float) -> web.Response:
        if status == 429:
            headers = self._headers(name)
            if seconds:
                headers["x-rate-limit-reset"] = str(int(time.time() + seconds))
                headers["x-rate-limit-remaining"] = "0"
            body = {"code": 88, "message": "Rate limit exceeded"}
            return web.json_response(body, status=status, headers=headers)
        if status == 503:
            return web.Response(text="<h1>Over capacity</h1>", status=503, content_type="text/html")
        return web.json_response({"code": 131, "message": "Internal error"}, status=status)

    def _fault(self, name: str) -> Json | None:
        for fault in self.faults:
            if fault["of"] == name:
                fault["times"] -= 1
                if not fault["times"]:
                    self.faults.remove(fault)
                return fault
        return None

    async def _faulty(
        self, request: web.Request, response: web.Response, fault: Json | None
    ) -> web.StreamResponse:
        if fault is None:
            return response
        if fault["kind"] == "slow":
            await asyncio.sleep(fault["seconds"])
            return response
        if fault["kind"] == "half":
            whole = response.body
            assert isinstance(whole, bytes)
            half = web.StreamResponse(status=response.status)
            half.content_type = response.content_type
            half.content_length = len(whole)
            await half.prepare(request)
            await half.write(whole[: len(whole) // 2])
            self._drop(request)
            return half
        return self._drop(request)

    def _drop(self, request: web.Request) -> web.Response:
        if request.transport is not None:
            request.transport.close()
        return web.Response()

    def _user(self, request: web.Request) -> str | None:
        """Return the id of the account that signed a request; None: nobody may."""
        header = request.headers.get("Authorization", "")
        if header == f"Bearer {APP_TOKEN}":
            return "app"
        if not header.startswith("OAuth "):
            return None
        url = LIBRARY_URL + request.raw_path
        given = dict(parse_authorization_header(header))
        query = url.partition("?")[2]
        pairs: Any = signature.collect_parameters(
            uri_query=query, headers={"Authorization": header}, exclude_oauth_signature=True
        )
        method: Any = request.method
        base = signature.signature_base_string(
            method, signature.base_string_uri(url), signature.normalize_parameters(pairs)
        )
        wanted = signature.sign_hmac_sha1_with_client(base, Secrets())
        token = given.get("oauth_token", "")
        if wanted != unquote(given.get("oauth_signature", "")):
            self.violations.append(f"the signature of {request.method} {request.raw_path} is wrong")
            return None
        return None if "bad" in token else token.partition("-")[0]

    # --- endpoints ----------------------------------------------------------------------------

    def me(self, path: Json, query: Json, body: Any) -> tuple[int, Json]:
        return 200, {"data": {"id": BOT[0], "name": "The bot", "username": BOT[1]}}

    def usage(self, path: Json, query: Json, body: Any) -> tuple[int, Json]:
        used, cap = str(self.settings["used"]), str(self.settings["cap"])
        return 200, {"data": {"cap_reset_day": 3, "project_cap": cap, "project_usage": used}}

    def mentions(self, path: Json, query: Json, body: Any) -> tuple[int, Json]:
        named = f"@{BOT[1]}"
        found = [one for one in self.posts if named in one["text"] or one["to"] == BOT[0]]
        found = [one for one in found if one["author_id"] != BOT[0]]
        return 200, self._page(_since(found, query), query)

    def tweets(self, path: Json, query: Json, body: Any) -> tuple[int, Json]:
        before = time.time() - self.settings["lag"]
        found = [one for one in self.posts if one["author_id"] == path["id"]]
        return 200, self._page(_since([o for o in found if o["at"] <= before], query), query)

    def create(self, path: Json, query: Json, body: Any) -> tuple[int, Json]:
        parent = (body.get("reply") or {}).get("in_reply_to_tweet_id", "")
        text = body.get("text", "")
        known = {one["id"]: one for one in self.posts}
        if parent and parent not in known:
            return 403, problem("disallowed-resource", 403, "that post is not there")[0]
        twice = (one for one in self.posts if one["author_id"] == BOT[0])
        is_twice = any((o["sent"], o["parent"]) == (text, parent) for o in twice)
        if self.settings["refuse_duplicates"] and is_twice:
            detail = "You are not allowed to create a Tweet with duplicate content."
            return 403, problem("disallowed-resource", 403, detail)[0]
        media = (body.get("media") or {}).get("media_ids", [])
        new = self.write(BOT[0], text, parent, media)
        return 201, {"data": {"id": new["id"], "text": new["text"]}}

    def delete(self, path: Json, query: Json, body: Any) -> tuple[int, Json]:
        before = len(self.posts)
        self.posts = [one for one in self.posts if one["id"] != path["id"]]
        return 200, {"data": {"deleted": len(self.posts) < before}}

    def act(self, path: Json, query: Json, body: Any) -> tuple[int, Json]:
        self.acts.append(f"like {body['tweet_id']}")
        return 200, {"data": {"liked": True}}

    def unact(self, path: Json, query: Json, body: Any) -> tuple[int, Json]:
        self.acts.append(f"unlike {path['tweet_id']}")
        return 200, {"data": {"liked": False}}

    def repost(self, path: Json, query: Json, body: Any) -> tuple[int, Json]:
        self.acts.append(f"repost {body['tweet_id']}")
        return 200, {"data": {"retweeted": True, "rest_id": body["tweet_id"]}}

    def unrepost(self, path: Json, query: Json, body: Any) -> tuple[int, Json]:
        self.acts.append(f"unrepost {path['source_tweet_id']}")
        return 200, {"data": {"retweeted": False}}

    def begin(self, path: Json, query: Json, body: Any) -> tuple[int, Json]:
        id = self.new_id()
        self.uploads[id] = {**body, "data": b"", "checks": 0, "key": f"3_{id}"}
        return 200, {"data": {"id": id, "media_key": f"3_{id}", "expires_after_secs": 86400}}

    def append(self, path: Json, query: Json, body: Any) -> tuple[int, Json]:
        self.uploads[path["id"]]["data"] += base64.b64decode(body["media"], validate=True)
        return 200, {"data": {"expires_at": int(time.time()) + 86400}}

    def finalize(self, path: Json, query: Json, body: Any) -> tuple[int, Json]:
        return 200, self._uploaded(path["id"])

    def state(self, path: Json, query: Json, body: Any) -> tuple[int, Json]:
        return 200, self._uploaded(query["media_id"])

    def _uploaded(self, id: str) -> Json:
        upload = self.uploads[id]
        found: Json = {"id": id, "media_key": upload["key"], "size": len(upload["data"])}
        if upload["media_category"].endswith("video"):  # X works on it for a while
            upload["checks"] += 1
            work: Json = {"state": "pending", "check_after_secs": 0}
            found["processing_info"] = {"state": "succeeded"} if upload["checks"] > 1 else work
        return {"data": found}

    def direct_events(self, path: Json, query: Json, body: Any) -> tuple[int, Json]:
        events = [_event(one, query) for one in reversed(self.events)]
        return 200, {"data": events, "meta": {"result_count": len(events)}} | _users(query)

    def direct(self, path: Json, query: Json, body: Any) -> tuple[int, Json]:
        new = self.write_direct(BOT[0], body.get("text", ""), path["participant_id"])
        conversation = new["dm_conversation_id"]
        return 201, {"data": {"dm_conversation_id": conversation, "dm_event_id": new["id"]}}

    # --- what is there ------------------------------------------------------------------------

    def write(self, author: str, text: str, parent: str, media: list[str]) -> Json:
        """Keep a post; return it as it is read."""
        known = {one["id"]: one for one in self.posts}
        id, answered = self.new_id(), known.get(parent)
        names = dict([BOT, PERSON])
        shown, urls = html.escape(text, quote=False), []
        for number, found in enumerate(ADDRESS.findall(text)):
            short = f"https://t.co/{id[-8:]}{number}"
            shown = shown.replace(html.escape(found, quote=False), short, 1)
            urls.append({"url": short, "expanded_url": found, "start": 0, "end": len(short)})
        for one in media:
            short = f"https://t.co/{one[-8:]}m"
            shown = f"{shown} {short}".strip()
            key = self.uploads[one]["key"]
            urls.append({"url": short, "start": 0, "end": len(short), "media_key": key})
        if answered and answered["author_id"] != author:
            shown = f"@{names[answered['author_id']]} {shown}"
        post = {
            "id": id,
            "text": shown,
            "sent": text,
            "author_id": author,
            "conversation_id": answered["conversation_id"] if answered else id,
            "created_at": iso(time.time()),
            "at": time.time(),
            "parent": parent,
            "to": answered["author_id"] if answered else "",
            "media": [self.uploads[one]["key"] for one in media],
            "entities": {"urls": urls},
        }
        self.posts.append(post)
        return post

    def write_direct(self, author: str, text: str, other: str) -> Json:
        """Keep a direct message; return it."""
        event = {
            "id": self.new_id(),
            "event_type": "MessageCreate",
            "text": text,
            "sender_id": author,
            "dm_conversation_id": "-".join(sorted((BOT[0], other))),
            "created_at": iso(time.time()),
        }
        self.events.append(event)
        return event

    def _page(self, posts: list[Json], query: Json) -> Json:
        size, at = int(query.get("max_results", 10)), int(query.get("pagination_token", 0))
        newest = posts[::-1]
        shown = newest[at : at + size]
        meta: Json = {"result_count": len(shown)}
        if at + size < len(newest):
            meta["next_token"] = str(at + size)
        self.settings["used"] += len(shown)
        page: Json = {"data": [_post(one, query) for one in shown], "meta": meta}
        if not shown:
            del page["data"]
        keys = {key for one in shown for key in one["media"]}
        return page | _users(query) | self._included(keys, query, _users(query))

    def _included(self, keys: set[str], query: Json, more: Json) -> Json:
        if not keys or "attachments.media_keys" not in query.get("expansions", ""):
            return more
        url = "https://pbs.twimg.com/media/{}.png"
        media = [{"media_key": k, "type": "photo", "url": url.format(k)} for k in sorted(keys)]
        return {"includes": {**more.get("includes", {}), "media": media}}

    # --- a test's side ------------------------------------------------------------------------

    async def test(self, request: web.Request) -> web.Response:
        """Do what a test wants."""
        asked = await request.json()
        match request.match_info["what"]:
            case "say":
                return web.json_response({"id": self._say(**asked)})
            case "direct":
                return web.json_response({"id": self.write_direct(PERSON[0], **asked)["id"]})
            case "reset":
                self.__init__()  # type: ignore[misc]
            case "set":
                self.settings |= asked
            case "limit":
                limit = {"remaining": asked["remaining"], "reset": time.time() + asked["seconds"]}
                self.limits[asked["of"]] = limit
            case "fault":
                self.faults.append(asked)
            case "record":
                return web.json_response(self._record(asked["after"]))
        return web.json_response({})

    def _say(self, channel: str, text: str, picture: bool = False) -> str:
        media = []
        if picture:
            media.append(self.begin({}, {}, {"media_category": "tweet_image"})[1]["data"]["id"])
        parent = self.last.get(channel, "")
        post = self.write(PERSON[0], f"@{BOT[1]} {text}", parent, media)
        self.roots.setdefault(channel, post["conversation_id"])
        self.last[channel] = post["id"]
        return str(post["id"])

    def _record(self, after: int) -> Json:
        names = {root: channel for channel, root in self.roots.items()}
        rows = [
            {
                "id": one["id"],
                "channel": names.get(one["conversation_id"], one["conversation_id"]),
                "position": number,
                "text": one["sent"].removeprefix(f"@{BOT[1]} "),
                "at": one["at"],
                "bot": one["author_id"] == BOT[0],
                "reply_to": one["parent"],
                "files": one["media"],
            }
            for number, one in enumerate(self.posts)
        ]
        return {
            "messages": rows[after:],
            "violations": self.violations,
            "requests": dict(self.requests),
            "acts": self.acts,
            "direct": [[one["sender_id"], one["text"]] for one in self.events],
            "uploads": {
                one["key"]: [one.get("media_type", ""), len(one["data"])]
                for one in self.uploads.values()
            },
        }


class Secrets:
    """What the signature is made with."""

    client_secret, resource_owner_secret = SECRETS


HANDLERS = {
    "GET users/me": "me",
    "GET usage/tweets": "usage",
    "GET users/*/mentions": "mentions",
    "GET users/*/tweets": "tweets",
    "POST tweets": "create",
    "DELETE tweets/*": "delete",
    "POST users/*/likes": "act",
    "DELETE users/*/likes/*": "unact",
    "POST users/*/retweets": "repost",
    "DELETE users/*/retweets/*": "unrepost",
    "POST media/upload/initialize": "begin",
    "POST media/upload/*/append": "append",
    "POST media/upload/*/finalize": "finalize",
    "GET media/upload": "state",
    "GET dm_events": "direct_events",
    "GET dm_conversations/with/*/dm_events": "direct_events",
    "POST dm_conversations/with/*/messages": "direct",
}


def problem(kind: str, status: int, detail: str = "Unauthorized") -> tuple[Json, str]:
    """Return a problem as X states it, and its media type."""
    found = {
        "type": f"https://api.x.com/2/problems/{kind}",
        "title": "Forbidden" if status == 403 else "Unauthorized",
        "detail": detail,
        "status": status,
    }
    if kind == "not-authorized-for-resource":
        found["resource_type"] = "user"
    return found, PROBLEM


def iso(unix: float) -> str:
    """Return a time as X writes it."""
    return datetime.fromtimestamp(unix, UTC).strftime("%Y-%m-%dT%H:%M:%S.") + "000Z"


def _since(posts: list[Json], query: Json) -> list[Json]:
    if since := query.get("since_id"):
        return [one for one in posts if int(one["id"]) > int(since)]
    if start := query.get("start_time"):
        at = datetime.fromisoformat(start).timestamp()
        return [one for one in posts if one["at"] >= at]
    return posts


def _post(post: Json, query: Json) -> Json:
    """Return the fields of a post that a request asks for."""
    shown = {"id": post["id"], "text": post["text"], "edit_history_post_ids": [post["id"]]}
    fields = query.get("post.fields", "").split(",")
    shown |= {name: post[name] for name in fields if name in post and name not in shown}
    expansions = query.get("expansions", "").split(",")
    if "author_id" in expansions:
        shown["author_id"] = post["author_id"]
    if "referenced_posts" in expansions and post["parent"]:
        shown["referenced_posts"] = [{"type": "replied_to", "id": post["parent"]}]
    if "attachments" in fields and post["media"]:
        shown["attachments"] = {"media_keys": post["media"]}
    return shown


def _event(event: Json, query: Json) -> Json:
    fields = query.get("dm_event.fields", "").split(",")
    shown = {name: value for name, value in event.items() if name in {"id", *fields}}
    if "sender_id" in query.get("expansions", ""):
        shown["sender_id"] = event["sender_id"]
    return shown


def _users(query: Json) -> Json:
    if not {"author_id", "sender_id"} & set(query.get("expansions", "").split(",")):
        return {}
    users = [{"id": id, "username": name, "name": name.title()} for id, name in (BOT, PERSON)]
    return {"includes": {"users": users}}


async def main(listening: Callable[[int], None]) -> None:
    """Serve on a free port of 127.0.0.1 until standard input ends."""
    x = X()
    app = web.Application(client_max_size=BODY_MOST)
    app.router.add_post("/_test/{what}", x.test)
    app.router.add_route("*", "/{rest:.*}", x.serve)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        listening(runner.addresses[0][1])
        await asyncio.to_thread(sys.stdin.read)
    finally:
        await runner.cleanup()


if __name__ == "__main__":
    asyncio.run(main(lambda port: print(port, flush=True)))

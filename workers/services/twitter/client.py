"""Requests to X, signed and sent by tweepy: tokens, base URL, limits, and the size of answers."""

import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from garrison.workers import PermanentFailure, Runtime

from .answer import Answer
from .limits import Limits
from .outcome import PORTAL

if TYPE_CHECKING:
    import aiohttp
    from tweepy.asynchronous import AsyncClient

ACCESS_TOKEN = "TWITTER_ACCESS_TOKEN"
KEYS = (  # OAuth 1.0a, in the order of tweepy's arguments
    "TWITTER_API_KEY",
    "TWITTER_API_SECRET_KEY",
    ACCESS_TOKEN,
    "TWITTER_ACCESS_TOKEN_SECRET",
)
APP_TOKEN = "TWITTER_BEARER_TOKEN"  # OAuth 2.0 of the app, for the month's use
LIBRARY_URL = "https://api.twitter.com"  # what tweepy writes
REQUEST_S = 30.0
ANSWER_MOST = 8 << 20  # bytes

logging.getLogger("tweepy").setLevel(logging.INFO)  # below, it logs its Authorization headers


class Session:
    """An HTTP session that sends tweepy's requests to a base URL, and notes the limits.

    Args:
        http: The library's session.
        base_url: Of a server with X's API; empty is X.
        limits: Where the answers' limits are noted.
    """

    def __init__(self, http: "aiohttp.ClientSession", base_url: str, limits: Limits) -> None:
        self._http, self._base_url, self._limits = http, base_url.rstrip("/"), limits

    @asynccontextmanager
    async def request(self, method: str, url: Any, **options: Any) -> AsyncIterator[Answer]:
        """Send a request, as the library's session does."""
        endpoint = endpoint_of(method, str(url))
        if self._base_url:
            url = _moved(url, self._base_url)
        sending = self._http.request(method, url, allow_redirects=False, **options)
        async with sending as response:
            self._limits.note(endpoint, response.headers, time.monotonic(), time.time())
            body = bytearray()
            async for part in response.content.iter_any():
                body += part
                if len(body) > ANSWER_MOST:
                    raise ValueError(f"X's answer has more than {ANSWER_MOST} bytes")
            yield Answer(response.status, response.reason or "", response.headers, bytes(body))

    async def close(self) -> None:
        """Close all connections."""
        await self._http.close()


class Api:
    """X's API for one account.

    Args:
        runtime: The service's, for its secrets.
        base_url: Of a server with X's API; empty is X.
        library: The module `tweepy.asynchronous`.
        http: The module `aiohttp`.

    Raises:
        PermanentFailure: Tokens are missing; the text states which, and where they are.
    """

    def __init__(self, runtime: Runtime, base_url: str, library: Any, http: Any) -> None:
        tokens = {name: str(runtime.get_setting(name) or "") for name in KEYS}
        check_tokens(tokens)
        app_token = str(runtime.get_setting(APP_TOKEN) or "")
        self.limits = Limits()
        session = http.ClientSession(timeout=http.ClientTimeout(total=REQUEST_S))
        self._session = Session(session, base_url, self.limits)
        self._client = self._tweepy(library, None, *tokens.values())
        self._app = self._tweepy(library, app_token) if app_token else None
        own, dash, _ = tokens[ACCESS_TOKEN].partition("-")
        self.own_id = own if dash and own.isdigit() else ""  # as the token states it

    def _tweepy(self, library: Any, *tokens: str | None) -> "AsyncClient":
        client: Any = library.AsyncClient(*tokens)
        client.session = self._session
        return client

    @property
    def has_app_token(self) -> bool:
        """Return whether the month's use can be read."""
        return self._app is not None

    async def get(self, route: str, **params: Any) -> dict[str, Any]:
        """Read something.

        Args:
            route: Its path.
            params: Query parameters; `_` in a name is `.`, a list is joined by commas.
        """
        return await self._send("GET", route, params=_query(params))

    async def post(self, route: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """Create something."""
        return await self._send("POST", route, body=body)

    async def delete(self, route: str) -> dict[str, Any]:
        """Delete something."""
        return await self._send("DELETE", route)

    async def usage(self) -> dict[str, Any]:
        """Return what the app has read this month; only its own token may ask."""
        assert self._app is not None
        wanted = ["cap_reset_day", "project_cap", "project_usage"]
        query = _query({"usage.fields": wanted})
        response = await self._app.request("GET", "/2/usage/tweets", params=query)
        return await _data(response)

    async def close(self) -> None:
        """Close all connections."""
        await self._session.close()

    async def _send(
        self,
        method: str,
        route: str,
        params: dict[str, Any] | None = None,
        body: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        # Not tweepy's own methods: they ask for fields by names that X's schema no longer has
        response = await self._client.request(
            method, route, params=params or {}, json=body, user_auth=True
        )
        return await _data(response)


def check_tokens(tokens: dict[str, str]) -> None:
    """Check that there are all four tokens.

    Raises:
        PermanentFailure: There are not; the text states which, and where they are.
    """
    missing = [name for name in KEYS if not tokens[name]]
    if missing:
        raise PermanentFailure(
            f"there is no {', '.join(missing)}: set it, and name all of {', '.join(KEYS)} in the "
            f"`secrets` of this service; they are at {PORTAL}, under the app's Keys and tokens"
        )


def endpoint_of(method: str, url: str) -> str:
    """Return the name of the endpoint of a URL, for its limits: ids are `*`."""
    path = url.partition("?")[0].partition("/2/")[2]
    return " ".join([method, *("*" if part.isdigit() else part for part in path.split("/"))])


def _moved(url: Any, base_url: str) -> Any:
    """Return a URL of tweepy's at another server; a signed query stays as it was encoded."""
    if isinstance(url, str):
        return base_url + url.removeprefix(LIBRARY_URL)
    return type(url)(base_url + str(url).removeprefix(LIBRARY_URL), encoded=True)


def _query(params: dict[str, Any]) -> dict[str, str]:
    """Return query parameters without the empty ones; a list is joined by commas."""
    query = {}
    for name, value in params.items():
        text = ",".join(value) if isinstance(value, list) else str(value)
        if text:
            query[name.replace("_fields", ".fields")] = text
    return query


async def _data(response: Any) -> dict[str, Any]:
    found: dict[str, Any] = await response.json()
    return found

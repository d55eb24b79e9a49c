"""Searches by an engine with an HTTP API, within limits of size and time.

Durations are seconds.
"""

import json
from typing import TYPE_CHECKING, Any, Protocol

from garrison.ipc import DeclaredError, PermanentFailure, RetryLater
from garrison.workers import Runtime, load_library

from ..http_support.decoding import ACCEPTED, Body, Damaged
from ..http_support.fetching import PIECE, REQUIREMENT
from ..http_support.waits import wait_of
from .config import Config
from .engines import Engine, Request
from .results import EnginesAway, SearchResult, Unreadable, one_line

if TYPE_CHECKING:
    import aiohttp

ANSWER_MOST = 4 << 20  # bytes
AGAIN_S = 5.0  # after a failure of the server
TEXT_MOST = 200  # characters of a server's text in an error


class SearchFailed(DeclaredError):
    """An engine did not search, and the same search would fail again.

    `kind` is "key" (it is refused), "spent" (the account has nothing left), "refused" (this
    request), or "answer" (what came back is not the engine's API: check `url`).
    """

    kind: str
    status: int = 0  # of HTTP


class SearchEngine(Protocol):
    """What searches."""

    async def search(self, query: str, limit: int) -> list[SearchResult]:
        """Return what is found, the best first."""
        ...

    async def close(self) -> None:
        """Close its connections."""
        ...


class EngineClient:
    """An HTTP client for one engine.

    Args:
        runtime: The service's.
        config: Its config.
        engine: The engine.

    Raises:
        PermanentFailure: Its key is not set, or the library is not installed.
    """

    def __init__(self, runtime: Runtime, config: Config, engine: Engine) -> None:
        self._config, self._engine = config, engine
        self._library = load_library("aiohttp", REQUIREMENT)
        self._session: aiohttp.ClientSession | None = None
        self._key = str(runtime.get_setting(engine.key_name) or "") if engine.key_name else ""
        page = f" (a key is to be had at {engine.keys_url})" if engine.keys_url else ""
        self._advice = f"Correct {engine.key_name}{page}, then run garrison restart {runtime.name}"
        if engine.key_name and not self._key:
            raise PermanentFailure(
                f"there is no {engine.key_name}, which {engine.name} needs: set it, and name it in "
                f"the `secrets` of this service{page}"
            )
        if engine.name == "searxng" and not config.url:
            raise PermanentFailure("searxng needs its address: set `url`")

    async def search(self, query: str, limit: int) -> list[SearchResult]:
        """Return what is found, the best first.

        Raises:
            RetryLater: The engine is overloaded, away, or too slow.
            SearchFailed: Another failure.
        """
        request = self._engine.request(self._config, self._key, query, limit)
        library, name = self._library, self._engine.name
        try:
            status, headers, data = await self._send(request)
        except TimeoutError as error:
            text = f"{name} gave no answer within {self._config.timeout:g} s"
            raise RetryLater(AGAIN_S, text) from error
        except (library.ClientError, OSError, Damaged, ValueError) as error:
            reason = getattr(error, "os_error", None) or error
            text = f"{name} cannot be reached: {str(reason)[:TEXT_MOST] or type(error).__name__}"
            raise RetryLater(AGAIN_S, text) from error
        if status != 200:
            raise self._refusal(status, wait_of(status, headers), data)
        try:
            return self._engine.results(json.loads(data))[:limit]
        except EnginesAway as error:
            raise RetryLater(
                AGAIN_S, f"the engines that {name} asks do not answer: {error}"
            ) from error
        except (ValueError, RecursionError) as error:
            problem = str(error) if isinstance(error, Unreadable) else "its answer is no JSON"
            text = f"{name}: {problem}; check `url`"
            raise SearchFailed(text, kind="answer", status=status) from error

    async def close(self) -> None:
        """Close its connections."""
        if self._session is not None:
            await self._session.close()

    async def _send(self, request: Request) -> tuple[int, Any, bytes]:
        """Return the status, the headers and the body of the answer."""
        library = self._library
        if self._session is None:
            self._session = library.ClientSession(
                cookie_jar=library.DummyCookieJar(),
                auto_decompress=False,
                timeout=library.ClientTimeout(total=self._config.timeout),
                headers={"User-Agent": self._config.user_agent, "Accept-Encoding": ACCEPTED},
            )
        assert self._session is not None  # its class is not known here
        response = await self._session.request(
            request.method,
            request.url,
            headers={**request.headers, "Accept": "application/json"},
            params=request.params,
            json=request.json,
            allow_redirects=False,  # they would take the key along
        )
        async with response:
            body = Body(response.headers.get("Content-Encoding", ""), ANSWER_MOST)
            async for piece in response.content.iter_chunked(PIECE):
                body.feed(piece)
                if body.is_full:
                    raise ValueError(f"its answer has more than {ANSWER_MOST} bytes")
            return response.status, response.headers, body.data

    def _refusal(self, status: int, wait: float | None, data: bytes) -> DeclaredError:
        engine = self._engine
        answer_text = one_line(data[: 4 * TEXT_MOST].decode("utf-8", "replace"), TEXT_MOST)
        answer_text = answer_text.replace(self._key, "[key]") if self._key else answer_text
        text = f"{engine.name} answered HTTP {status}"
        if engine.key_name and status in engine.refusals:
            return SearchFailed(
                f"{engine.name} refuses the key: HTTP {status}: {answer_text}. {self._advice}",
                kind="key",
                status=status,
            )
        if status in engine.spent:
            text = f"{text}: the account has nothing left: {answer_text}"
            return SearchFailed(text, kind="spent", status=status)
        if status == 429 or status >= 500:
            return RetryLater(wait or AGAIN_S, f"{text}: {answer_text}")
        if engine.name == "searxng" and status == 403:
            text = f"{text}: add json to `search: formats` in its settings.yml"
            return SearchFailed(text, kind="refused", status=status)
        if 300 <= status < 400:
            text = f"{text}, a redirect: correct `url`"
            return SearchFailed(text, kind="answer", status=status)
        return SearchFailed(f"{text}: {answer_text}", kind="refused", status=status)

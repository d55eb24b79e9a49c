"""What the services of images, speech and transcription share: a server, and what answers offline.

Durations are seconds.
"""

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from garrison.workers import ModelError, Runtime, load_library

from .config import Limits
from .failures import OPENAI
from .key_check import KeyCheck
from .media_server import MediaServer
from .requests import Requests
from .server_client import OPENAI_VENDOR, ServerClient, check_url

log = logging.getLogger(__name__)

T = TypeVar("T")
REQUIREMENT = "openai>=3.57"
WAITING_MOST = 16  # requests that wait for their turn: each may have a large sound
PASSED_OVER_S = 30.0  # after a failure, unless the server says how long
SHARE = 0.6  # of a call's time that the server may use, where something else can answer
PASS_OVER = frozenset({"busy", "auth"})  # kinds of failures after which something else answers
_services: "WeakKeyDictionary[Runtime, Any]" = WeakKeyDictionary()


class ServerKeys(Limits):
    """Config keys of a server with OpenAI's API."""

    base_url: str = ""  # of a server with OpenAI's API; empty is OpenAI's own

    def __post_init__(self) -> None:
        check_url(self.base_url)


def handler(method: Callable[[Any, Any], Awaitable[T]]) -> Callable[[Any, Any], Awaitable[T]]:
    """Return a method of a service as a handler in its plugin's `models`.

    A model that the plugin lists is known before its service runs, so calls wait for the start. One
    that the service registers is known only after.
    """

    def handle(runtime: Any, params: Any) -> Awaitable[T]:
        return method(_services[runtime], params)

    return handle


class Media:
    """The server of one service, if there is one, and its place in what answers.

    Args:
        runtime: The service's.
        config: Its keys.
        has_offline: Whether something else answers where the server does not.
    """

    def __init__(self, runtime: Runtime, config: ServerKeys, has_offline: bool) -> None:
        self._runtime, self._config, self._has_offline = runtime, config, has_offline
        self.requests = Requests(runtime, config, OPENAI, WAITING_MOST)
        self._client: ServerClient | None = None
        self._server: MediaServer | None = None
        self._again_at = 0.0  # monotonic

    async def open(self, service: Any) -> None:
        """Load the library and make the client, if a server is configured.

        Raises:
            PermanentFailure: The library is missing, or a key is and nothing else answers.
        """
        _services[self._runtime] = service
        runtime, config = self._runtime, self._config
        wanted = bool(config.base_url or runtime.get_setting(OPENAI_VENDOR.key_name))
        if self._has_offline and not wanted:
            return
        library = await asyncio.to_thread(load_library, "openai", REQUIREMENT)
        client = ServerClient(
            runtime, config, library.AsyncOpenAI, library.DefaultAsyncHttpxClient, OPENAI_VENDOR
        )
        check = KeyCheck(runtime, client, OPENAI)
        if not self._has_offline:
            self.requests.on_refused_key = check.refused
            check.at_start(config.check_key)
        self.requests.advice = client.advice
        self._client, self._server = client, MediaServer(client, self.requests)

    @property
    def has_server(self) -> bool:
        """Return whether a server is configured."""
        return self._server is not None

    async def answer(
        self,
        by_server: Callable[[MediaServer], Awaitable[T]],
        offline: Callable[[], Awaitable[T]] | None,
    ) -> T:
        """Return what the server answers, or else what answers offline.

        A server that fails is passed over for a while. What it refuses, or finds invalid, is not
        asked of anything else.
        """
        if offline is None:
            assert self._server is not None  # one of the two is there
            return await by_server(self._server)
        if self._server is None or time.monotonic() < self._again_at:
            return await offline()
        try:
            left = self._runtime.time_left * SHARE
            async with asyncio.timeout(None if math.isinf(left) else left):
                return await by_server(self._server)
        except TimeoutError:
            error = ModelError("busy", text="it took most of the call's time")
        except ModelError as raised:
            if raised.kind not in PASS_OVER:
                raise
            error = raised
        wait = error.retry_after or PASSED_OVER_S
        self._again_at = time.monotonic() + wait
        log.warning("media.server_failed passed_over_s=%g error=%s", wait, error.sentence())
        return await offline()

    async def close(self) -> None:
        """Close the connections."""
        if self._client is not None:
            await self._client.close()

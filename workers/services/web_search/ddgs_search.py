"""Searches by ddgs, which needs no key: its calls block, so each has a thread and a deadline."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from garrison.workers import Busy, RetryLater, load_library

from .config import Config
from .results import SearchResult, of_ddgs, one_line

REQUIREMENT = "ddgs>=9.16"
GRACE_S = 1.0  # beyond the library's own timeout
AGAIN_S = 5.0  # after a failure of the engines
REASON_MOST = 200  # characters


class DdgsSearch:
    """The library, and its threads.

    Args:
        config: Backend, language, timeout; `url` replaces the backend's address.

    Raises:
        PermanentFailure: The library is not installed.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self._library = load_library("ddgs", REQUIREMENT)
        self._errors = load_library("ddgs.exceptions", REQUIREMENT)
        if config.url:
            for engine in load_library("ddgs.engines", REQUIREMENT).ENGINES["text"].values():
                engine.search_url = config.url
        self._threads = ThreadPoolExecutor(config.concurrency, "ddgs")
        self._running = 0

    async def search(self, query: str, limit: int) -> list[SearchResult]:
        """Return what is found.

        Raises:
            TimeoutError: It took too long; its thread goes on until the library ends it.
            Busy: All threads are held by searches that took too long.
            RetryLater: No engine answered.
        """
        if self._running >= self._config.concurrency:
            raise Busy("all threads of ddgs are held by searches without an answer", GRACE_S)
        self._running += 1
        loop = asyncio.get_running_loop()
        future = loop.run_in_executor(self._threads, self._search, query, limit)
        future.add_done_callback(self._ended)
        async with asyncio.timeout(self._config.timeout + GRACE_S):
            return of_ddgs(await asyncio.shield(future))

    async def close(self) -> None:
        """Accept no further searches."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _ended(self, future: "asyncio.Future[Any]") -> None:
        self._running -= 1
        if not future.cancelled():
            future.exception()  # its caller may be gone

    def _search(self, query: str, limit: int) -> Any:
        config = self._config
        client = self._library.DDGS(timeout=max(int(config.timeout), 1))
        safe = "moderate" if config.safe_search else "off"
        language = config.language.partition("-")[0].lower()
        region = "us-en" if language in {"", "en"} else f"{language}-{language}"
        try:
            return client.text(
                query, region=region, safesearch=safe, max_results=limit, backend=config.backend
            )
        except self._errors.DDGSException as error:
            if "No results found" in str(error):
                return []
            reason = one_line(str(error), REASON_MOST)
            raise RetryLater(AGAIN_S, f"ddgs was not answered: {reason}") from error

"""The web_search service: searches the web by an engine, and reads single pages as text."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Self, TypeVar

import msgspec

from garrison.ipc import DeclaredError, RetryLater
from garrison.workers import Plugin, Runtime, Service, ServiceType, idempotent

from ..http_support.addresses import Rule
from ..http_support.fetching import Fetched, Fetcher, FetchError, Limits
from ..model_support.turns import Turns
from . import config as keys
from .cache import Cache
from .ddgs_search import DdgsSearch
from .engine_client import AGAIN_S, EngineClient, SearchEngine, SearchFailed
from .engines import DDGS, ENGINES, chosen
from .findings import QUERY_MOST
from .offers import findings_provider, page_action, search_action
from .reader import PageReader
from .results import Page, SearchResult, SearchResults, one_line

T = TypeVar("T", SearchResults, Page)
RESULTS_MOST = 50
TITLE_MOST = 300
TEXT_TYPES = ("text/", "application/json", "application/xml", "application/ld+json")
HTML_TYPES = frozenset({"text/html", "application/xhtml+xml"})


class WebSearchService(Service):
    """Searches the web, and reads pages."""

    service_type = ServiceType.WEB_SEARCH
    capability_description = "Searches the web, and reads single pages as text"

    class Config(keys.Config):
        """`[services.web_search.config]`."""

    config: Config
    _engine: SearchEngine

    @classmethod
    async def start(cls, runtime: Runtime) -> Self:
        service = cls(runtime)
        config = service.config
        service._name = chosen(config, lambda name: bool(runtime.get_setting(name)))
        if service._name == DDGS:
            service._engine = DdgsSearch(config)
        else:
            service._engine = EngineClient(runtime, config, ENGINES[service._name])
        rule = Rule(frozenset(config.ports), config.allow_private)
        service._fetcher = Fetcher(rule, config.user_agent)
        service._reader = PageReader(config.page_timeout, config.page_characters)
        service._turns = Turns(config.concurrency, config.rpm)
        service._cache = Cache(config.cache_s, config.cache_entries, config.cache_bytes)
        service._counts = dict.fromkeys(("searches", "pages", "from_cache", "failed"), 0)
        if config.actions:
            runtime.register_action(search_action(service))
            runtime.register_action(page_action(service))
        if config.in_prompt:
            runtime.register_provider(findings_provider(service))
        return service

    async def stop(self) -> None:
        """Close its connections, and end the program that reads pages."""
        for close in (self._engine.close, self._fetcher.close, self._reader.close):
            await close()

    @idempotent
    async def search(self, query: str, limit: int = 0) -> SearchResults:
        """Return what the engine finds on the web, the best first.

        Args:
            query: Up to 400 characters.
            limit: Results at most; 0 is the config's `limit`. There are 50 at most.

        Raises:
            RetryLater: The engine is overloaded, away or too slow, or `rpm` is reached.
            SearchFailed: It refuses the key or the search.
            Busy: Too many searches wait.
            ValueError: The query is empty or too long.
        """
        query = one_line(query, QUERY_MOST + 1)
        if not query or len(query) > QUERY_MOST:
            raise ValueError(f"a query has 1 to {QUERY_MOST} characters")
        limit = min(max(limit or self.config.limit, 1), RESULTS_MOST)

        async def ask() -> SearchResults:
            self._count("searches")
            found = await self._asked(query, limit)
            return SearchResults(query, self._name, found[:limit])

        return await self._cached(("search", query, limit), SearchResults, ask, counts=True)

    @idempotent
    async def fetch(self, url: str) -> Page:
        """Return a page of the web as text.

        Args:
            url: Of http or https.

        Raises:
            FetchError: It is not fetched, or cannot be read: `kind` says why.
            LibraryMissing: The libraries that read HTML are not installed.
            RetryLater: Its server says so.
            Busy: Too many pages wait.
        """
        return await self._cached(("page", url), Page, lambda: self._page(url))

    # --- parts of these ---------------------------------------------------------------------

    async def _cached(
        self,
        key: tuple[object, ...],
        kind: type[T],
        find: Callable[[], Awaitable[T]],
        counts: bool = False,
    ) -> T:
        """Return a value from the cache, or find it."""
        data = self._cache.get(key, time.monotonic())
        if data is not None:
            self._count("from_cache")
            return msgspec.msgpack.decode(data, type=kind)
        try:
            async with self._turns.turn(counts):
                found = await find()
        except (DeclaredError, OSError):
            self._count("failed")
            raise
        self._cache.put(key, msgspec.msgpack.encode(found), time.monotonic())
        return found

    async def _asked(self, query: str, limit: int) -> list[SearchResult]:
        """Ask the engine; `status` shows a failure until it answers again."""
        try:
            found = await self._engine.search(query, limit)
        except TimeoutError as error:
            text = f"{self._name} gave no answer within {self.config.timeout:g} s"
            self.runtime.warn("engine", text)
            raise RetryLater(AGAIN_S, text) from error
        except (RetryLater, SearchFailed) as error:
            self.runtime.warn("engine", error.reason)
            raise
        self.runtime.warn("engine", None)
        return found

    async def _page(self, url: str) -> Page:
        """Fetch a page and read it, both within `page_timeout`."""
        config, began = self.config, time.monotonic()
        self._count("pages")
        limits = Limits(config.page_bytes, config.page_timeout, cut=True)
        fetched = await self._fetcher.get(url, limits, is_text)
        if fetched.content_type not in HTML_TYPES:
            return _plain(fetched, config.page_characters)
        left = config.page_timeout - (time.monotonic() - began)
        try:
            async with asyncio.timeout(max(left, 0.0)):
                read = await self._reader.read(fetched.data, fetched.url, fetched.charset)
        except TimeoutError as error:
            text = f"{url[:200]} was not read within {config.page_timeout:g} s"
            raise FetchError(text, kind="time") from error
        return Page(
            fetched.url,
            one_line(read.title, TITLE_MOST),
            read.text,
            one_line(read.published, TITLE_MOST),
            fetched.content_type,
            fetched.is_cut or read.is_cut,
        )

    def _count(self, what: str) -> None:
        self._counts[what] += 1
        self.runtime.report(**self._counts, cached=len(self._cache))


def is_text(content_type: str) -> bool:
    """Return whether a content type is read as text."""
    return content_type in HTML_TYPES or content_type.startswith(TEXT_TYPES)


def _plain(fetched: Fetched, most: int) -> Page:
    """Return what is text already."""
    try:
        text = fetched.data.decode(fetched.charset or "utf-8", "replace")
    except LookupError:
        text = fetched.data.decode("utf-8", "replace")
    is_cut = fetched.is_cut or len(text) > most
    return Page(fetched.url, "", text[:most], "", fetched.content_type, is_cut)


plugin = Plugin(
    name="web_search",
    services=[WebSearchService],
    preload=["aiohttp", "garrison.workers.services.web_search"],
)

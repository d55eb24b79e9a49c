"""What an agent is offered: WEB_SEARCH, READ_WEB_PAGE, and a provider of findings."""

import asyncio
from typing import Annotated, Protocol

import msgspec
from msgspec import Meta

from garrison.workers import (
    Action,
    ActionResult,
    DeclaredError,
    Memory,
    Provider,
    Runtime,
    State,
    idempotent,
)

from .findings import QUERY_MOST, as_prompt, asked_for, page_as_prompt
from .results import Page, SearchResults

RESULT_MOST = 6000  # characters: what a model is sent of a result has a bound, too
PROVIDED_MOST = 4000
PROVIDED_RESULTS = 5
PROVIDED_S = 4.0  # an agent waits 5 s for a provider


class Search(msgspec.Struct):
    """The parameters of WEB_SEARCH."""

    query: Annotated[str, Meta(min_length=1, max_length=QUERY_MOST, description="a few words")]
    limit: Annotated[int, Meta(ge=1, le=20, description="how many results")] = 5


class ReadPage(msgspec.Struct):
    """The parameters of READ_WEB_PAGE."""

    url: Annotated[str, Meta(min_length=8, max_length=2000, description="http or https")]


class Web(Protocol):
    """What the offers use."""

    async def search(self, query: str, limit: int = 0) -> SearchResults:
        """Search the web."""
        ...

    async def fetch(self, url: str) -> Page:
        """Return a page as text."""
        ...


def search_action(web: Web) -> Action:
    """Return the action WEB_SEARCH."""

    @idempotent
    async def handler(
        runtime: Runtime,
        memory: Memory,
        state: State,
        responses: list[Memory],
        options: Search | None,
    ) -> ActionResult:
        text = memory.content.text
        options = options or Search((asked_for(text) or text.strip())[:QUERY_MOST])
        try:
            found = await web.search(options.query, options.limit)
        except (DeclaredError, ValueError) as error:
            return ActionResult(success=False, error=f"the search failed: {error}")
        return ActionResult(text=as_prompt(found, RESULT_MOST))

    return Action(
        "WEB_SEARCH",
        "Searches the web: for what is new, or not known for certain",
        validate=lambda: True,
        handler=handler,
        similes=["SEARCH_WEB", "SEARCH_THE_WEB", "GOOGLE"],
        parameters=Search,
        for_model=True,
    )


def page_action(web: Web) -> Action:
    """Return the action READ_WEB_PAGE."""

    @idempotent
    async def handler(
        runtime: Runtime,
        memory: Memory,
        state: State,
        responses: list[Memory],
        options: ReadPage | None,
    ) -> ActionResult:
        if options is None:
            return ActionResult(success=False, error="say which page, as `url`")
        try:
            page = await web.fetch(options.url)
        except (DeclaredError, ValueError) as error:
            return ActionResult(success=False, error=f"the page was not read: {error}")
        return ActionResult(text=page_as_prompt(page, RESULT_MOST))

    return Action(
        "READ_WEB_PAGE",
        "Reads the text of one page of the web",
        validate=lambda: True,
        handler=handler,
        parameters=ReadPage,
        for_model=True,
    )


def findings_provider(web: Web) -> Provider:
    """Return the provider that searches where a message asks for it: "search for …"."""

    async def get(runtime: Runtime, memory: Memory, state: State) -> str | None:
        query = asked_for(memory.content.text)
        if not query:
            return None
        try:
            async with asyncio.timeout(PROVIDED_S):
                found = await web.search(query, PROVIDED_RESULTS)
        except (DeclaredError, TimeoutError, ValueError):
            return f"A search of the web for {query!r} was asked for, and failed: say so."
        return as_prompt(found, PROVIDED_MOST)

    return Provider(
        "WEB_FINDINGS", "What a search finds that the message asks for", get=get, position=50
    )

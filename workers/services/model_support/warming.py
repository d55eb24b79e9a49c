"""Warms a provider's library in the launcher, so that workers share what its first calls load.

A first call imports modules, builds the readers of the server's answers, and loads certificates.
Nothing leaves this process: answers come from memory, and the failed call connects to a port of
this machine at which nothing listens. There is no key and no address of anyone here.
"""

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any

from garrison.workers import load_library

from .tls import tls_context

TIMEOUT_S = 5.0  # of each call
Use = Callable[[Any], Awaitable[None]]  # makes a client's calls


def warm(library: Any, client_class: Any, answers: Mapping[str, str], use: Use) -> None:
    """Make a client's first calls: one that fails to connect, and some that are answered.

    Args:
        library: The provider's.
        client_class: Its class of clients.
        answers: Content type → the body that a request which accepts it is answered with.
        use: Makes the calls.
    """
    asyncio.run(_warm(library, client_class, answers, use))


async def _warm(library: Any, client_class: Any, answers: Mapping[str, str], use: Use) -> None:
    httpx2 = load_library("httpx2", "httpx2")

    def answer(request: Any) -> Any:
        kind = "text/event-stream" if b'"stream":true' in request.content else "application/json"
        return httpx2.Response(200, headers={"content-type": kind}, text=answers[kind])

    from_memory = httpx2.AsyncClient(transport=httpx2.MockTransport(answer))
    real = library.DefaultAsyncHttpxClient(verify=tls_context(), trust_env=False)  # no proxy
    with _closed_port() as port:
        for transport in (from_memory, real):
            client = client_class(
                api_key="none",
                base_url=f"http://127.0.0.1:{port}",
                timeout=TIMEOUT_S,
                max_retries=0,
                http_client=transport,
            )
            with contextlib.suppress(library.APIConnectionError):
                await use(client)
            await client.close()


@contextlib.contextmanager
def _closed_port() -> Iterator[int]:
    """Yield a port at which nothing listens: it is bound."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]

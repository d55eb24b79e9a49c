"""Fetches what is at an address of anyone's, within limits of address, size, time and redirects.

The address is checked where the socket is made: what a name resolves to at that moment, whatever a
redirect or another resolver returned before. Durations are seconds, sizes bytes.
"""

import asyncio
import errno
import socket
from collections.abc import Callable
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urljoin, urlsplit

from garrison.ipc import DeclaredError, RetryLater
from garrison.workers import load_library

from .addresses import Rule, refusal
from .decoding import ACCEPTED, Body, Damaged
from .waits import wait_of

if TYPE_CHECKING:
    import aiohttp

REQUIREMENT = "aiohttp>=3.12"
URL_MOST = 4096  # characters
PIECE = 64 * 1024
REDIRECTS = frozenset({301, 302, 303, 307, 308})
DEFAULT_PORTS = {"http": 80, "https": 443}
CONNECTIONS = 32  # at the same time

_refused: ContextVar[list[str] | None] = ContextVar("refused", default=None)


class FetchError(DeclaredError):
    """What is at an address was not fetched, and the same request would fail again.

    `kind` is "url" (it is none, or not of http), "address" (not allowed), "status", "type", "size",
    "time", "redirects", "connection", or "damaged" (the server does not keep to HTTP, or the body
    is not what its head says).
    """

    kind: str
    status: int = 0  # of HTTP


class Limits(NamedTuple):
    """What a fetch may take."""

    most: int  # bytes of the body, packed and unpacked
    seconds: float  # for all of it, redirects too
    redirects: int = 5
    cut: bool = False  # a larger body is cut; otherwise it is refused


class Fetched(NamedTuple):
    """What was fetched."""

    url: str  # after redirects
    content_type: str  # without parameters, in lower case
    charset: str  # as the server says; "" if it does not
    data: bytes
    is_cut: bool


class Fetcher:
    """An HTTP client for addresses of anyone's. It keeps no cookies and no connections.

    Args:
        rule: Where connections may go.
        user_agent: What servers see.
    """

    def __init__(self, rule: Rule, user_agent: str) -> None:
        self._rule, self._user_agent = rule, user_agent
        self._library = load_library("aiohttp", REQUIREMENT)
        self._session: aiohttp.ClientSession | None = None

    async def get(
        self, url: str, limits: Limits, accepts: Callable[[str], bool] = lambda kind: True
    ) -> Fetched:
        """Return what is at an address.

        Args:
            url: Of http or https.
            limits: What it may take.
            accepts: Whether a content type is wanted; decided before the body is read.

        Raises:
            FetchError: It is refused, not there, or not as it must be.
            RetryLater: The server says so.
        """
        refused: list[str] = []
        _refused.set(refused)
        try:
            async with asyncio.timeout(limits.seconds):
                return await self._follow(url, limits, accepts)
        except TimeoutError as error:
            problem = f"{_named(url)} was not fetched within {limits.seconds:g} s"
            raise FetchError(problem, kind="time") from error
        except Damaged as error:
            raise FetchError(f"{_named(url)}: {error}", kind="damaged") from error
        except (self._library.ClientError, OSError, ValueError) as error:
            raise self._explained(error, url, refused) from error

    async def close(self) -> None:
        """End what is under way."""
        if self._session is not None:
            await self._session.close()

    async def _follow(self, url: str, limits: Limits, accepts: Callable[[str], bool]) -> Fetched:
        for _ in range(limits.redirects + 1):
            check_url(url, self._rule)
            response = await self._client().get(url, allow_redirects=False)
            try:
                target = response.headers.get("Location")
                if response.status not in REDIRECTS or target is None:
                    return await _read(response, url, limits, accepts)
            finally:
                response.close()  # whatever of it was not read
            url = _joined(url, target)
        text = f"{_named(url)}: there were more than {limits.redirects} redirects"
        raise FetchError(text, kind="redirects")

    def _client(self) -> "aiohttp.ClientSession":
        if self._session is None:
            library = self._library
            self._session = library.ClientSession(
                connector=library.TCPConnector(
                    socket_factory=self._socket, force_close=True, limit=CONNECTIONS
                ),
                cookie_jar=library.DummyCookieJar(),
                auto_decompress=False,  # a small body may unpack to any size
                timeout=library.ClientTimeout(total=None),
                headers={"User-Agent": self._user_agent, "Accept-Encoding": ACCEPTED},
            )
        assert self._session is not None  # its class is not known here
        return self._session

    def _socket(self, info: Any) -> socket.socket:
        """Return the socket of a connection; the library calls this with the resolved address."""
        family, kind, protocol, _, address = info
        problem = refusal(address[0], address[1], self._rule)
        if problem:
            refused = _refused.get()
            if refused is not None:
                refused.append(problem)
            raise OSError(errno.EACCES, problem)
        return socket.socket(family, kind, protocol)

    def _explained(self, error: Exception, url: str, refused: list[str]) -> Exception:
        library = self._library
        if isinstance(error, library.ClientConnectorError) and refused:
            return FetchError(f"{_named(url)} is not fetched: {refused[0]}", kind="address")
        if isinstance(error, library.InvalidURL | UnicodeError):
            return FetchError(f"{_named(url)} is no address", kind="url")
        if isinstance(error, library.ClientOSError | OSError):
            problem = getattr(error, "os_error", None) or error
            reason = getattr(problem, "strerror", None) or problem or type(error).__name__
            return FetchError(f"{_named(url)} cannot be reached: {reason}", kind="connection")
        text = " ".join(str(error).split())[:200] or type(error).__name__
        return FetchError(f"{_named(url)}: {text}", kind="damaged")


async def _read(
    response: "aiohttp.ClientResponse", url: str, limits: Limits, accepts: Callable[[str], bool]
) -> Fetched:
    status = response.status
    if status in {429, 503} and (seconds := wait_of(status, response.headers)) is not None:
        raise RetryLater(seconds, f"{_named(url)} answered HTTP {status}")
    if status >= 300 or status in {204, 205}:
        raise FetchError(f"{_named(url)} answered HTTP {status}", kind="status", status=status)
    kind = response.content_type.lower()
    if not accepts(kind):
        raise FetchError(f"{_named(url)} is {kind[:60]!r}, which is not read", kind="type")
    body = Body(response.headers.get("Content-Encoding", ""), limits.most)
    too_large = f"{_named(url)} has more than {limits.most} bytes"
    if not limits.cut and (response.content_length or 0) > limits.most:
        raise FetchError(too_large, kind="size")
    async for piece in response.content.iter_chunked(PIECE):
        body.feed(piece)
        if body.is_full:
            break
    if body.is_full and not limits.cut:
        raise FetchError(too_large, kind="size")
    return Fetched(url, kind, response.charset or "", body.data, body.is_full)


def check_url(url: str, rule: Rule) -> None:
    """Check an address as far as that can be done without resolving it.

    Raises:
        FetchError: It is none, not of http or https, or its port is not allowed.
    """
    try:
        parts = urlsplit(url)
        port = parts.port or DEFAULT_PORTS.get(parts.scheme, 0)
        is_url = parts.scheme in DEFAULT_PORTS and bool(parts.hostname) and len(url) <= URL_MOST
    except ValueError:
        is_url, port = False, 0
    if not is_url:
        raise FetchError(f"{_named(url)} is no address of http or https", kind="url")
    if rule.ports and port not in rule.ports:
        raise FetchError(f"{_named(url)}: port {port} is not allowed", kind="address")


def _joined(url: str, target: str) -> str:
    """Return where a redirect leads; what is no address is refused with the next check."""
    try:
        return urljoin(url, target)
    except ValueError:
        return target


def _named(url: str) -> str:
    """Return an address for texts: without a password, shortened."""
    try:
        parts = urlsplit(url)
        host = parts.netloc.rpartition("@")[2]
    except ValueError:
        return repr(url[:80])
    return f"{parts.scheme}://{host}{parts.path}"[:200] if host else repr(url[:80])

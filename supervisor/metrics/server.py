"""Serves metrics by HTTP on a Unix socket, or on an address of this machine alone.

One scrape at a time: each takes milliseconds, and a client that does not read is given up after
`CLIENT_S` seconds.
"""

import contextlib
import http.server
import ipaddress
import socket
import socketserver
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias

from garrison.ipc.errors import GarrisonError

from .text import CONTENT_TYPE

CLIENT_S = 5.0
PATH_MOST = 107  # bytes of a Unix socket's path

Address: TypeAlias = Path | tuple[str, int]


class CannotServe(GarrisonError):
    """Metrics cannot be served there; the text says why, and what to do."""


def address_of(text: str) -> Address:
    """Return where to serve: HOST:PORT of this machine, else the path of a Unix socket.

    Raises:
        CannotServe: The address is not one of this machine's loopback.
    """
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdigit() or "/" in text:
        return Path(text)
    host = {"": "127.0.0.1", "localhost": "127.0.0.1"}.get(host, host.strip("[]"))
    with contextlib.suppress(ValueError):
        if ipaddress.ip_address(host).is_loopback and int(port) < 65_536:
            return host, int(port)
    raise CannotServe(
        f"metrics are not served at {text}: there is no login, so only addresses of this machine "
        "are allowed, such as 127.0.0.1:9464; put a proxy before it to reach it from elsewhere"
    )


@contextlib.contextmanager
def serving(address: Address, text: Callable[[], str]) -> "Iterator[_Server]":
    """Listen; have the block call `handle_request` of the server as often as it likes.

    Args:
        address: Where. The socket's file is removed at the end.
        text: Returns what is served.

    Raises:
        CannotServe: The address is in use, or cannot be used.
    """
    try:
        if isinstance(address, Path):
            _make_room(address)
            server: _Server = _UnixServer(str(address), _Handler)  # type: ignore[arg-type]
        else:
            server = _Server(address, _Handler)
    except OSError as error:
        where = address if isinstance(address, Path) else ":".join(map(str, address))
        raise CannotServe(f"metrics cannot be served at {where}: {error.strerror}") from error
    server.text = text
    try:
        with server:
            yield server
    finally:
        if isinstance(address, Path):
            address.unlink(missing_ok=True)


def _make_room(path: Path) -> None:
    """Remove the socket that a server before left there."""
    if len(str(path).encode()) > PATH_MOST:
        raise CannotServe(f"{path} is longer than the {PATH_MOST} bytes of a socket's path")
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise CannotServe(
                f"{path} is there and is no socket: remove it, or choose another path"
            )
        with socket.socket(socket.AF_UNIX) as probe:
            try:
                probe.connect(str(path))
            except ConnectionRefusedError:
                path.unlink()
            else:
                raise CannotServe(
                    f"another process serves at {path}: end it, or choose another path"
                )


class _Handler(http.server.BaseHTTPRequestHandler):
    """Answers GET /metrics."""

    timeout = CLIENT_S

    def do_GET(self) -> None:
        """Send the metrics."""
        if self.path.partition("?")[0] not in {"/", "/metrics"}:
            self.send_error(404, "garrison has its metrics at /metrics")
            return
        assert isinstance(self.server, _Server)
        try:
            body = self.server.text().encode()
        except GarrisonError as error:
            self.send_error(500, str(error))
            return
        self.send_response(200)
        self.send_header("Content-Type", CONTENT_TYPE)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def address_string(self) -> str:
        """Return nothing: a client of a Unix socket has no address."""
        return ""

    def log_message(self, format: str, *args: object) -> None:
        """Log no requests: there is one every few seconds."""


class _Server(socketserver.TCPServer):
    """An HTTP server of one text."""

    allow_reuse_address = True
    text: Callable[[], str]

    @property
    def where(self) -> str:
        """Return its address in words."""
        at = self.server_address
        return at if isinstance(at, str) else f"http://{at[0]!s}:{at[1]}/metrics"

    def handle_error(self, request: object, client_address: object) -> None:
        """Ignore a client that went away, or sent nothing in time."""


class _UnixServer(_Server):
    """The same on a Unix socket."""

    address_family = socket.AF_UNIX
    allow_reuse_address = False

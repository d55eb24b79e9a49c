"""The HTTP server in the worker's loop: listens on loopback or a Unix socket, and ends in time.

Durations are seconds.
"""

import asyncio
import contextlib
import ipaddress
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp

from garrison.workers import PermanentFailure

from .config import ConsoleConfig
from .connections import CONNECTIONS, Connection

BACKLOG = 64
KEEP_S = 20.0  # an idle connection
STOP_S = 3.0  # for requests that are being answered
PATH_MOST = 107  # bytes of a Unix socket's path


class Server:
    """The server.

    Args:
        application: Answers requests.
        listening: The socket it listens on.
    """

    def __init__(self, application: ASGIApp, listening: socket.socket) -> None:
        config = uvicorn.Config(
            application,
            http=Connection,
            ws="none",
            lifespan="off",
            loop="none",
            log_config=None,
            log_level="error",  # any client could fill the log with warnings
            access_log=False,
            server_header=False,
            proxy_headers=False,
            limit_concurrency=CONNECTIONS + 1,
            timeout_keep_alive=int(KEEP_S),
            timeout_graceful_shutdown=int(STOP_S),
            h11_max_incomplete_event_size=32 << 10,
        )
        self._server, self._listening = _Server(config), listening

    @property
    def connections(self) -> int:
        """Return how many there are."""
        return len(self._server.server_state.connections)

    async def run(self) -> None:
        """Serve until `stop`."""
        await self._server.serve(sockets=[self._listening])

    def stop(self) -> None:
        """Have `run` end."""
        self._server.should_exit = True


class _Server(uvicorn.Server):
    """Leaves signals to the worker."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def listen(config: ConsoleConfig, folder: Path) -> socket.socket:
    """Return the socket that the config names, listening.

    Raises:
        PermanentFailure: The address is no loopback, or no path of a socket.
        OSError: It is in use.
    """
    if config.socket:
        return _listen_unix(folder / config.socket)
    host = "127.0.0.1" if config.host == "localhost" else config.host.strip("[]")
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        raise PermanentFailure(f"host: {config.host!r} is no address") from None
    if not address.is_loopback:
        raise PermanentFailure(
            f"host: {config.host} is no address of this machine alone; the console listens on "
            "127.0.0.1 or ::1, and a proxy or ssh -L reaches it from elsewhere"
        )
    family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, config.port))
        listening.listen(BACKLOG)
    except OSError as error:
        listening.close()
        raise OSError(
            error.errno,
            f"port {config.port} on {host}: {error.strerror}; choose another: "
            "[services.console.config] port",
        ) from error
    listening.setblocking(False)
    return listening


def _listen_unix(path: Path) -> socket.socket:
    if len(str(path).encode()) > PATH_MOST:
        raise PermanentFailure(f"socket: {path} has more than the {PATH_MOST} bytes of a path")
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise PermanentFailure(f"socket: {path} is there, and is no socket: remove it")
        path.unlink()  # of an incarnation before; this service has one at a time
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listening.bind(str(path))
        path.chmod(0o600)
        listening.listen(BACKLOG)
    except OSError:
        listening.close()
        raise
    listening.setblocking(False)
    return listening


def address_of(listening: socket.socket) -> str:
    """Return where a socket listens: `http://127.0.0.1:8420`, or `unix:PATH`."""
    name = listening.getsockname()
    if listening.family == socket.AF_UNIX:
        return f"unix:{name}"
    host = f"[{name[0]}]" if listening.family == socket.AF_INET6 else name[0]
    return f"http://{host}:{name[1]}"


async def until_ended(task: "asyncio.Task[None]", seconds: float) -> None:
    """Wait for a task; cancel it after some seconds."""
    await asyncio.wait({task}, timeout=seconds)
    task.cancel()
    await asyncio.wait({task}, timeout=1.0)

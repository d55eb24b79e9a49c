"""A program's way to a host: `connect(home)`."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from . import socket_paths
from .caller import bounded_seconds
from .client import Client
from .errors import SupervisorGone
from .messages import Leave
from .program_spans import ProgramSpans

CONNECT_S = 10.0  # longest wait for a supervisor to answer
STARTING_POLL_S = 0.02  # between checks for a supervisor that is starting


@asynccontextmanager
async def connect(home: str | Path, timeout: float = CONNECT_S) -> AsyncIterator[Client]:
    """Join a running host from any program, with the same `get_service` family as a service.

    Args:
        home: The host's home, where `run/control.sock` lies.
        timeout: Seconds to wait for a supervisor to answer.

    Raises:
        SupervisorGone: No supervisor answers; the text names the path.
    """
    run = socket_paths.run_folder(Path(home))
    control = socket_paths.control_path(run)
    until = time.monotonic() + bounded_seconds(timeout)
    while True:
        try:
            socket_paths.check_listening(control)
            break
        except SupervisorGone as error:
            if socket_paths.is_refused(error) or not socket_paths.is_starting(control):
                raise
            if time.monotonic() >= until:
                raise socket_paths.socket_missing(control) from None
            await asyncio.sleep(STARTING_POLL_S)
    client = Client(socket_paths.new_token())
    client.calls.observer = client.calls.producer = ProgramSpans()
    try:
        client.session.open(control, socket_paths.bus_path(run))
        try:
            async with asyncio.timeout(timeout):
                await client.session.wait_welcome()
        except TimeoutError:
            raise SupervisorGone(control, f"it gave no answer within {timeout:g} s") from None
        except ConnectionRefusedError as error:
            raise SupervisorGone(control, f"it refused: {error}") from None
        client.session.watch_supervisor()
        yield client
    finally:
        client.session.send(Leave())
        client.close()

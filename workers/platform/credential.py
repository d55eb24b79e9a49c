"""Takes the lock on a platform's credential, for as long as this process lives. Seconds."""

import asyncio
import contextlib
import socket

from garrison.ipc import GarrisonError
from garrison.ipc.system import credential_lock

TAKE_S = 1.0  # for a holder that is just ending
LOOK_S = 0.02  # between attempts: the kernel does not report the release

_held: dict[bytes, socket.socket] = {}  # by socket name; until the process ends


async def take_credential(service: str, name: str, secret: str) -> None:
    """Take a credential; a second time in one process is no conflict.

    Args:
        service: NAME of the service.
        name: Name of the secret.
        secret: Its value.

    Raises:
        GarrisonError: Another process has it.
    """
    key = credential_lock.socket_name(secret)
    if key in _held:
        return
    loop = asyncio.get_running_loop()
    deadline = loop.time() + TAKE_S
    while (lock := credential_lock.take(secret)) is None:
        if loop.time() >= deadline:
            raise GarrisonError(in_use(service, name, secret))
        await asyncio.sleep(LOOK_S)
    _held[key] = lock
    loop.add_reader(lock, _refuse, lock)


def in_use(service: str, name: str, secret: str) -> str:
    """Return the sentence on a credential that another process has."""
    holder = credential_lock.holder_of(secret)
    words = holder.words() if holder is not None else "a process that has just ended"
    return (
        f"{service} is not connected: the credential {name} is in use by {words}. Two would answer "
        f"each message twice; stop that one, or give {service} a credential of its own"
    )


def _refuse(lock: socket.socket) -> None:
    """Close the connection of a process that queries the lock's holder."""
    with contextlib.suppress(OSError):
        lock.accept()[0].close()

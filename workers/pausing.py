"""A service's own view of `garrison pause`: whether it is paused, and the wait until it is not."""

from garrison.ipc.client import Client


def is_paused(client: Client, name: str) -> bool:
    """Return whether the directory has a service as paused."""
    entry = client.directory.get(name)
    return entry is not None and entry.paused is not None


async def until_resumed(client: Client, name: str) -> None:
    """Return when a service is not paused; at once if it is not."""
    while is_paused(client, name):
        change = client.session.waiters.next_change(name)
        try:
            await change
        finally:
            change.cancel()

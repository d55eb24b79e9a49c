"""Ids of messages, and of the parts of answers. Pure.

A platform's own id is unique within its room at best. `NAME/room/theirs` is unique in a host, and
is the same whenever the message is received. A `/` in the room is written as `%2F`, so that no two
rooms share an id.
"""

import base64
import hashlib

ID_MOST = 1024  # characters of an id
NONCE_LENGTH = 25  # what Discord accepts


def memory_id(name: str, room: str, theirs: str) -> str:
    """Return the id of a message in the host.

    Args:
        name: NAME of the platform's service.
        room: The channel.
        theirs: The platform's own id.

    Raises:
        ValueError: The room or the id is empty, or they are too long.
    """
    if not theirs:
        raise ValueError(
            "the memory's id is empty: it must be the platform's own id, which is the same when "
            "the message is received again"
        )
    if not room:
        raise ValueError("the memory's room_id is empty: it is the channel that answers go to")
    made = f"{_prefix(name, room)}{theirs}"
    if len(made) > ID_MOST:
        raise ValueError(f"the id of a message has {len(made)} characters; at most {ID_MOST}")
    return made


def their_id(name: str, room: str, memory: str) -> str | None:
    """Return the platform's own id of a message of a room; None: it is of another one."""
    start = _prefix(name, room)
    return memory[len(start) :] if memory.startswith(start) and memory != start else None


def _prefix(name: str, room: str) -> str:
    """Return what the ids of a room's messages begin with."""
    escaped = room.replace("%", "%25").replace("/", "%2F")
    return f"{name}/{escaped}/"


def part_id(message: str, part: int) -> str:
    """Return the id of one part of an answer."""
    return f"{message}/{part}"


def nonce(part: str) -> str:
    """Return 25 characters that stand for a part's id: letters of one case, and digits."""
    digest = hashlib.sha256(part.encode("utf-8", "surrogatepass")).digest()
    return base64.b32encode(digest).decode("ascii").lower()[:NONCE_LENGTH]

"""Keeps chats in files, one each: a line is on disk before its sender gets it confirmed."""

import logging
import os
import re
from pathlib import Path

import msgspec

from .rooms import Room

log = logging.getLogger(__name__)

NAME = re.compile(r"[0-9a-f]{16}")
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Room).decode


class RoomFiles:
    """The files. Args: folder: Where they are."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def read(self) -> list[Room]:
        """Return all chats; a damaged file is logged and left as it is."""
        found = list[Room]()
        for path in sorted(self._folder.glob("*.json")):
            try:
                found.append(_decode(path.read_bytes()))
            except (OSError, msgspec.DecodeError) as error:
                log.warning("talk.unreadable file=%s error=%s", path, error)
        return found

    def write(self, room: Room) -> None:
        """Replace a chat's file; return once it is on disk. Raises OSError."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self._path(room.id)
        beside = path.with_suffix(".new")
        with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(_encode(room))
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)

    def delete(self, room_id: str) -> None:
        """Delete a chat's file."""
        self._path(room_id).unlink(missing_ok=True)

    def _path(self, room_id: str) -> Path:
        if not NAME.fullmatch(room_id):
            raise ValueError(f"not the id of a chat: {room_id!r}")
        return self._folder / f"{room_id}.json"

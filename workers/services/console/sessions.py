"""Sessions of browsers: who is logged in, until when. Kept over restarts, as hashes.

Times are Unix seconds.
"""

import contextlib
import hashlib
import os
import secrets
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from garrison.workers.sqlite.files import replace_file

SESSIONS_MOST = 64  # the oldest is ended for a further one
OF_USER_MOST = 16  # likewise, of one user: no colleague ends the sessions of others
ID_BYTES = 32
FILE_MOST = 1 << 20  # bytes


@dataclass(frozen=True, slots=True)
class Session:
    """Who looks.

    Attributes:
        uid: The user's, as the kernel reported it when the link was made.
        user: Name of that user.
        trusted: Whether it is the host's own user, or root.
        may: What a team of `[host] operators` permits; of a trusted user, everything.
        id: Its hash; empty: it is of no browser.
    """

    uid: int
    user: str
    trusted: bool
    may: frozenset[str] = frozenset()
    id: str = ""

    def permits(self, needed: str) -> bool:
        """Return whether a page or an action that needs this permission is for this user.

        Args:
            needed: A permission of `[host] operators`, or "host".
        """
        return self.trusted or needed in self.may


class _Kept(msgspec.Struct, frozen=True):
    """One session in the file. `id` is a hash: who reads the file cannot log in by it."""

    id: str
    uid: int
    user: str
    until: float
    may: tuple[str, ...] = ()


class Sessions:
    """All sessions of a console.

    Args:
        folder: The service's data folder.
        length: Seconds that one holds.
    """

    def __init__(self, folder: Path, length: float) -> None:
        self._file, self._length = folder / "sessions.json", length
        self._kept: dict[str, _Kept] = {one.id: one for one in _read(self._file)}

    def begin(self, session: Session) -> str:
        """Log a user in; return what the browser's cookie has."""
        word = secrets.token_hex(ID_BYTES)
        self._expire()
        theirs = [key for key, one in self._kept.items() if one.uid == session.uid]
        for former in theirs[: max(len(theirs) - OF_USER_MOST + 1, 0)]:
            del self._kept[former]
        while len(self._kept) >= SESSIONS_MOST:
            del self._kept[next(iter(self._kept))]
        key, until = _hash(word), time.time() + self._length
        may = tuple(sorted(session.may))
        self._kept[key] = _Kept(key, session.uid, session.user, until, may)
        self._write()
        return word

    def find(self, word: str) -> Session | None:
        """Return the session of a cookie; None: there is none, or its time is over."""
        kept = self._kept.get(_hash(word)) if word else None
        if kept is None or not self._is_valid(kept):
            return None
        trusted = kept.uid in {0, os.geteuid()}
        return Session(kept.uid, kept.user, trusted, frozenset(kept.may), kept.id)

    def holds(self, session: Session) -> bool:
        """Return whether a session still counts: what is streamed to it ends with it."""
        kept = self._kept.get(session.id)
        return kept is not None and self._is_valid(kept)

    def end(self, word: str) -> None:
        """Log out."""
        if self._kept.pop(_hash(word), None) is not None:
            self._write()

    def _is_valid(self, kept: _Kept) -> bool:
        return 0 < kept.until - time.time() <= self._length

    def _expire(self) -> None:
        now = time.time()
        self._kept = {key: one for key, one in self._kept.items() if one.until > now}

    def _write(self) -> None:
        with contextlib.suppress(OSError):  # a full disk: they hold until the next restart
            replace_file(self._file, msgspec.json.encode(list(self._kept.values())))


def _read(file: Path) -> Iterable[_Kept]:
    try:
        with file.open("rb") as stream:
            return msgspec.json.decode(stream.read(FILE_MOST), type=list[_Kept])[-SESSIONS_MOST:]
    except (OSError, msgspec.DecodeError, msgspec.ValidationError):
        return []


def _hash(word: str) -> str:
    return hashlib.sha256(word.encode("utf-8", "replace")).hexdigest()

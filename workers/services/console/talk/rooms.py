"""One chat of a user with an agent: its lines, and what waits for an answer. Pure.

Times are Unix seconds, sizes are characters.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Literal

import msgspec

LINE_MOST = 5_000  # of a line that a user writes: as a form, it fits in what is accepted
TEXT_MOST = 65_536  # of a text that is kept
ENTRIES_MOST = 200  # of one chat; the oldest are forgotten
CHARACTERS_MOST = 200_000  # of one chat
WAITING_MOST = 20  # lines of one chat that wait for their answers
KEYS_MOST = 50  # of forms that were sent
TITLE_MOST = 60

Who = Literal["you", "agent", "note"]


class RoomFull(ValueError):
    """Too many lines of a chat wait for their answers."""


class Entry(msgspec.Struct, frozen=True, omit_defaults=True):
    """One text of a chat."""

    number: int
    who: Who
    text: str
    at: float
    state: Literal["", "waiting", "failed"] = ""  # of a user's line
    problem: str = ""  # why it failed
    tools: tuple[str, ...] = ()  # what an answer has used, in words
    record: str = ""  # id of the message in the agent's record


class Room(msgspec.Struct, frozen=True, omit_defaults=True):
    """One chat."""

    id: str
    chat: str  # NAME of the chat service
    uid: int
    conversation: dict[str, Any]  # as the chat service returned it last
    answerer: str  # the character's name
    made_at: float
    changed_at: float
    entries: tuple[Entry, ...] = ()
    next: int = 1
    keys: tuple[str, ...] = ()  # of forms that were sent: one that is sent again is ignored

    @property
    def title(self) -> str:
        """Return its first line."""
        text = next((one.text for one in self.entries if one.who == "you"), "")
        line = " ".join(text.split())
        return line if len(line) <= TITLE_MOST else f"{line[:TITLE_MOST]}…"

    @property
    def waiting(self) -> tuple[Entry, ...]:
        """Return the lines that wait for their answers, the oldest first."""
        return tuple(one for one in self.entries if one.state == "waiting")

    @property
    def topic(self) -> str:
        """Return the room's id at the chat service."""
        return str(self.conversation.get("room", ""))


def posted(room: Room, text: str, key: str, now: float) -> Room:
    """Return the chat with a line that waits for its answer; the same chat if it has the key.

    Raises:
        ValueError: The line is empty, or too long.
        RoomFull: Too many lines wait.
    """
    if key and key in room.keys:
        return room
    line = text.replace("\r\n", "\n").strip()
    if not line:
        raise ValueError("write something first")
    if len(line) > LINE_MOST:
        raise ValueError(f"a line has at most {LINE_MOST:,} characters, not {len(line):,}")
    if len(room.waiting) >= WAITING_MOST:
        raise RoomFull(f"{WAITING_MOST} lines wait for their answers already; wait for one")
    keys = (*room.keys, key)[-KEYS_MOST:] if key else room.keys
    return _with(msgspec.structs.replace(room, keys=keys), "you", line, now, state="waiting")


def answered(
    room: Room,
    number: int,
    reply: dict[str, Any],
    now: float,
    tools: Sequence[str] = (),
    record: str = "",
) -> Room:
    """Return the chat with the answer to a line.

    Args:
        room: The chat.
        number: The line's.
        reply: What the chat service returned.
        now: The time.
        tools: What the answer has used.
        record: The id of the message in the agent's record.
    """
    after = _settled(room, number, state="", problem="")
    after = msgspec.structs.replace(
        after, conversation=reply["conversation"], answerer=reply["answerer"]
    )
    for text in reply.get("messages", ()):
        after = _with(after, "agent", text, now)
    text = reply["text"]
    return _with(
        after,
        "agent" if text.strip() else "note",
        text if text.strip() else f"{after.answerer} says nothing",
        now,
        tools=tuple(tools),
        record=record,
    )


def failed(room: Room, number: int, problem: str) -> Room:
    """Return the chat with a line that will not be answered, unless it is sent again."""
    return _settled(room, number, state="failed", problem=problem[:2_000])


def again(room: Room, number: int) -> Room:
    """Return the chat with a failed line that waits again."""
    for entry in room.entries:
        if entry.number == number and entry.state == "failed":
            return _settled(room, number, state="waiting", problem="")
    return room


def with_texts(room: Room, texts: Iterable[str], now: float) -> Room:
    """Return the chat with texts of the agent that are no answers."""
    for text in texts:
        if text.strip():
            room = _with(room, "agent", text, now)
    return room


def noted(room: Room, text: str, now: float) -> Room:
    """Return the chat with a note of the console, if it is not the last entry already."""
    last = room.entries[-1] if room.entries else None
    if last is not None and last.who == "note" and last.text == text:
        return room
    return _with(room, "note", text, now)


def without_answers(texts: Iterable[str], reply: str) -> list[str]:
    """Return texts that are no part of an answer: a chat service that was restarted during the
    line does not know that they are."""
    return [one for one in texts if f"\n{one}\n" not in f"\n{reply}\n"]


def _settled(room: Room, number: int, **changes: Any) -> Room:
    entries = tuple(
        msgspec.structs.replace(one, **changes) if one.number == number else one
        for one in room.entries
    )
    return msgspec.structs.replace(room, entries=entries)


def _with(room: Room, who: Who, text: str, now: float, **fields: Any) -> Room:
    entry = Entry(room.next, who, text[:TEXT_MOST], now, **fields)
    entries = _bounded((*room.entries, entry))
    return msgspec.structs.replace(room, entries=entries, next=room.next + 1, changed_at=now)


def _bounded(entries: tuple[Entry, ...]) -> tuple[Entry, ...]:
    """Return the newest entries; those that wait are kept in any case."""
    kept, characters = list[Entry](), 0
    for entry in reversed(entries):
        characters += len(entry.text)
        fits = len(kept) < ENTRIES_MOST and characters <= CHARACTERS_MOST
        if fits or not kept or entry.state == "waiting":
            kept.append(entry)
    return tuple(reversed(kept))

"""Chat: rooms of the session's user, an answer followed by parts, and the earlier lines."""

import secrets
import time
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlencode

from starlette.responses import HTMLResponse, RedirectResponse, Response

from garrison.ipc import OrderFailed

from ..talk import rooms
from ..talk.exchange import Exchange
from ..talk.rooms import LINE_MOST, Entry, RoomFull
from ..visit import Visit
from .page import Page

SHOWN = 60  # entries of a page
WAIT_S = 2.0  # for a quick answer, where the browser runs no script


async def show(visit: Visit) -> Response:
    """Return the chats, and a form that begins another one."""
    talks = visit.tools.talks
    return visit.render(
        "chats.html",
        chats=talks.chats(),
        rooms=talks.rooms_of(visit.session.uid),
        most=LINE_MOST,
        key=secrets.token_hex(8),
        now=time.time(),
        acts=visit.acts("host"),
    )


async def begin(visit: Visit) -> Response:
    """Begin a chat with a line."""
    text = visit.form.get("text", "")
    if not text.strip():
        raise OrderFailed("usage", "write something first")
    session = visit.session
    talk = await visit.tools.talks.begin(visit.form.get("chat", ""), session.uid, session.user)
    await _post(talk, text, visit.form.get("key", ""))
    await talk.settled(WAIT_S)
    return RedirectResponse(f"/chat/{talk.room.id}#end", 303)


async def show_room(visit: Visit) -> Response:
    """Return one chat."""
    talk = _talk(visit)
    everything = visit.query.get("all") == "yes"
    return visit.render("chat.html", **_values(visit, talk, everything))


async def say(visit: Visit) -> Response:
    """Take a line; it is on disk before this returns."""
    talk, text, problem = _talk(visit), visit.form.get("text", ""), ""
    try:
        await _post(talk, text, visit.form.get("key", ""))
    except OrderFailed as error:
        if not visit.part:
            raise
        problem = str(error)
    if visit.part:  # a text that was not taken stays in the form
        kept = {"text": text if problem else "", "problem": problem}
        values = _values(visit, talk) | kept
        return HTMLResponse(visit.rendered("chat.html", "composer", **values))
    await talk.settled(WAIT_S)
    return RedirectResponse(f"/chat/{talk.room.id}#end", 303)


async def again(visit: Visit) -> Response:
    """Send a line that failed once more."""
    talk, number = _talk(visit), visit.form.get("number", "")
    if not (number.isascii() and number.isdigit()):
        raise OrderFailed("usage", "name the line")
    await talk.update(lambda room: rooms.again(room, int(number)))
    return RedirectResponse(f"/chat/{talk.room.id}#end", 303)


async def forget(visit: Visit) -> Response:
    """Ask once more; forget a chat that was confirmed."""
    talk = _talk(visit)
    if visit.form.get("sure") != "yes":
        return visit.render("chat_forget.html", room=talk.room)
    await visit.tools.talks.forget(talk.room.id)
    return RedirectResponse("/chat", 303)


async def live(visit: Visit) -> Response:
    """Return the stream of what changes in a chat."""
    everything = visit.query.get("all") == "yes"
    return visit.event_stream(_parts(visit, _talk(visit), everything))


async def _parts(visit: Visit, talk: Exchange, everything: bool = False) -> AsyncIterator[str]:
    """Yield what a page lacks: first all lines, then each new or changed one."""
    lines: dict[int, str] = {}
    under_way: str | None = None
    is_first = True
    async for _ in talk.changes():
        values = _values(visit, talk, everything)
        now = {
            entry.number: visit.rendered("chat.html", "line", **values, entry=entry)
            for entry in values["entries"]
        }
        parts = []
        if is_first:
            parts.append(_partial("#lines", "innerMorph", "".join(now.values())))
        else:
            newest = max(lines, default=0)
            for number, line in now.items():
                if number > newest:
                    parts.append(_partial("#lines", "beforeend", line))
                elif line != lines.get(number, line):
                    parts.append(_partial(f"#line-{number}", "outerMorph", line))
        progress = visit.rendered("chat.html", "progress", **values)
        if progress != under_way:
            parts.append(_partial("#progress", "innerMorph", progress))
        lines, under_way, is_first = now, progress, False
        if parts:
            yield "".join(parts)


def _partial(target: str, swap: str, html: str) -> str:
    return f'<hx-partial hx-target="{target}" hx-swap="{swap}">{html}</hx-partial>'


def _values(visit: Visit, talk: Exchange, everything: bool = False) -> dict[str, Any]:
    entries: tuple[Entry, ...] = talk.room.entries
    shown = entries if everything else entries[-SHOWN:]
    return {
        "room": talk.room,
        "entries": shown,
        "shown": SHOWN,
        "earlier": len(entries) - len(shown),
        "progress": talk.progress,
        "is_waiting": bool(talk.room.waiting),
        "most": LINE_MOST,
        "key": secrets.token_hex(8),
        "text": "",
        "problem": "",
        "why_link": lambda record: "/answers?" + urlencode({"find": record}),
        "now": time.time(),
        "acts": visit.acts("host"),
    }


def _talk(visit: Visit) -> Exchange:
    return visit.tools.talks.find(visit.path["room"], visit.session.uid)


async def _post(talk: Exchange, text: str, key: str) -> None:
    now = time.time()
    try:
        await talk.update(lambda room: rooms.posted(room, text, key[:100], now))
    except RoomFull as error:
        raise OrderFailed("failed", str(error)) from error
    except ValueError as error:
        raise OrderFailed("usage", str(error)) from error
    except OSError as error:
        raise OrderFailed("failed", f"the line was not kept and not sent: {error}") from error


PAGES = (
    Page("/chat", show, "Chat"),
    Page("/chat/begin", begin, method="POST", acts=True),
    Page("/chat/{room}", show_room),
    Page("/chat/{room}/live", live),
    Page("/chat/{room}/say", say, method="POST", acts=True),
    Page("/chat/{room}/again", again, method="POST", acts=True),
    Page("/chat/{room}/forget", forget, method="POST", acts=True),
)

"""`Visit`: one request of a browser, and what a page can do for it."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from starlette.responses import HTMLResponse, Response

from garrison.ipc import CallError, CallTimeout, OrderFailed, SupervisorGone
from garrison.ipc.log_events import LogEvent
from garrison.ipc.verb_commands import VerbCommands
from garrison.workers import Runtime

from .history.recorder import History
from .picture import GONE, OWN, Picture, Pictures, SupervisorSilent
from .rates import CallRates
from .records.records import Records
from .rendering import Templates
from .sessions import Session
from .streams import EventStream, Part, Streams
from .talk.talks import Talks

LOOK_S = 1.0  # after which an order that waits is one that may not be answered
READING = frozenset({"diff", "events", "status"})  # orders that pages wait for
STATUS = {  # code of an OrderFailed → HTTP's
    "not_allowed": 403,
    "no_such_service": 404,
    "no_such_death": 404,
    "not_found": 404,
    "usage": 400,
    "timed_out": 504,
}


@dataclass(frozen=True, slots=True)
class Tools:
    """What all visits share.

    Attributes:
        runtime: The service's.
        commands: Runs verbs.
        pictures: Has what the host looks like.
        templates: Renders.
        streams: Has the open streams.
        history: What services used over time.
        rates: What calls there are.
        navigation: Path, title and permission of the pages in the navigation.
        readonly: Whether actions are refused.
        records: Reads and follows lines and events.
        talks: Has the chats of users with agents.
        holds: Returns whether a session still counts.
    """

    runtime: Runtime
    commands: Callable[[], Awaitable[VerbCommands]]
    pictures: Pictures
    templates: Templates
    streams: Streams
    history: History
    rates: CallRates
    navigation: Sequence[tuple[str, str, str]]
    readonly: bool
    records: Records
    talks: Talks
    holds: Callable[[Session], bool] = lambda _: True


@dataclass(frozen=True, slots=True)
class Visit:
    """One request.

    Attributes:
        tools: What all visits share.
        session: Who looks.
        at: The path that was requested.
        part: Whether htmx asks for a part of a page.
        path: Path parameters.
        query: Parameters behind `?`, of at most 2,000 characters each.
        form: The fields of a POST, of at most 64 KiB together.
        picture: What the host looks like.
        last_part: The id of the last part of a stream that the browser has got.
    """

    tools: Tools
    session: Session
    at: str
    part: bool = False
    path: Mapping[str, str] = field(default_factory=dict)
    query: Mapping[str, str] = field(default_factory=dict)
    form: Mapping[str, str] = field(default_factory=dict)
    picture: Picture = field(default_factory=Picture)
    last_part: str = ""

    @property
    def readonly(self) -> bool:
        """Return whether actions are refused."""
        return self.tools.readonly

    @property
    def runtime(self) -> Runtime:
        """Return the service's runtime."""
        return self.tools.runtime

    def may(self, permission: str) -> bool:
        """Return whether to show what needs a permission; the supervisor decides again."""
        return self.session.permits(permission)

    def acts(self, permission: str) -> bool:
        """Return whether to show a button for an action that needs a permission."""
        return not self.readonly and self.may(permission)

    # --- responses --------------------------------------------------------------------------

    def values(self) -> dict[str, Any]:
        """Return what every template has."""
        return {
            "visit": self,
            "session": self.session,
            "readonly": self.readonly,
            "picture": self.picture,
            "navigation": [one for one in self.tools.navigation if self.may(one[2])],
            "at": self.at,
        }

    def render(self, template: str, status: int = 200, **values: Any) -> Response:
        """Return a page, or its block `main` where htmx asks for a part.

        Args:
            template: Its file, which extends base.html.
            status: The status code.
            values: What the template has besides that of every template.
        """
        templates, everything = self.tools.templates, {**self.values(), **values}
        if self.part:
            text = templates.block(template, "main", everything)
        else:
            text = templates.page(template, everything)
        return HTMLResponse(text, status)

    def rendered(self, template: str, block: str, **values: Any) -> str:
        """Return one block of a template, for a part of a stream."""
        return self.tools.templates.block(template, block, {**self.values(), **values})

    def event_stream(self, parts: AsyncIterator[Part]) -> Response:
        """Return a stream of server-sent events.

        Args:
            parts: A text is swapped by htmx; a pair is a named event and its data; a third text
                is an id, which `last_part` has when the browser connects again.
        """
        if self.tools.streams.is_full:
            text = "too many tabs follow something already: close one of them"
            return self.message(text, 503)
        tools, session = self.tools, self.session
        return EventStream(
            tools.streams,
            parts,
            lambda error: ("failed", failure_of(error)[1]),
            lambda: tools.holds(session),
        )

    def message(self, text: str, status: int = 200, hint: str = "") -> Response:
        """Return a page with one message."""
        return self.render("message.html", status, text=text, hint=hint)

    # --- the host ---------------------------------------------------------------------------

    async def order(
        self, verb: str, names: Sequence[str] = (), timeout: float = 10.0, **options: Any
    ) -> Any:
        """Give the supervisor an order on behalf of the session's user.

        Args:
            verb: One of the supervisor's.
            names: NAMEs and globs.
            timeout: Seconds.
            options: The verb's other arguments.

        Raises:
            OrderFailed: It was refused, or failed; `code` is the reason.
            SupervisorGone: No supervisor answers.
        """
        client = self.runtime.client
        if client.is_alone:
            raise SupervisorGone(home_of(self.runtime), GONE)
        if self.picture.gone:  # it did not answer a moment ago; a page is not to wait again
            raise SupervisorSilent(home_of(self.runtime), self.picture.gone)
        options["behalf"] = self.session.uid
        asking = asyncio.ensure_future(client.order(verb, tuple(names), timeout, **options))
        try:
            while verb in READING and not asking.done():
                await asyncio.wait({asking}, timeout=LOOK_S)
                if not asking.done():
                    await self._check_answering()
            return await asking
        finally:
            asking.cancel()

    async def _check_answering(self) -> None:
        """Raise SupervisorSilent if the supervisor does not answer another question either."""
        picture = await self.tools.pictures.now(viewer_of(self.session))
        if picture.gone:
            raise SupervisorSilent(home_of(self.runtime), picture.gone)

    async def verb(self, *words: str, timeout: float = 30.0, verb: int = 1) -> Any:
        """Run a verb of the command line in a process of its own; return its data.

        For pages of the host's own user alone. What a visitor gave comes behind `--`.

        Args:
            words: The verb's words, and what follows.
            timeout: Seconds.
            verb: How many words the verb itself has.

        Raises:
            OrderFailed: It failed; `code` and text are the verb's.
        """
        if not self.session.trusted:
            raise OrderFailed("not_allowed", f"garrison {words[0]} is for the host's own user")
        code, out, errors = await self._run(words, timeout, verb, json=True)
        try:
            answer = json.loads(out)
            data, error = answer["data"], answer["error"]
        except (ValueError, KeyError, TypeError):
            text = (errors or out).strip()[-2000:] or f"it exited with {code}"
            raise OrderFailed("failed", f"garrison {' '.join(words[:verb])}: {text}") from None
        if not answer["ok"]:
            raise OrderFailed(str(error["code"]), str(error["message"]), data)
        return data

    async def text(self, *words: str, timeout: float = 30.0, verb: int = 1) -> str:
        """Run a verb as `verb` does; return what it prints for people."""
        if not self.session.trusted:
            raise OrderFailed("not_allowed", f"garrison {words[0]} is for the host's own user")
        _, out, errors = await self._run(words, timeout, verb, json=False)
        return out or errors

    async def _run(
        self, words: Sequence[str], timeout: float, verb: int, json: bool
    ) -> tuple[int, str, str]:
        if any("\0" in word for word in words):
            raise OrderFailed(
                "usage", f"garrison {words[0]}: there is a character of no text in it"
            )
        commands = await self.tools.commands()
        try:
            return await commands.run(words[:verb], words[verb:], timeout, json=json)
        except TimeoutError:
            text = f"garrison {' '.join(words[:verb])} took longer than {timeout:g} s; it was ended"
            raise OrderFailed("timed_out", text) from None

    async def call(self, service: str, method: str, *args: Any, timeout: float = 10.0) -> Any:
        """Call a method of a service. For pages of the host's own user alone.

        Raises:
            OrderFailed: There is no such service, or the user may not.
            CallError: The call failed.
        """
        if not self.session.trusted:
            raise OrderFailed("not_allowed", "calls are for the host's own user")
        client = self.runtime.client
        if service not in self.picture.services and client.directory.get(service) is None:
            raise OrderFailed("no_such_service", f"there is no service {service}")
        return await client.call_method(service, method, args, Any, timeout)

    def lines(
        self, *names: str, number: int = 0, follow: bool = True
    ) -> AsyncIterator[tuple[str, str]]:
        """Yield NAME and line of what services write; see `Client.logs`."""
        return self.runtime.client.logs(*names, number=number, follow=follow)

    def events(self, *names: str, number: int = 0, follow: bool = True) -> AsyncIterator[LogEvent]:
        """Yield events of the host; see `Client.events`."""
        return self.runtime.client.events(*names, number=number, follow=follow)

    def pictures(self) -> AsyncIterator[Picture]:
        """Yield what the host looks like, and each later picture, a second apart."""
        return self.tools.pictures.changes(viewer_of(self.session))


def home_of(runtime: Runtime) -> str:
    """Return the home of the host, which a data folder is in."""
    return str(runtime.data_folder.parents[2])


def viewer_of(session: Session) -> int:
    """Return whose picture of the host a session is shown."""
    return OWN if session.trusted else session.uid


def failure_of(error: Exception) -> tuple[int, str]:
    """Return the status code and the sentence of a failure; never a traceback."""
    match error:
        case SupervisorGone():
            return 503, str(error)
        case OrderFailed(code=code):
            found = 404 if code.startswith("no_such") else STATUS.get(code, 502)
            return found, str(error)
        case CallTimeout():
            return 504, str(error)
        case CallError():
            return 502, str(error)
        case TimeoutError():
            return 504, "it took too long; try again"
        case _:
            return 500, f"the console failed: {type(error).__name__}; its log says more"

"""Visits of console pages without a host: fake services answer what a test hands in."""

import logging
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

from garrison.ipc import Entry, State
from garrison.ipc.directory import Directory
from garrison.ipc.messages import Manifest
from garrison.ipc.messages.manifest import MethodInfo
from garrison.workers.services.console.picture import Picture
from garrison.workers.services.console.rendering import Templates
from garrison.workers.services.console.sessions import Session
from garrison.workers.services.console.visit import Tools, Visit

EVIL = "<script>alert(1)</script><img src=x onerror=alert(1)>'\"\x1b[31m"
TEMPLATES = Templates()


def listed(name: str, kind: str, *methods: str, state: State = State.RUNNING, **more: Any) -> Entry:
    """Return a service as the directory lists it."""
    infos = tuple(MethodInfo(one) for one in methods)
    manifest = Manifest(service_type=kind, methods=infos, **more.pop("manifest", {}))
    return Entry(name, kind, 0, manifest, state, True, 1, b"token", **more)


class FakeHost:
    """What the pages call.

    Args:
        entries: The services.
        answers: By service and method: a value, a function of the arguments, or an exception.
    """

    def __init__(self, entries: list[Entry], answers: Mapping[tuple[str, str], Any]) -> None:
        self.directory, self.answers = Directory(entries), answers
        self.calls: list[tuple[str, str, tuple[Any, ...]]] = []

    async def call_method(
        self, service: str, method: str, args: tuple[Any, ...], *_: Any, **__: Any
    ) -> Any:
        """Answer a call."""
        self.calls.append((service, method, args))
        answer = self.answers[service, method]
        if isinstance(answer, Exception):
            raise answer
        return answer(*args) if callable(answer) else answer


def visit_of(
    host: FakeHost,
    *,
    readonly: bool = False,
    part: bool = False,
    picture: Picture | None = None,
    talks: Any = None,
    **request: Any,
) -> Visit:
    """Return a visit of the host's own user.

    Args:
        host: Answers calls.
        readonly: The console refuses actions.
        part: htmx asks for a part.
        picture: What `status` has answered.
        talks: The chats.
        request: `path`, `query`, `form`.
    """
    runtime: Any = SimpleNamespace(client=host, logger=logging.getLogger("console"))
    nothing: Any = None  # what these pages do not use
    tools = Tools(
        runtime=runtime,
        commands=nothing,
        pictures=nothing,
        templates=TEMPLATES,
        streams=nothing,
        history=nothing,
        rates=nothing,
        navigation=[("/mail", "Mail", "host")],
        readonly=readonly,
        records=nothing,
        talks=talks,
    )
    session = Session(1000, "lea", trusted=True)
    return Visit(tools, session, "/", part, picture=picture or Picture(), **request)


def text_of(response: Any) -> str:
    """Return the text of a page; nothing in it may be markup of a stranger."""
    text = bytes(response.body).decode()
    assert "<script>alert" not in text
    assert "<img src=x" not in text
    return text

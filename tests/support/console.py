"""A visitor of a console without a browser: logs in by a link, and requests pages."""

import http.client
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import urlencode

from tests.support.host import Host

from garrison.supervisor.cli.console import link_of

CONFIG = "[plugins.console]\n[services.console.config]\nport = 0\n"
WAIT_S = 30.0


@dataclass(frozen=True)
class Page:
    """What the console has answered."""

    status: int
    headers: Mapping[str, str]
    text: str


class Visitor:
    """Someone with a browser.

    Args:
        address: Of the console: `http://127.0.0.1:PORT`.
        cookie: The browser's; empty: it is not logged in.
    """

    def __init__(self, address: str, cookie: str = "") -> None:
        self.address, self.cookie = address, cookie
        self.place = address.removeprefix("http://")

    @classmethod
    def entering(cls, data: Mapping[str, Any]) -> Self:
        """Return a visitor who has opened a link.

        Args:
            data: The answer to the order `console`.
        """
        visitor = cls(data["address"])
        link = link_of(data["address"], data["ticket"])
        page = visitor.get(link.removeprefix(data["address"]))
        assert page.status == 303, page
        visitor.cookie = page.headers["set-cookie"].partition(";")[0]
        return visitor

    def get(self, path: str, **headers: str) -> Page:
        """Return a page."""
        return self.send("GET", path, headers=headers)

    def post(self, path: str, form: Mapping[str, str] | None = None, **headers: str) -> Page:
        """Send a form, as a page of the console would."""
        body = urlencode(form or {})
        kind = {"Content-Type": "application/x-www-form-urlencoded"}
        return self.send("POST", path, body, {"Origin": self.address, **kind, **headers})

    def send(
        self, method: str, path: str, body: str = "", headers: Mapping[str, str] | None = None
    ) -> Page:
        """Send any request. A header `Cookie` or `Host` replaces the browser's."""
        connection = http.client.HTTPConnection(self.place, timeout=WAIT_S)
        own = {"Cookie": self.cookie} if self.cookie else {}
        try:
            connection.request(method, path, body or None, {**own, **(headers or {})})
            answer = connection.getresponse()
            found = {key.lower(): value for key, value in answer.getheaders()}
            return Page(answer.status, found, answer.read().decode())
        finally:
            connection.close()

    @contextmanager
    def stream(self, path: str, last: str = "") -> Iterator[Iterator[str]]:
        """Open a stream; yield its events' data, each as one text.

        Args:
            path: Its address.
            last: The id of the last event that was received; empty: none was.
        """
        connection = http.client.HTTPConnection(self.place, timeout=WAIT_S)
        try:
            received = {"Last-Event-ID": last} if last else {}
            connection.request("GET", path, headers={"Cookie": self.cookie, **received})
            answer = connection.getresponse()
            assert answer.status == 200, answer.read()
            yield _events(answer)
        finally:
            connection.close()


def _events(answer: http.client.HTTPResponse) -> Iterator[str]:
    lines = list[str]()
    while raw := answer.readline():
        line = raw.decode().rstrip("\n")
        if line.startswith("data:"):
            lines.append(line.removeprefix("data:").removeprefix(" "))
        elif not line and lines:
            yield "\n".join(lines)
            lines = []


def address_of(host: Host) -> str:
    """Return where a host's console listens."""
    address: str = host.ask("console")["address"]
    return address


def log_in(host: Host, service: str = "console") -> Visitor:
    """Return a visitor who has opened a link that this user has got."""
    return Visitor.entering(host.ask("console", service=service))

"""An answer of X, as tweepy reads it. Pure."""

import json
from collections.abc import Mapping
from typing import Any

REFUSED_FROM = 300  # statuses


class Answer:
    """An answer of X as tweepy reads it: whole, bounded, and an error's also without JSON."""

    def __init__(self, status: int, reason: str, headers: Mapping[str, str], body: bytes) -> None:
        self.status, self.reason, self.headers = status, reason, headers
        self._body = body
        try:
            found = json.loads(body) if body.strip() else {}
        except ValueError:
            found = None
        self.is_json = isinstance(found, dict)
        self._found: dict[str, Any] = found if isinstance(found, dict) else {}

    async def read(self) -> bytes:
        """Return the body."""
        return self._body

    async def json(self) -> dict[str, Any]:
        """Return the body's object; an error's is empty where it has none.

        Raises:
            ValueError: X accepted the request, but its answer cannot be read.
        """
        if self.status < REFUSED_FROM and not self.is_json:
            raise ValueError(f"X answered {self.status} without JSON")
        problems = self._found.get("errors", [])
        return self._found | ({} if isinstance(problems, list) else {"errors": []})


def answer_of(error: BaseException) -> Answer | None:
    """Return X's answer that an exception of tweepy is about; None: there was none."""
    found = getattr(error, "response", None)
    return found if isinstance(found, Answer) else None


def status_of(error: BaseException) -> int:
    """Return the HTTP status that an exception is about; 0: there was no answer."""
    found = answer_of(error)
    return found.status if found is not None else 0

"""What an exception of a provider's library means: tables of rules, first match first. Pure.

The libraries need not be installed: a class is known by its name.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from garrison.workers import ModelError

CLIENT = frozenset({400, 404, 422})
SERVER = frozenset(range(500, 600))
TEXT_MOST = 500  # characters of a server's text


class Failure(NamedTuple):
    """An exception of a library, as far as the rules read it."""

    classes: frozenset[str]  # names of its class and of what that inherits from
    status: int | None  # of the HTTP response; 200 within a stream
    codes: frozenset[str]  # `code` and `type` of the error that the server sent
    text: str


class Rule(NamedTuple):
    """A kind, and what it is recognised by. What is empty is not looked at."""

    kind: str
    classes: frozenset[str] = frozenset()
    statuses: frozenset[int | None] = frozenset()
    codes: frozenset[str] = frozenset()
    text: str = ""  # occurs in the text, in lower case

    def matches(self, failure: Failure) -> bool:
        """Return whether all that this rule names is there."""
        return (
            (not self.classes or bool(self.classes & failure.classes))
            and (not self.statuses or failure.status in self.statuses)
            and (not self.codes or bool(self.codes & failure.codes))
            and self.text in failure.text.lower()
        )


def _set(*names: str) -> frozenset[str]:
    return frozenset(names)


def _statuses(*statuses: int | None) -> frozenset[int | None]:
    return frozenset(statuses)


CONNECTION = _set(
    *("APITimeoutError", "APIConnectionError"),
    *("TransportError", "RemoteProtocolError", "ReadTimeout"),  # of httpx, raised within a stream
)
UNREADABLE = _set("JSONDecodeError", "APIResponseValidationError")  # half of an answer
DAMAGED = _set("UnicodeDecodeError", "DecodingError")  # its bytes are not what its head says

FORMLESS_NAMES = _set("AttributeError", "TypeError", "KeyError", "IndexError") | DAMAGED
# What reading an answer raises where it has another form than its API: the libraries do not check.
FORMLESS = (Rule("invalid", classes=FORMLESS_NAMES),)

OPENAI = (
    Rule("auth", statuses=_statuses(401, 403)),
    Rule("auth", codes=_set("insufficient_quota")),
    Rule("context", codes=_set("context_length_exceeded", "exceed_context_size_error")),
    Rule("context", statuses=_statuses(413)),
    Rule("refused", codes=_set("content_policy_violation", "content_filter")),
    Rule("auth", statuses=_statuses(402)),  # compatible servers: nothing is left to spend
    Rule("busy", statuses=_statuses(408, 409, 425, 429)),
    Rule("busy", statuses=frozenset(SERVER)),
    Rule("busy", classes=CONNECTION),
    Rule("busy", classes=UNREADABLE),
    Rule("invalid", statuses=frozenset(CLIENT)),
    Rule("busy", classes=_set("APIError"), statuses=_statuses(None)),  # within a stream
    Rule("auth", classes=_set("OpenAIError"), statuses=_statuses(None)),  # no key
    Rule("invalid", classes=_set("APIError")),
    *FORMLESS,
)

ANTHROPIC = (
    Rule("auth", statuses=_statuses(401, 402, 403)),
    Rule("auth", statuses=_statuses(400), text="credit balance"),
    Rule("context", statuses=_statuses(400), text="prompt is too long"),
    Rule("context", statuses=_statuses(413)),
    Rule("busy", statuses=_statuses(408, 409, 425, 429)),
    Rule("busy", statuses=frozenset(SERVER)),  # 529 is one of them
    Rule("busy", classes=CONNECTION),
    Rule("busy", classes=UNREADABLE),
    # A stream has begun with status 200 before it fails.
    Rule("busy", codes=_set("overloaded_error", "rate_limit_error", "api_error", "timeout_error")),
    Rule("auth", codes=_set("authentication_error", "permission_error", "billing_error")),
    Rule("context", codes=_set("request_too_large")),
    Rule("context", codes=_set("invalid_request_error"), text="prompt is too long"),
    Rule("invalid", statuses=frozenset(CLIENT)),
    Rule("auth", classes=_set("TypeError"), text="authentication method"),  # no key
    Rule("invalid", classes=_set("APIError")),
    *FORMLESS,
)


def failure_of(error: BaseException) -> Failure:
    """Return what the rules read of an exception."""
    body = getattr(error, "body", None)
    inner = body.get("error", body) if isinstance(body, Mapping) else {}
    inner = inner if isinstance(inner, Mapping) else {}
    codes = (getattr(error, "code", None), getattr(error, "type", None))
    named = (*codes, inner.get("code"), inner.get("type"))
    status = getattr(error, "status_code", None)
    return Failure(
        frozenset(cls.__name__ for cls in type(error).__mro__),
        status if isinstance(status, int) else None,
        frozenset(code for code in named if isinstance(code, str)),
        _text(error, inner),
    )


def model_error(error: BaseException, rules: tuple[Rule, ...]) -> ModelError | None:
    """Return the `ModelError` that an exception means; None: it is not the provider's."""
    failure = failure_of(error)
    kind = kind_of(failure, rules)
    if kind is None:
        return None
    headers = getattr(getattr(error, "response", None), "headers", None)
    stated = ModelError.from_http(failure.status or 0, headers)  # reads how long to wait
    wait = stated.retry_after if kind in {"busy", "auth"} else None
    return ModelError(kind, wait, failure.text)


def kind_of(failure: Failure, rules: tuple[Rule, ...]) -> str | None:
    """Return the kind by the first rule that matches; None where none does."""
    return next((rule.kind for rule in rules if rule.matches(failure)), None)


def _of_connection(error: BaseException) -> str:
    """Return which server a connection was to, and why it failed."""
    url = getattr(getattr(error, "request", None), "url", None)  # not all of it: it may have a key
    host, port = getattr(url, "host", ""), getattr(url, "port", None)
    cause = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    reason = "" if cause is error else str(cause) or type(cause).__name__
    server = f"{host}:{port}" if port else host
    return f"Its server is {server or 'unknown'}{reason and f': {reason}'}"


def _text(error: BaseException, body: Mapping[str, Any]) -> str:
    """Return what happened, on one line."""
    message = body.get("message")
    text = message if isinstance(message, str) and message else str(error)
    names = {cls.__name__ for cls in type(error).__mro__}
    if "APIConnectionError" in names:
        text = f"{text} {_of_connection(error)}"
    elif FORMLESS_NAMES & names:
        text = f"its answer has another form than its API: {type(error).__name__}: {text}"
    status = getattr(error, "status_code", None)
    head = f"HTTP {status}: " if isinstance(status, int) and str(status) not in text else ""
    line = " ".join(f"{head}{text or type(error).__name__}".split())
    return line if len(line) <= TEXT_MOST else f"{line[:TEXT_MOST]}…"

"""What exceptions of the providers' libraries mean: every row of the tables."""

from typing import Any

import pytest

from garrison.workers.services.model_support.failures import ANTHROPIC, OPENAI, Rule, model_error


class APIError(Exception):
    """Stands in for the class of both libraries, which has a body."""

    body: Any = None


class APIStatusError(APIError):
    """Likewise, with a status."""

    def __init__(self, status: int, text: str = "no", code: str = "", **headers: str) -> None:
        super().__init__(text)
        self.status_code = status
        self.body = {"message": text, "code": code, "type": code}
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.response = type("Response", (), {"headers": named})()


class OpenAIError(Exception):
    """The root of OpenAI's."""


def named(name: str, text: str = "no", base: type[Exception] = Exception) -> Exception:
    """Return an exception of a class with this name."""
    made: Exception = type(name, (base,), {})(text)
    return made


SAME = [
    (APIStatusError(401), "auth"),
    (APIStatusError(402), "auth"),
    (APIStatusError(403), "auth"),
    (APIStatusError(408), "busy"),
    (APIStatusError(409), "busy"),
    (APIStatusError(429), "busy"),
    (APIStatusError(500), "busy"),
    (APIStatusError(503), "busy"),
    (APIStatusError(529), "busy"),
    (APIStatusError(413), "context"),
    (APIStatusError(400), "invalid"),
    (APIStatusError(404), "invalid"),
    (APIStatusError(418), "invalid"),
    (APIStatusError(422), "invalid"),
    (named("APITimeoutError", base=APIError), "busy"),
    (named("APIConnectionError", base=APIError), "busy"),
    (named("RemoteProtocolError"), "busy"),
    (named("ReadTimeout"), "busy"),
    (named("JSONDecodeError", base=ValueError), "busy"),
    (named("APIResponseValidationError", base=APIError), "busy"),
    (ZeroDivisionError("of the service"), None),
]
OF_OPENAI = [
    (APIStatusError(429, code="insufficient_quota"), "auth"),
    (OpenAIError("The api_key client option must be set"), "auth"),
    (APIError("Overloaded, in a stream"), "busy"),
    (AttributeError("'str' object has no attribute"), "invalid"),
    (APIStatusError(400, code="context_length_exceeded"), "context"),
    (APIStatusError(400, code="exceed_context_size_error"), "context"),
    (APIStatusError(400, code="content_policy_violation"), "refused"),
    (APIStatusError(400, code="content_filter"), "refused"),
]
OF_ANTHROPIC = [
    (APIStatusError(400, "Your credit balance is too low"), "auth"),
    (APIStatusError(400, "Prompt is too long: 9 > 8"), "context"),
    (APIStatusError(200, code="overloaded_error"), "busy"),
    (APIStatusError(200, code="rate_limit_error"), "busy"),
    (APIStatusError(200, code="api_error"), "busy"),
    (APIStatusError(200, code="authentication_error"), "auth"),
    (APIStatusError(200, code="request_too_large"), "context"),
    (APIStatusError(200, "prompt is too long", "invalid_request_error"), "context"),
    (APIStatusError(200, "odd", "invalid_request_error"), "invalid"),
    (TypeError("Could not resolve authentication method"), "auth"),
    (TypeError("sequence item 0: expected str"), "invalid"),
]
TABLE = [
    *((OPENAI, *row) for row in [*SAME, *OF_OPENAI]),
    *((ANTHROPIC, *row) for row in [*SAME, *OF_ANTHROPIC]),
]


@pytest.mark.parametrize(("rules", "error", "kind"), TABLE)
def test_each_exception_has_its_kind(
    rules: tuple[Rule, ...], error: Exception, kind: str | None
) -> None:
    """None: it is a mistake of the service, and stays what it is.

    What reading an answer may raise could be one, too; it is logged with its traceback.
    """
    meant = model_error(error, rules)

    assert (meant.kind if meant else None) == kind


@pytest.mark.parametrize("rules", [OPENAI, ANTHROPIC])
def test_every_rule_is_reached(rules: tuple[Rule, ...]) -> None:
    """No row stands behind one that takes all it would."""
    errors = [error for table, error, _ in TABLE if table is rules]
    seen = set()
    for error in errors:
        for number in range(len(rules)):
            if model_error(error, rules[: number + 1]) is not None:
                seen.add(number)
                break

    assert seen == set(range(len(rules)))


@pytest.mark.parametrize(
    ("headers", "wait"),
    [
        ({"retry_after": "7"}, 7.0),
        ({"retry_after_ms": "1500", "retry_after": "9"}, 1.5),
        ({}, None),
    ],
)
def test_what_the_server_says_of_waiting_is_kept(
    headers: dict[str, str], wait: float | None
) -> None:
    """Of what may be tried again."""
    meant = model_error(APIStatusError(429, **headers), OPENAI)
    refused = model_error(APIStatusError(400, **headers), OPENAI)

    assert meant is not None
    assert meant.retry_after == wait
    assert refused is not None
    assert refused.retry_after is None


def test_the_text_is_one_short_line() -> None:
    """It has the status, and what the server says."""
    meant = model_error(APIStatusError(500, "much\n " * 1000), OPENAI)

    assert meant is not None
    assert meant.reason.startswith("HTTP 500: much much")
    assert len(meant.reason) < 600

"""Shortens the parameters of a model for which they were too long. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

SHORTEST = 64  # characters of a text that is cut; a shorter one cannot be why it is too long
CUT = "\n[…]\n"  # in place of the middle of a text


def shortened(params: Any) -> Any | None:
    """Return params of about half the length; None if nothing in them can be left out.

    The oldest half of the messages is left out. System messages stay, and so does what is to be
    answered: the prompt, or else the last message. Where there is nothing but that, or a text to
    embed, its middle is left out.

    Args:
        params: A Struct of parameters, or a mapping of the same fields.
    """
    is_struct = isinstance(params, msgspec.Struct)
    if not is_struct and not isinstance(params, Mapping):
        return None
    fields = msgspec.structs.asdict(params) if is_struct else dict(params)
    changes = _changes(fields)
    if not changes:
        return None
    return msgspec.structs.replace(params, **changes) if is_struct else fields | changes


def cut_middle(text: str) -> str | None:
    """Return the first and the last quarter of a text; None if it is too short for that."""
    quarter = len(text) // 4
    return f"{text[:quarter]}{CUT}{text[-quarter:]}" if len(text) >= SHORTEST else None


def _changes(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields that change, with their new values."""
    prompt, messages, text = (fields.get(name) for name in ("prompt", "messages", "text"))
    if isinstance(messages, Sequence) and not isinstance(messages, str) and messages:
        fewer = _fewer(messages, kept=0 if prompt else _to_answer(messages))
        if len(fewer) < len(messages):
            return {"messages": fewer}
        if not prompt:
            return _last_cut(messages)
    for name, value in (("prompt", prompt), ("text", text)):
        if isinstance(value, str) and value:
            cut = cut_middle(value)
            return {} if cut is None else {name: cut}
    return {}


def _to_answer(messages: Sequence[Any]) -> int:
    """Return how many of the last messages stay: the last one; where that is the result of a tool,
    all from the user's message on, because a result stands behind its call."""
    if _role(messages[-1]) != "tool":
        return 1
    last = max((at for at, one in enumerate(messages) if _role(one) == "user"), default=0)
    return sum(_role(message) != "system" for message in messages[last:])


def _fewer(messages: Sequence[Any], kept: int) -> list[Any]:
    """Return the messages without the oldest half of those that may go; the last `kept` stay."""
    turns = [at for at, message in enumerate(messages) if _role(message) != "system"]
    may_go = turns[: len(turns) - kept]
    count = (len(may_go) + 1) // 2
    gone = may_go[:count]
    for at in may_go[count:]:  # providers want a conversation to begin with the user
        if not gone or _role(messages[at]) not in {"assistant", "tool"}:
            break
        gone.append(at)
    left_out = set(gone)
    return [message for at, message in enumerate(messages) if at not in left_out]


def _last_cut(messages: Sequence[Any]) -> dict[str, Any]:
    last = messages[-1]
    content = last.get("content") if isinstance(last, Mapping) else None
    cut = cut_middle(content) if isinstance(content, str) else None
    return {} if cut is None else {"messages": [*messages[:-1], {**last, "content": cut}]}


def _role(message: Any) -> Any:
    return message.get("role") if isinstance(message, Mapping) else None

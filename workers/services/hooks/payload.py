"""What a hook delivers: the JSON, its line of text, and a webhook's headers. Pure."""

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Mapping
from typing import Any

from .throttle import Notice

VERSION = 1
LOG_LINES = 10  # of a crash report
LINE_MOST = 300  # characters of each
PREFIX = "whsec_"  # of a secret that is base64, as Standard Webhooks has them

SENTENCES = {
    "failed": "{name} has failed",
    "death": "{name} has died",
    "unwell": "{name} is not well",
    "recovered": "{name} is back",
    "dead_letter": "a message to {name} was given up",
    "limit": "{name} is over a limit",
    "config_rejected": "the config does not fit",
    "budget": "{name}: a budget is used up",
    "disk": "the disk",
    "deaf": "{name} receives nothing",
    "answer_failed": "{name}: an answer failed",
    "task_paused": "{name}: a task was paused",
}


def notice_id(hook: str, on: str, time: str, n: int) -> str:
    """Return a notice's id: the same if it is made again of the same event."""
    made = f"{hook}\0{on}\0{time}\0{n}".encode()
    return f"hook_{hashlib.sha256(made).hexdigest()[:32]}"


def text_of(notice: Notice) -> str:
    """Return a notice as one line."""
    name = notice.service or "the host"
    sentence = SENTENCES.get(notice.on, "{name}").format(name=name)
    line = f"{sentence}: {notice.reason}" if notice.reason else sentence
    more = [
        *([f"{notice.held} more before this"] if notice.held else []),
        *([f"{notice.others} others"] if notice.others else []),
    ]
    line += f" ({', '.join(more)})" if more else ""
    return f"[test] {line}" if notice.test else line


def payload_of(
    notice: Notice, hook: str, host: str, home: str, death: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Return the JSON of a notice.

    Args:
        notice: The notice.
        hook: NAME of the hook.
        host: Name of the machine.
        home: The host's home.
        death: The crash report as it is on disk; None: there is none.
    """
    about = f" {notice.service}" if notice.service else ""
    return {
        "version": VERSION,
        "id": notice.id,
        "hook": hook,
        "on": notice.on,
        "service": notice.service,
        "at": notice.at,
        "reason": notice.reason,
        "text": text_of(notice),
        "held": notice.held,
        "others": notice.others,
        "test": notice.test,
        "late": False,
        "host": host,
        "home": home,
        "event": {"name": notice.event, "data": notice.data},
        "death": _death(notice.death, death),
        "look": f"garrison --home {home} {'why' if about else 'status'}{about}",
    }


def late(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the JSON of a notice that others may have overtaken; its text has its time."""
    text = f"{body.get('text')} (at {body.get('at')}, delivered late)"
    return {**body, "text": text, "late": True}


def _death(id: str, report: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if not id:
        return None
    if report is None:
        return {"id": id}
    log = report.get("log")
    lines = [str(line)[:LINE_MOST] for line in log[-LOG_LINES:]] if isinstance(log, list) else []
    return {
        "id": id,
        "kind": report.get("kind"),
        "cause": report.get("cause"),
        "exit": report.get("exit"),
        "log": lines,
    }


def signature(secret: str, id: str, timestamp: int, body: bytes) -> str:
    """Return the signature of a webhook, as Standard Webhooks specify it.

    Args:
        secret: `whsec_` and base64; another text is the key itself.
        id: The message's id.
        timestamp: Unix seconds of this attempt.
        body: What is posted.
    """
    signed = f"{id}.{timestamp}.".encode() + body
    digest = hmac.new(_key(secret), signed, hashlib.sha256).digest()
    return f"v1,{base64.b64encode(digest).decode()}"


def _key(secret: str) -> bytes:
    if secret.startswith(PREFIX):
        try:
            return base64.b64decode(secret.removeprefix(PREFIX), validate=True)
        except (binascii.Error, ValueError):
            pass
    return secret.encode("utf-8", "surrogateescape")


def headers(id: str, timestamp: int, body: bytes, secret: str) -> dict[str, str]:
    """Return the headers of a webhook; without a secret it is not signed."""
    signed = {"webhook-signature": signature(secret, id, timestamp, body)} if secret else {}
    return {
        "content-type": "application/json",
        "user-agent": "garrison",
        "webhook-id": id,
        "webhook-timestamp": str(timestamp),
        **signed,
    }


# --- arguments of a call ------------------------------------------------------------------


def call_arguments(signature: str, given: Mapping[str, Any], body: Mapping[str, Any]) -> Any:
    """Return the keyword arguments of the method of `call`.

    The first parameter that the config does not set gets the text, or all of the JSON where it is
    annotated as a dict. A parameter `id` gets the notice's, so that a repeated call does nothing.

    Args:
        signature: As a manifest has it: "(person: str, content: str, id: str = '') -> Sent".
        given: The arguments of the config.
        body: The JSON.

    Raises:
        ValueError: No parameter is left for the text, or the config sets one that there is not.
    """
    known = parameters(signature)
    if unknown := [name for name in given if name not in known]:
        raise ValueError(f"`with` has {', '.join(unknown)}, and the method takes {signature}")
    free = [name for name in known if name not in given and not name.startswith("*")]
    if not free:
        raise ValueError(f"no parameter is left for the text: the method takes {signature}")
    first, rest = free[0], free[1:]
    value = dict(body) if known[first].startswith(("dict", "Mapping")) else body["text"]
    found = {**given, first: value}
    if "id" in rest and known["id"].startswith("str"):
        found["id"] = body["id"]
    return found


def parameters(signature: str) -> dict[str, str]:
    """Return the parameters of a signature: name to annotation, without the default."""
    inner = signature.removeprefix("(").rpartition(")")[0] or signature.removeprefix("(")
    found: dict[str, str] = {}
    for part in _split(inner):
        name, _, annotation = part.partition(":")
        if re.fullmatch(r"\*{0,2}\w+", name := name.partition("=")[0].strip()):
            found[name] = annotation.partition("=")[0].strip()
    return found


def _split(text: str) -> list[str]:
    """Split at the commas that are in no bracket."""
    parts, depth = [""], 0
    for letter in text:
        depth += (letter in "([{") - (letter in ")]}")
        if depth < 0:
            break
        if letter == "," and not depth:
            parts.append("")
        else:
            parts[-1] += letter
    return parts


def sample(on: str, id: str, at: str) -> Notice:
    """Return a notice for a test."""
    return Notice(
        id=f"hook_test_{id}",
        on=on,
        service="" if on in {"disk", "config_rejected"} else "example",
        reason="this is a test; nothing has happened",
        at=at,
        event="test",
        test=True,
    )

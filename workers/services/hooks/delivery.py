"""Delivers one notice: by a command, a webhook, or a service's method. Durations are seconds."""

import asyncio
import contextlib
import http.client
import json
import os
import signal
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from garrison.ipc import GarrisonError
from garrison.workers import Runtime

from .config import Hook
from .payload import call_arguments, headers

OUTPUT_MOST = 2000  # bytes of a command's output, and of a server's answer, that are kept
READ_BYTES = 64 * 1024
ACCEPTED = range(200, 300)
NO_SECRET = "without its secret"  # begins the text about one that is missing


class DeliveryFailed(Exception):
    """A notice was not delivered; the text is the reason. It is tried again."""


def missing_secret(hook: Hook) -> str:
    """Return what a hook cannot deliver without, in words; empty: it has all."""
    for name in hook.all_secrets:
        if not os.environ.get(name, "").strip():
            return (
                f"{NO_SECRET} {name} it delivers nothing: export it where the supervisor starts, "
                "or put it into an env_file of [services.hooks], then garrison restart hooks"
            )
    return ""


async def deliver(
    hook: Hook, body: Mapping[str, Any], runtime: Runtime, withheld: frozenset[str]
) -> str:
    """Deliver a notice; return what came back, as a short text.

    Args:
        hook: How.
        body: The JSON.
        runtime: The service's.
        withheld: Names of variables that are secrets of some hook: a command gets its own alone.

    Raises:
        DeliveryFailed: It was not delivered.
    """
    if missing := missing_secret(hook):
        raise DeliveryFailed(missing)
    try:
        async with asyncio.timeout(hook.timeout):
            if hook.command:
                return await _run(hook, body, withheld)
            if hook.webhook:
                return await _post(hook, body)
            return await _call(hook, body, runtime)
    except TimeoutError:
        raise DeliveryFailed(f"it took longer than {hook.timeout:g} s") from None


# --- a command ----------------------------------------------------------------------------


async def _run(hook: Hook, body: Mapping[str, Any], withheld: frozenset[str]) -> str:
    data = json.dumps(body).encode() + b"\n"
    try:
        process = await asyncio.create_subprocess_exec(
            *hook.command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=_environment(hook, body, withheld),
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DeliveryFailed(f"{hook.command[0]} cannot be started: {reason}") from None
    try:
        output, _ = await asyncio.gather(_output(process), _feed(process, data))
        code = await process.wait()
    finally:
        with contextlib.suppress(ProcessLookupError):  # with all that it started
            os.killpg(process.pid, signal.SIGKILL)
    words = _short(output)
    if code:
        ended = f"exited with {code}" if code > 0 else f"was ended by signal {-code}"
        raise DeliveryFailed(f"{hook.command[0]} {ended}{f': {words}' if words else ''}")
    return words


async def _feed(process: asyncio.subprocess.Process, data: bytes) -> None:
    assert process.stdin is not None
    # It does not read, or has ended: its exit status decides. uvloop raises the second.
    with contextlib.suppress(OSError, RuntimeError):
        process.stdin.write(data)
        await process.stdin.drain()
    process.stdin.close()


async def _output(process: asyncio.subprocess.Process) -> bytes:
    """Return the end of what a command writes; the rest is read and dropped."""
    assert process.stdout is not None
    kept = b""
    while data := await process.stdout.read(READ_BYTES):
        kept = (kept + data)[-OUTPUT_MOST:]
    return kept


def _environment(hook: Hook, body: Mapping[str, Any], withheld: frozenset[str]) -> dict[str, str]:
    allowed = {key: value for key, value in os.environ.items() if key not in withheld}
    own = {key: os.environ[key] for key in hook.secrets if key in os.environ}
    about = {
        "GARRISON_ON": body["on"],
        "GARRISON_SERVICE": body["service"],
        "GARRISON_TEXT": body["text"],
    }
    return {**allowed, **own, **{key: str(value) for key, value in about.items()}}


# --- a webhook ----------------------------------------------------------------------------


async def _post(hook: Hook, body: Mapping[str, Any]) -> str:
    data = json.dumps(body).encode()
    secret = os.environ.get(hook.secret, "") if hook.secret else ""
    sent = headers(str(body["id"]), int(time.time()), data, secret)
    url = _address(hook)
    connection = _connection(url, hook.timeout)
    try:
        status, output = await asyncio.to_thread(_exchange, connection, url, data, sent)
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise DeliveryFailed(f"{_named(url)} cannot be reached: {reason}") from None
    finally:
        connection.close()  # also ends what the thread waits for
    if status not in ACCEPTED:
        words = _short(output)
        answer = f"{_named(url)} answered HTTP {status}"
        raise DeliveryFailed(f"{answer}: {words}" if words else answer)
    return f"HTTP {status}"


def _address(hook: Hook) -> str:
    """Return the address, which a secret may have."""
    if not hook.webhook.startswith("$"):
        return hook.webhook
    url = os.environ.get(hook.webhook[1:], "").strip()
    if not url.lower().startswith(("http://", "https://")):
        raise DeliveryFailed(f"the secret {hook.webhook[1:]} is no address of http or https")
    return url


def _connection(url: str, timeout: float) -> http.client.HTTPConnection:
    parts = urlsplit(url)
    host = parts.hostname or ""
    if parts.scheme.lower() == "http":
        return http.client.HTTPConnection(host, parts.port, timeout=timeout)
    return http.client.HTTPSConnection(host, parts.port, timeout=timeout)


def _exchange(
    connection: http.client.HTTPConnection, url: str, data: bytes, sent: dict[str, str]
) -> tuple[int, bytes]:
    """Post the JSON; return the status and the beginning of the answer. Redirects are not
    followed: the signature is for this address."""
    parts = urlsplit(url)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    connection.request("POST", target, data, sent)
    response = connection.getresponse()
    return response.status, response.read(OUTPUT_MOST)


def _named(url: str) -> str:
    """Return an address for texts: its path often has a token, and its user a password."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


# --- a call -------------------------------------------------------------------------------


async def _call(hook: Hook, body: Mapping[str, Any], runtime: Runtime) -> str:
    name, _, method = hook.call.rpartition(".")
    entry = runtime.client.entry_of(name)
    if entry is None:
        raise DeliveryFailed(f"there is no service {name}")
    known = {one.name: one for one in entry.manifest.methods}
    if method not in known:
        raise DeliveryFailed(f"{name}.{method}: {entry.manifest.why_not(method)}")
    if not entry.token:
        reason = f": {entry.reason}" if entry.reason else ""
        raise DeliveryFailed(f"{entry.name} is {entry.state.value}{reason}")
    try:
        arguments = call_arguments(known[method].signature, hook.arguments, body)
        proxy = runtime.get_service(entry.name)
        result = await getattr(proxy, method)(**arguments)
    except (GarrisonError, ValueError) as error:
        raise DeliveryFailed(f"{hook.call}: {error}") from None
    return _short(repr(result).encode()) if result is not None else ""


def _short(output: bytes) -> str:
    """Return the last line of a text that has one, bounded."""
    lines = [line for line in output.decode("utf-8", "replace").splitlines() if line.strip()]
    return " ".join(lines[-1].split())[:200] if lines else ""

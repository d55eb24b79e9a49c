"""The texts about a command's end: what it died of, its last words, what to do now. Pure."""

import re
import signal
from pathlib import PurePath

LINE_MOST = 300  # characters of a line that is quoted
KEPT_BYTES = 4096  # of the output, of which a line is quoted
ESCAPE = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b[@-_]")  # colours and the like of terminals
# Lines after an error that say nothing about it
TRAILER = re.compile(r"\s|Node\.js v|npm (error|ERR!) A complete log|\}|\^|note: run with")

FOREGROUND = {  # program → what keeps it in the foreground
    "nginx": "nginx -g 'daemon off;'",
    "redis-server": "redis-server --daemonize no",
    "apache2": "apache2 -D FOREGROUND",
    "httpd": "httpd -D FOREGROUND",
    "apachectl": "apachectl -D FOREGROUND",
    "sshd": "sshd -D",
    "php-fpm": "php-fpm -F",
    "mosquitto": "mosquitto without -d",
    "supervisord": "supervisord -n",
    "gunicorn": "gunicorn without --daemon",
    "uwsgi": "uwsgi without --daemonize",
    "celery": "celery without multi or --detach",
    "memcached": "memcached without -d",
    "haproxy": "haproxy -db",
    "pg_ctl": "postgres -D DIRECTORY in place of pg_ctl",
    "pm2": "pm2-runtime, or its programs themselves: garrison import ecosystem.config.js",
}


# What shells mean by them
SHELLS = {126: " (a program in it cannot be executed)", 127: " (a program in it was not found)"}


def signal_name(number: int) -> str:
    """Return a signal's name, such as "SIGKILL"."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def ended(status: int) -> str:
    """Return how a command ended.

    Args:
        status: Its exit code; a negative one is a signal.
    """
    if status < 0:
        return f"its command was killed by {signal_name(-status)}"
    return f"its command exited with code {status}{SHELLS.get(status, '')}"


def with_last_line(text: str, output: bytes) -> str:
    """Return a text with the line of the output's end that says most about it."""
    line = last_line(output)
    return f"{text}: {line}" if line else text


def last_line(output: bytes) -> str:
    """Return the last line that is not the tail of a stack; empty if there is none."""
    text = ESCAPE.sub("", output[-KEPT_BYTES:].decode("utf-8", "replace"))
    lines = [line.rstrip() for line in text.splitlines() if line.strip()]
    if len(output) >= KEPT_BYTES and len(lines) > 1:
        del lines[0]  # its beginning is missing
    chosen = next((line for line in reversed(lines) if not TRAILER.match(line)), "")
    chosen = (chosen or (lines[-1] if lines else "")).strip()
    shown = "".join(one for one in chosen if one.isprintable())
    return shown if len(shown) <= LINE_MOST else f"{shown[: LINE_MOST - 1]}…"


def daemonized(command: list[str]) -> str:
    """Return why a command that went into the background is refused."""
    program = PurePath(command[0]).name if command else ""
    example = FOREGROUND.get(program, FOREGROUND["nginx"])
    return (
        "the command went into the background, where it cannot be supervised; run it in "
        f"the foreground (e.g. {example})"
    )

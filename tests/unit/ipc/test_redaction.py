"""A secret is found in every form that a program is likely to write it in, however it is cut."""

import base64
import json
import logging
import os
import subprocess
import sys
import urllib.parse
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from garrison.ipc.errors import Fault
from garrison.ipc.messages import (
    Failed,
    Failing,
    Manifest,
    MethodInfo,
    Ready,
    Reply,
    Stopped,
)
from garrison.ipc.redaction import Redactor
from garrison.workers.process import redaction

ROOT = Path(__file__).parents[3]
PLAIN = "cAnary-7f3a9"
ODD = "k\"ey\\with/slash+é'&=%\ttab"
PEM = "-----BEGIN KEY-----\nMIIEvQIBADANBgkq\nhkiG9w0BAQEFAASC\nab\n-----END KEY-----\n"
SECRETS = {"PLAIN": PLAIN, "ODD": ODD, "PEM": PEM, "SHORT": "abc", "ON": "1", "EMPTY": ""}
REDACT = Redactor(SECRETS)


@pytest.mark.parametrize("value", [PLAIN, ODD])
@pytest.mark.parametrize(
    "shown",
    [
        str,
        repr,
        ascii,
        lambda value: repr({"a": [value]}),
        lambda value: repr(value.encode()),
        json.dumps,
        lambda value: json.dumps(value, ensure_ascii=False),
        urllib.parse.quote,
        lambda value: urllib.parse.quote(value, safe=""),
        lambda value: urllib.parse.urlencode({"key": value}),
        lambda value: base64.b64encode(value.encode()).decode().rstrip("="),
        lambda value: base64.urlsafe_b64encode(f"bot:{value}".encode()).decode(),
        lambda value: base64.b64encode(f"u1:{value}!".encode()).decode(),
    ],
)  # fmt: skip
def test_a_secret_is_found_in_each_form(value: str, shown: object) -> None:
    """As it is, quoted, escaped, and as basic authentication has it."""
    assert callable(shown)
    form = str(shown(value))
    text = REDACT.text(f"before {form} after")
    mark = "[PLAIN]" if value == PLAIN else "[ODD]"
    assert text.startswith("before ")
    assert text.endswith(" after")
    assert mark in text
    inner = [form[at : at + 6] for at in range(3, len(form) - 9)]
    if form != repr({"a": [value]}):
        assert not [part for part in inner if part in text and part not in f"key={mark}"]


def test_each_line_of_a_long_secret_is_found() -> None:
    """A key is often shown by line, indented or in a list; a short line stays."""
    assert REDACT.text(PEM) == "[PEM]"
    shown = "\n".join(f"  | {line}" for line in PEM.splitlines())
    assert REDACT.text(shown) == "  | [PEM]\n  | [PEM]\n  | [PEM]\n  | ab\n  | [PEM]"
    assert "MIIE" not in REDACT.text(repr(PEM))


def test_short_values_are_ignored() -> None:
    """A mark in place of every `1` would reveal it."""
    assert REDACT.text("abc 1 cAnary") == "abc 1 cAnary"
    assert not Redactor({"A": "abc", "B": ""})
    assert Redactor({"A": "abcd"}).text("xabcdx") == "x[A]x"


def test_a_mark_is_not_searched_again() -> None:
    """A value that stands in another's name or value does no harm."""
    redact = Redactor({"TOKEN": "abcdef", "OTHER": "TOKEN", "LONG": "abcdefgh"})
    assert redact.text("abcdef TOKEN abcdefgh") == "[TOKEN] [OTHER] [LONG]"


def test_bytes_that_are_no_text_are_found() -> None:
    """A value of the environment need not be UTF-8; streams and logs spell it in their ways."""
    value = os.fsdecode(b"key-\xff\xfe-end")
    redact = Redactor({"RAW": value})
    assert redact.data(b"<key-\xff\xfe-end>") == b"<[RAW]>"
    assert redact.text(f"<{value}>") == "<[RAW]>"
    assert redact.data(f"<{value}>".encode("utf-8", "backslashreplace")) == b"<[RAW]>"
    assert redact.text(ascii(value)) == "'[RAW]'"


pieces = st.sampled_from([PLAIN, PLAIN[:5], PLAIN[3:], ODD, ODD[:2], "c", "\n", "line\n", PEM, "é"])


@given(st.lists(pieces, max_size=12), st.lists(st.integers(0, 400), max_size=12))
def test_a_stream_is_redacted_however_it_is_cut(parts: list[str], cuts: list[int]) -> None:
    """Its pieces together are what all of it at once would be, and lines that end are all there."""
    data = "".join(part for part in parts if part != PEM).encode()
    places = sorted({min(cut, len(data)) for cut in cuts})
    written, held = b"", b""
    for begin, end in zip([0, *places], [*places, len(data)], strict=True):
        done, held = REDACT.split(held + data[begin:end])
        written += done
        assert b"\n" not in held
        assert len(held) < 200
        assert PLAIN.encode() not in written
        assert ODD.encode() not in written
    assert written + held == REDACT.data(data)


def test_nothing_but_a_beginning_is_held_back() -> None:
    """What is written is there when the process dies, but for what may become a secret."""
    assert REDACT.split(b"last line\n") == (b"last line\n", b"")
    assert REDACT.split(b"no newline") == (b"no newline", b"")
    assert REDACT.split(b"token cAnary-7") == (b"token ", b"cAnary-7")
    assert REDACT.split(b"token cAnary-7\n") == (b"token cAnary-7\n", b"")
    assert REDACT.split(b"-----BEGIN KEY-----\n") == (b"[PEM]\n", b"")


def test_messages_of_a_worker_have_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    """Errors, reasons and defaults in signatures are redacted; results and names are not."""
    monkeypatch.setattr(redaction, "_redactor", REDACT)
    assert redaction.redact_control(Failing("run", f"no {PLAIN}", f"trace {PLAIN}")) == Failing(
        "run", "no [PLAIN]", "trace [PLAIN]"
    )
    assert redaction.redact_control(Stopped(f"it had {PLAIN}")) == Stopped("it had [PLAIN]")
    method = MethodInfo("say", False, f"(key: str = '{PLAIN}')", f"Use {PLAIN}.")
    sent = redaction.redact_control(
        Ready(Manifest(PLAIN, PLAIN, (method,), {PLAIN: f"no {PLAIN}"}))
    )
    shown = MethodInfo("say", False, "(key: str = '[PLAIN]')", "Use [PLAIN].")
    assert sent == Ready(Manifest(PLAIN, "[PLAIN]", (shown,), {PLAIN: "no [PLAIN]"}))
    failed = Failed(1, Fault("RemoteError", "bot", PLAIN, f"no {PLAIN}", PLAIN, {"x": [PLAIN]}))
    assert redaction.redact_reply(failed) == Failed(
        1, Fault("RemoteError", "bot", PLAIN, "no [PLAIN]", "[PLAIN]", {"x": ["[PLAIN]"]})
    )
    reply = Reply(1, Raw(PLAIN.encode()))
    assert redaction.redact_reply(reply) is reply


def test_nothing_is_changed_where_there_is_no_secret() -> None:
    """The streams and logging of this process, which has none, are as they were."""
    before = (sys.stdout, sys.stderr, logging.Handler.format)
    redaction.install({"A": "abc"})
    assert (sys.stdout, sys.stderr, logging.Handler.format) == before
    assert redaction.redacted("abc") == "abc"


PROGRAM = """
import io, logging, os, sys, threading, traceback, warnings
early = sys.stdout
for stream in (sys.stdout, sys.stderr):  # as a worker begins
    stream.reconfigure(line_buffering=True, errors="backslashreplace")
handler = logging.StreamHandler(sys.stderr)  # as a library may that was preloaded
from garrison.workers.process import redaction
secret = os.environ.pop("SECRET")
redaction.install({"KEY": secret})
sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace")  # as a service may
print("printed", secret)
print("early", secret, file=early)
print(secret[:5], end="")
print(secret[5:], flush=True)
for one in secret: print(one, end="", flush=True)
print()
sys.stdout.buffer.write(b"bytes " + secret.encode() + b"\\n")
early.flush()
sys.__stderr__.write("dunder " + secret + "\\n")
warnings.warn(secret)
logging.getLogger("x").addHandler(handler)
logging.getLogger("x").error("logged %s", secret)
logging.getLogger("y").error("last resort %s", secret)
log = logging.FileHandler(sys.argv[1])
logging.getLogger("z").addHandler(log)
logging.getLogger("z").error("to a file %s", secret)
class Bad:
    def __del__(self): raise ValueError(secret)
Bad()
def fail(): raise RuntimeError("thread " + secret)
thread = threading.Thread(target=fail); thread.start(); thread.join()
def often():
    for _ in range(200): sys.stdout.write(secret * 3 + "\\n")
many = [threading.Thread(target=often) for _ in range(4)]
for one in many: one.start()
for one in many: one.join()
assert sys.stdout.name == "<stdout>" and sys.stdout.fileno() == 1 and not sys.stdout.isatty()
print("é \\udc80")
print("held " + secret[:4], end="", flush=True)
sys.stdout.flush(); redaction.release()
sys.excepthook(*(lambda e: (type(e), e, e.__traceback__))(ValueError(secret)))
"""


@pytest.mark.parametrize("env", [{}, {"PYTHONUNBUFFERED": "1"}, {"LC_ALL": "C"}])
def test_output_of_python_has_no_secret(tmp_path: Path, env: dict[str, str]) -> None:
    """Print, bytes, logging, warnings and every hook, also through a stream that code kept from
    before; also in parts, and from several threads."""
    clean = {k: v for k, v in os.environ.items() if k not in {"PYTHONUNBUFFERED", "LC_ALL"}}
    path = os.pathsep.join([str(ROOT / ".src"), os.environ.get("PYTHONPATH", "")])
    environ = clean | {"PYTHONPATH": path, "SECRET": PLAIN} | env
    command = [sys.executable, "-W", "always", "-c", PROGRAM, str(tmp_path / "own.log")]
    with (tmp_path / "out").open("wb") as to_out, (tmp_path / "err").open("wb") as to_err:
        done = subprocess.run(
            command, env=environ, stdout=to_out, stderr=to_err, timeout=30, check=False
        )
    out, err = ((tmp_path / name).read_text("utf-8") for name in ("out", "err"))
    assert done.returncode == 0, err
    own = (tmp_path / "own.log").read_text()
    assert PLAIN not in out + err + own
    assert own == "to a file [KEY]\n"
    begun = "printed [KEY]\nearly [KEY]\n[KEY]\n[KEY]\nbytes [KEY]\n" + "[KEY][KEY][KEY]\n" * 800
    assert out == f"{begun}é \\udc80\nheld cAna"
    for line in ("dunder [KEY]", "UserWarning: [KEY]", "logged [KEY]", "last resort [KEY]",
                 "ValueError: [KEY]", "RuntimeError: thread [KEY]"):  # fmt: skip
        assert line in err, err

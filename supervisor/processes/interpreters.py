"""What another Python is queried for before it runs workers, and what its answer means. Pure.

An interpreter is known by its path: a venv's Python is a link, and only by that path it is the
venv's. The path is not its identity, since a venv may be made anew at it: `inquiry.stamp_of` is.
"""

import re
import shlex
from collections.abc import Iterable

import msgspec

from garrison.ipc.messages import WIRES

from . import protocol

MOST = 8  # interpreters beside the host's own, at one time
ASK_S = 10.0  # for the answer
ANSWER_BYTES = 64 * 1024
OLDEST = (3, 11)
LIBRARIES = ("msgspec", "multiprocess", "psutil", "uvloop", "zmq")  # that launchers import
MARK = "garrison interpreter: "  # before the answer: start files of a venv may print as well

# Any Python understands it, old ones too. The folder that it is started in is not searched.
QUESTION = f"""\
import sys
sys.path[:] = [place for place in sys.path if place]
python = ".".join(str(part) for part in sys.version_info[:3])
garrison, wire, protocol, problem = "", 0, 0, ""
if sys.version_info >= {OLDEST}:
    try:
        from importlib.metadata import version
        from garrison.ipc.messages import WIRE as wire
        from garrison.supervisor.processes.protocol import VERSION as protocol
        from importlib.util import find_spec
        problem = ", ".join(name for name in {LIBRARIES} if find_spec(name) is None)
        problem = problem and "it lacks " + problem
        try:
            garrison = version("garrison")
        except Exception:
            garrison = "of a checkout"
    except BaseException as error:
        problem = "%s: %s" % (type(error).__name__, error)
        if getattr(error, "name", None) == "garrison":
            problem = "none"
import json
answer = dict(python=python, garrison=garrison, wire=wire, protocol=protocol, problem=problem)
sys.stdout.write("\\n{MARK}" + json.dumps(answer) + "\\n")
"""


class Interpreter(msgspec.Struct, frozen=True):
    """What an interpreter has answered."""

    python: str  # its version
    garrison: str = ""  # the version that is installed in it
    wire: int = 0  # that its workers use
    protocol: int = 0  # that its launcher uses
    problem: str = ""  # why garrison cannot be imported; "none": it has none


_decode = msgspec.json.Decoder(Interpreter).decode


def read_answer(output: bytes) -> Interpreter | None:
    """Return what an interpreter has answered; None if that is no answer."""
    mark = MARK.encode()
    for line in reversed(output.splitlines()):
        if line.startswith(mark):
            try:
                return _decode(line.removeprefix(mark))
            except (msgspec.MsgspecError, UnicodeDecodeError):
                return None
    return None


def problem_of(path: str, found: Interpreter, version: str) -> str:
    """Return why an interpreter cannot run workers, and what to do; empty if it can.

    Args:
        path: The interpreter.
        found: What it answered.
        version: Of this garrison.
    """
    install = f"run {shlex.quote(path)} -m pip install {shlex.quote(f'garrison=={version}')}"
    numbers = tuple(int(part) for part in re.findall(r"\d+", found.python)[:2])
    if numbers < OLDEST:
        oldest = ".".join(map(str, OLDEST))
        return f"{path} is Python {found.python}, and garrison needs {oldest} or later"
    if found.problem == "none":
        return f"{path} has no garrison: {install}"
    if found.problem:
        return f"garrison cannot be imported by {path}: {found.problem[:500]}; {install}"
    if found.wire not in WIRES or found.protocol != protocol.VERSION:
        theirs, ours = f"wire {found.wire}", f"wire {max(WIRES)}"
        if found.wire in WIRES:
            theirs = f"launcher protocol {found.protocol}"
            ours = f"launcher protocol {protocol.VERSION}"
        return (
            f"{path} has garrison {found.garrison} with {theirs}, and this host's {version} has "
            f"{ours}: {install}"
        )
    return ""


def too_many(path: str, used: Iterable[str]) -> str:
    """Return why one more interpreter cannot be used; empty if it can.

    Args:
        path: The interpreter.
        used: The other interpreters that run workers now.
    """
    others = set(used) - {path}
    if len(others) < MOST:
        return ""
    return f"{path} would be one more than {MOST} interpreters: {', '.join(sorted(others))}"

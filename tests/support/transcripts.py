"""Runs a transcript of the documentation on a host, and compares what is printed.

A line `$ COMMAND` is typed; lines `you: TEXT` below it are typed into it; the others are what it
prints. Numbers, times and widths of columns may differ. A line `…` stands for any lines, `…`
within a line for any text.
"""

import re
from dataclasses import dataclass, field

from tests.support.commands import run_shell
from tests.support.host import Host

PROMPT, INPUT, ANY = "$ ", "you: ", "…"
VARIES = re.compile(r"0x[0-9a-f]+|\b[0-9a-f]{16}\b|\d+(?:\.\d+)?")
TIME = re.compile(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(?:\.\d+)?(?:[+-]\d\d:\d\d|Z)?")
LONGEST = 60.0  # seconds for one command


@dataclass
class Step:
    """One command, what is typed into it, and what it prints."""

    command: str
    typed: list[str] = field(default_factory=list)
    printed: list[str] = field(default_factory=list)


def steps(text: str) -> list[Step]:
    """Return the commands of a transcript."""
    found = list[Step]()
    for line in text.splitlines():
        if line.startswith(PROMPT):
            found.append(Step(line.removeprefix(PROMPT)))
        elif line.startswith(INPUT):
            found[-1].typed.append(line.removeprefix(INPUT))
        else:
            found[-1].printed.append(line)
    return found


def differences(host: Host, text: str) -> str:
    """Run a transcript; return the first difference as text, empty if there is none."""
    environ = {**host.environ, "GARRISON_HOME": str(host.home), "COLUMNS": "100"}
    for step in steps(text):
        typed = "".join(f"{line}\n" for line in step.typed)
        printed = run_shell(step.command, host.folder, environ, typed, LONGEST)
        if not matches(step.printed, printed.splitlines()):
            wanted = "\n".join(step.printed)
            return f"$ {step.command}\nprinted:\n{printed}\nthe page has:\n{wanted}\n"
    return ""


def matches(wanted: list[str], printed: list[str]) -> bool:
    """Return True if lines are as the page has them, apart from what may differ."""
    pattern = ""
    for line in filter(str.strip, wanted):
        if line.strip() == ANY:
            pattern += r"(?:.*\n)*?"
        else:
            pattern += r".*".join(re.escape(part) for part in plain(line).split(ANY)) + r"\n"
    text = "".join(f"{plain(line)}\n" for line in printed if line.strip())
    return re.fullmatch(pattern, text) is not None


def plain(line: str) -> str:
    """Return a line without what may differ: times, numbers, widths of columns."""
    return re.sub(r"\s+", " ", VARIES.sub("0", TIME.sub("0", line))).strip()

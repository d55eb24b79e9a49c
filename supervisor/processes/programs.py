"""Whether the program of a plain command is there, and its user may run it."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from .users import Account, access_problem

SCRIPT = b"#!"


def program_problem(
    command: Sequence[str], folder: Path, variables: Mapping[str, str], account: Account | None
) -> str:
    """Return why a command cannot be run, in words; empty if it can.

    Args:
        command: The program and its arguments.
        folder: Where it runs.
        variables: Its environment.
        account: The user that it runs as; None: this process's.
    """
    program = command[0]
    places = _places(program, folder, variables.get("PATH", os.defpath))
    there = [path for path in places if path.is_file()]
    runnable = [path for path in there if os.access(path, os.X_OK)]
    if not there:
        if "/" in program:
            return f"there is no program {places[0]}"
        return f"there is no program `{program}` in PATH: install it, or write its path"
    if not runnable:
        return (
            f"{there[0]} is not executable: chmod +x {there[0]}, or name its interpreter before it"
        )
    if account is None:
        return ""
    return access_problem(runnable[0], account, 5 if _is_script(runnable[0]) else 1)


def _places(program: str, folder: Path, path: str) -> list[Path]:
    """Return where a program may be, in the order in which it is looked for."""
    if "/" in program:
        return [folder / program]
    return [folder / place / program for place in path.split(os.pathsep)]


def _is_script(path: Path) -> bool:
    """Return True if an interpreter has to read a file, which its user then must be able to."""
    try:
        with path.open("rb") as file:
            return file.read(len(SCRIPT)) == SCRIPT
    except OSError:
        return True

"""Whether the program of a plain command is there, and its user may run it."""

import os
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from garrison.supervisor.processes.programs import program_problem
from garrison.supervisor.processes.users import Account

OTHER = Account("54321", 54321, 54321, (54321,))


def program(path: Path, mode: int, text: str = "#!/bin/sh\n") -> str:
    path.write_text(text)
    path.chmod(mode)
    return str(path)


@pytest.mark.parametrize(
    ("command", "problem"),
    [
        (["sh"], ""),
        (["./there"], ""),
        (["no-such-program"], "no program `no-such-program` in PATH: install it"),
        (["./gone"], "there is no program"),
        (["./plain"], "is not executable: chmod +x"),
        (["."], "there is no program"),
    ],
)
def test_a_program_is_found_as_it_will_be(tmp_path: Path, command: list[str], problem: str) -> None:
    """In PATH, or from the folder where it runs."""
    program(tmp_path / "there", 0o755)
    program(tmp_path / "plain", 0o644)
    found = program_problem(command, tmp_path, {"PATH": os.environ["PATH"]}, None)
    assert found.startswith(problem) if not problem else problem in found


@pytest.mark.parametrize(
    ("mode", "text", "allowed"),
    [
        (0o755, "#!/bin/sh\n", True),
        (0o711, "#!/bin/sh\n", False),  # its interpreter has to read it
        (0o711, "\x7fELF", True),
        (0o700, "\x7fELF", False),
    ],
)
def test_its_user_has_to_be_allowed(mode: int, text: str, allowed: bool) -> None:
    """To run it, and to read a script."""
    with TemporaryDirectory(dir="/tmp") as name:
        folder = Path(name)
        folder.chmod(0o755)
        path = program(folder / "program", mode, text)
        assert (program_problem([path], folder, {}, OTHER) == "") is allowed

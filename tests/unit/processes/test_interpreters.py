"""What another Python answers, and what that means."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.venvs import add_garrison, make_venv

from garrison.ipc.messages import WIRE
from garrison.ipc.system import process_tree
from garrison.ipc.system.installed import installed_version
from garrison.supervisor.processes import inquiry, interpreters, protocol
from garrison.supervisor.processes.inquiry import InterpreterProblem, ask, stamp_of
from garrison.supervisor.processes.interpreters import MARK, Interpreter, problem_of, read_answer
from garrison.supervisor.processes.launcher_process import OWN_PYTHON, UnderPython, under_python

PATH = "/srv/x y/bin/python"
INSTALL = "run '/srv/x y/bin/python' -m pip install garrison==1.0"


@pytest.mark.parametrize(
    ("found", "problem"),
    [
        (Interpreter("3.11.7", "1.0", WIRE, protocol.VERSION), ""),
        (Interpreter("3.13.0", "0.9", WIRE, protocol.VERSION), ""),
        (Interpreter("3.8.18"), f"{PATH} is Python 3.8.18, and garrison needs 3.11 or later"),
        (Interpreter("2.7.18"), f"{PATH} is Python 2.7.18, and garrison needs 3.11 or later"),
        (Interpreter("3.12.1", problem="none"), f"{PATH} has no garrison: {INSTALL}"),
        (
            Interpreter("3.12.1", problem="it lacks zmq"),
            f"garrison cannot be imported by {PATH}: it lacks zmq; {INSTALL}",
        ),
        (
            Interpreter("3.12.1", "9.0", WIRE + 8, protocol.VERSION),
            f"{PATH} has garrison 9.0 with wire {WIRE + 8}, and this host's 1.0 has wire {WIRE}: "
            + INSTALL,
        ),
        (
            Interpreter("3.12.1", "9.0", WIRE, protocol.VERSION + 1),
            f"{PATH} has garrison 9.0 with launcher protocol {protocol.VERSION + 1}, and this "
            f"host's 1.0 has launcher protocol {protocol.VERSION}: {INSTALL}",
        ),
    ],
)
def test_an_interpreter_that_does_not_fit_is_refused(found: Interpreter, problem: str) -> None:
    """In words that say what to do."""
    assert problem_of(PATH, found, "1.0") == problem


@pytest.mark.parametrize(
    ("used", "refused"),
    [
        ([], False),
        ([str(number) for number in range(interpreters.MOST - 1)], False),
        ([*(str(number) for number in range(interpreters.MOST - 1)), PATH], False),
        ([str(number) for number in range(interpreters.MOST)], True),
    ],
)
def test_the_number_of_interpreters_is_bounded(used: list[str], refused: bool) -> None:
    """One that is used already is none more."""
    assert bool(interpreters.too_many(PATH, used)) is refused


@given(st.binary())
def test_any_output_is_read(output: bytes) -> None:
    """Also an answer that is cut, or of other types."""
    assert read_answer(output) is None
    read_answer(MARK.encode() + output)


def test_the_interpreter_of_a_launcher_is_in_its_arguments() -> None:
    """So that the next supervisor finds it; one without is the supervisor's own."""
    under = UnderPython(PATH, "ab12")
    words = [PATH, "-m", "launcher", "3", "/run/launcher-1.sock", "10.0", "cgroups"]
    assert under_python([*words, *under.words]) == under
    assert under_python(words) == OWN_PYTHON
    assert OWN_PYTHON.words == []


def script(text: str) -> Callable[[Path], Path]:
    """Return what writes a script as an interpreter."""

    def write(folder: Path) -> Path:
        path = folder / "python"
        path.write_text(text)
        path.chmod(0o700)
        return path

    return write


def of_release(wire: int) -> Callable[[Path], Path]:
    """Return what makes a venv with another release."""

    def write(folder: Path) -> Path:
        python = make_venv(folder / "venv")
        add_garrison(python, "9.0", wire)
        return python

    return write


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (lambda folder: folder / "none", "there is no {}: No such file"),
        (lambda folder: make_venv(folder / "v").parent.parent, "{} is a folder and no interpreter"),
        (lambda folder: Path(__file__), "{} cannot be executed: run chmod"),
        (script("garbage"), "{} is no Python that answers: Exec format error"),
        (script("#!/bin/sh\necho no\n"), "{} is no Python that answers: no"),
        (script("#!/bin/sh\nexit 3\n"), "{} is no Python that answers (exit status 3)"),
        (script("#!/bin/sh\nsleep 600\n"), "{} did not answer within 0.2 s"),
        (of_release(WIRE + 8), f"{{}} has garrison 9.0 with wire {WIRE + 8}"),
    ],
)
def test_an_interpreter_of_no_use_is_named(
    make: Callable[[Path], Path],
    problem: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With the reason; none leaves a process."""
    if "within" in problem:
        monkeypatch.setattr(inquiry, "ASK_S", 0.2)
    path, before = str(make(tmp_path)), process_tree.children()
    with pytest.raises(InterpreterProblem) as caught:
        ask(path, os.environ, installed_version())
    assert str(caught.value).startswith(problem.format(path))
    assert process_tree.children() == before


def test_an_interpreter_answers_for_itself(tmp_path: Path) -> None:
    """Without the libraries of the host's own; what else it prints is passed over."""
    python = make_venv(tmp_path / "v", sitecustomize="print('hello\\n' * 9)\n")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "VIRTUAL_ENV": "/elsewhere"}
    (tmp_path / "msgspec.py").write_text("1/0")
    found = ask(str(python), environment, installed_version())
    version = ".".join(map(str, sys.version_info[:3]))
    assert found == Interpreter(version, installed_version(), WIRE, protocol.VERSION)


def test_a_venv_that_was_made_anew_is_another(tmp_path: Path) -> None:
    """Also with another garrison in it; not by what it imports."""
    python = make_venv(tmp_path / "v")
    first = stamp_of(str(python))
    (tmp_path / "v" / "__pycache__").mkdir()
    assert stamp_of(str(python)) == first
    add_garrison(python, "9.0")
    second = stamp_of(str(python))
    os.utime(tmp_path / "v" / "pyvenv.cfg", (1, 1))
    third = stamp_of(str(python))
    python.unlink()
    python.symlink_to("/bin/sh")
    assert len({first, second, third, stamp_of(str(python))}) == 4

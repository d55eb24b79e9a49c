"""A Python that every user of this machine can run, for tests with other users."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import zmq
from tests.support.host import ROOT

from garrison.supervisor.processes.users import Account, access_problem

ORDINARY = Account("54321", 54321, 54321, (54321,))


def _usable(python: str, path: str) -> bool:
    version = "{}.{}".format(*sys.version_info[:2])
    code = f"import os, sys, zmq, msgspec; assert sys.version.startswith('{version}'); "
    code += "print(os.path.dirname(os.__file__), os.path.dirname(zmq.__file__), sep='\\n')"
    try:
        done = subprocess.run(
            [python, "-c", code],
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONPATH": path},
            check=False,
        )
    except OSError:
        return False
    folders = [Path(line) for line in done.stdout.splitlines()]
    return bool(folders) and not any(access_problem(folder, ORDINARY, 5) for folder in folders)


def public_python() -> tuple[str, str]:
    """Return a Python, and its PYTHONPATH, that every user can run; skip where there is none."""
    source = str(ROOT / ".src")
    packages = str(Path(zmq.__file__).parent.parent)
    for python, path in ((sys.executable, source), ("/usr/bin/python3", f"{source}:{packages}")):
        if _usable(python, path):
            return python, path
    pytest.skip(f"{sys.executable} and its libraries are closed to other users")

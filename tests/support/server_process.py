"""A counterpart in a process of its own, which prints its port and ends with its input."""

import contextlib
import subprocess
import sys
from collections.abc import Iterator

from tests.support.commands import ROOT, inherited
from tests.support.waiting import PATIENCE


@contextlib.contextmanager
def serving(module: str, *words: str) -> Iterator[int]:
    """Run a module of tests/support as a server; yield its port."""
    process = subprocess.Popen(
        [sys.executable, "-m", f"tests.support.{module}", *words],
        cwd=ROOT,
        env=inherited(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        assert line, f"{module} did not start"
        yield int(line)
    finally:
        process.stdin.close()
        process.wait(PATIENCE)
        process.stdout.close()
    assert process.returncode == 0

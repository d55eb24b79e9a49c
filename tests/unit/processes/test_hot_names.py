"""The names that workers use are interned first, side by side."""

import subprocess
import sys

from garrison.supervisor.processes import hot_names

PROGRAM = """
import sys
from garrison.supervisor.processes import launcher
names = list(sys.modules)
first = names.index("garrison.supervisor.processes.hot_names")
print(min(names.index(one) for one in ("contextlib", "msgspec", "garrison.ipc")) - first)
"""


def test_each_is_the_name_that_code_uses() -> None:
    """An interned text is the same object wherever it is a name; none is listed twice."""
    assert all(name.isidentifier() for name in hot_names.NAMES)
    assert len(set(hot_names.NAMES)) == len(hot_names.NAMES)
    assert all(sys.intern(str(name.encode(), "ascii")) is name for name in hot_names.NAMES)


def test_the_launcher_imports_them_before_what_workers_use() -> None:
    """A name that another module has made before is where that module has put it."""
    done = subprocess.run(
        [sys.executable, "-P", "-c", PROGRAM],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert int(done.stdout) > 0

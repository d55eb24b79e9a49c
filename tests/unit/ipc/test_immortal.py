"""Objects are made immortal where Python has such objects, and are left alone elsewhere."""

import subprocess
import sys

PROGRAM = """
import ctypes
from garrison.ipc.system import immortal

class Example:
    attribute = 1.5

    def method(self):
        def inner():
            return "a text that only the inner code has", 123456.789
        return inner

def counts():
    outer = Example.method.__code__
    inner = next(one for one in outer.co_consts if hasattr(one, "co_code"))
    used = [Example, Example.__dict__["method"], Example.__dict__["attribute"], outer, inner]
    used += [one for one in inner.co_consts if isinstance(one, (str, tuple))]
    found = [ctypes.c_uint32.from_address(id(one)).value for one in used]
    kept.append(used)
    return found

kept = []
before = counts()
print(immortal.make_immortal())
print(before, counts(), counts(), [ctypes.c_uint32.from_address(id(None)).value], sep="\\n")
"""
COUNTED = sys.version_info < (3, 12)


def test_users_are_no_longer_counted() -> None:
    """Classes, functions, code and what inner code alone uses have the count of None, always."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60, check=True
    )
    made, *lines = done.stdout.splitlines()
    before, after, later, none = ([int(word) for word in one[1:-1].split(", ")] for one in lines)
    assert made == str(not COUNTED)
    if COUNTED:
        assert before < after < later, "each object has one user more each time"
    else:
        assert after == later == none * len(before)

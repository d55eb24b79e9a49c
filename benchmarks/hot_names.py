"""Find the names that each worker writes to, and print `supervisor/processes/hot_names.py` anew.

    .venv/bin/python benchmarks/hot_names.py > names && mv names supervisor/processes/hot_names.py

Python counts the users of a name in the name, until 3.12 of every one. A host runs a small service,
calls it once, and the memory of its worker is compared with that of the template: names whose count
differs are printed. For Python 3.11, whose strings it reads; the memory of another process can be
read by root, or where the system permits it.
"""

import asyncio
import re
import struct
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# Run as a file, the path starts with this folder; modules here are named from the one above.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.host import host

PAGE, WORDS = 4096, struct.Struct("<512Q")
LENGTH_AT, TEXT_AT, LONGEST = 16, 48, 60  # of a string of ASCII
IDLE_S = 2.0
HEAD = '''"""Names that every worker uses, interned side by side; see `benchmarks/hot_names.py`.

Until Python 3.12, the use of a name writes to it, and a worker copies the page that it is on. The
launcher imports this first, before it makes other names. A name too many or too few does no harm.
"""

import sys

_WORDS = """
'''
TAIL = '''
"""
NAMES = [sys.intern(name) for name in _WORDS.split()]  # kept: a name that is unused is freed
'''


def mappings(pid: int | str) -> Iterator[tuple[int, int, str]]:
    """Yield begin, end and name of each writable mapping that is no file, and of each library."""
    for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
        span, rights, *_ = line.split()
        name = line[73:].strip()
        begin, end = (int(one, 16) for one in span.split("-"))
        if name.startswith("/") or (rights.startswith("rw") and name in {"", "[heap]"}):
            yield begin, end, name


def string_type(pid: int) -> int:
    """Return the address of `str` in another process of this Python."""
    own = next((one for one in mappings("self") if one[0] <= id(str) < one[1]), None)
    assert own is not None
    first = {
        which: min(begin for begin, _, name in mappings(which) if name == own[2])
        for which in ("self", pid)
    }
    return id(str) - first["self"] + first[pid]


def changed(worker: int, template: int) -> Iterator[str]:
    """Yield the names whose count differs between two processes."""
    kind = string_type(worker)
    with (
        Path(f"/proc/{worker}/mem").open("rb", 0) as one,
        Path(f"/proc/{template}/mem").open("rb", 0) as other,
    ):
        for begin, end, name in mappings(worker):
            for at in range(begin, end if not name.startswith("/") else begin, PAGE):
                try:
                    one.seek(at)
                    other.seek(at)
                    pages = one.read(PAGE), other.read(PAGE)
                except OSError:  # the template has no such page
                    continue
                if pages[0] == pages[1] or any(len(page) < PAGE for page in pages):
                    continue
                words, former = (WORDS.unpack(page) for page in pages)
                for n in range(511):
                    if words[n] != former[n] and words[n + 1] == former[n + 1] == kind:
                        one.seek(at + n * 8 + LENGTH_AT)
                        length = int.from_bytes(one.read(8), "little")
                        one.seek(at + n * 8 + TEXT_AT)
                        yield one.read(min(length, LONGEST)).decode("latin-1")


def template(worker: int) -> int:
    """Return the pid of the template that a worker was forked from."""
    parent = Path(f"/proc/{worker}/stat").read_text().rpartition(")")[2].split()[1]
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    names = {int(pid): Path(f"/proc/{pid}/comm").read_text().strip() for pid in children}
    return next(pid for pid, name in names.items() if name == "template")


async def main() -> None:
    """Print the module."""
    async with host({"echo-1": "echo", "echo-2": "echo"}) as there:
        echo: Any = there.client.get_service("echo-1")
        await asyncio.sleep(IDLE_S)
        worker = await echo.pid()
        found = await asyncio.to_thread(lambda: dict.fromkeys(changed(worker, template(worker))))
    names = [name for name in found if re.fullmatch(r"[A-Za-z_]\w*", name, re.ASCII)]
    print(HEAD + textwrap.fill(" ".join(names), 100, break_long_words=False) + TAIL, end="")


if __name__ == "__main__":
    asyncio.run(main())

"""The heap is ready for forks: what is allocated next lies side by side, no old name is written."""

import subprocess
import sys

import pytest

PROGRAM = """
import random
from garrison.ipc.system import heap

def pages():
    kept = [bytes(20 + 16 * (n % 4)) for n in range(2000)]
    return len({id(one) >> 12 for one in kept})

random.seed(1)
crowd = [bytes(20 + 16 * (n % 4)) for n in range(200_000)]
del crowd[5::97]
left = random.sample(crowd, len(crowd) * 9 // 10)
del crowd
before = pages()
heap.fill_holes()
print(before, pages())
"""
NAMES = """
import sys
from garrison.ipc.system import heap

class Example:
    an_attribute_of_this_test = 1

name = sys.intern("an_attribute_of_this_test")
before = sys.getrefcount(name)
Example.an_attribute_of_this_test
found = sys.getrefcount(name)
heap.settle()
print(before, found, sys.getrefcount(name))
"""
ZEROS = """
import mmap
from pathlib import Path
import uvloop
from garrison.ipc.system import heap

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * mmap.PAGESIZE

loop = uvloop.new_event_loop()
heap.return_zeros(loop)
before = resident()
others = [uvloop.new_event_loop() for _ in range(8)]
most = resident()
for one in others:
    heap.return_zeros(one)
after = resident()
found = [one.run_until_complete(one.run_in_executor(None, sum, (1, 2))) for one in others]
print(type(loop).__basicsize__, most - before, most - after, sum(found))
"""
KEPT = """
import mmap
from garrison.ipc.system import heap

PAGE = mmap.PAGESIZE

kept = bytearray(66 * PAGE)
import ctypes
first = ctypes.addressof(ctypes.c_char.from_buffer(kept))
places = [at * PAGE - first % PAGE + PAGE for at in (1, 20, 21, 63)]
for at in places:
    kept[at] = kept[at + PAGE - 1] = 7
heap._return(first - first % PAGE + PAGE, 64)
print(*(kept[at] + kept[at + PAGE - 1] for at in places), sum(kept))
"""
APART = 4  # times as many pages as side by side


def numbers(program: str) -> list[int]:
    """Return what a program prints."""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    return [int(word) for word in done.stdout.split()]


def test_new_objects_share_few_pages() -> None:
    """Without it each of them fills a hole, in a page that other processes share."""
    before, after = numbers(PROGRAM)
    assert before > APART * after


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="names are not counted there")
def test_cached_attributes_use_no_names() -> None:
    """The cache is empty: an attribute that takes the place of another writes to no old name."""
    before, cached, after = numbers(NAMES)
    assert after == before < cached


def test_zeros_are_returned() -> None:
    """A loop's buffer takes no memory until it is used, and the loop works."""
    size, taken, returned, found = numbers(ZEROS)
    assert taken > 8 * size * 0.9, "each loop takes its buffer at once"
    assert returned > 8 * size * 0.7
    assert found == 8 * 3


def test_what_is_not_zero_stays() -> None:
    """Pages with something in them, at the edges and side by side, are not returned."""
    assert numbers(KEPT) == [14, 14, 14, 14, 56]

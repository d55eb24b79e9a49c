"""Copies of common pages are dropped where only counts differ; nothing that was written is lost.

Each program shares its heap, forks, and prints what the forked process has found.
"""

import subprocess
import sys

import pytest

BEGIN = """
import gc, os, random, resource, sys, threading, time
from garrison.ipc.system import shared_heap

class Thing:
    def __init__(self, number):
        self.number, self.text = number, f"text {number}"

    def twice(self):
        return 2 * self.number

things = [Thing(number) for number in range(3000)]
cells = [[number, None, str(number)] for number in range(1000, 6000)]
tables = [{"a": number, "b": [number]} for number in range(2000)]
random.seed(7)

def copies():
    return sum(len(shared_heap._copied(run)) for one in shared_heap._shared for run in one.runs)

gc.disable()
moved = shared_heap.share()
if os.fork():
    os._exit(os.waitstatus_to_exitcode(os.wait()[1]))
gc.enable()
"""
USED = """
kept = [(one, one.text, one.number, one.twice()) for one in things]
names = [(cell, cell[2], table) for cell, table in zip(cells, tables)]
del kept, names
before = copies()
dropped = sum(shared_heap.drop_copies())
print(moved, before * 4096, dropped, copies() * 4096)
assert all(one.twice() == 2 * number for number, one in enumerate(things))
assert [cell[2] for cell in cells] == [str(number) for number in range(1000, 6000)]
"""
WRITTEN = """
numbers = list(range(3000))
values = [[*cell] for cell in cells]
holding = [dict(table) for table in tables]
lost = 0
for turn in range(12):
    for at in random.sample(range(3000), 200):
        numbers[at] = things[at].number = turn * 10_000 + at
    for at in random.sample(range(5000), 200):
        values[at][1] = cells[at][1] = f"{turn} {at}" if turn % 3 else None
    for at in random.sample(range(2000), 50):
        tables[at]["c"] = holding[at]["c"] = [turn]
        if turn % 4 == 3:
            del tables[at]["c"], holding[at]["c"]
    for at in random.sample(range(5000), 20):
        cells[at] += [turn] * 30
        values[at] += [turn] * 30
    new = [Thing(number) for number in range(turn * 50)]
    sum(shared_heap.drop_copies())
    lost += [one.number for one in things] != numbers
    lost += [one.twice() for one in things] != [2 * one for one in numbers]
    lost += cells != values
    lost += tables != holding
    lost += [one.number for one in new] != list(range(turn * 50))
    gc.collect()
print(lost, sys.getrefcount(things[0]) > 1 << 39)
"""
MEANWHILE = """
lost, turns, ended = [], [], threading.Event()

def view(*of):
    time.sleep(0.0001)  # let them go on while a page is looked at
    return memoryview(*of)

shared_heap.memoryview = view
sys.setswitchinterval(1e-6)

def pause():
    pass

def write(part):
    other, count = object(), 0
    while not ended.is_set():
        for cell in part:
            before = cell[0]
            cell[0] = other  # for a moment the page differs, then it does not
            pause()  # another thread may go on here
            if cell[0] is not other:
                lost.append(cell)
            cell[0] = before
            pause()
            if cell[0] is not before:
                lost.append(cell)
            count += 1
    turns.append(count)

threads = [threading.Thread(target=write, args=(cells[n:500:2],)) for n in range(2)]
for one in threads:
    one.start()
dropped, until = 0, time.monotonic() + 2
while time.monotonic() < until:
    dropped += sum(shared_heap.drop_copies())
ended.set()
for one in threads:
    one.join()
print(len(lost), min(turns) > 0, dropped > 0)
assert [cell[0] for cell in cells] == list(range(1000, 6000))
"""
TRACED = """
sys.settrace(lambda *_: None)
print(list(shared_heap.drop_copies()))
"""
SEALED = """
maps = [line.split() for line in open("/proc/self/maps") if "objects" in line]
print(len(maps) > 1, {words[1][3] for words in maps})
fds = [os.path.realpath(f"/proc/self/fd/{name}") for name in os.listdir("/proc/self/fd")]
print([one for one in fds if "objects" in one])
"""
UNSUPPORTED = """
from garrison.ipc.system import shared_heap
print(shared_heap.is_supported(), shared_heap.is_shared(), list(shared_heap.drop_copies()))
"""
HERE = sys.version_info[:2] == (3, 11)
shares = pytest.mark.skipif(not HERE, reason="another interpreter shares its pages otherwise")


def printed(program: str) -> str:
    """Return what a program prints."""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.strip()


def test_support_is_stated() -> None:
    """Python 3.11 alone; elsewhere, and where nothing was shared, nothing is dropped."""
    assert printed(UNSUPPORTED) == f"{HERE} False []"


@shares
def test_what_is_only_used_is_shared_again() -> None:
    """Of pages whose objects were used most are dropped, and the objects are as they were."""
    moved, before, dropped, after = map(int, printed(BEGIN + USED).split())
    assert moved > 2**20
    assert before > 2**20
    assert dropped > before * 0.8
    assert after < before / 4


@shares
def test_what_was_written_stays() -> None:
    """Values of objects, lists and dicts that were there before the fork, changed in each turn."""
    assert printed(BEGIN + WRITTEN) == "0 True"


@shares
def test_no_thread_loses_what_it_writes_meanwhile() -> None:
    """Other threads change pages to and fro while these are compared and dropped."""
    assert printed(BEGIN + MEANWHILE) == "0 True True"


@shares
def test_no_process_can_write_to_what_others_read() -> None:
    """A service under another user's id has the pages privately, and no descriptor of the file."""
    assert printed(BEGIN + SEALED) == "True {'p'}\n[]"


@shares
def test_nothing_is_dropped_under_a_tracer() -> None:
    """It could run between the comparison and the drop."""
    assert printed(BEGIN + TRACED) == "[]"

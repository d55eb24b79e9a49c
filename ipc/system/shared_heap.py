"""Lets forked processes share pages again that differ from the common ones in counts alone.

Until Python 3.12 each use of an object is counted in the object, so a process that was forked soon
has copies of most pages of objects that it uses, and what differs in them are counts. The process
that forks adds a large number to the count of each object, which is then never freed: no count
has to be right any longer. It moves the pages into a memory file, mapped privately: a process that
writes to such a page gets a copy, and shares the file's page again once it drops the copy. It drops
those that differ from the file in nothing but these counts.

Between the comparison of a page and the drop no other code runs that could write to it:

- Only pages of full pools are moved. As long as a pool is full, the interpreter allocates nothing
  in it, so new objects lie elsewhere.
- CPython 3.11 changes threads, handles signals and calls tracers after calls and jumps backwards,
  not between a comparison and the call that follows it. The drop keeps the interpreter's lock. No
  collection runs meanwhile.

Where anything is not as expected, nothing is moved, or nothing dropped. Sizes are bytes.
"""

import contextlib
import ctypes
import fcntl
import gc
import mmap
import os
import signal
import sys
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any, NamedTuple

from . import heap
from .heap import MADV_DONTNEED, POOL

PAGE, WORD, STEP = 4096, 8, 16  # an object lies at a multiple of STEP
PAD_BYTE = 5  # of the count of an object: 2**40 users besides
ADDRESSES = 1 << 47  # that a process can have
POOL_HEADER = 48
MADV_POPULATE_READ = 22  # asm-generic/mman-common.h
BLOCK_MOST = 512
MARKS = PAGE // STEP // 8  # bytes with a bit for each place of an object in a page
PAGES_AT_ONCE = 64  # that are looked at without a pause: a millisecond
WARM_UP, VERSION = 48, 128  # of code: runs until it is specialized; of a function: its version
PRESENT, OF_FILE = 1 << 63, 1 << 61  # bits of /proc/PID/pagemap

# A byte of marks → the words of eight places: ones where a difference counts
_MASKS = [
    b"".join(b"\0" * 8 + b"\xff" * 8 if byte >> bit & 1 else b"\xff" * 16 for bit in range(8))
    for byte in range(256)
]

REGION = 1 << 30
SEALS = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
MAP_FIXED = 0x10  # asm-generic/mman-common.h
FAILED = ctypes.c_void_p(-1).value  # what `mmap` returns
SPECIAL = frozenset({CodeType, FunctionType, dict, tuple})  # have more that is of interest
DIGITS = bytes.maketrans(b"\0\1", b"01")
TRIAL_S = 5  # until a trial that hangs is killed

Marks = dict[int, mmap.mmap]  # number of a region → a byte for each STEP: 1 where an object begins


class _Pool(ctypes.Structure):
    """The header of a pool: Objects/obmalloc.c of CPython 3.11."""

    _fields_ = (
        ("used", ctypes.c_uint),
        ("free", ctypes.c_void_p),
        ("following", ctypes.c_void_p),
        ("former", ctypes.c_void_p),
        ("arena", ctypes.c_uint),
        ("size_index", ctypes.c_uint),
        ("next_offset", ctypes.c_uint),
        ("last_offset", ctypes.c_uint),
    )


class _Run(NamedTuple):
    """Pages that lie side by side, in memory and in the file."""

    address: int
    size: int
    offset: int  # in the file


class _Plan(NamedTuple):
    """What is to be moved."""

    runs: tuple[_Run, ...]
    marks: bytes  # where objects begin, for each page of the file


class _Shared(NamedTuple):
    """What was moved."""

    runs: tuple[_Run, ...]
    file: int  # address of a view of the file
    marks: bytes  # where objects begin, for each page of the file


_shared: list[_Shared] = []
_kept: list[object] = []  # in pages that are moved: not to be freed
_mmap: Any = None
_madvise: Any = None
_pwrite: Any = None
with contextlib.suppress(OSError, AttributeError):  # another C library
    _libc = ctypes.PyDLL(None)  # keeps the interpreter's lock
    _mmap, _madvise, _pwrite = _libc.mmap, _libc.madvise, _libc.pwrite
    _mmap.restype = ctypes.c_void_p
    _mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
    _madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    _pwrite.restype = ctypes.c_ssize_t
    _pwrite.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_long]


def is_supported() -> bool:
    """Return whether this is the interpreter that all of this is about."""
    if sys.implementation.name != "cpython" or sys.version_info[:2] != (3, 11):
        return False
    if sys.byteorder != "little" or sys.maxsize < ADDRESSES or mmap.PAGESIZE != PAGE:
        return False
    if hasattr(sys, "gettotalrefcount") or _madvise is None or not hasattr(os, "memfd_create"):
        return False
    tried = object()
    count = ctypes.c_ssize_t.from_address(id(tried))
    code = is_supported.__code__
    flags = ctypes.c_int.from_address(id(code) + WARM_UP)  # they are beside it
    return (
        count.value + 1 == sys.getrefcount(tried)
        and flags.value == code.co_flags
        and FunctionType.__basicsize__ == VERSION + WORD
    )


def share() -> int:
    """Move objects into a memory file; return how many bytes were moved.

    For a process with one thread, which from then on forks, or is forked. No object that there is
    by now will be freed. Called again, it moves what has been added.
    """
    if not is_supported():
        return 0
    marks = _keep_objects()
    gc.freeze()  # before `settle`, whose collection then has little to look at
    heap.settle()
    plan = _plan(marks)
    for one in marks.values():
        one.close()
    if plan is None or not _works(plan):
        return 0
    shared = _move(plan)
    if shared is None:
        return 0
    _shared.append(shared)
    for run in shared.runs:  # in use here, they count nowhere as a process's own
        _madvise(run.address, run.size, MADV_POPULATE_READ)  # before Linux 5.14: nothing
    return sum(run.size for run in shared.runs)


def _keep_objects() -> Marks:
    """Have no object freed that there is; return where words are that need not be right."""
    memory = memoryview((ctypes.c_char * ADDRESSES).from_address(0)).cast("B")
    marks: Marks = {}
    gc.unfreeze()
    found: list[object] = gc.get_objects()
    used = gc.get_referents(*found)
    last, places = 0, _places(marks, 0)
    while found:
        special: list[object] = []
        for one in found:
            address = id(one)
            if memory[address + PAD_BYTE]:
                continue
            memory[address + PAD_BYTE] = 1
            if address // REGION != last:
                last = address // REGION
                places = _places(marks, last)
            places[address % REGION // STEP] = 1
            if type(one) in SPECIAL:
                special.append(one)
        _mark_special(marks, special)
        found, used = used + _used_by(special), []
    return marks


def _places(marks: Marks, region: int) -> mmap.mmap:
    if region not in marks:
        marks[region] = mmap.mmap(-1, REGION // STEP)  # most of it is never written to
    return marks[region]


def _mark_special(marks: Marks, objects: list[object]) -> None:
    """Mark words of functions and code that are like counts."""
    for one in objects:
        address = id(one)
        if type(one) is FunctionType:
            address += VERSION
        elif type(one) is CodeType:
            address += WARM_UP
        if address // REGION in marks:  # else it lies in no pool
            marks[address // REGION][address % REGION // STEP] = 1


def _used_by(objects: Iterable[object]) -> list[object]:
    """Return what objects refer to that the collector does not follow."""
    found: list[object] = []
    for one in objects:
        if type(one) is CodeType:
            found += _of_code(one)
        elif type(one) is tuple and not gc.is_tracked(one):
            found += one
        elif type(one) is dict and not gc.is_tracked(one):
            found += chain.from_iterable(one.items())
    return found


def _of_code(code: CodeType) -> tuple[object, ...]:
    names = (code.co_filename, code.co_name, code.co_qualname)
    tables = (code.co_consts, code.co_names, code.co_linetable, code.co_exceptiontable)
    return (*names, *tables, *code.co_varnames, *code.co_cellvars, *code.co_freevars)


def _plan(marks: Marks) -> _Plan | None:
    """Return which pools to move; None: none."""
    anonymous = list(_anonymous())
    own = {id(one.__code__) // POOL * POOL for one in (_move_runs, _drop)}  # written to as it runs
    pools = [
        pool
        for begin, end in anonymous
        for pool in range(-(-begin // POOL) * POOL, end // POOL * POOL, POOL)
        if pool not in own and _marks_of(marks, pool) and _is_full(pool)
    ]
    bits = b"".join(_marks_of(marks, pool) for pool in pools)
    plan = _Plan(tuple(_runs(pools)), bits)
    _kept.extend([anonymous, own, pools, plan])
    return plan if pools else None


def _marks_of(marks: Marks, pool: int) -> bytes:
    """Return a bit for each STEP of a pool; empty if no object begins in it."""
    begin = pool % REGION // STEP
    region = marks.get(pool // REGION)
    found = region[begin : begin + POOL // STEP] if region is not None else b""
    if b"\1" not in found:
        return b""
    return int(found.translate(DIGITS)[::-1], 2).to_bytes(POOL // STEP // 8, "little")


def _works(plan: _Plan) -> bool:
    """Try it in a process that is forked for that."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGALRM})
            signal.alarm(TRIAL_S)
            if (shared := _move(plan)) is not None:
                _shared.append(shared)
                code = 0 if sum(drop_copies()) >= 0 and gc.collect() >= 0 else 1
        finally:
            os._exit(code)
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status) == 0


def _anonymous() -> Iterator[tuple[int, int]]:
    """Yield begin and end of each private mapping without a file."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        words = line.split()
        if len(words) == 5 and words[1] == "rw-p":
            begin, end = (int(word, 16) for word in words[0].split("-"))
            yield begin, end


def _is_full(pool: int) -> bool:
    """Return whether there is a pool, with no room in it."""
    header = _Pool.from_address(pool)
    size = (header.size_index + 1) * STEP
    return (
        header.free is None
        and size <= BLOCK_MOST
        and header.last_offset == POOL - size
        and header.next_offset > header.last_offset
        and header.used == (POOL - POOL_HEADER) // size
    )


def _runs(pools: list[int]) -> Iterator[_Run]:
    begin = 0
    for number, pool in enumerate(pools):
        if number + 1 == len(pools) or pools[number + 1] != pool + POOL:
            count = number + 1 - begin
            yield _Run(pools[begin], count * POOL, begin * POOL)
            begin = number + 1


def _move(plan: _Plan) -> _Shared | None:
    """Move pools; return where they are, or None: nothing was moved."""
    size = sum(run.size for run in plan.runs)
    file = os.memfd_create("objects", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        os.ftruncate(file, size)
        # Private, too: no process, whosever it is, can write to what others read.
        view = _mmap(None, size, mmap.PROT_READ, mmap.MAP_PRIVATE, file, 0)
        if view in {None, FAILED}:
            return None
        moved = _move_runs(plan.runs, file)
        fcntl.fcntl(file, fcntl.F_ADD_SEALS, SEALS)
        return _Shared(plan.runs[:moved], view, plan.marks)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        os.close(file)


def _move_runs(runs: tuple[_Run, ...], file: int) -> int:
    """Move runs; return how many. What writes to them meanwhile is the counting of users alone."""
    write, mapped = _pwrite, _mmap
    rights, flags = mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_PRIVATE | MAP_FIXED
    moved = 0
    for address, size, offset in runs:
        if write(file, address, size, offset) != size:
            break
        if mapped(address, size, rights, flags, file, offset) != address:
            break
        moved += 1
    return moved


def is_shared() -> bool:
    """Return whether this process has pages that were moved."""
    return bool(_shared)


def drop_copies() -> Iterator[int]:
    """Drop copies of pages that differ from the common ones in counts alone.

    Yield how many bytes were dropped, each millisecond or so: other work can go on meanwhile.

    Raises:
        OSError: This process may not read which pages it has copies of.
    """
    for shared in _shared:
        for run in shared.runs:
            pages = _copied(run)
            for first in range(0, len(pages), PAGES_AT_ONCE):
                if sys.gettrace() is not None or sys.getprofile() is not None:
                    return
                yield _drop_some(run, pages[first : first + PAGES_AT_ONCE], shared) * PAGE
        _madvise(shared.file, len(shared.marks) * STEP * 8, MADV_DONTNEED)  # only that view


def _drop_some(run: _Run, pages: list[int], shared: _Shared) -> int:
    """Drop copies while nothing is collected; return how many."""
    collects = gc.isenabled()
    gc.disable()
    try:
        return _drop(run, pages, shared)
    finally:
        if collects:
            gc.enable()


def _copied(run: _Run) -> list[int]:
    """Return the numbers of the pages of a run that this process has copies of."""
    with open("/proc/self/pagemap", "rb", buffering=0) as file:  # noqa: PTH123
        found = memoryview(
            os.pread(file.fileno(), run.size // PAGE * WORD, run.address // PAGE * WORD)
        )
    wanted = PRESENT | OF_FILE
    return [number for number, entry in enumerate(found.cast("Q")) if entry & wanted == PRESENT]


def _drop(run: _Run, pages: list[int], shared: _Shared) -> int:
    """Drop copies; return how many."""
    drop, masks, marks, number_of = _madvise, _MASKS, shared.marks, int.from_bytes
    live = memoryview((ctypes.c_char * run.size).from_address(run.address)).cast("B").cast("Q")
    dropped = 0
    for page in pages:
        address, offset = run.address + page * PAGE, run.offset + page * PAGE
        if not _is_full(address // POOL * POOL):
            continue
        part = live[page * PAGE // WORD : (page + 1) * PAGE // WORD]
        copy = part.tobytes()
        common = ctypes.string_at(shared.file + offset, PAGE)
        if copy != common:
            first = offset // STEP // 8
            mask = b"".join([masks[one] for one in marks[first : first + MARKS]])
            differing = number_of(copy, "little") ^ number_of(common, "little")
            if differing & number_of(mask, "little"):
                continue
        words = memoryview(copy).cast("Q")
        if part == words:  # nothing runs from here until it is dropped
            dropped += drop(address, PAGE, MADV_DONTNEED) == 0
    return dropped

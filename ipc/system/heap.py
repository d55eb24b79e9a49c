"""Readies the heap for forks, so that forked processes share more of its pages; returns zeros.

Imports free what they needed meanwhile, and leave holes between what stays. What a forked process
allocates would fill these first, each in another page, which is then no longer shared. With the
holes filled, it is allocated side by side in new pages. The fillers are never written to. Sizes are
bytes.
"""

import contextlib
import ctypes
import gc
import itertools
import mmap
import sys
from typing import Any

POOL, POOL_HEADER = 16 * 1024, 64  # where the interpreter keeps blocks of one size; header at most
BLOCK_STEP, BLOCK_MOST = 16, 512
BLOCKS_MOST = 20_000  # of one size: where blocks are kept in another way
CHUNK_FIRST, CHUNK_LEAST = 1 << 20, 24  # of the C library
CHUNKS_MOST = 20_000
MADV_DONTNEED = 4  # asm-generic/mman-common.h

# Found at once: what ctypes makes for them is then made before any fork.
_madvise: Any = None
_memcmp: Any = None
with contextlib.suppress(OSError, AttributeError):  # another C library
    _madvise, _memcmp = ctypes.CDLL(None).madvise, ctypes.CDLL(None).memcmp
    _madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    _memcmp.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t]


def settle() -> None:
    """Drop what a forked process would replace here and there, then fill the holes.

    The interpreter's free lists go with the collection. Until 3.12 each entry of its cache of
    attributes counts as a user of a name: a lookup that replaces one writes to that name, too.
    """
    gc.collect()
    if sys.version_info < (3, 12):
        sys._clear_type_cache()
    fill_holes()


def fill_holes() -> None:
    """Allocate every hole, for ever. Nothing happens where there is no such heap."""
    with contextlib.suppress(OSError, AttributeError):  # another C library or interpreter
        _fill_pools()
        _fill_chunks()


def _fill_pools() -> None:
    """Fill the interpreter's pools."""
    allocate = ctypes.pythonapi.PyObject_Malloc
    allocate.restype, allocate.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    for size in range(BLOCK_STEP, BLOCK_MOST + 1, BLOCK_STEP):
        whole = (POOL - POOL_HEADER) // size  # filled without a gap: no other pool has one left
        pool = run = 0
        for _ in range(BLOCKS_MOST):
            found = (allocate(size) or 0) // POOL
            run = run + 1 if found == pool else 1
            pool = found
            if run >= whole:
                break


def _fill_chunks() -> None:
    """Fill the C library's heap below its end."""
    libc = ctypes.CDLL(None)
    libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    libc.free.restype, libc.free.argtypes = None, [ctypes.c_void_p]
    end = libc.malloc(4 * CHUNK_FIRST) or 0  # no hole is that large
    libc.free(end)
    size, left = CHUNK_FIRST, itertools.repeat(None, CHUNKS_MOST)
    while size >= CHUNK_LEAST:
        for _ in left:
            found = libc.malloc(size) or end
            if found >= end:
                libc.free(found)
                break
        else:
            return
        size = size * 7 // 8 if size > 1024 else size - 16


def return_zeros(new: object) -> None:
    """Return to the kernel the pages within a large object that have nothing but zeros.

    They read as zeros when they are used again. No other thread may be using the object.
    """
    page = mmap.PAGESIZE
    first, end = -(-id(new) // page), (id(new) + type(new).__basicsize__) // page
    if _madvise is not None and first < end:
        _return(first * page, end - first)


def _return(address: int, pages: int) -> None:
    """Return pages that have nothing but zeros; look at halves where there is something."""
    size = pages * mmap.PAGESIZE
    # Each byte is like the next one: a comparison that allocates nothing.
    if ctypes.string_at(address, 1) == b"\0" and not _memcmp(address, address + 1, size - 1):
        _madvise(address, size, MADV_DONTNEED)
    elif pages > 1:
        half = pages // 2
        _return(address, half)
        _return(address + half * mmap.PAGESIZE, pages - half)

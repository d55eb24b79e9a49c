"""Fills the holes of the heap, so that processes forked from this one share more of its pages.

Imports free what they needed meanwhile, and leave holes between what stays. What a forked process
allocates would fill these first, each in another page, which is then no longer shared. With the
holes filled, it is allocated side by side in new pages. The fillers are never written to. Sizes are
bytes.
"""

import contextlib
import ctypes
import itertools

POOL = 16 * 1024  # in which the interpreter keeps blocks of one size, up to `BLOCK_MOST`
BLOCK_STEP, BLOCK_MOST = 16, 512
FRESH_SHARE = 0.9  # of a pool that was filled without a gap: it had none, so no other has one
BLOCKS_MOST = 20_000  # of one size: where blocks are kept in another way
CHUNK_FIRST, CHUNK_LEAST = 1 << 20, 24  # of the C library
CHUNKS_MOST = 20_000


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
        fresh = FRESH_SHARE * POOL / size
        pool = run = 0
        for _ in range(BLOCKS_MOST):
            found = (allocate(size) or 0) // POOL
            run = run + 1 if found == pool else 1
            pool = found
            if run >= fresh:
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

"""Readies the heap for forks, so that forked processes share more of its pages.

Imports free what they needed meanwhile, and leave holes between what stays. What a forked process
allocates would fill these first, each in another page, which is then no longer shared. With the
holes filled, it is allocated side by side in new pages. The fillers are never written to. Sizes are
bytes.
"""

import contextlib
import ctypes
import gc
import itertools
import sys

POOL, POOL_HEADER = 16 * 1024, 64  # where the interpreter keeps blocks of one size; header at most
BLOCK_STEP, BLOCK_MOST = 16, 512
BLOCKS_MOST = 20_000  # of one size: where blocks are kept in another way
CHUNK_FIRST, CHUNK_LEAST = 1 << 20, 24  # of the C library
CHUNKS_MOST = 20_000


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

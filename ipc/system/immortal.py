"""Makes objects immortal, so that forked processes share the pages of all that they only use.

Python counts the users of an object in the object: to use it is to write to its page, which is then
no longer shared. From Python 3.12 on, users are not counted where the count has a certain value,
that of `None`; such an object is never freed. Where Python counts them all, nothing happens.
"""

import ctypes
import gc
import sys
from collections.abc import Iterable
from itertools import chain
from types import CodeType

Count = ctypes.c_uint32  # the half of an object's count that decides: its first bytes
ADDRESSES = 1 << 47  # that a process can have
SHIFT = 2  # from an address to an index of counts

_kept: list[object] = []  # what was tried: it may be immortal by now


def make_immortal() -> bool:
    """Make all objects immortal that there are; return False where this Python counts all users.

    For a process that only waits and forks: what is no longer used of these objects is not freed.
    """
    if not _is_supported():
        return False
    immortal = Count.from_address(id(None)).value
    counts = (Count * (ADDRESSES >> SHIFT)).from_address(0)
    gc.unfreeze()
    found: Iterable[object] = gc.get_objects()
    used = gc.get_referents(*found)
    while found:
        for address in map(id, found):
            counts[address >> SHIFT] = immortal
        found, used = used, _used_by_code(used)
    return True


def _is_supported() -> bool:
    """Return whether this Python does not count the users of an object with the count of `None`."""
    if sys.byteorder != "little" or sys.maxsize < ADDRESSES:
        return False
    if "t" in sys.abiflags:
        return False  # it is built without the interpreter's lock: the count is elsewhere
    tried = object()
    _kept.append(tried)
    count = Count.from_address(id(tried))
    counted = count.value
    count.value = immortal = Count.from_address(id(None)).value
    users = [tried] * 9
    if count.value == immortal:
        return True
    del users
    count.value = counted
    return False


def _used_by_code(objects: Iterable[object]) -> list[object]:
    """Return what the code among objects refers to, which the collector does not follow."""
    codes = [one for one in objects if type(one) is CodeType]
    return list(chain.from_iterable((*code.co_consts, *code.co_names) for code in codes))

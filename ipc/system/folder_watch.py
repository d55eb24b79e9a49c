"""Waits until something is written in a folder, by inotify; where there is none, for a fixed time.

One thread waits, others may wake it. Times are seconds.
"""

import contextlib
import ctypes
import os
import select
from pathlib import Path

# linux/inotify.h
IN_MODIFY, IN_MOVED_FROM, IN_MOVED_TO, IN_CREATE, IN_DELETE = 0x2, 0x40, 0x80, 0x100, 0x200
CHANGES = IN_MODIFY | IN_MOVED_FROM | IN_MOVED_TO | IN_CREATE | IN_DELETE
IN_NONBLOCK, IN_CLOEXEC = os.O_NONBLOCK, os.O_CLOEXEC
READ_BYTES = 64 * 1024


class FolderWatch:
    """Watches the files of one folder, not those of folders in it.

    Args:
        folder: It may be made, moved or replaced later.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._inotify = -1
        self._inode = 0  # of the folder that is watched
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._watch()  # at once: a process has all its descriptors from the beginning

    def wake(self) -> None:
        """End the wait that another thread is in, or its next one."""
        with contextlib.suppress(OSError, ValueError):  # it is closed
            os.eventfd_write(self._wake, 1)

    def sleep(self, seconds: float) -> bool:
        """Wait so long; return False, earlier, if it was woken."""
        return self._poll((self._wake,), seconds) is None

    def wait(self, seconds: float, idle: float) -> bool:
        """Return once a file was written, made, renamed or removed; False: it was woken.

        Changes since the last wait count.

        Args:
            seconds: The longest wait where changes cannot be watched.
            idle: The longest wait where they can.
        """
        watching = self._watch()
        ready = self._poll((self._wake, self._inotify), idle if watching else seconds)
        if watching:
            with contextlib.suppress(BlockingIOError):
                while os.read(self._inotify, READ_BYTES):
                    pass
        return ready != self._wake

    def close(self) -> None:
        """Release the descriptors, once no thread waits."""
        wake, self._wake = self._wake, -1
        os.close(wake)
        self._forget()

    def _poll(self, descriptors: tuple[int, ...], seconds: float) -> int | None:
        """Return the descriptor that is ready, the wake-up first; None: the time is over."""
        poll = select.poll()
        for descriptor in descriptors:
            if descriptor >= 0:
                poll.register(descriptor, select.POLLIN)
        ready = {descriptor for descriptor, _ in poll.poll(max(seconds, 0.0) * 1000)}
        if self._wake in ready:
            with contextlib.suppress(BlockingIOError):
                os.eventfd_read(self._wake)
            return self._wake
        return min(ready, default=None)

    def _watch(self) -> bool:
        """Watch the folder that is at the path now; return whether that is possible."""
        try:
            inode = self._folder.stat().st_ino
        except OSError:
            inode = 0
        if self._inotify >= 0 and inode == self._inode:
            return True
        self._forget()
        if not inode:
            return False
        libc = ctypes.CDLL(None, use_errno=True)
        self._inotify = libc.inotify_init1(IN_NONBLOCK | IN_CLOEXEC)
        path = os.fsencode(self._folder)
        if self._inotify < 0 or libc.inotify_add_watch(self._inotify, path, CHANGES) < 0:
            self._forget()  # this user has too many, or the kernel has none
            return False
        self._inode = inode
        # What changed before it was watched has to be looked at.
        os.eventfd_write(self._wake, 1)
        return True

    def _forget(self) -> None:
        if self._inotify >= 0:
            os.close(self._inotify)
        self._inotify, self._inode = -1, 0

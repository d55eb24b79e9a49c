"""A thread waits until something is written in a folder."""

import ctypes
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from garrison.ipc.system.folder_watch import FolderWatch

LONG_S = 30.0


@pytest.fixture
def watch(tmp_path: Path) -> Iterator[FolderWatch]:
    """Watch a folder that has been looked at once."""
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "a.log").write_text("line\n")
    watch = FolderWatch(tmp_path / "logs")
    assert watch.wait(0.0, LONG_S) is False  # the first look finds what was there before
    yield watch
    watch.close()
    watch.wake()  # by another thread, too late


@pytest.mark.parametrize(
    "change",
    [
        lambda logs: (logs / "a.log").write_text("line\nmore\n"),
        lambda logs: (logs / "a.log").write_text(""),
        lambda logs: (logs / "b.log").touch(),
        lambda logs: (logs / "a.log").rename(logs / "a.log.1"),
        lambda logs: (logs / "a.log").unlink(),
    ],
)
def test_a_change_ends_the_wait(
    watch: FolderWatch, tmp_path: Path, change: Callable[[Path], object]
) -> None:
    """Also one since the last wait, once."""
    change(tmp_path / "logs")
    began = time.monotonic()
    assert watch.wait(0.0, LONG_S)
    assert time.monotonic() - began < LONG_S / 2
    assert watch.wait(0.0, 0.01)
    assert watch.sleep(0.0)


def test_another_thread_ends_the_wait(watch: FolderWatch) -> None:
    """The one that it is in, or the next one."""
    thread = threading.Timer(0.05, watch.wake)
    thread.start()
    assert watch.wait(0.0, LONG_S) is False
    watch.wake()
    watch.wake()
    assert watch.sleep(LONG_S) is False
    assert watch.sleep(0.0)
    thread.join()


def test_a_folder_that_was_replaced_is_watched_anew(watch: FolderWatch, tmp_path: Path) -> None:
    """What is in it already is looked at; while there is none, the wait is the short one."""
    logs = tmp_path / "logs"
    logs.rename(tmp_path / "moved")
    assert watch.wait(0.01, LONG_S)
    logs.mkdir()
    assert watch.wait(0.0, LONG_S) is False
    (logs / "new.log").touch()
    assert watch.wait(0.0, LONG_S)


def test_without_inotify_the_wait_is_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where this user has too many of them."""

    class Kernel:
        def inotify_init1(self, flags: int) -> int:
            return -1

    monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: Kernel())
    watch = FolderWatch(tmp_path)
    began = time.monotonic()
    assert watch.wait(0.05, LONG_S)
    assert 0.04 < time.monotonic() - began < LONG_S / 2
    watch.close()

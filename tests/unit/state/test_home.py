"""The home's locks: a second supervisor gets an error that names the first."""

import os
import threading
from pathlib import Path

import pytest

from garrison.ipc.system.locks import hold_lock
from garrison.supervisor.state import home


@pytest.mark.parametrize(("written", "pid"), [("4711\n", "4711"), ("", "?")])
def test_who_has_just_taken_the_lock_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: str, pid: str
) -> None:
    """Its pid comes into the file a moment after the lock; on a full disk it never does."""
    monkeypatch.setattr(home, "WRITTEN_S", 10.0 if written else 0.05)
    path = tmp_path / "supervisor.lock"
    held = hold_lock(path)
    assert held is not None
    late = threading.Timer(0.1, os.write, (held, written.encode()))
    late.start()
    try:
        with pytest.raises(home.AlreadyRunning, match=rf"\(pid {pid.replace('?', '[?]')}\)"):
            home.take_lock(path, tmp_path)
    finally:
        late.join()
        os.close(held)

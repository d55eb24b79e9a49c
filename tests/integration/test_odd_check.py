"""`garrison check` that is killed: what it started ends with it."""

import signal
import subprocess

import pytest
from tests.support.host import Hosting
from tests.support.proc import bearing
from tests.support.waiting import SOON, until

SLOW = """
import os, subprocess, time
subprocess.Popen(["sleep", "300"], start_new_session=True)  # and it keeps the output open
open("reading", "w").close()
time.sleep(300)
"""
LEAVING = """
import subprocess
from garrison.workers import Plugin
subprocess.Popen(["sh", "-c", "setsid sleep 300 & sleep 300"])
plugin = Plugin(name="leaving")
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_killed_check_leaves_nothing(host: Hosting, number: int) -> None:
    """Neither the plugin's reader nor what that has started, in whatever session."""
    running = host("[plugins.slow]\n", files={"slow.py": SLOW}, up=False)
    process = subprocess.Popen(
        [*running._command, "check", "-c", str(running.config)],
        cwd=running.folder,
        env=running.environ,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    until((running.folder / "reading").exists)
    assert len(bearing(running.mark)) >= 3
    process.send_signal(number)
    process.wait(SOON)
    until(lambda: not bearing(running.mark), SOON, "nothing outlives the check")


def test_what_a_plugin_starts_ends_with_the_reading(host: Hosting) -> None:
    """A check does not wait for it, and leaves none of it."""
    running = host("[plugins.leaving]\n", files={"leaving.py": LEAVING}, up=False)
    checked = running.run("check", "-c", str(running.config), home=False, timeout=SOON)
    assert "usable" in checked.out
    assert not bearing(running.mark)

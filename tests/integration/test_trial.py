"""`garrison restart --try`: what does not run for a while is replaced by what ran before."""

import json
import signal
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from tests.support.host import COMMAND, LONG_GRACE, Host, hosting
from tests.support.waiting import until

CONFIG = (
    LONG_GRACE
    + """
[plugins.moodily]
[services.moodily]
grace = 3.0
{more}
"""
)

MOODILY = '''
"""A service that runs, or does not, as its config says."""

import asyncio
import os

from garrison.workers import Plugin, Service


class Moodily(Service):
    """Ends as its setting says."""

    service_type = "moodily"

    @classmethod
    async def start(cls, runtime):
        """Fail at once, or later, or never."""
        service = cls(runtime)
        mood = runtime.config.get("mood")
        if mood == "refuses":
            raise RuntimeError("not in the mood")
        if mood == "crashes":
            service.spawn(service.crash())
        return service

    async def crash(self):
        """End the process after a while."""
        await asyncio.sleep(0.2)
        os._exit(4)

    async def health(self):
        """Say how it is."""
        assert self.runtime.config.get("mood") != "unwell", "it feels bad"
        return True


plugin = Plugin("moodily", services=[Moodily])
'''


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    """Run one host for all tests."""
    with hosting(CONFIG.format(more=""), files={"moodily.py": MOODILY}) as running:
        yield running


def config(host: Host, mood: str, more: str = "health_interval = 0.2") -> None:
    """Write another config."""
    section = f'[services.moodily.config]\nmood = "{mood}"' if mood else ""
    host.write("config.toml", CONFIG.format(more=f"{more}\n{section}"))


def test_what_runs_for_the_period_stays(host: Host) -> None:
    """And is accepted then."""
    before = host.status("moodily")["pid"]
    config(host, "fine")
    done = host.run("restart", "--try", "moodily", "--period", "0.01m")
    assert (done.code, "has run for 0.6 s, and stays" in done.out) == (0, True)
    assert host.status("moodily")["pid"] != before
    assert host.run("diff").code == 0


@pytest.mark.parametrize(
    ("mood", "reason"),
    [("refuses", "not in the mood"), ("crashes", "exited with code 4"), ("unwell", "it feels bad")],
)
def test_what_does_not_run_is_put_back(host: Host, mood: str, reason: str) -> None:
    """What runs then has the former config, also after a restart of the host; the file stays."""
    config(host, mood)
    done = host.run("restart", "--try", "moodily", "--period", "20", json=True)
    assert done.code == 1
    text = done.answer["error"]["message"]
    assert "moodily did not run for 20 s" in text
    assert reason in text
    assert "the former config is back, and runs: moodily (pid " in text
    row = host.status("moodily")
    assert row["state"] == "running"
    assert row["started_with"]["config"] == {"mood": "fine"}
    assert "it was tried at " in str(row["config_rejected"])
    assert host.run("diff").code == 3
    assert host.run("restart", "moodily").code == 5

    old = host.kill("moodily")
    assert host.until_reborn("moodily", old)["started_with"]["config"] == {"mood": "fine"}
    host.restart()
    assert host.status("moodily")["started_with"]["config"] == {"mood": "fine"}

    config(host, "fine")  # it is another part than the one that failed
    assert host.run("restart", "moodily").code == 0
    assert host.status("moodily")["config_rejected"] is None


def test_a_killed_supervisor_does_not_end_a_trial(host: Host) -> None:
    """The command gives the order to the next one; what was accepted is still the former."""
    config(host, "crashes", "health_interval = 0.3")
    with ThreadPoolExecutor() as pool:
        before = host.status("moodily")["generation"]
        order = pool.submit(host.run, "restart", "--try", "moodily", "--period", "30")
        until(lambda: host.status("moodily")["generation"] > before)
        host.end(signal.SIGKILL)
        host.up()
        done = order.result(60)
    assert done.code == 1
    assert "the former config is back" in done.err
    assert host.status("moodily")["started_with"]["config"] == {"mood": "fine"}
    config(host, "fine")
    host.run("restart", "moodily")


def test_a_trial_that_nothing_watches_goes_on(host: Host) -> None:
    """Supervisor and command were killed: the next supervisor decides, without a restart."""

    def trials() -> dict[str, float]:
        stored = json.loads((host.home / "state" / "accepted.json").read_text())
        found: dict[str, float] = stored["trials"]
        return found

    config(host, "fine", "health_interval = 0.4")
    before = host.status("moodily")["pid"]
    words = ("--home", str(host.home), "restart", "--try", "moodily", "--period", "1")
    with subprocess.Popen([*COMMAND, *words], env=host.environ) as command:
        until(lambda: host.status("moodily")["pid"] not in {None, before} and trials())
        command.kill()
    host.end(signal.SIGKILL)
    pid = host.up().status("moodily")["pid"]
    assert trials() == {"moodily": 1.0}
    until(lambda: not trials(), what="the trial is over")

    until(lambda: host.events("service.trial_passed")[-1]["data"] == {"seconds": 1.0})
    assert host.status("moodily")["pid"] == pid


def test_an_unusable_config_is_refused_as_by_restart(host: Host) -> None:
    """Nothing is restarted, and nothing is being tried."""
    before = host.status("moodily")["pid"]
    config(host, "fine", "grace = -1")
    assert host.run("restart", "--try", "moodily").code == 5
    assert host.status("moodily")["pid"] == before
    config(host, "fine")
    assert host.run("restart", "--rolling", "--try", "moodily").code == 2
    assert host.run("restart", "--period", "3", "moodily").code == 2

"""A supervisor whose engine answers after seconds, as one for another machine would."""

import signal
import time
from pathlib import Path

import pytest
from tests.support import host as hosts
from tests.support.engines import DELAY_S
from tests.support.host import Host, Hosting
from tests.support.waiting import until

CONFIG = """
[host]
orphan_grace = 60.0
[defaults]
watchdog = 2.0
[plugins.steady]
"""
SLOW_HOST = str(Path(hosts.__file__).with_name("slow_host.py"))


async def test_requests_are_answered_while_workers_are_adopted(
    host: Hosting, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found arrives after five seconds; until then the supervisor answers, and nothing restarts."""
    one = host(CONFIG, ["steady"])
    before = one.rows()["steady"]
    one.end(signal.SIGKILL)

    monkeypatch.setattr(
        Host, "_command", property(lambda self: (*self.prefix, self.python, SLOW_HOST))
    )
    process = one.start()
    until(lambda: one.head() is not None, what="the supervisor answers")
    answered = time.monotonic()
    head = one.head()
    assert head is not None
    assert head["pid"] == process.pid
    assert one.rows()["steady"]["restarts"] == 0
    assert len(one.events("supervisor.adopts")) == 0
    (adopts,) = until(lambda: one.events("supervisor.adopts"))
    assert time.monotonic() - answered > DELAY_S / 2  # it was still to come when status was asked
    until(lambda: one.events("service.adopted", "steady"))

    after = one.rows()["steady"]
    same = ("pid", "generation", "restarts", "state")
    assert [after[key] for key in same] == [before[key] for key in same]
    assert (adopts["data"]["services"], adopts["data"]["launchers"]) == (1, 1)
    assert await one.call("steady", "ticks") > 0

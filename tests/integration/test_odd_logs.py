"""Log files that others remove or rename while they are written."""

import os
import signal

from tests.support.host import Hosting
from tests.support.waiting import until

CONFIG = """
[host]
log_bytes = 65536
[plugins.printer]
[services.printer]
"""


async def test_logs_that_were_removed_or_renamed(host: Hosting) -> None:
    """The service, the launcher and the supervisor go on in the file at the path."""
    running = host(CONFIG, ["printer"])
    logs = running.home / "logs"
    await running.call("printer", "say", "x" * 99, 2000)
    until(lambda: (logs / "printer.log.1").exists(), what="the supervisor knows the file")
    # What is recorded before is in the former file.
    (logs / "events.jsonl").rename(logs / "events.jsonl.7")
    (logs / "printer.log").rename(logs / "printer.log.7")  # as logrotate does
    (logs / "launcher.log").unlink()
    os.kill(running.pid, signal.SIGUSR1)
    until(lambda: (logs / "printer.log").exists(), what="opened anew, though it writes nothing")
    until(lambda: running.events("log.reopened", "printer"))
    reopened = [one["data"] for one in running.events("log.reopened") if not one["service"]]
    assert reopened == [{"log": "events.jsonl"}]
    assert await running.call("printer", "say", "here") == 1
    assert await running.call("printer", "child", "from a child") == 0
    assert "here\n" in running.log("printer")
    assert "from a child\n" in running.log("printer")
    os.kill(running.launcher, signal.SIGUSR2)
    until(lambda: "SIGUSR2" in running.log("launcher"))
    await running.call("printer", "say", "x" * 99, 2000)
    until(lambda: (logs / "printer.log.2").exists(), what="rotation goes on with the new file")

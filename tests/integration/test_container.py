"""A host as the first process of a PID namespace, as in a container."""

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest
from tests.support.host import Host, Hosting
from tests.support.proc import children
from tests.support.waiting import PATIENCE, until

pytestmark = pytest.mark.external

CONFIG = """
[host]
log_target = "stdout"
log_format = "json"
[plugins.echo]
[services.echo]
"""
ELSEWHERE = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child")


@pytest.fixture
def first(host: Hosting) -> tuple[Host, int]:
    """Run a host as process 1; return it, and its pid outside."""
    one = host(CONFIG, ["echo"], up=False)
    one.prefix = ELSEWHERE
    one.start()
    until(lambda: '"supervisor.settled"' in one.output)
    assert one.process is not None
    (supervisor,) = children(one.process.pid)
    return one, supervisor


def test_the_first_process_reaps_and_stops_in_order(first: tuple[Host, int]) -> None:
    """An orphan that ends leaves no zombie, SIGTERM stops the services, and the output is JSON."""
    one, supervisor = first
    namespaced = Path(f"/proc/{supervisor}/status").read_text()
    assert "\nNSpid:" in namespaced
    assert namespaced.partition("\nNSpid:")[2].splitlines()[0].split()[-1] == "1"
    before = set(children(supervisor))
    inside = ("nsenter", "-t", str(supervisor), "-p", "-m", "sh", "-c", "(sleep 0.3 &)")
    subprocess.run(inside, check=True)
    until(lambda: set(children(supervisor)) - before, what="the orphan has the first process")
    until(lambda: not set(children(supervisor)) - before, what="it was reaped")
    os.kill(supervisor, signal.SIGTERM)
    assert one.process is not None
    assert one.process.wait(PATIENCE) == 0
    lines = [json.loads(line) for line in one.output.splitlines()]
    events = [line["event"] for line in lines if "event" in line]
    assert events[-1] == "supervisor.stopped"
    assert {"time", "service"} <= lines[0].keys()

"""A Ray cluster over machines that a test made: a head beside the supervisor, and nodes."""

import contextlib
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from .host import Host
from .machines import NodeMachine
from .waiting import until

HEAD, PORT = "10.77.0.1", 6379
START_S = 120.0  # for a part of the cluster
TRIES = 3  # Ray gives up a start after 30 s, which a loaded machine may need
RAY = (sys.executable, "-m", "ray.scripts.scripts", "start", "--disable-usage-stats")
SMALL = ("--object-store-memory=80000000", "--memory=500000000")


def need_ray() -> None:
    """Skip the test if Ray is not installed."""
    if importlib.util.find_spec("ray") is None:
        if os.environ.get("CI") == "true":
            pytest.fail("needs the extra ray")
        pytest.skip("needs the extra ray: pip install 'garrison[ray]'")


def token_of(folder: Path) -> dict[str, str]:
    """Return the environment of a cluster with token authentication."""
    token = folder / "ray-token"
    token.write_text("t" * 40)
    token.chmod(0o600)
    return {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}


@contextlib.contextmanager
def ray_head(host: Host, folder: Path, variables: Mapping[str, str]) -> Iterator[None]:
    """Run the head of a cluster on the supervisor's machine.

    Args:
        host: The host of the supervisor, whose machine there is.
        folder: For what Ray writes.
        variables: By which Ray authenticates.
    """
    output = folder / "head.out"
    words = [
        *("--head", "--block", f"--node-ip-address={HEAD}", f"--port={PORT}", "--num-cpus=1"),
        *("--include-dashboard=false", f"--temp-dir={folder}", *SMALL),
    ]
    environ = {"PATH": os.environ["PATH"], "HOME": str(folder), **variables}
    with output.open("wb") as out:
        head = subprocess.Popen(
            [*host.prefix, *RAY, *words],
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    try:
        until(lambda: _started(output, head), START_S, what="the head of Ray")
        yield
    finally:
        head.send_signal(signal.SIGTERM)  # it ends what it has started
        with contextlib.suppress(subprocess.TimeoutExpired):
            head.wait(30)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(head.pid, signal.SIGKILL)
        head.wait(30)


def _started(output: Path, head: "subprocess.Popen[bytes]") -> bool:
    text = output.read_text("utf-8", "replace")
    if head.poll() is not None:
        pytest.fail(f"Ray has ended:\n{text[-3000:]}")
    return "Ray runtime started" in text


def join_cluster(machine: NodeMachine, host: Host, variables: Mapping[str, str]) -> None:
    """Make a machine a part of the cluster; Ray starts its node."""
    key = machine.folder / ".garrison-node" / "node.key"
    key.parent.mkdir(mode=0o700, exist_ok=True)
    shutil.copy(host.home / "node-keys" / f"{machine.name}.key", key)
    for plugin in host.folder.glob("*.py"):
        shutil.copy(plugin, key.parent)
    resources = json.dumps({"place": 1})
    words = [
        *(f"--address={HEAD}:{PORT}", f"--node-ip-address={machine.address}"),
        *("--num-cpus=1", f"--resources={resources}", *SMALL),
    ]
    environ = {"PATH": os.environ["PATH"], "HOME": str(machine.folder), **variables}
    problem = b""
    for _ in range(TRIES):
        done = subprocess.run(
            [*machine.prefix, *RAY, *words],
            cwd=machine.folder,
            env=environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=START_S,
            check=False,
        )
        if done.returncode == 0:
            return
        problem = done.stderr
    pytest.fail(problem.decode()[-3000:])


def kill_raylet(machine: NodeMachine) -> None:
    """Kill Ray's process on a machine."""
    (pid,) = machine.run("pgrep", "-f", "raylet/raylet ").split()
    machine.kill(int(pid))

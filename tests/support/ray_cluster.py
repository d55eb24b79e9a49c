"""A Ray cluster over machines that a test made: a head beside the supervisor, and nodes."""

import contextlib
import importlib.util
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from .host import Host, hosting
from .machines import NodeMachine, machines
from .proc import children
from .waiting import until

HEAD, PORT = "10.77.0.1", 6379
START_S = 120.0  # for a part of the cluster
TRIES = 3  # Ray gives up a start after 30 s, which a loaded machine may need
LONG_S = 120.0
PROGRAM = (sys.executable, "-m", "ray.scripts.scripts")
RAY = (*PROGRAM, "start", "--disable-usage-stats")
SMALL = ("--object-store-memory=80000000", "--memory=500000000")


CONFIG = """
[host]
orphan_grace = 5.0
[engine]
kind = "ray"
address = "10.77.0.1:6379"
listen = "10.77.0.1:0"
lease = 6.0
runtime_env = { py_modules = ["%s"] }
[plugins.twin]
[services.twin]
resources = { place = 1, GPU = 1 }
env = { TWIN_FILE = "%s" }
"""


@dataclass
class Cluster:
    """A host whose nodes are machines of a Ray cluster."""

    host: Host
    nodes: dict[str, NodeMachine]
    witness: Path
    folder: Path
    token: dict[str, str]
    head: contextlib.ExitStack

    def start_head(self) -> None:
        """Start the head of Ray's cluster."""
        self.head.enter_context(ray_head(self.host, self.folder, self.token))

    def join(self, name: str) -> None:
        """Make a machine a part of Ray's cluster, again if it was one."""
        leave_cluster(self.nodes[name])
        join_cluster(self.nodes[name], self.host, self.token)

    def row(self) -> dict[str, Any]:
        """Return the service's row."""
        return self.host.status("twin")

    def runs_on(self, *names: str) -> bool:
        """Return whether the service runs on one of these nodes."""
        row = self.row()
        return row["state"] == "running" and row["node"] in names

    def versions(self, package: str) -> dict[str, str | None]:
        """Return which version of a package each machine has that has joined; None: none."""
        shown = self.host.ask("nodes")["nodes"]
        return {one["name"]: one["packages"].get(package) for one in shown}

    def placer(self) -> int:
        """Return the pid of the program that speaks to Ray."""
        (pid,) = [
            pid
            for pid in children(int(self.host.head()["pid"]))  # type: ignore[index]
            if b"ray_placer" in Path(f"/proc/{pid}/cmdline").read_bytes()
        ]
        return pid

    def assert_one_at_a_time(self) -> None:
        """Fail if two incarnations have run at one time."""
        found: dict[str, tuple[float, float]] = {}
        for line in self.witness.read_text().splitlines():
            mark, _, at = line.partition(" ")
            found[mark] = found.get(mark, (float(at), 0.0))[0], float(at)
        for (_, last), (first, _) in itertools.pairwise(sorted(found.values())):
            assert last < first


@contextlib.contextmanager
def ray_cluster() -> Iterator[Cluster]:
    """Run a host, and a Ray cluster of its machine and two nodes."""
    need_ray()
    with tempfile.TemporaryDirectory(prefix="r", dir="/tmp") as name:
        folder = Path(name)
        witness, token = folder / "twin", token_of(folder)
        witness.touch()
        names = ["left", "right"]
        config = CONFIG % (make_wheel(folder), witness)
        with (
            hosting(config, ["twin"], env=token, up=False, forked=False) as host,
            machines(host, names, start=False) as made,
            contextlib.ExitStack() as head,
        ):
            nodes = dict(zip(names, made, strict=True))
            cluster = Cluster(host, nodes, witness, folder, token, head)
            cluster.start_head()
            for one in made:
                join_cluster(one, host, token)
            yield cluster


def make_wheel(folder: Path) -> Path:
    """Make a wheel with a module that is nowhere installed; return it."""
    about = "brought-1.0.dist-info"
    content = {
        "brought.py": "",
        f"{about}/METADATA": "Metadata-Version: 2.1\nName: brought\nVersion: 1.0\n",
        f"{about}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{about}/RECORD": f"brought.py,,\n{about}/METADATA,,\n{about}/WHEEL,,\n",
    }
    path = folder / "brought-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        for name, text in content.items():
            wheel.writestr(name, text)
    return path


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
        *("--num-cpus=1", "--num-gpus=2", f"--resources={resources}", *SMALL),
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


def leave_cluster(machine: NodeMachine) -> None:
    """End what Ray runs on a machine; it sees that machine's processes alone."""
    subprocess.run(
        [*machine.prefix, *PROGRAM, "stop", "--force"],
        env={"PATH": os.environ["PATH"], "HOME": str(machine.folder)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=START_S,
        check=False,
    )


def kill_raylet(machine: NodeMachine) -> None:
    """Kill Ray's process on a machine."""
    (pid,) = machine.run("pgrep", "-f", "raylet/raylet ").split()
    machine.kill(int(pid))

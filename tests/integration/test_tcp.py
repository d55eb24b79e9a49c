"""Workers that are connected over TCP, as those on other machines are."""

import asyncio
import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import zmq
from tests.support import host as hosts
from tests.support.host import Host, found, hosting
from tests.support.proc import alive
from tests.support.tcp_host import PROXIES
from tests.support.tcp_proxy import TcpProxy, proxy
from tests.support.waiting import PATIENCE, eventually, until

from garrison.ipc import ServiceLost, socket_paths, sockets
from garrison.ipc.messages import WIRE, CurveKeys, Hello, encode
from garrison.supervisor.bus.admission import Admission
from garrison.supervisor.state.node_keys import own_key

TCP_HOST = str(Path(hosts.__file__).with_name("tcp_host.py"))
CONFIG = """
[host]
orphan_grace = 60.0
[engine]
kind = "nodes"
listen = "127.0.0.1:0"
lease = 60.0
[defaults]
intensity = 0
[plugins.echo]
[services.echo]
node = "far"
[services.near]
plugin = "echo"
"""


class Far:
    """A host with a service over TCP, and the proxies that it goes through."""

    host: Host
    control: TcpProxy
    bus: TcpProxy

    def address(self, plane: str) -> tuple[str, int]:
        """Return where the supervisor listens."""
        value = json.loads((self.host.home / "run" / "engine.json").read_text())[plane]
        host, _, port = value.removeprefix("tcp://").rpartition(":")
        return host, int(port)

    def row(self) -> dict[str, object]:
        """Return the row of the service over TCP."""
        return self.host.rows()["echo"]


@pytest.fixture(scope="module")
def far() -> Iterator[Far]:
    """Run such a host."""
    made = Far()
    with (
        pytest.MonkeyPatch.context() as patch,
        proxy(lambda: made.address("control")) as made.control,
        proxy(lambda: made.address("bus")) as made.bus,
    ):
        command = property(lambda self: (*self.prefix, self.python, TCP_HOST))
        patch.setattr(Host, "_command", command)
        env = {PROXIES: f"{made.control.port} {made.bus.port}"}
        with hosting(CONFIG, ["echo"], env=env, up=False) as made.host:
            made.host.up()
            yield made


async def test_it_survives_its_supervisor(far: Far) -> None:
    """The next supervisor listens at the same ports and adopts the same process; calls go to it as
    before."""
    one = far.host
    assert await one.call("echo", "echo", "word") == "word"
    before, at = far.row(), far.address("bus")

    one.end(signal.SIGKILL)
    one.up()
    until(lambda: one.events("service.adopted", "echo"))

    after = far.row()
    assert far.address("bus") == at
    same = ("pid", "generation", "restarts", "state")
    assert [after[key] for key in same] == [before[key] for key in same]
    assert await one.call("echo", "pid") == before["pid"]


async def test_its_end_is_announced_behind_its_last_answer(far: Far) -> None:
    """What it sent arrives later than the news of its death, and is an answer all the same."""
    pid = far.row()["pid"]
    assert isinstance(pid, int)
    async with far.host.connect() as client:
        far.bus.hold()
        try:
            held = far.bus.held
            answer = asyncio.ensure_future(found(client, "echo").echo("late"))
            await asyncio.to_thread(until, lambda: far.bus.held > held)
            os.kill(pid, signal.SIGKILL)
            await asyncio.to_thread(until, lambda: far.row()["pid"] not in {pid, 0, None})
            assert not answer.done()
        finally:
            far.bus.release()
        async with asyncio.timeout(PATIENCE):
            assert await answer == "late"


@pytest.mark.parametrize("plane", ["control", "bus"])
async def test_it_ends_itself_where_messages_may_be_lost(far: Far, plane: str) -> None:
    """Its connection breaks while its supervisor goes on: its end settles every call, and the next
    incarnation answers."""
    pid, log = far.row()["pid"], far.host.home / "logs" / "echo.log"
    assert isinstance(pid, int)
    before = log.read_text().count(f"({plane}) broke")
    async with far.host.connect() as client:
        call = asyncio.ensure_future(found(client, "echo").hang("x"))

        async def begun() -> bool:
            return "x" in await found(client, "echo").hung()

        await eventually(begun)
        (far.control if plane == "control" else far.bus).break_all()
        with pytest.raises(ServiceLost):
            async with asyncio.timeout(PATIENCE):
                await call
        until(lambda: not alive(pid))
        async with asyncio.timeout(PATIENCE):
            assert await found(client, "echo").echo("again") == "again"
    assert log.read_text().count(f"({plane}) broke") == before + 1


Keys = Callable[[Far], CurveKeys | None]


def of_no_host(far: Far) -> CurveKeys:
    """Return keys that the supervisor has never seen."""
    public, secret = (part.decode() for part in zmq.curve_keypair())
    return CurveKeys(own_key(far.host.home).public, public, secret)


def of_another_host(far: Far) -> CurveKeys:
    """Return the incarnation's own keys, for a supervisor with another key."""
    keys = of_echo(far)
    other, _ = (part.decode() for part in zmq.curve_keypair())
    return CurveKeys(other, keys.public, keys.secret)


def of_echo(far: Far) -> CurveKeys:
    """Return the keys of the incarnation that runs."""
    return Admission(own_key(far.host.home).secret, 60.0).admit(token_of(far))


def token_of(far: Far) -> bytes:
    """Return the token of the incarnation that runs."""
    stored = json.loads((far.host.home / "state" / "living.json").read_text())
    (token,) = [one["token"] for one in stored["services"] if one["name"] == "echo"]
    return bytes.fromhex(token)


@pytest.mark.parametrize(
    "keys", [lambda far: None, of_no_host, of_another_host], ids=["none", "unknown", "mistaken"]
)
@pytest.mark.parametrize("plane", ["engine", "control", "bus"])
def test_only_known_keys_connect(far: Far, keys: Keys, plane: str) -> None:
    """Without a key, with an unknown one, or to a supervisor whose key is another: no connection
    comes about, and nothing that was sent arrives."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    monitors: list[zmq.Socket[bytes]] = []
    host, port = far.address(plane)
    rejected = far.host.ask("status")["supervisor"]["refused_frames"]
    socket = sockets.dealer(
        context,
        f"tcp://{host}:{port}",
        socket_paths.new_token(),
        -1,
        keep=True,
        curve=keys(far),
        watch=lambda one: monitors.append(one.get_monitor_socket()),
    )
    try:
        socket.send_multipart([b"", encode([Hello(WIRE, "echo", 1, 1)])])
        ended = {zmq.EVENT_DISCONNECTED, zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL}
        seen: set[int] = set()
        while not seen & ended:
            assert monitors[0].poll(int(PATIENCE * 1000))
            event = int.from_bytes(monitors[0].recv_multipart()[0][:2], "little")
            assert event != zmq.EVENT_HANDSHAKE_SUCCEEDED
            seen.add(event)
    finally:
        monitors[0].close(linger=0)
        socket.close(linger=0)
        context.term()
    assert far.host.ask("status")["supervisor"]["refused_frames"] == rejected


@pytest.mark.parametrize("plane", ["control", "bus"])
async def test_a_key_is_good_for_its_own_address_alone(far: Far, plane: str) -> None:
    """Whoever has the key of one incarnation sends nothing in the name of another."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    host, port = far.address(plane)
    before = far.host.ask("status")["supervisor"]["refused_frames"]
    near = json.loads((far.host.home / "state" / "living.json").read_text())["services"]
    (other,) = [bytes.fromhex(one["token"]) for one in near if one["name"] == "near"]
    socket = sockets.dealer(
        context, f"tcp://{host}:{port}", other, -1, keep=True, curve=of_echo(far)
    )
    try:
        socket.send_multipart([token_of(far), encode([Hello(WIRE, "near", 1, 1)])])
        until(lambda: far.host.ask("status")["supervisor"]["refused_frames"] > before)
        assert not socket.poll(0)
    finally:
        socket.close(linger=0)
        context.term()
    assert await far.host.call("near", "echo", 1) == 1


def test_its_key_is_nowhere(far: Far) -> None:
    """The secret keys are in no file but their own, in no command line and no environment."""
    home = far.host.home
    secrets = {of_echo(far).secret.encode(), own_key(home).secret.encode()}
    files = [path for path in home.rglob("*") if path.is_file()]
    assert any(path.suffix == ".key" for path in files)
    contents = {str(path): path.read_bytes() for path in files if path.suffix != ".key"}
    for pid in far.host.processes():
        for name in ("cmdline", "environ"):
            contents[f"{pid} {name}"] = Path(f"/proc/{pid}/{name}").read_bytes()
    for where, content in contents.items():
        assert not [secret for secret in secrets if secret in content], where
    for path in (home / "node-keys").iterdir():
        assert path.stat().st_mode & 0o777 == 0o600

"""A service that tries what a service of another user must not be able to do; it says what came of
each try: "done", or the name of the error."""

import asyncio
import ctypes
import errno
import os
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import zmq
from msgspec import Raw

from garrison.ipc import messages
from garrison.ipc.messages import WIRE
from garrison.workers import Plugin, Runtime, Service

PTRACE_ATTACH, PTRACE_SEIZE = 16, 0x4206  # linux/ptrace.h
KEYCTL_SEARCH, KEY_SPEC_SESSION_KEYRING = 10, -3  # linux/keyctl.h
REPLY_S = 0.15  # for an answer that should not come


def named(error: OSError) -> str:
    """Return an error's name."""
    return errno.errorcode.get(error.errno or 0, str(error.errno))


class Spy(Service):
    """Tries."""

    service_type = "spy"
    capability_description = "Tries what it must not"

    @classmethod
    async def start(cls, runtime: Runtime) -> Self:
        """Leave a line in the log, and one in the data folder."""
        print(f"spying as {os.getuid()}", flush=True)
        runtime.logger.info("logged as %d", os.getuid())
        with (runtime.data_folder / "starts").open("a") as file:
            file.write(f"{os.getuid()}\n")
        return cls(runtime)

    def who(self) -> dict[str, Any]:
        """Return the user and groups that it runs as."""
        status = Path("/proc/self/status").read_text().splitlines()
        caps = {line.split()[0]: int(line.split()[1], 16) for line in status if "Cap" in line}
        home = {name: os.environ.get(name) for name in ("HOME", "USER", "LOGNAME", "SHELL")}
        return {
            "uids": os.getresuid(),
            "gids": os.getresgid(),
            "groups": os.getgroups(),
            "rights": caps["CapPrm:"] | caps["CapEff:"] | caps["CapAmb:"],
            "seen as": os.stat("/proc/self/status").st_uid,  # noqa: PTH116
            "pid": os.getpid(),
            "launcher": os.getppid(),
            **home,
        }

    async def starts(self) -> list[str]:
        """Return what each start has left in the data folder."""
        return (self.runtime.data_folder / "starts").read_text().split()

    async def ask(self, other: str) -> dict[str, Any]:
        """Call `who` of another one."""
        proxy = self.runtime.get_service(other)
        assert proxy is not None
        found: dict[str, Any] = await proxy.who()
        return found

    def kill(self, pid: int, number: int = signal.SIGKILL) -> list[str]:
        """Signal a process, in every way."""
        outcomes: list[str] = []
        ways: tuple[Callable[[], None], ...] = (
            lambda: os.kill(pid, number),
            lambda: os.killpg(os.getpgid(pid), number),
            lambda: signal.pidfd_send_signal(os.pidfd_open(pid), number),
        )
        for way in ways:
            try:
                way()
            except OSError as error:
                outcomes.append(named(error))
            else:
                outcomes.append("done")
        return outcomes

    def trace(self, pid: int) -> list[str]:
        """Look into a process, in every way."""
        libc = ctypes.CDLL(None, use_errno=True)
        outcomes: list[str] = []
        for request in (PTRACE_ATTACH, PTRACE_SEIZE):
            done = libc.ptrace(request, pid, None, None) == 0
            outcomes.append("done" if done else errno.errorcode[ctypes.get_errno()])
        for file in ("mem", "environ", "fd", "maps"):
            outcomes.append(self.read(f"/proc/{pid}/{file}"))
        return outcomes

    def read(self, path: str) -> str:
        """Read a file, or list a folder."""
        try:
            if os.path.isdir(path):  # noqa: PTH112 (Path's own raises where it may not look)
                os.listdir(path)  # noqa: PTH208
            else:
                os.close(os.open(path, os.O_RDONLY))
        except OSError as error:
            return named(error)
        return "done"

    def write(self, path: str) -> str:
        """Write to a file."""
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
            try:
                os.write(descriptor, b"1")
            finally:
                os.close(descriptor)
        except OSError as error:
            return named(error)
        return "done"

    def key(self, name: str, number: int) -> str:
        """Search the session's keyring for a key.

        Args:
            name: As it was added.
            number: Of keyctl(2) on this machine.
        """
        libc = ctypes.CDLL(None, use_errno=True)
        libc.syscall.restype = ctypes.c_long
        ring = ctypes.c_int(KEY_SPEC_SESSION_KEYRING)
        if libc.syscall(number, KEYCTL_SEARCH, ring, b"user", name.encode(), 0) > 0:
            return "done"
        return errno.errorcode[ctypes.get_errno()]

    def connect(self, path: str, kind: int = socket.SOCK_STREAM) -> str:
        """Connect to a socket."""
        with socket.socket(socket.AF_UNIX, kind) as one:
            try:
                one.connect(path)
            except OSError as error:
                return named(error)
        return "done"

    def greeted(self, path: str) -> int:
        """Return the number of bytes that a socket sends to a new connection."""
        with socket.socket(socket.AF_UNIX) as one:
            one.settimeout(2)
            one.connect(path)
            try:
                return len(one.recv(64))
            except OSError:
                return 0

    async def own(self, key: str) -> str:
        """Return the path of its own socket `control` or `bus`, or its `token` in hexadecimal."""
        session: Any = self.runtime.client.session
        if key == "token":
            return str(session.token.hex())
        return str(getattr(session, key)._path)

    async def order(self) -> None:
        """Send the supervisor, under its own address, messages that only programs may send."""
        session = self.runtime.client.session
        session.send(messages.Order(1, "down"))
        session.send(messages.Join(WIRE, os.getpid()))

    async def say(self, path: str, token: str, what: str, to: str = "") -> list[str]:
        """Send a message to the supervisor, or on the bus, under a token; return the replies."""
        batches: dict[str, list[Any]] = {
            "order": [messages.Order(1, "down")],
            "join": [messages.Join(WIRE, os.getpid())],
            "bye": [messages.Leave()],
            "stopped": [messages.Stopped("a claim")],
            "broken": [messages.Failing("run", "a claim", permanent=True)],
            "hello": [messages.Hello(WIRE, "other", 99, os.getpid())],
            "call": [messages.Call(1, "who", Raw(b"\x90"), messages.EMPTY_MAP, 5.0)],
        }
        batch = batches[what]
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        one = context.socket(zmq.DEALER)
        one.set(zmq.ROUTING_ID, bytes.fromhex(token))
        one.set(zmq.PROBE_ROUTER, 1)
        one.set(zmq.IMMEDIATE, 1)
        one.set(zmq.LINGER, 300)
        replies: list[str] = []
        try:
            one.connect(f"ipc://{path}")
            until = time.monotonic() + REPLY_S
            sent = False
            while time.monotonic() < until:
                await asyncio.sleep(0.005)
                if not sent:
                    try:
                        frames = [bytes.fromhex(to), messages.encode(batch)]
                        one.send_multipart(frames, zmq.NOBLOCK)
                        sent = True
                    except zmq.Again:
                        continue
                try:
                    replies.append(repr(one.recv_multipart(zmq.NOBLOCK)))
                except zmq.Again:
                    continue
        finally:
            one.close()
            context.term()
        return replies

    async def squat(self, path: str, token: str, seconds: float) -> int:
        """Be connected under a token for a while, from now on; count what comes."""
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        one = context.socket(zmq.DEALER)
        one.set(zmq.ROUTING_ID, bytes.fromhex(token))
        one.set(zmq.PROBE_ROUTER, 1)
        one.set(zmq.RECONNECT_IVL, 1)
        one.set(zmq.LINGER, 0)
        one.connect(f"ipc://{path}")
        until, received = time.monotonic() + seconds, 0
        try:
            while time.monotonic() < until:
                await asyncio.sleep(0.002)
                try:
                    one.recv_multipart(zmq.NOBLOCK)
                except zmq.Again:
                    continue
                received += 1
        finally:
            one.close()
            context.term()
        return received


plugin = Plugin(name="spy", services=[Spy])

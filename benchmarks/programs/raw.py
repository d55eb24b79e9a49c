"""Floor: raw DEALER, ROUTER and DEALER in three processes, synchronous, one message a call.

Usage: raw.py FOLDER REQUEST_BYTES REPLY_BYTES COUNT WIDTH
Prints {"times": [seconds of each call, where WIDTH is 1], "total": seconds, "used": {role: [seconds
of a processor, of the main thread and of the others]}} as JSON.
"""

import json
import os
import sys
import time
from pathlib import Path

import zmq
from multiprocess.context import ForkProcess

CALLER, ECHO = b"caller-0123456789", b"echo-012345678901"  # as long as garrison's tokens are


def used(pid: int) -> tuple[float, float]:
    """Return the seconds of a processor that a process's main thread has used, and its others."""
    main = others = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        nanoseconds = int((task / "schedstat").read_text().split()[0])
        if task.name == str(pid):
            main = nanoseconds
        else:
            others += nanoseconds
    return main / 1e9, others / 1e9


def router(path: str) -> None:
    """Pass messages on as `[source][body]`, once both peers are there."""
    socket: zmq.Socket[bytes] = zmq.Context().socket(zmq.ROUTER)
    socket.bind(path)
    for _ in (CALLER, ECHO):
        socket.recv_multipart()  # its probe
    socket.send_multipart([CALLER, b"both are there"])
    while True:
        source, destination, body = socket.recv_multipart()
        socket.send_multipart([destination, source, body])


def dealer(path: str, name: bytes) -> "zmq.Socket[bytes]":
    """Connect to the router."""
    socket: zmq.Socket[bytes] = zmq.Context().socket(zmq.DEALER)
    socket.set(zmq.ROUTING_ID, name)
    socket.set(zmq.PROBE_ROUTER, 1)
    socket.connect(path)
    return socket


def echo(path: str, reply: bytes) -> None:
    """Answer each message with the reply."""
    socket = dealer(path, ECHO)
    while True:
        source, _ = socket.recv_multipart()
        socket.send_multipart([source, reply])


def call(
    path: str, request: bytes, count: int, width: int, pids: dict[str, int]
) -> dict[str, object]:
    """Make the calls, `width` of them in flight."""
    socket = dealer(path, CALLER)
    socket.recv_multipart()
    message = [ECHO, request]
    for _ in range(200):
        socket.send_multipart(message)
        socket.recv_multipart()
    times: list[float] = []
    before = {role: used(pid) for role, pid in pids.items()}
    began = time.perf_counter()
    if width == 1:
        for _ in range(count):
            sent = time.perf_counter()
            socket.send_multipart(message)
            socket.recv_multipart()
            times.append(time.perf_counter() - sent)
    else:
        for _ in range(width):
            socket.send_multipart(message)
        for left in range(count, 0, -1):
            socket.recv_multipart()
            if left > width:
                socket.send_multipart(message)
    total = time.perf_counter() - began
    spent = {
        role: [after - first for after, first in zip(used(pid), before[role], strict=True)]
        for role, pid in pids.items()
    }
    return {"times": times, "total": total, "used": spent}


def main() -> None:
    """Measure, and print what was found."""
    folder, request, reply, count, width = sys.argv[1:6]
    path = f"ipc://{folder}/raw.sock"
    peers = [
        ForkProcess(target=router, args=(path,), daemon=True),
        ForkProcess(target=echo, args=(path, bytes(int(reply))), daemon=True),
    ]
    for peer in peers:
        peer.start()
    pids = {"caller": os.getpid(), "router": peers[0].pid or 0, "echo": peers[1].pid or 0}
    print(json.dumps(call(path, bytes(int(request)), int(count), int(width), pids)))
    for peer in peers:
        peer.kill()
        peer.join()


if __name__ == "__main__":
    main()

"""Floor: large bytes over raw DEALER, ROUTER and DEALER in three processes, there and back.

Usage: large.py FOLDER SIZE COUNT
Prints {"total": seconds} as JSON. Both ends take each message as `bytes` and send `bytes`; nothing
is copied that need not be: not in the router, and not in sending.
"""

import json
import os
import sys
import time

import zmq
from multiprocess.context import ForkProcess

CALLER, ECHO = b"caller-0123456789", b"echo-012345678901"  # as long as garrison's tokens are
WARM = 10  # calls before the clock starts


def router(path: str) -> None:
    """Pass messages on as `[source][body]`, once both peers are there."""
    socket: zmq.Socket[bytes] = zmq.Context().socket(zmq.ROUTER)
    socket.bind(path)
    for _ in (CALLER, ECHO):
        socket.recv_multipart()  # its probe
    socket.send_multipart([CALLER, b"both are there"])
    while True:
        source, destination = socket.recv(), socket.recv()
        body = socket.recv(copy=False)
        socket.send(destination, zmq.SNDMORE)
        socket.send(source, zmq.SNDMORE)
        socket.send(body, copy=False)


def dealer(path: str, name: bytes) -> "zmq.Socket[bytes]":
    """Connect to the router."""
    socket: zmq.Socket[bytes] = zmq.Context().socket(zmq.DEALER)
    socket.set(zmq.ROUTING_ID, name)
    socket.set(zmq.PROBE_ROUTER, 1)
    socket.connect(path)
    return socket


def echo(path: str) -> None:
    """Answer each message with what it has."""
    socket = dealer(path, ECHO)
    while True:
        source, body = socket.recv_multipart()
        socket.send(source, zmq.SNDMORE)
        socket.send(body, copy=False)


def call(path: str, size: int, count: int) -> float:
    """Make the calls, one after another; return how long they took."""
    socket = dealer(path, CALLER)
    socket.recv_multipart()
    body = os.urandom(size)
    began = time.perf_counter()
    for number in range(WARM + count):
        if number == WARM:
            began = time.perf_counter()
        socket.send(ECHO, zmq.SNDMORE)
        socket.send(body, copy=False)
        if len(socket.recv_multipart()[1]) != size:
            raise ValueError("other bytes came back")
    return time.perf_counter() - began


def main() -> None:
    """Measure, and print what was found."""
    folder, size, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    path = f"ipc://{folder}/raw.sock"
    peers = [ForkProcess(target=to, args=(path,), daemon=True) for to in (router, echo)]
    for peer in peers:
        peer.start()
    print(json.dumps({"total": call(path, size, count)}))
    for peer in peers:
        peer.kill()
        peer.join()


if __name__ == "__main__":
    main()

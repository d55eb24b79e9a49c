"""Floor of a direct call: raw DEALER and ROUTER in two processes, synchronous.

Usage: raw_hop.py FOLDER REQUEST_BYTES REPLY_BYTES COUNT
Prints {"times": [seconds of each call]} as JSON.
"""

import json
import sys
import time

import zmq
from multiprocess.context import ForkProcess


def echo(path: str, reply: bytes) -> None:
    """Answer each message with the reply."""
    socket: zmq.Socket[bytes] = zmq.Context().socket(zmq.ROUTER)
    socket.bind(path)
    while True:
        source, _ = socket.recv_multipart()
        socket.send_multipart([source, reply])


def call(path: str, request: bytes, count: int) -> dict[str, object]:
    """Make the calls, one after another."""
    socket: zmq.Socket[bytes] = zmq.Context().socket(zmq.DEALER)
    socket.connect(path)
    for _ in range(200):
        socket.send(request)
        socket.recv()
    times: list[float] = []
    for _ in range(count):
        sent = time.perf_counter()
        socket.send(request)
        socket.recv()
        times.append(time.perf_counter() - sent)
    return {"times": times}


def main() -> None:
    """Measure, and print what was found."""
    folder, request, reply, count = sys.argv[1:5]
    path = f"ipc://{folder}/raw.sock"
    peer = ForkProcess(target=echo, args=(path, bytes(int(reply))), daemon=True)
    peer.start()
    print(json.dumps(call(path, bytes(int(request)), int(count))))
    peer.kill()
    peer.join()


if __name__ == "__main__":
    main()

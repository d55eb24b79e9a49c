"""Floor: a fresh process with a worker's imports, until it answers a call over a raw socket.

Usage: fresh.py FOLDER COUNT [MODULE …]
Prints the seconds of each process, from Popen to its answer, as JSON.
"""

import importlib
import json
import subprocess
import sys
import time

import zmq

IMPORTS = ("uvloop", "zmq", "msgspec", "garrison.workers.process.main")


def answer(path: str, modules: list[str]) -> None:
    """Be the fresh process: import, connect, answer."""
    for module in (*IMPORTS, *modules):
        importlib.import_module(module)
    socket: zmq.Socket[bytes] = zmq.Context().socket(zmq.DEALER)
    socket.connect(path)
    socket.send(b"here")
    socket.send(socket.recv())
    socket.recv()


def measure(socket: "zmq.Socket[bytes]", path: str, modules: list[str]) -> float:
    """Return the seconds that one fresh process takes."""
    began = time.perf_counter()
    with subprocess.Popen([sys.executable, "-P", __file__, "--answer", path, *modules]) as process:
        name, _ = socket.recv_multipart()
        socket.send_multipart([name, b"call"])
        socket.recv_multipart()
        took = time.perf_counter() - began
        socket.send_multipart([name, b"end"])
        process.wait(10)
    return took


def main() -> None:
    """Measure, and print what was found."""
    if sys.argv[1] == "--answer":
        answer(sys.argv[2], sys.argv[3:])
        return
    folder, count, *modules = sys.argv[1:]
    path = f"ipc://{folder}/fresh.sock"
    socket: zmq.Socket[bytes] = zmq.Context().socket(zmq.ROUTER)
    socket.bind(path)
    print(json.dumps([measure(socket, path, modules) for _ in range(int(count))]))


if __name__ == "__main__":
    main()

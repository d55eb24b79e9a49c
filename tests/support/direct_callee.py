"""Forks callees of direct routes: plain processes with a listening socket each, to be killed.

Run as a program: it reads a path a line, forks a callee that listens there, and prints its pid.
"""

import os
import signal
import sys

from msgspec import Raw

from garrison.ipc import messages
from garrison.ipc.direct_sockets import PACKET, listen
from garrison.ipc.messages import encode

LOOK_S = 0.5
RESULT = Raw(encode("x" * 700))


def serve(path: str) -> None:
    """Answer each call at once, until killed, or until what has forked this ends."""
    parent = os.getppid()
    listener, _ = listen(path)
    listener.setblocking(True)
    connection, _ = listener.accept()
    connection.settimeout(LOOK_S)
    while os.getppid() == parent:
        try:
            batch = connection.recv(PACKET)
        except TimeoutError:
            continue
        if not batch:
            return
        connection.setblocking(True)
        for message in messages.decode_data(batch):
            if isinstance(message, messages.Call):
                connection.send(encode([messages.Reply(message.id, RESULT)]))
            elif isinstance(message, messages.Barrier):
                connection.send(encode([messages.Passed(message.number)]))
        connection.settimeout(LOOK_S)


def main() -> None:
    """Fork a callee for each line; this process has one thread."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # reaped by the kernel
    for line in sys.stdin:
        pid = os.fork()
        if not pid:
            serve(line.strip())
            os._exit(0)
        print(pid, flush=True)


if __name__ == "__main__":
    main()

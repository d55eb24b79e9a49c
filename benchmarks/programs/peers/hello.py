"""What every manager runs: a program that imports what a worker does, says hello, and waits.

Usage: hello.py SOCKET NAME
"""

import asyncio  # noqa: F401
import os
import socket
import sys

import msgspec  # noqa: F401
import zmq  # noqa: F401


def main() -> None:
    """Say hello, and wait for the other end to close."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(sys.argv[1])
        connection.sendall(f"{sys.argv[2]} {os.getpid()}\n".encode())
        connection.recv(1)


if __name__ == "__main__":
    main()

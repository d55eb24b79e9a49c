"""A node's process whose connection has no keys, for tests of the engine alone.

It runs below a keeper, to which a launcher falls when the node's process is killed: the engine in
the test's own process ends what falls to that. The keeper starts a process that was killed again.
"""

import contextlib
import os
import signal
import sys
from pathlib import Path

import zmq

from garrison.ipc import sockets
from garrison.ipc.system import process_tree
from garrison.supervisor.node.run import Context, run_node


def main(name: str, home: str, folder: str, address: str) -> None:
    """Serve as a node of the engine socket at an address."""

    def connect(context: Context, identity: bytes) -> "zmq.Socket[bytes]":
        dealer = context.socket(zmq.DEALER, socket_class=sockets.PlainSocket)
        for option, value in ((zmq.ROUTING_ID, identity), (zmq.LINGER, 500)):
            dealer.set(option, value)
        dealer.set(zmq.IMMEDIATE, 1)
        dealer.set(zmq.PROBE_ROUTER, 1)
        dealer.set(zmq.RECONNECT_IVL, 20)
        dealer.connect(address)
        return dealer

    def say(line: str) -> None:
        print(line, flush=True)

    run_node(name, Path(home), Path(folder), connect, "", os.environ, 0.0, say)


def keep(pid_file: str, *words: str) -> None:
    """Run a node's process, again after each kill, until it ends by itself.

    It is forked, as its imports are done here.
    """
    process_tree.become_subreaper()
    child = 0

    def forward(number: int, frame: object) -> None:
        if child:
            os.kill(child, number)

    signal.signal(signal.SIGTERM, forward)
    while True:
        child = os.fork()
        if not child:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            return main(*words)
        Path(pid_file).write_text(str(child))
        while (ended := os.wait())[0] != child:
            pass
        child = 0
        if os.waitstatus_to_exitcode(ended[1]) != -signal.SIGKILL:
            break
    with contextlib.suppress(ChildProcessError):
        while True:
            os.wait()


if __name__ == "__main__":
    keep(*sys.argv[1:])

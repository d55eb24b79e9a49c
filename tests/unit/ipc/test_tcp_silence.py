"""Connections over TCP that are watched for silence."""

import subprocess
import sys

ROUTER = """
import zmq

from garrison.ipc import sockets

SILENCE_S = 0.4
context = zmq.Context()
router = context.socket(zmq.ROUTER)
router.set(zmq.ROUTER_HANDOVER, 1)
sockets.notice_silence(router, SILENCE_S)
port = router.bind_to_random_port("tcp://127.0.0.1")


def connect():
    dealer = context.socket(zmq.DEALER)
    dealer.set(zmq.ROUTING_ID, b"node")
    dealer.connect(f"tcp://127.0.0.1:{port}")
    dealer.send(b"here")
    router.recv_multipart()
    return dealer


for _ in range(2):
    former = connect()
    later = connect()
    former.send(b"under way")  # in the router nothing has a place for it
    assert not router.poll(50)
    former.close(linger=0)
    assert not router.poll(SILENCE_S * 1000)
    later.send(b"goes on")
    assert router.recv_multipart() == [b"node", b"goes on"]
    later.close(linger=0)
"""


def test_a_router_outlives_what_a_former_connection_had_under_way() -> None:
    """A node connects anew after a partition, and its former connection ends later.

    libzmq's own heartbeats end the process there.
    """
    done = subprocess.run([sys.executable, "-c", ROUTER], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")

"""Raw pyzmq over two hops, synchronous: DEALER, ROUTER and DEALER in three processes."""

import sys

import msgspec
import rounds
import zmq

CALLER, ECHO = b"caller", b"echo"


def dealer(path: str, name: bytes) -> "zmq.Socket[bytes]":
    """Connect to the router."""
    socket: zmq.Socket[bytes] = zmq.Context().socket(zmq.DEALER)
    socket.set(zmq.ROUTING_ID, name)
    socket.set(zmq.PROBE_ROUTER, 1)
    socket.connect(path)
    return socket


def serve(path: str) -> None:
    """Answer each message with itself, decoded and encoded."""
    socket = dealer(path, ECHO)
    rounds.serving()
    while True:
        source, body = socket.recv_multipart()
        value = msgspec.msgpack.decode(body)
        socket.send_multipart([source, msgspec.msgpack.encode(value)])


def route(path: str) -> None:
    """Pass messages on, once both peers are there."""
    socket: zmq.Socket[bytes] = zmq.Context().socket(zmq.ROUTER)
    socket.bind(path)
    rounds.serving()
    for _ in (CALLER, ECHO):
        socket.recv_multipart()  # its probe
    socket.send_multipart([CALLER, b"both are there"])
    while True:
        source, destination, body = socket.recv_multipart(copy=False)
        socket.send_multipart([destination, source, body], copy=False)


def main(folder: str) -> None:
    """Measure."""
    path = f"ipc://{folder}/raw.sock"
    rounds.started("route", path)
    rounds.started("serve", path)
    socket = dealer(path, CALLER)
    socket.recv_multipart()
    pack, unpack = msgspec.msgpack.encode, msgspec.msgpack.decode

    def send(value: object) -> None:
        socket.send_multipart([ECHO, pack(value)])

    def call(value: object) -> object:
        send(value)
        return unpack(socket.recv_multipart()[1])

    def flight(count: int) -> None:
        for _ in range(rounds.WIDTH):
            send(rounds.SMALL)
        for left in range(count, 0, -1):
            unpack(socket.recv_multipart()[1])
            if left > rounds.WIDTH:
                send(rounds.SMALL)

    rounds.measure(call, flight=flight)


if __name__ == "__main__":
    {"serve": serve, "route": route}.get(sys.argv[1], lambda _: main(sys.argv[1]))(sys.argv[-1])

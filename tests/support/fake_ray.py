"""Stands for the program that speaks to Ray: it places each service on the node of its argument.

A service that begins with "wait" waits; one that begins with "end" ends the program.
"""

import os
import socket
import sys

from garrison.supervisor.placing.ray_messages import (
    Known,
    MessageReader,
    RayNode,
    Want,
    Wanted,
    encoded,
)


def main() -> None:
    """Answer each message."""
    node, connection, reader = sys.argv[1], socket.socket(fileno=os.dup(0)), MessageReader()
    while data := connection.recv(1 << 20):
        reader.feed(data)
        if (wanted := reader.last(Wanted)) is None:
            continue
        if any(one.service.startswith("end") for one in wanted.services):
            sys.exit("its end was ordered")
        connection.sendall(encoded(_known(node, wanted.services)))


def _known(node: str, wants: tuple[Want, ...]) -> Known:
    waits = {one.service: (one.epoch, "waits for luck") for one in wants if one.service[0] == "w"}
    placed = {
        one.service: (one.epoch, one.node or node) for one in wants if one.service not in waits
    }
    return Known(placed, waits, (RayNode("r1", node, resources={"GPU": 2.0}),))


if __name__ == "__main__":
    main()

"""Ports of tests."""

import socket

from tests.support.ports import EACH, free_port


def test_a_port_is_given_once_and_a_used_one_never() -> None:
    """A call returns another port than those before; one with a server is left out."""
    with socket.create_server(("127.0.0.1", free_port())) as server:
        taken = server.getsockname()[1]
        found = [free_port() for _ in range(EACH)]
    assert taken not in found
    assert len(set(found[:10])) == 10

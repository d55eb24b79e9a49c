"""Reports to systemd: what is not read is sent again, and what the status says."""

import socket
from pathlib import Path

from tests.unit.lifecycle.test_services import a_service

from garrison.ipc.messages import State
from garrison.supervisor.systemd import Systemd, status_line


def test_what_systemd_does_not_read_is_sent_again(tmp_path: Path) -> None:
    """A report of the end of the start must not be lost: systemd would end the host."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemds:
        systemds.bind(str(tmp_path / "notify"))
        systemds.setblocking(False)
        reports = Systemd({"NOTIFY_SOCKET": str(tmp_path / "notify")})
        sent = 0
        while reports._send(["STATUS=x"]):
            sent += 1
        reports.ready()
        assert reports.due == 0.0
        for _ in range(sent):
            assert systemds.recv(4096) == b"STATUS=x"
        reports.turn(1.0, [], settling=False)

        assert "READY=1" in systemds.recv(4096).decode().split("\n")
        reports.close()
        assert reports.due == float("inf")


def test_the_status_names_what_does_not_run() -> None:
    """Three of them; the rest is counted."""
    states = [State.RUNNING, *[State.BACKOFF] * 4]
    services = [a_service(f"s{number}", state) for number, state in enumerate(states)]

    assert status_line(services) == (
        "1 of 5 services run: s1 is backoff, s2 is backoff, s3 is backoff and 1 more"
    )
    assert status_line([]) == "0 of 0 services run"

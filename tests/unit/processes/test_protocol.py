"""The protocol between supervisor and launcher stays readable for launchers of version 0.1.0."""

import pytest

from garrison.supervisor.config.cgroup_limits import CgroupLimits
from garrison.supervisor.processes.protocol import (
    VERSION,
    CheckFresh,
    Command,
    EndedReport,
    Fork,
    ForkedReport,
    FreshReport,
    GoneReport,
    InventoryEnd,
    LeaveCommand,
    NotForkedReport,
    Preload,
    PreloadedReport,
    Report,
    Signal,
    decode_command,
    decode_report,
    encode,
)

KEY = b"0123456789abcdef"
# As version 0.1.0 encodes them
COMMANDS: list[tuple[Command, bytes]] = [
    (
        Fork(KEY, "bot", "/logs/bot.log", CgroupLimits(1, 2, 3)),
        b"\x85\xa4type\xa4fork\xa3key\xc4\x100123456789abcdef\xa4name\xa3bot\xa3log\xad/logs/bot.log"
        b"\xa5walls\x83\xa6memory\x01\xa5tasks\x02\xaacpu_weight\x03",
    ),
    (
        Signal(KEY, 15, False),
        b"\x84\xa4type\xa6signal\xa3key\xc4\x100123456789abcdef\xa6number\x0f\xa5group\xc2",
    ),
    (Preload(("json",)), b"\x82\xa4type\xa7preload\xa7modules\x91\xa4json"),
    (CheckFresh(), b"\x81\xa4type\xabcheck_fresh"),
    (LeaveCommand(True), b"\x82\xa4type\xa5leave\xa4kill\xc3"),
]
REPORTS: list[tuple[Report, bytes]] = [
    (
        ForkedReport(KEY, 7, "bot", ("why",)),
        b"\x85\xa4type\xa6forked\xa3key\xc4\x100123456789abcdef\xa3pid\x07\xa4name\xa3bot"
        b"\xa6unheld\x91\xa3why",
    ),
    (
        NotForkedReport(KEY, "no"),
        b"\x83\xa4type\xaanot_forked\xa3key\xc4\x100123456789abcdef\xa6reason\xa2no",
    ),
    (
        EndedReport(KEY, 9, 0.5, 0.25, 1024, True),
        b"\x87\xa4type\xa5ended\xa3key\xc4\x100123456789abcdef\xa6status\t\xa6user_s\xcb?\xe0\x00"
        b"\x00\x00\x00\x00\x00\xa8system_s\xcb?\xd0\x00\x00\x00\x00\x00\x00\xa9rss_bytes\xcd\x04\x00"
        b"\xa3oom\xc3",
    ),
    (GoneReport(KEY, (8,)), b"\x83\xa4type\xa4gone\xa3key\xc4\x100123456789abcdef\xa4left\x91\x08"),
    (
        PreloadedReport({"a": "b"}, ("c",), 0.5, {"d": "e"}),
        b"\x85\xa4type\xa9preloaded\xa6failed\x81\xa1a\xa1b\xa8threaded\x91\xa1c\xa6took_s\xcb?\xe0"
        b"\x00\x00\x00\x00\x00\x00\xa6opened\x81\xa1d\xa1e",
    ),
    (FreshReport(("f",)), b"\x82\xa4type\xa5fresh\xa7changed\x91\xa1f"),
    (
        InventoryEnd(3, 1, "code", ("json",), True, True),
        b"\x87\xa4type\xa4here\xa3pid\x03\xa6spoken\x01\xa4code\xa4code\xa7modules\x91\xa4json"
        b"\xa7retired\xc3\xa6ending\xc3",
    ),
]


@pytest.mark.parametrize(("command", "data"), COMMANDS)
def test_commands_stay_as_they_are(command: Command, data: bytes) -> None:
    """A former launcher reads what this supervisor sends, and a later one what 0.1.0 sends."""
    assert encode(command) == data
    assert decode_command(data) == command


@pytest.mark.parametrize(("report", "data"), REPORTS)
def test_reports_stay_as_they_are(report: Report, data: bytes) -> None:
    """This supervisor reads what a former launcher sends."""
    assert encode(report) == data
    assert decode_report(data) == report


def test_the_version_is_that_of_former_launchers() -> None:
    """Another number would end them, with their workers' launcher."""
    assert VERSION == 1

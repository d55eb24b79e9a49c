"""A launcher that is started before its supervisor is imported."""

import os
import resource
import select
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from tests.support.host import hosting
from tests.support.waiting import until

from garrison.supervisor.processes import early_launcher, protocol
from garrison.supervisor.processes.early_launcher import NAME, EarlyLauncher
from garrison.supervisor.processes.protocol import EarlySettings, Fork, encode

PATIENCE = 30.0
SECRET = "cAn4ry"


def begun(environ: Mapping[str, str]) -> EarlyLauncher:
    """Return a launcher that was just started."""
    early = early_launcher.begin(environ)
    assert early is not None
    return early


@pytest.fixture
def early() -> Iterator[EarlyLauncher]:
    """A launcher that was started early."""
    one = begun({**os.environ, "BOT_TOKEN": SECRET})
    yield one
    one.drop()


def configure(early: EarlyLauncher, folder: Path) -> Path:
    """Send a launcher its settings; return the path that it is to listen at."""
    path = folder / NAME
    settings = EarlySettings(str(path), 10.0, False, ("eliza",))
    log = os.open(folder / "launcher.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    early.configure(str(path), encode(settings), log)
    os.close(log)
    return path


def has_ended(early: EarlyLauncher) -> bool:
    """Return whether a launcher ends in time."""
    poll = select.poll()
    poll.register(early.pidfd, select.POLLIN)
    return bool(poll.poll(PATIENCE * 1000))


def test_it_has_no_secret_of_its_supervisor(early: EarlyLauncher) -> None:
    """What was ever in its memory is in that of every worker."""
    assert SECRET.encode() not in Path(f"/proc/{early.pid}/environ").read_bytes()


def test_it_inherits_no_other_descriptor(tmp_path: Path) -> None:
    """A descriptor that the supervisor was started with is not the launcher's."""
    left = os.open(tmp_path / "left", os.O_RDWR | os.O_CREAT)
    os.set_inheritable(left, True)
    early = begun(os.environ)
    try:
        folder = Path(f"/proc/{early.pid}/fd")
        opened = [str(one.readlink()) for one in folder.iterdir() if one.is_symlink()]
        assert str(tmp_path / "left") not in opened
    finally:
        early.drop()
        os.close(left)


def test_it_ends_with_a_supervisor_that_never_had_the_home(early: EarlyLauncher) -> None:
    """A refused or killed supervisor leaves no launcher behind."""
    early.connection.close()

    assert has_ended(early)


def test_it_is_not_at_its_path_before_a_command(early: EarlyLauncher, short_path: Path) -> None:
    """Before its supervisor has the home, another one's launcher may be there."""
    path = configure(early, short_path)
    until(lambda: imported(early))
    assert not path.exists()
    early.connection.send(encode(protocol.CheckFresh()))
    until(path.exists)


def imported(early: EarlyLauncher) -> bool:
    """Return whether a launcher has done its imports: it waits for a command."""
    return (
        Path(f"/proc/{early.pid}/wchan").read_text().startswith(("poll", "do_poll", "do_sys_poll"))
    )


def test_it_forks_nothing_for_a_supervisor_that_has_ended(
    early: EarlyLauncher, short_path: Path
) -> None:
    """The next supervisor may have looked for launchers before this one was at its path."""
    path = configure(early, short_path)
    assignment = os.memfd_create("assignment")
    command = encode(Fork(b"k" * 16, "late", str(short_path / "late.log")))
    socket.send_fds(early.connection, [command], [assignment])
    os.close(assignment)
    early.connection.close()

    assert has_ended(early)
    assert not path.exists()
    assert not (short_path / "late.log").exists()


def test_what_waits_for_it_is_forked(early: EarlyLauncher, short_path: Path) -> None:
    """What reads a plugin before there is a template, a worker afterwards; both are reported."""
    keys = {b"r" * 16: True, b"w" * 16: False}
    configure(early, short_path)
    for key, brief in keys.items():
        command = encode(Fork(key, "one", str(short_path / "one.log"), brief=brief))
        assignment = os.memfd_create("assignment")  # empty: the worker ends
        socket.send_fds(early.connection, [command], [assignment])
        os.close(assignment)

    reports = list(received(early, len(keys)))
    forked = [one.key for one in reports if isinstance(one, protocol.ForkedReport)]
    assert forked == list(keys)
    assert all(one.status for one in reports if isinstance(one, protocol.EndedReport))


def received(early: EarlyLauncher, ends: int) -> Iterator[protocol.Report]:
    """Return the reports of a launcher until so many workers are gone."""
    early.connection.settimeout(PATIENCE)
    while ends:
        data, fds, _, _ = socket.recv_fds(early.connection, protocol.FRAME_BYTES, 4)
        for fd in fds:
            os.close(fd)
        report = protocol.decode_report(data)
        ends -= isinstance(report, protocol.GoneReport)
        yield report


def test_it_leaves_the_path_to_the_next_one(early: EarlyLauncher, short_path: Path) -> None:
    """Its supervisor was killed before it had the home's lock; another one has started since."""
    path = configure(early, short_path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as next_one:
        next_one.bind(str(path))
        inode = path.stat().st_ino
        early.connection.close()

        assert has_ended(early)
        assert path.stat().st_ino == inode


def test_one_whose_limits_cannot_be_set_is_not_taken(
    short_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its workers would have too few descriptors, as its supervisor has raised its own since."""

    def refuse(*_: object) -> None:
        raise PermissionError("refused")

    early = begun(os.environ)
    path = configure(early, short_path)
    monkeypatch.setattr(resource, "prlimit", refuse)
    assert not early.take(str(path), early.environment, (resource.RLIMIT_NOFILE,))
    assert not Path(f"/proc/{early.pid}").exists()


def test_one_that_was_killed_is_replaced(short_path: Path) -> None:
    """A launcher that has ended before it is used is not taken."""
    early = begun(os.environ)
    path = configure(early, short_path)
    os.kill(early.pid, 9)
    assert has_ended(early)
    assert not early.take(str(path), early.environment, ())


def test_one_with_another_environment_is_not_taken(short_path: Path) -> None:
    """Workers inherit its environment."""
    early = begun(os.environ)
    path = configure(early, short_path)
    assert not early.take(str(path), {**early.environment, "LANG": "xx"}, ())
    assert not Path(f"/proc/{early.pid}").exists()


def test_a_host_is_served_by_it() -> None:
    """`garrison up` uses the launcher that it has started first, and a second `up` leaves none."""
    with hosting("[plugins.eliza]\n", forked=False) as one:
        until(lambda: one.run("status").code == 0)
        launcher = one.run("status", "--json").data["supervisor"]["launcher_pid"]
        words = Path(f"/proc/{launcher}/cmdline").read_text().split("\0")
        refused = one.run("up")

        assert words[-3:-1] == [NAME, "early"]
        assert refused.code == 1


def test_bundled_plugins_leave_nothing_open() -> None:
    """They are imported before it is known what they preload: only one thread may fork."""
    code = (
        "import os, sys\n"
        "from garrison.workers.process import main\n"
        "main.warm_up()\n"
        "before = sorted(os.listdir('/proc/self/fd'))\n"
        "main.import_bundled(point.name for point in main.installed_plugins())\n"
        "assert sorted(os.listdir('/proc/self/fd')) == before\n"
        "assert len(os.listdir('/proc/self/task')) == 1\n"
        "print(*sys.modules)\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    modules = set(run.stdout.split())
    assert "garrison.workers.services.agent" in modules
    libraries = {"discord", "openai", "anthropic", "telegram", "tweepy", "sqlalchemy", "mcp"}
    assert modules & libraries == set()

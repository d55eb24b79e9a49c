"""A home that others own or can write is refused, or closed for them where that breaks nothing."""

import os
import stat
from pathlib import Path

import pytest

from garrison.ipc.system.log_stream import open_log
from garrison.supervisor.config.host_spec import HostSpec
from garrison.supervisor.logs.events import EventLog
from garrison.supervisor.state.atomic import write_atomic
from garrison.supervisor.state.home import make_folders, take_lock
from garrison.supervisor.state.ownership import UnsafeHome, check_home, exposed_folders
from garrison.supervisor.state.stored import Format, read_stored

OTHER = 65534
root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can make files of other users")


def spec(home: Path, logs: Path | None = None) -> HostSpec:
    """Return the settings of a host."""
    return HostSpec(home=home, run=home / "run", state=home / "state", logs=logs or home / "logs")


def mode(path: Path) -> int:
    """Return a file's permissions."""
    return stat.S_IMODE(path.stat().st_mode)


@root
@pytest.mark.parametrize(
    "part", ["", "run", "state", "logs", "state/living.json", "logs/bot.log", "supervisor.lock"]
)
def test_what_belongs_to_another_user_is_refused(tmp_path: Path, part: str) -> None:
    """With the command that mends it."""
    host = spec(tmp_path / "h")
    make_folders(host)
    path = host.home / part
    if path.suffix:
        path.touch()
    check_home(host, change=False)
    check_home(host)
    os.chown(path, OTHER, -1)
    with pytest.raises(UnsafeHome, match=rf"{path} belongs to .*uid {OTHER}.* run: ") as refused:
        check_home(host)
    assert str(path) in str(refused.value).partition("run: ")[2]


def test_a_folder_above_that_every_user_can_change_is_named(tmp_path: Path) -> None:
    """They could move the home; with the sticky bit, as in /tmp, they cannot."""
    host = spec(tmp_path / "shared" / "app" / "h")
    (tmp_path / "shared" / "app").mkdir(parents=True)
    assert exposed_folders(host) == []
    (tmp_path / "shared").chmod(0o1777)
    assert exposed_folders(host) == []
    (tmp_path / "shared").chmod(0o777)
    host.home.mkdir()
    host.home.chmod(0o777)
    check_home(host, change=False)  # `garrison check` changes nothing
    assert mode(host.home) == 0o777
    (told,) = exposed_folders(host)
    assert f"every user can write {tmp_path / 'shared'} (mode 777)" in told


@root
@pytest.mark.parametrize("part", ["", "run"])
def test_a_link_of_another_user_is_refused(tmp_path: Path, part: str) -> None:
    """Even if it leads to a folder of this user."""
    host = spec(tmp_path / "h")
    (tmp_path / "own").mkdir(mode=0o700)
    link = host.home / part if part else host.home
    link.parent.mkdir(exist_ok=True)
    link.symlink_to(tmp_path / "own")
    os.chown(link, OTHER, -1, follow_symlinks=False)
    with pytest.raises(UnsafeHome, match="rm "):
        check_home(host)


@pytest.mark.parametrize("part", ["", "run", "state", "logs"])
@pytest.mark.parametrize("loose", [0o770, 0o707, 0o777])
def test_what_others_can_write_is_closed(tmp_path: Path, part: str, loose: int) -> None:
    """Within a home; only the right to write is taken away."""
    host = spec(tmp_path / "h")
    make_folders(host)
    (host.home / part).chmod(loose)
    file = host.state / "living.json"
    file.touch()
    file.chmod(0o666)
    check_home(host)
    assert mode(host.home / part) == loose & ~0o022
    assert mode(file) == 0o644


def test_a_shared_folder_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    """Closing a folder that others use, such as /var/log, would break what they do."""
    shared = tmp_path / "log"
    shared.mkdir()
    shared.chmod(0o775)
    (shared / "syslog").touch()
    for host in (spec(tmp_path / "h", logs=shared), spec(shared)):
        with pytest.raises(UnsafeHome, match=f"chmod go-w {shared}"):
            make_folders(host)
    assert mode(shared) == 0o775


def test_no_link_is_followed(tmp_path: Path) -> None:
    """Not by locks, events, logs or state files, whether they are read or written."""
    victim = tmp_path / "victim"
    victim.write_text('{"format": 1}')
    for name in ("supervisor.lock", "events.jsonl", "bot.log", "living.new", "orders.json"):
        (tmp_path / name).symlink_to(victim)
    with pytest.raises(Exception, match="cannot be opened"):
        take_lock(tmp_path / "supervisor.lock", tmp_path)
    log = EventLog(tmp_path / "events.jsonl")
    log.recall()
    log.record("an.event")
    with pytest.raises(OSError, match="symbolic"):
        open_log(str(tmp_path / "bot.log"))
    write_atomic(tmp_path / "living.json", b"{}")
    found, problem = read_stored(tmp_path / "orders.json", Format, set_aside=False)
    assert found is None
    assert "cannot be read" in problem
    assert victim.read_text() == '{"format": 1}'
    assert (tmp_path / "living.json").read_text() == "{}"

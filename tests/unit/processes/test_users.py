"""The user that a service can run as, and which folders that user can access."""

import grp
import os
import pwd
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from garrison.ipc.errors import StartError
from garrison.supervisor.config.environment import worker_environment
from garrison.supervisor.config.spec import ServiceSpec, service_spec
from garrison.supervisor.processes import users
from garrison.supervisor.processes.users import (
    Account,
    access_problem,
    mode_allows,
    resolve_user,
)

DATA = Path("/data")
ACCOUNT = Account("somebody", 700, 71, (70, 71))


def spec(user: str = "", group: str = "") -> ServiceSpec:
    """Return a service of a user and group."""
    return service_spec(name="s", plugin="p", service_type="t", user=user, group=group)


@pytest.fixture
def root(monkeypatch: pytest.MonkeyPatch) -> None:
    """Be root, by the ids."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(os, "getegid", lambda: 0)
    monkeypatch.setattr(users, "_capabilities", lambda: -1)


@pytest.mark.parametrize(
    ("mode", "owner", "group", "wanted", "expected"),
    [
        (0o700, 700, 0, 1, True),
        (0o077, 700, 70, 1, False),  # the owner's bits alone count for the owner
        (0o710, 0, 70, 1, True),
        (0o707, 0, 71, 1, False),
        (0o701, 0, 0, 1, True),
        (0o711, 0, 0, 5, False),
        (0o755, 0, 0, 5, True),
        (0o722, 0, 0, 2, True),
        (0o711, 0, 0, 2, False),
    ],
)
def test_a_mode_allows_access(
    mode: int, owner: int, group: int, wanted: int, expected: bool
) -> None:
    """As in the kernel: only the first class that matches counts."""
    assert mode_allows(mode, owner, group, ACCOUNT, wanted) is expected


def test_root_may_access_anything() -> None:
    """Whatever the mode."""
    assert mode_allows(0, 5, 5, Account("root", 0, 0, (0,)), 5)


@pytest.mark.usefixtures("root")
def test_a_number_needs_no_account() -> None:
    """Its group has the same number, its HOME is the service's data folder."""
    found = resolve_user(spec("54321"), DATA)
    assert found is not None
    assert (found.uid, found.gid, found.groups) == (54321, 54321, (54321,))
    assert found.environment["HOME"] == "/data"
    assert found.environment["USER"] == "54321"


@pytest.mark.usefixtures("root")
def test_a_name_brings_its_groups_and_home() -> None:
    """As at a login; a configured group replaces the account's primary group."""
    entry, other = pwd.getpwnam("nobody"), grp.getgrall()[1]
    found = resolve_user(spec("nobody"), DATA)
    assert found is not None
    assert (found.uid, found.gid) == (entry.pw_uid, entry.pw_gid)
    assert found.environment["HOME"] == entry.pw_dir
    found = resolve_user(spec("nobody", other.gr_name), DATA)
    assert found is not None
    assert found.gid == other.gr_gid
    assert other.gr_gid in found.groups


@pytest.mark.usefixtures("root")
@pytest.mark.parametrize(("user", "group"), [("", ""), ("root", ""), ("0", ""), ("0", "0")])
def test_the_supervisors_own_user_needs_no_change(user: str, group: str) -> None:
    """There is no account to change to."""
    assert resolve_user(spec(user, group), DATA) is None


@pytest.mark.usefixtures("root")
@pytest.mark.parametrize(
    ("user", "group", "text"),
    [("nobody-at-all", "", "no user `nobody-at-all`"), ("1", "none-such", "no group `none-such`")],
)
def test_an_unknown_user_or_group_is_named(user: str, group: str, text: str) -> None:
    """As the config has it."""
    with pytest.raises(StartError, match=text):
        resolve_user(spec(user, group), DATA)


def test_an_ordinary_user_cannot_start_processes_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names who can."""
    monkeypatch.setattr(os, "geteuid", lambda: 65534)
    monkeypatch.setattr(os, "getegid", lambda: 65534)
    with pytest.raises(StartError, match="user = 54321: only root can start a process"):
        resolve_user(spec("54321"), DATA)
    with pytest.raises(StartError, match="group = 54321: only root"):
        resolve_user(spec("", "54321"), DATA)


@pytest.mark.usefixtures("root")
def test_missing_capabilities_of_root_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container."""
    monkeypatch.setattr(users, "_capabilities", lambda: 1 << 0 | 1 << 5)
    with pytest.raises(StartError, match="lacks CAP_SETGID, CAP_SETUID"):
        resolve_user(spec("54321"), DATA)


@pytest.fixture
def public() -> Iterator[Path]:
    """Return a folder that all users can access."""
    with TemporaryDirectory(dir="/tmp") as folder:
        Path(folder).chmod(0o711)
        yield Path(folder)


def test_the_first_inaccessible_folder_is_named(public: Path) -> None:
    """With its mode, and the command that opens it."""
    shut = public / "shut"
    (shut / "in").mkdir(parents=True)
    shut.chmod(0o700)
    problem = access_problem(shut / "in", ACCOUNT)
    assert f"somebody cannot get into {shut}, on the way to {shut / 'in'}" in problem
    assert "0700" in problem
    shut.chmod(0o711)
    assert access_problem(shut / "in", ACCOUNT) == ""
    assert access_problem(shut / "not there", ACCOUNT) == ""
    assert f"chmod o+rx {shut}" in access_problem(shut, ACCOUNT, 5)


def test_the_environment_belongs_to_the_user() -> None:
    """HOME and the like are the user's, not the supervisor's; the config overrides them."""
    environ = {"HOME": "/root", "PATH": "/bin", "XDG_CACHE_HOME": "/root/.c", "XDG_OTHER": "1"}
    service = service_spec(name="s", plugin="p", service_type="t", env={"SHELL": "/bin/zsh"})
    env, _ = worker_environment(service, environ, of_user={"HOME": "/home/s", "SHELL": "/bin/sh"})
    assert env == {"HOME": "/home/s", "SHELL": "/bin/zsh", "PATH": "/bin", "XDG_OTHER": "1"}
    assert worker_environment(service, environ)[0]["HOME"] == "/root"

"""Services that run as users of their own: everything works, and none reaches another's.

Needs root. What a user without an account can do, any can: numbers are used where a name is not the
matter. Where this Python is closed to others, as in a home of root's, the system's own is taken.
"""

import fcntl
import os
import pwd
import signal
import socket
import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.host import LONG_GRACE, Host, hosting
from tests.support.proc import alive, children
from tests.support.public_python import public_python
from tests.support.waiting import until

from garrison.supervisor.processes.users import Account
from garrison.workers import with_timeout
from garrison.workers.process.sandbox import KEYCTL

ONE, OTHER = 54321, 54322
ORDINARY = Account("54321", ONE, ONE, (ONE,))
NAMED = "nobody"
pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can start others' processes"),
    pytest.mark.external,  # needs root, and its user ids are fixed
]

CONFIG = f"""{LONG_GRACE}
[defaults]
watchdog = 5.0
[plugins]
spy = {{}}
[services.one]
plugin = "spy"
type = "spy"
user = {ONE}
[services.other]
plugin = "spy"
type = "spy"
user = "{OTHER}"
secrets = ["TOKEN"]
[services.named]
plugin = "spy"
type = "spy"
user = "{NAMED}"
[services.plain]
plugin = "spy"
type = "spy"
"""


Making = Callable[..., Host]


@pytest.fixture
def users() -> Iterator[Making]:
    """Return what makes a host in a folder that every user can enter: `users(config)`."""
    python, path = public_python()
    made: list[Any] = []

    def make(config: str = CONFIG, up: bool = True, **env: str) -> Host:
        one = hosting(config, ["spy"], env={"PYTHONPATH": path, "TOKEN": "s3cret", **env}, up=False)
        made.append(one)
        host: Host = one.__enter__()
        host.python = python
        host.folder.chmod(0o755)
        return host.up() if up else host

    yield make
    for one in reversed(made):
        one.__exit__(None, None, None)


def killed(host: Host) -> Host:
    """Kill its supervisor alone."""
    assert host.process is not None
    host.process.send_signal(signal.SIGKILL)
    host.process.wait()
    return host


def cgroup_files(pid: int) -> list[str]:
    """Return the files by which a process's cgroups are steered."""
    members = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    folders = [
        f"{root}{line.split(':', 2)[2]}"
        for line in members
        for root in ("/sys/fs/cgroup", "/sys/fs/cgroup/unified")
    ]
    names = ("cgroup.kill", "cgroup.procs", "cgroup.freeze")
    return [f"{folder}/{name}" for folder in folders for name in names]


def mode(path: Path) -> int:
    """Return a file's mode."""
    return stat.S_IMODE(path.stat().st_mode)


async def test_each_runs_as_its_own_user_for_good(users: Making) -> None:
    """All three of its ids, its groups and its environment are that user's; no right of root's."""
    host = users()
    home = host.home / "state" / "services"
    for name, uid in (("one", ONE), ("other", OTHER), ("named", pwd.getpwnam(NAMED).pw_uid)):
        result = await host.call(name, "who")
        gid = pwd.getpwnam(NAMED).pw_gid if name == "named" else uid
        assert result["uids"] == [uid] * 3
        assert result["gids"] == [gid] * 3
        assert result["rights"] == 0
        assert result["seen as"] == uid
        assert (home / name).stat().st_uid == uid
        assert mode(home / name) == 0o700
        assert f"spying as {uid}" in host.log(name)
        assert f"logged as {uid}" in host.log(name)
    one, named = await host.call("one", "who"), await host.call("named", "who")
    assert one["groups"] == [ONE]
    assert (one["USER"], one["HOME"], one["SHELL"]) == (str(ONE), str(home / "one"), "/bin/sh")
    entry = pwd.getpwnam(NAMED)
    assert named["groups"] == sorted(os.getgrouplist(NAMED, entry.pw_gid))
    assert (named["LOGNAME"], named["HOME"], named["SHELL"]) == (
        NAMED,
        entry.pw_dir,
        entry.pw_shell,
    )
    plain = await host.call("plain", "who")
    assert plain["uids"] == [0] * 3
    assert [host.status(name)["uid"] for name in ("one", "plain")] == [ONE, None]
    assert f"user       {ONE}" in host.run("status", "one").out
    assert plain["HOME"] == os.environ.get("HOME")


def test_a_plain_command_runs_as_its_services_user(users: Making) -> None:
    """With its ids, and its secret; `check` says where the user may not run the program."""
    config = f"""{LONG_GRACE}
[services.shown]
command = ["sh", "-c", "echo as $(id -u) in $HOME with ${{TOKEN:+a token}}; sleep 1000"]
ready = "line: as"
user = {ONE}
secrets = ["TOKEN"]
[services.closed]
command = ["./closed"]
user = {ONE}
autostart = false
"""
    host = users(config, up=False)
    host.write("closed", "#!/bin/sh\n").chmod(0o700)
    (warning,) = host.run("check", "-c", str(host.config), json=True).data["would_not_start"]
    assert f"services.closed.command: closed would not start: user {ONE} cannot read" in warning
    host.up()
    home = host.home / "state" / "services" / "shown"
    assert f"as {ONE} in {home} with a token" in host.log("shown")
    (command,) = children(host.status("shown")["pid"])
    assert Path(f"/proc/{command}").stat().st_uid == ONE


async def test_calls_restarts_and_locks_work(users: Making) -> None:
    """As between services of one user."""
    host = users()
    for caller, callee in (("one", "other"), ("other", "plain"), ("plain", "named")):
        result = await host.call(caller, "ask", callee)
        assert result["uids"] == (await host.call(callee, "who"))["uids"]
    old = host.kill("one")
    host.until_reborn("one", old)
    assert (await host.call("other", "ask", "one"))["uids"] == [ONE] * 3
    assert await host.call("one", "starts") == [str(ONE)] * 2
    assert host.run("restart", "one", "other").code == 0
    assert await host.call("one", "starts") == [str(ONE)] * 3
    assert host.rows()["other"]["state"] == "running"
    assert host.run("stop", "one").code == 0
    with (host.home / "run" / "one.service.lock").open("r+b") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        refused = host.run("start", "one", timeout=90)
        assert refused.code != 0
        assert f"(pid {os.getpid()}" in refused.err  # root's eyes, before it is that user
        assert host.run("stop", "one").code == 0
    assert host.run("start", "one").code == 0
    assert host.status("one")["refused_frames"] == 0
    assert host.events("frame.refused") == []


async def test_a_killed_supervisors_services_are_adopted(users: Making) -> None:
    """Under the same pids, also those of users that the next config has no service for."""
    host = users()
    before = {name: row["pid"] for name, row in host.rows().items()}
    killed(host).up()
    assert {name: row["pid"] for name, row in host.rows().items()} == before
    assert (await host.call("one", "ask", "other"))["uids"] == [OTHER] * 3
    assert host.run("upgrade").code == 0
    assert {name: row["pid"] for name, row in host.rows().items()} == before
    assert (await host.call("one", "ask", "other"))["uids"] == [OTHER] * 3
    killed(host)
    text = host.config.read_text()
    host.write("config.toml", text.replace(f"user = {ONE}", "autostart = true"))
    host.up()
    assert host.rows()["one"]["pid"] == before["one"]  # as it was started
    assert (await host.call("one", "ask", "other"))["uids"] == [OTHER] * 3


async def test_none_can_signal_or_trace_another(users: Making) -> None:
    """Nor supervisor and launcher, nor by a cgroup."""
    host = users()
    rows = host.rows()
    targets = [rows["other"]["pid"], rows["plain"]["pid"], host.pid, host.launcher]
    for pid in targets:
        for number in (signal.SIGTERM, signal.SIGSTOP, signal.SIGKILL, signal.SIGUSR1):
            assert await host.call("one", "kill", pid, number) == ["EPERM"] * 3
        assert set(await host.call("one", "trace", pid)) <= {"EPERM", "EACCES"}
        for file in cgroup_files(pid):
            assert await host.call("one", "write", file) != "done"
    assert [host.rows()[name]["pid"] for name in ("other", "plain")] == targets[:2]
    assert host.events("supervisor.signal") == []


async def test_none_can_read_files_of_another(users: Making) -> None:
    """Home, logs, state, locks, records and sockets of others are closed; so are its own where
    only the supervisor is to have them."""
    host = users()
    host.kill("other")
    until(lambda: list((host.home / "state" / "deaths").glob("*.json")), what="a record")
    host.wait_for("other", "running")
    host.write("mine.env", "A=b\n")
    closed_to_it = [
        *(host.home, host.home / "run", host.home / "logs", host.home / "state"),
        *(path for path in host.home.rglob("*") if not path.is_socket()),
        host.folder / "mine.env",
    ]
    own = host.home / "state" / "services" / "one"
    assert own in closed_to_it
    for path in closed_to_it:
        mine = path == own or own in path.parents
        assert await host.call("one", "read", str(path)) == ("done" if mine else "EACCES"), path
        if not path.is_dir() and not mine:
            assert await host.call("one", "write", str(path)) == "EACCES", path
    for path in host.home.rglob("*.sock"):
        kind = socket.SOCK_SEQPACKET if path.name.startswith("launcher") else socket.SOCK_STREAM
        mine = path.name in {f"c{ONE}.sock", f"b{ONE}.sock"}
        result = await host.call("one", "connect", str(path), kind)
        assert result == ("done" if mine else "EACCES"), path
    for folder in ("run", "state", "logs", "state/services"):
        assert await host.call("one", "write", str(host.home / folder / "new")) == "EACCES"


# Adds a key to a session keyring of its own, prints its number, and becomes what it is to be.
WITH_KEY = """
import ctypes, os, sys
number, libc = int(sys.argv[1]), ctypes.CDLL(None)
libc.syscall(number, 1, None)  # KEYCTL_JOIN_SESSION_KEYRING
added = libc.syscall(number - 2, b"user", b"garrison-test", b"x", 1, ctypes.c_int(-3))
if added <= 0:
    sys.exit("no key can be added")
os.execvp(sys.argv[2], sys.argv[2:])
"""


def works(prefix: tuple[str, ...]) -> bool:
    """Tell whether commands can be run by a prefix."""
    return subprocess.run([*prefix, "true"], check=False).returncode == 0


async def test_none_has_the_keys_of_roots_session(users: Making) -> None:
    """Who is in a session has its keys, whoever added them: a service of another user is in none of
    root's."""
    number = KEYCTL.get(os.uname().machine, 0)
    host = users(up=False)
    host.prefix = (host.python, "-c", WITH_KEY, str(number))
    if not works(host.prefix):
        pytest.skip("this machine has no keyrings, or forbids them")
    host.up()
    assert await host.call("plain", "key", "garrison-test", number) == "done"
    assert await host.call("one", "key", "garrison-test", number) == "ENOKEY"


async def test_none_speaks_for_another_or_gives_orders(users: Making) -> None:
    """Under whatever address it connects: nothing is answered, and nothing happens."""
    host = users()
    control, bus = await host.call("one", "own", "control"), await host.call("one", "own", "bus")
    pids = {name: row["pid"] for name, row in host.rows().items()}
    await host.call("one", "order")
    until(lambda: "that orders" in str(host.events("frame.refused")), what="it is refused")
    assert host.events("supervisor.stopping") == []
    tokens = [await host.call(name, "own", "token") for name in ("other", "plain")]
    tokens.append("67" + os.urandom(15).hex())
    for token in tokens:
        for what in ("order", "join", "hello", "stopped", "broken", "bye"):
            assert await host.call("one", "say", control, token, what) == []
        assert await host.call("one", "say", bus, token, "call", tokens[0]) == []
    assert {name: row["pid"] for name, row in host.rows().items()} == pids
    assert all(row["state"] == "running" for row in host.rows().values())
    assert host.events("frame.refused")
    joins = await host.call("plain", "own", "control"), "67" + os.urandom(15).hex(), "join"
    assert await host.call("plain", "say", *joins) != []  # as the host's own user may
    (host.home / "run" / f"c{ONE}.sock").chmod(0o666)  # as its owner can; the user is checked too
    assert await host.call("other", "greeted", control) == 0
    assert await host.call("one", "greeted", control) > 0  # on a new socket, with its former mode
    assert {name: row["pid"] for name, row in host.rows().items()} == pids
    os.kill(pids["other"], signal.SIGKILL)  # had "broken" been believed, it would stay failed
    host.until_reborn("other", pids["other"])


async def test_none_takes_anothers_place_while_that_is_away(users: Making) -> None:
    """It may wait at its own door under the other's address: nothing comes there, and the other is
    heard at its own when the next supervisor is there."""
    host = users()
    control, bus = await host.call("one", "own", "control"), await host.call("one", "own", "bus")
    token = await host.call("other", "own", "token")
    pid = host.rows()["other"]["pid"]
    async with host.connect() as client:
        one = client.get_service("one")
        assert one is not None
        patient = with_timeout(one, 60.0)
        waiting = [patient.squat(path, token, 4.0) for path in (control, bus)]
        killed(host).up()
        assert host.rows()["other"]["pid"] == pid
        for _ in range(20):
            assert (await host.call("plain", "ask", "other"))["uids"] == [OTHER] * 3
        os.kill(pid, signal.SIGKILL)
        host.until_reborn("other", pid)
        for future in waiting:
            future.cancel()
    assert (await host.call("plain", "ask", "other"))["uids"] == [OTHER] * 3


def test_a_plain_host_is_its_users_alone(users: Making) -> None:
    """If no service has a user of its own, no other user has access; also after there was one."""
    host = users()
    assert mode(host.home) == mode(host.home / "run") == mode(host.home / "state") == 0o711
    assert mode(host.home / "logs") == 0o700
    assert host.end() == 0
    text = host.config.read_text()
    lines = [line for line in text.splitlines() if not line.startswith("user")]
    host.write("config.toml", "\n".join(lines))
    host.up()
    for folder in ("", "run", "state", "logs"):
        assert mode(host.home / folder) == 0o700
    sockets = list((host.home / "run").glob("*.sock"))
    assert {path.name for path in sockets} == {"control.sock", "bus.sock", "launcher-1.sock"}
    assert {mode(path) for path in sockets} == {0o600}
    for name in ("one", "other"):  # root's again, with what is in it
        data = host.home / "state" / "services" / name
        assert {path.stat().st_uid for path in (data, data / "starts")} == {0}


async def test_a_service_is_given_another_user_while_the_host_runs(users: Making) -> None:
    """Its data goes along; what a link in it leads to, and what is not its own, does not."""
    host = users()
    folder = host.home / "state" / "services" / "one"
    secret = host.write("roots.env", "A=b")
    (folder / "link").symlink_to(secret)
    (folder / "sub").mkdir()
    for path in (folder / "sub", folder / "link"):
        os.chown(path, ONE, ONE, follow_symlinks=False)
    (folder / "sub" / "roots").touch()
    text = host.config.read_text()
    host.write("config.toml", text.replace(f"user = {ONE}", "user = 54399"))
    assert host.run("restart", "one").code == 0
    assert (await host.call("plain", "ask", "one"))["uids"] == [54399] * 3
    assert await host.call("one", "starts") == [str(ONE), "54399"]
    assert {path.lstat().st_uid for path in (folder / "sub", folder / "link")} == {54399}
    assert secret.stat().st_uid == 0
    assert (folder / "sub" / "roots").stat().st_uid == 0
    host.write("config.toml", text.replace(f"user = {ONE}", 'user = "no-such-user"'))
    refused = host.run("restart", "one")
    assert refused.code != 0
    assert "there is no user `no-such-user`" in refused.err
    assert "the running one stays" in refused.err
    assert host.rows()["one"]["state"] == "running"


async def test_a_group_without_a_user(users: Making) -> None:
    """It is the supervisor's user still, at the supervisor's own sockets."""
    host = users(CONFIG.replace(f"user = {ONE}", f"group = {ONE}"))
    result = await host.call("one", "who")
    assert (result["uids"], result["gids"]) == ([0] * 3, [ONE] * 3)
    assert ONE in result["groups"]
    assert result["HOME"] == os.environ.get("HOME")
    assert (await host.call("other", "ask", "one"))["uids"] == [0] * 3
    assert not (host.home / "run" / f"c{ONE}.sock").exists()


def test_an_unknown_user_is_reported(users: Making) -> None:
    """By `check`, with file, line and key, and at the start; the others run."""
    host = users(CONFIG.replace(f"user = {ONE}", 'user = "no-such-user"'), up=False)
    line = host.config.read_text().splitlines().index('user = "no-such-user"') + 1
    checked = host.run("check", home=False)
    assert checked.code == 5
    assert f"config.toml:{line}: services.one.user: " in checked.err + checked.out
    assert "there is no user `no-such-user`" in checked.err + checked.out
    host.up()
    row = host.status("one")
    assert row["state"] == "failed"
    assert "there is no user `no-such-user`" in row["reason"]
    assert host.rows()["other"]["state"] == "running"
    text = host.config.read_text().replace("[plugins]", 'user = "none-at-all"\n[plugins]', 1)
    host.write("config.toml", text)
    line = text.splitlines().index('user = "none-at-all"') + 1
    result = host.run("check", home=False).out
    assert result.count(f"config.toml:{line}: defaults.user: there is no user `none-at-all`") == 1


def test_an_inaccessible_folder_is_reported(users: Making) -> None:
    """Which one, and to whom: by `check` and at the start."""
    host = users(up=False)
    host.folder.chmod(0o700)
    checked = host.run("check", "-c", str(host.config))
    problem = f"user {ONE} cannot get into {host.folder}"
    assert checked.code == 5
    assert problem in checked.err + checked.out
    host.up()
    row = host.status("one")
    assert row["state"] == "failed"
    assert problem in row["reason"]
    assert host.rows()["plain"]["state"] == "running"
    host.folder.chmod(0o755)
    code = host.folder / "spy.py"
    code.chmod(0o600)
    problem = f"user {ONE} cannot read {code}"
    assert host.run("start", "one").code != 0
    assert problem in host.status("one")["reason"]
    checked = host.run("check", "-c", str(host.config))
    assert problem in checked.err + checked.out
    code.chmod(0o644)
    assert host.run("check", "-c", str(host.config)).code == 0
    assert host.run("start", "one").code == 0


def test_an_inaccessible_working_directory_is_reported(users: Making) -> None:
    """To whom it is closed, by `check` and at the start: it is there, so to make it is no help."""
    host = users(CONFIG.replace(f"user = {ONE}", f'user = {ONE}\nworking_directory = "in"'), False)
    folder = host.folder / "in"
    folder.mkdir(mode=0o700)
    checked = host.run("check", "-c", str(host.config))
    assert f"user {ONE} cannot get into {folder}" in checked.err + checked.out
    row = host.up().status("one")
    assert row["state"] == "failed"
    assert f"working_directory {folder} cannot be entered" in row["reason"]
    assert f"give user {ONE} access to it" in row["reason"]
    folder.chmod(0o711)
    assert host.run("check", "-c", str(host.config)).code == 0
    assert host.run("start", "one").code == 0


def test_an_ordinary_users_supervisor_refuses_others(users: Making) -> None:
    """By `check` and at the start; its own name is no other's."""
    config = CONFIG.replace(f"user = {ONE}", f'user = "{NAMED}"\nautostart = true')
    host = users(config, up=False)
    entry = pwd.getpwnam(NAMED)
    os.chown(host.folder, entry.pw_uid, entry.pw_gid)
    host.prefix = (
        *("setpriv", f"--reuid={entry.pw_uid}", f"--regid={entry.pw_gid}", "--clear-groups"),
    )
    checked = host.run("check", "-c", str(host.config))
    result = f"user = {OTHER}: only root can start a process as somebody else"
    assert checked.code == 5
    assert result in checked.err + checked.out
    host.up()
    assert host.rows()["one"]["state"] == host.rows()["plain"]["state"] == "running"
    row = host.status("other")
    assert row["state"] == "failed"
    assert result in row["reason"]
    assert f"this supervisor runs as {NAMED}" in row["reason"]
    assert alive(host.rows()["one"]["pid"])

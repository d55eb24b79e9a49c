"""Other users who may give some orders: by their Unix user, as the kernel reports it.

Needs root. Users are numbers without accounts.
"""

import os
import signal
import subprocess
from collections.abc import Callable, Iterator

import pytest
from tests.support.host import Host, Ran, hosting
from tests.support.public_python import public_python
from tests.support.waiting import until

MEMBER, OTHER, GROUP = 54323, 54324, 54325
pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can run commands of other users"),
    pytest.mark.external,  # needs root, and its user ids are fixed
]
CONFIG = f"""
[host.operators.team-a]
group = {GROUP}
services = ["a-*"]
may = ["status", "logs", "restart"]
[host.operators.team-b]
users = [{OTHER}]
services = ["b-two", "b-command"]
[plugins]
steady = {{}}
[services.a-one]
plugin = "steady"
type = "steady"
depends_on = ["b-two"]
[services.b-two]
plugin = "steady"
type = "steady"
[services.b-command]
command = ["sleep", "1000"]
"""
As = Callable[..., Ran]


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    """Return a host whose folder every user can enter."""
    python, path = public_python()
    with hosting(CONFIG, ["steady"], env={"PYTHONPATH": path}, up=False) as host:
        host.python = python
        host.folder.chmod(0o755)
        yield host.up()


def user(uid: int, *groups: int) -> tuple[str, ...]:
    """Return the prefix of a command that a user runs; its first group is its own."""
    gid, more = (groups or (uid,))[0], ",".join(map(str, groups[1:]))
    several = ("--groups", more) if more else ("--clear-groups",)
    return ("setpriv", f"--reuid={uid}", f"--regid={gid}", *several)


def test_a_team_gives_its_orders_alone(host: Host) -> None:
    """They see and restart their services; everything else is refused by name, and recorded."""
    mia = user(MEMBER, GROUP)
    table = host.run("status", before=mia)
    assert [name for name in ("a-one", "b-two") if name in table.out] == ["a-one"]
    assert table.code == 0

    for words, text in {
        ("status", "b-two"): "team-a may see the status of a-*; b-two is not among them",
        ("restart", "b-two"): "team-a may restart a-*; b-two is not among them",
        ("logs", "b-two"): "b-two is not among them",
        ("stop", "a-one"): "team-a may not stop",
        ("down",): "garrison down is for the host's own user (root) and root",
        ("deaths",): "garrison deaths is for the host's own user",
        ("call", "a-one", "pid"): "its operators give orders, they call no service",
    }.items():
        refused = host.run(*words, before=mia)
        assert text in refused.err, words
        assert refused.code != 0

    before = host.status("a-one")["pid"]
    assert host.run("restart", "a-*", "--why", "stuck", before=mia).code == 0
    assert host.status("a-one")["pid"] != before
    given = host.events("order.given")[-1]["data"]
    assert given == {
        "verb": "restart",
        "names": "a-*",
        "uid": MEMBER,
        "user": str(MEMBER),
        "team": "team-a",
        "why": "stuck",
    }
    refused = host.events("order.refused")[-1]["data"]
    assert (refused["uid"], refused["verb"]) == (MEMBER, "deaths")
    assert host.run("top", before=mia).code == 0  # reads twice, and is refused once
    verbs = [one["data"]["verb"] for one in host.events("order.refused")]
    assert verbs.count("counters") == 1
    host.ask("restart", "b-two")
    assert host.events("order.given")[-1]["data"]["uid"] == 0


def test_why_names_only_what_a_team_may_see_and_type(host: Host) -> None:
    """Not a dependency of others as one that is missing, and no crash report."""
    mia = user(MEMBER, GROUP)
    before = host.status("a-one")["pid"]
    os.kill(before, signal.SIGKILL)
    until(lambda: host.status("a-one")["pid"] not in {None, before})
    until(lambda: host.status("a-one")["state"] == "running")
    why = host.run("why", "a-one", before=mia)
    assert "its last death: its process was killed by SIGKILL" in why.out
    assert "→ garrison logs a-one" in why.out.replace(f" --home {host.home}", "")
    assert "b-two" not in why.out
    graph = host.run("graph", before=mia)
    assert (graph.code, graph.out) == (0, "a-one\n")


def test_a_team_reads_its_logs_and_events(host: Host) -> None:
    """The supervisor reads the files for them, which they cannot open; also while they grow."""
    mia = user(MEMBER, GROUP)
    for name, line in (("a-one", "a line of ours"), ("b-two", "a line of others")):
        with (host.home / "logs" / f"{name}.log").open("a") as log:
            log.write(f"{line}\n")
    read = host.run("logs", "-n", "5", before=mia)
    assert "a line of ours" in read.out
    assert "others" not in read.out

    shown = host.run("events", "-n", "50", json=True, before=mia)
    assert {one["data"]["service"] for one in shown.answers} == {"a-one"}

    command = [*mia, host.python, "-m", "garrison.supervisor.cli", "--home", str(host.home)]
    following = subprocess.Popen(
        [*command, "logs", "-f", "a-one"], env=host.environ, stdout=subprocess.PIPE, text=True
    )
    try:
        assert following.stdout is not None
        assert "a line of ours" in following.stdout.readline()
        with (host.home / "logs" / "a-one.log").open("a") as log:
            log.write("and a later one\n")
        assert "and a later one" in following.stdout.readline()
    finally:
        following.kill()
        following.communicate()


def test_a_team_is_shown_no_config(host: Host) -> None:
    """A command's arguments and the paths of the config are the host's own."""
    own = host.run("status", "b-command", json=True)
    assert own.data["services"][0]["command"] == ["sleep", "1000"]
    assert own.data["supervisor"]["config_paths"] == [str(host.config)]
    shown = host.run("status", "b-command", json=True, before=user(OTHER))
    assert shown.data["services"][0]["command"] is None
    assert str(host.config) not in shown.out


def test_a_user_of_no_team_is_not_let_in(host: Host) -> None:
    """The kernel's record of the user counts: nothing that it sends is read."""
    refused = host.run("status", before=user(MEMBER))
    assert (refused.code, "in no team of its operators" in refused.err) == (1, True), refused
    assert host.run("status", before=user(OTHER)).out.count("b-two") == 1
    assert "may not restart" in host.run("restart", "b-two", before=user(OTHER)).err


def test_operators_cannot_open_what_is_in_the_home(host: Host) -> None:
    """They pass through two folders to one socket, and read no file."""
    script = f"find {host.home} -type f -readable; find {host.home} -writable; ls {host.home}"
    looked = subprocess.run(
        [*user(MEMBER, GROUP), "sh", "-c", script], capture_output=True, text=True, check=False
    )
    assert looked.stdout.split() == []
    direct = subprocess.run(
        [*user(MEMBER, GROUP), "sh", "-c", f"find {host.home}/run/operators.sock -writable"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert direct.stdout.strip() == f"{host.home}/run/operators.sock"


def test_the_socket_is_there_again_after_an_upgrade(host: Host) -> None:
    """An upgrade closes the home for a moment, and opens it again."""
    assert host.run("upgrade").code == 0
    until(lambda: host.run("status", before=user(MEMBER, GROUP)).code == 0)

"""The supervisor, the launcher or both die. No process is left behind."""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest
from tests.support.host import COMMAND, ROOT, Host, Hosting, found
from tests.support.proc import alive, children, ignores
from tests.support.waiting import PATIENCE, SOON, until

from garrison.ipc import OrderFailed, ServiceLost, ServiceUnavailable, SupervisorGone

CONFIG = """
[host]
orphan_grace = 1.0
[plugins.echo]
[plugins.hang]
[defaults]
grace = 1.0
"""
LEAK = "[plugins.leak]\n"
DEAF = '[services.deaf]\nplugin = "hang"\nenv = { DEAF = "yes" }\n'
PLUGINS = ["echo", "hang", "leak"]


def until_nothing_is_left(host: Host) -> None:
    """Wait until a host has no process."""
    until(lambda: not host.processes(), what="every process is gone")


# --- one supervisor per home --------------------------------------------------------------


def test_a_second_supervisor_is_refused_fast(host: Hosting) -> None:
    """Exit 1 with the pid of the first, which is not disturbed."""
    one = host("[plugins.echo]\n", ["echo"])
    pid = one.status("echo")["pid"]
    began = time.monotonic()
    ran = one.run("up", "-c", str(one.config))
    assert time.monotonic() - began < SOON
    assert ran.code == 1
    assert f"pid {one.pid}" in ran.err
    assert "garrison down" in ran.err
    ran = one.run("up", "--detach", "-c", str(one.config), json=True)
    assert ran.code == 1
    assert f"pid {one.pid}" in ran.answer["error"]["message"]
    assert one.status("echo")["pid"] == pid
    assert one.status("echo")["restarts"] == 0


def test_stale_sockets_are_no_obstacle(host: Hosting) -> None:
    """Sockets that a crash or a power cut left are replaced."""
    one = host("[plugins.echo]\n", ["echo"], up=False)
    run = one.home / "run"
    run.mkdir(parents=True, mode=0o700)
    for name in ("control.sock", "bus.sock", "launcher-1.sock", "launcher-7.sock"):
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as stale:
            stale.bind(str(run / name))
    (run / "supervisor.lock").write_text("99999999\n")
    with pytest.raises(SupervisorGone):
        one.ask("status")
    assert one.run("status").code == 7
    one.up()
    assert one.status("echo")["state"] == "running"


def test_what_was_remembered_and_is_damaged_is_set_aside(host: Hosting) -> None:
    """A truncated file is reported, and services start all the same."""
    one = host("[plugins.echo]\n", ["echo"], up=False)
    (one.home / "state").mkdir(parents=True)
    (one.home / "state" / "orders.json").write_text('{"format": 1, "stopped": ["ec')
    one.up()
    assert one.status("echo")["state"] == "running"
    assert one.events("state.damaged")
    (one.home / "state" / "orders.damaged").unlink()


# --- the death of the supervisor ----------------------------------------------------------


def test_without_its_supervisor_everything_ends_the_launcher_last(host: Hosting) -> None:
    """After the grace no process is left, not even stopped ones, ones that ignore SIGTERM, or ones
    in a session of their own."""
    one = host(CONFIG + LEAK + DEAF, PLUGINS)
    rows, launcher = one.rows(), one.launcher
    family = asyncio.run(one.call("leak", "family"))
    one.kill("hang", signal.SIGSTOP)
    workers = [row["pid"] for row in rows.values()]
    os.kill(one.pid, signal.SIGKILL)
    assert one.end() == -signal.SIGKILL

    def launcher_is_last() -> bool:
        left = [pid for pid in (*workers, *family) if alive(pid)]
        if not alive(launcher):
            assert not left, "the launcher ended before its workers"
            return True
        return False

    until(launcher_is_last)
    until_nothing_is_left(one)
    assert one.run("status").code == 7
    one.up()
    assert all(row["state"] == "running" for row in one.rows().values())


async def test_a_program_learns_of_the_supervisors_death(host: Hosting) -> None:
    """Calls in flight are lost at once, and later ones fail without a wait."""
    one = host(CONFIG, PLUGINS)
    async with one.connect() as client:
        echo = found(client, "echo")
        lost = echo.hang("in flight")
        assert await echo.echo(1) == 1
        one.end(signal.SIGKILL)
        with pytest.raises(ServiceLost, match="supervisor ended"):
            await lost
        with pytest.raises((ServiceLost, ServiceUnavailable)):
            async with asyncio.timeout(SOON):
                await echo.echo(2)
    with pytest.raises(SupervisorGone, match=r"control\.sock"):
        async with asyncio.timeout(SOON), one.connect():
            pass
    await asyncio.to_thread(until_nothing_is_left, one)


# --- the death of the launcher ------------------------------------------------------------


async def test_without_their_launcher_workers_live_on(host: Hosting) -> None:
    """Calls are answered, and a new launcher starts at once; it restarts a worker that is killed
    later, whose tree is gone."""
    one = host(CONFIG + LEAK, PLUGINS)
    before, launcher = one.rows(), one.launcher
    async with one.connect() as client:
        echo, leak = found(client, "echo"), found(client, "leak")
        family = await leak.family()
        os.kill(launcher, signal.SIGKILL)
        until(lambda: not alive(launcher))
        for n in range(100):
            assert await echo.echo(n) == n
        fresh = await asyncio.to_thread(lambda: one.launcher)  # before anything is to be forked
        assert fresh != launcher
        rows = await asyncio.to_thread(one.rows)
        assert {name: row["pid"] for name, row in rows.items()} == {
            name: row["pid"] for name, row in before.items()
        }
        for name, proxy in (("echo", echo), ("leak", leak)):
            pid = await asyncio.to_thread(one.kill, name)
            await asyncio.to_thread(one.until_reborn, name, pid)
            assert await proxy.pid() != pid
        assert not [pid for pid in family if alive(pid)]
    assert one.launcher == fresh
    assert one.events("launcher.lost")
    one.ask("restart", "hang")
    assert one.ask("stop", "echo")["services"] == {"echo": "stopped"}


async def test_the_launcher_killed_again_and_again(host: Hosting) -> None:
    """Each time the workers stay; a service killed as well is restarted."""
    one = host(CONFIG, PLUGINS)
    for n in range(3):
        launcher, pid = one.launcher, one.status("echo")["pid"]
        one.ask("reset", "echo")
        for victim in (launcher, pid) if n % 2 else (pid, launcher):
            os.kill(victim, signal.SIGKILL)
        await asyncio.to_thread(one.until_reborn, "echo", pid)
        assert await one.call("echo", "echo", n) == n
    assert one.status("hang")["generation"] == 1
    assert len(children(one.pid)) <= 5  # a launcher, and the workers that were inherited


def test_without_both_workers_end_by_themselves(host: Hosting) -> None:
    """Each worker notices by itself that no process could end it any more."""
    one = host(CONFIG + LEAK, PLUGINS)
    launcher = one.launcher
    os.kill(one.pid, signal.SIGSTOP)
    os.kill(launcher, signal.SIGKILL)
    one.end(signal.SIGKILL)
    until_nothing_is_left(one)


# --- ending -------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_one_signal_is_down(host: Hosting, number: signal.Signals, tmp_path: Path) -> None:
    """Services stop in order, with their `stop` run; exit 0."""
    signs = tmp_path / "signs"
    one = host(f'[plugins.signs]\nconfig = {{ file = "{signs}" }}\n', ["signs"])
    assert one.end(number) == 0
    assert "signs stop" in signs.read_text()
    assert not one.processes()


def test_a_second_signal_is_at_once(host: Hosting) -> None:
    """It does not wait for a `stop` that hangs."""
    one = host(CONFIG.replace("\ngrace = 1.0", "\ngrace = 60.0") + DEAF, PLUGINS)
    assert one.process is not None
    one.process.send_signal(signal.SIGINT)
    until(lambda: (head := one.head()) is not None and head["stopping"])
    until(lambda: one.rows()["deaf"]["state"] == "stopping")
    began = time.monotonic()
    one.end(signal.SIGINT)
    assert time.monotonic() - began < SOON
    until_nothing_is_left(one)


def test_down_returns_when_everything_is_gone(host: Hosting) -> None:
    """`garrison down` is exit 0 once the supervisor has ended."""
    one = host(CONFIG, PLUGINS)
    ran = one.run("down")
    assert (ran.code, ran.out) == (0, f"stopped (pid {one.pid})\n")
    assert one.process is not None
    assert one.process.wait(PATIENCE) == 0
    assert not one.processes()
    assert one.run("down").code == 7


def test_detached_it_returns_when_services_run_and_goes_on(host: Hosting) -> None:
    """`up --detach` returns when services run. The supervisor has a session of its own, and its
    output is in the home."""
    one = host(CONFIG, PLUGINS, up=False)
    ran = one.run("up", "--detach", "-c", str(one.config), json=True)
    assert ran.code == 0
    head = ran.data["supervisor"]
    assert all(row["state"] == "running" for row in ran.data["services"])
    assert os.getsid(head["pid"]) == head["pid"]
    log = one.home / "logs" / "supervisor.log"
    until(lambda: "echo" in log.read_text())
    assert one.run("down").code == 0


def test_detached_it_says_why_it_cannot(host: Hosting) -> None:
    """An unusable config is exit 5 with the error, as in the foreground."""
    one = host("[plugins.echo]\n[services.echo]\ndepends_on = ['ecko']\n", ["echo"], up=False)
    for words in (("--detach",), ()):
        ran = one.run("up", "-c", str(one.config), *words)
        assert ran.code == 5, ran
        assert "config.toml:3" in ran.err
        assert "did you mean `echo`" in ran.err


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_its_output_does_not_have_to_be_read(host: Hosting, options: tuple[str, ...]) -> None:
    """A reader that ends, like `head`, does not end the host."""
    one = host("[plugins.echo]\n", ["echo"], up=False)
    one.process = process = subprocess.Popen(
        [*COMMAND, *options, "up", "-c", str(one.config), "--home", str(one.home)],
        cwd=one.folder,
        env=one.environ,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stdout.readline()
    process.stdout.close()
    one.wait_for("echo", "running")
    for _ in range(3):
        one.ask("restart", "echo")
    assert one.status("echo")["state"] == "running"
    assert one.end() == 0


def test_the_terminal_shows_events_and_log_lines(host: Hosting) -> None:
    """One line per event, log lines with the names of their services, and the next command."""
    one = host("[plugins.crash]\n[services.crash]\nenv = { MODE = 'start raises' }", ["crash"])
    until(lambda: "RuntimeError: cannot start" in one.output)
    until(lambda: "now: garrison" in one.output)
    until(lambda: "backoff" in one.output)
    assert any(
        "crash" in line and "| RuntimeError: cannot start" in line
        for line in one.output.splitlines()
    )


# --- where it lives -----------------------------------------------------------------------


def test_the_home_is_set_in_three_ways(host: Hosting) -> None:
    """`--home` takes precedence over $GARRISON_HOME, and that over `[host] home`."""
    one = host('[host]\nhome = "of-config"\n[plugins.echo]\n', ["echo"], up=False)
    home = {"GARRISON_HOME": str(one.folder / "of-environment")}
    for env, options, name in (
        ({}, (), "of-config"),
        (home, (), "of-environment"),
        (home, ("--home", str(one.folder / "option")), "option"),
    ):
        for words in (("up", "--detach"), ("status",), ("down",)):
            ran = one.run(*options, *words, home=False, env=env)
            assert ran.code == 0, ran
        assert (one.folder / name / "run" / "supervisor.lock").exists()
        ran = one.run(*options, "status", home=False, env=env)
        assert ran.code == 7
        assert str(one.folder / name) in ran.err  # the path that was tried


def test_parts_of_the_home_can_be_elsewhere(host: Hosting) -> None:
    """`[host] run`, `state` and `logs` move one folder each; the home alone still finds the
    supervisor."""
    config = '[host]\nrun = "r"\nstate = "s"\nlogs = "l"\n[plugins.echo]\n'
    one = host(config, ["echo"])
    assert (one.folder / "r" / "control.sock").exists()
    one.ask("stop", "echo")
    assert (one.folder / "s" / "orders.json").exists()
    assert (one.folder / "l" / "echo.log").exists()
    assert one.run("status").code == 0
    assert one.run("logs", "echo").code == 0


@pytest.mark.parametrize("where", ["home", "run"])
def test_a_path_too_long_for_a_socket_is_a_clear_error(host: Hosting, where: str) -> None:
    """The error has the length, the limit and the key to set."""
    long = "x" * 100
    one = host(f'[host]\n{where} = "{long}"\n[plugins.echo]\n', ["echo"], up=False)
    ran = one.run("up", home=False)
    assert ran.code == 5
    assert "107" in ran.err
    assert "config.toml:2" in ran.err
    assert "run" in ran.err
    ran = one.run("--home", str(one.folder / long), "up", home=False)
    assert ran.code == 5


def test_a_home_that_cannot_be_made_is_a_sentence(host: Hosting) -> None:
    """Exit 1, with the path."""
    one = host("[plugins.echo]\n", ["echo"], {"file": ""}, up=False)
    ran = one.run("--home", str(one.folder / "file" / "h"), "up", home=False)
    assert ran.code == 1
    assert str(one.folder / "file" / "h") in ran.err


def test_a_supervisor_started_with_signals_ignored_still_listens(host: Hosting) -> None:
    """A shell's `&` makes children ignore SIGINT; the supervisor and its workers handle it
    again."""
    one = host("[plugins.echo]\n", ["echo"], up=False)
    with (one.folder / "up-0.out").open("wb") as out:
        one.process = subprocess.Popen(
            [
                *("sh", "-c", 'trap "" INT QUIT HUP; exec "$@"', "sh"),
                *(*COMMAND, "up", "-c", str(one.config), "--home", str(one.home)),
            ],
            env=one.environ,
            stdout=out,
            stderr=out,
        )
    until(lambda: (head := one.head()) is not None and head["settled"])
    assert not ignores(one.status("echo")["pid"], signal.SIGINT)
    assert one.end(signal.SIGINT) == 0


def test_orders_while_everything_ends_are_refused(host: Hosting) -> None:
    """During `down` nothing is started any more."""
    one = host(CONFIG, PLUGINS)
    one.kill("hang", signal.SIGSTOP)  # it takes its grace
    assert one.process is not None
    one.process.send_signal(signal.SIGTERM)
    until(lambda: (head := one.head()) is not None and head["stopping"])
    with contextlib.suppress(SupervisorGone), pytest.raises(OrderFailed, match="being stopped"):
        one.ask("start", "echo")
    assert one.end() == 0


def test_it_runs_from_any_folder(host: Hosting) -> None:
    """Files in the current folder shadow no library."""
    files = {"zmq.py": "raise RuntimeError('shadowed')\n", "signal.py": "raise RuntimeError\n"}
    one = host("[plugins.echo]\n", ["echo"], files, up=False)
    script = ROOT / ".venv" / "bin" / "garrison"
    if not script.exists():
        pytest.skip("garrison is not installed here")
    done = subprocess.run(
        [script, "--home", one.home, "up", "--detach"],
        cwd=one.folder,
        env=one.environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done
    assert one.status("echo")["state"] == "running"


def test_a_launcher_that_hangs_is_ended_and_its_workers_live_on(host: Hosting) -> None:
    """A stopped launcher can start and end nothing. It is killed after its timeout, the workers
    stay, and another launcher starts what is queued."""
    one = host(CONFIG, PLUGINS)
    echo, old = one.status("echo"), one.status("hang")
    launcher = one.launcher
    os.kill(launcher, signal.SIGSTOP)
    one.kill("hang")
    one.until_reborn("hang", old["pid"])
    assert one.status("echo")["pid"] == echo["pid"]
    assert one.launcher != launcher
    assert one.run("call", "echo", "echo", '["still there"]').out == "still there\n"


def _besides_template(launcher: int) -> set[int]:
    names = {pid: Path(f"/proc/{pid}/comm").read_text().strip() for pid in children(launcher)}
    return {pid for pid, name in names.items() if name != "template"}


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_template_that_fails_is_replaced(host: Hosting, number: int) -> None:
    """Workers keep running, and the next start has another template; one that is stopped is killed
    after 2 s."""
    one = host(CONFIG, PLUGINS)
    launcher = one.launcher
    until(lambda: len(_besides_template(launcher)) > len(one.rows()), what="one is forked ahead")
    (template,) = set(children(launcher)) - _besides_template(launcher)
    os.kill(template, number)
    for _ in range(2):  # the first start has the worker that was forked ahead
        one.until_reborn("echo", one.kill("echo"))
    until(lambda: template not in children(launcher), what="the template is replaced")
    assert one.launcher == launcher


def test_a_worker_ahead_that_was_killed_keeps_nothing_from_starting(host: Hosting) -> None:
    """The end of the spare worker and the next order reach the launcher together: it forks another
    one."""
    one = host(CONFIG, PLUGINS)
    launcher = one.launcher
    workers = {row["pid"] for row in one.rows().values()}
    forked = until(lambda: _besides_template(launcher) - workers, what="one is forked ahead")
    (spare,) = forked
    one.ask("stop", "echo")
    os.kill(launcher, signal.SIGSTOP)
    os.kill(spare, signal.SIGKILL)
    with pytest.raises(OrderFailed, match="it goes on"):
        one.ask("start", "echo", wait=0.2)
    os.kill(launcher, signal.SIGCONT)
    one.wait_for("echo", "running")
    one.until_reborn("echo", one.kill("echo"))
    assert one.launcher == launcher

"""The command line as people and scripts use it: verbs, exit codes, JSON, output."""

import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.support.commands import inherited, run_forked
from tests.support.following import Following
from tests.support.host import Host, Hosting, hosting
from tests.support.waiting import PATIENCE, until

from garrison.supervisor.cli.app import verbs

CONFIG = """
[plugins.echo]
[plugins.crash]
[plugins.broken]
[services.echo]
[services.echo-of-a-very-long-name-that-fills-a-line-by-itself]
plugin = "echo"
[services.refuses]
plugin = "crash"
env = { MODE = "start refuses" }
[services.hangs]
plugin = "crash"
env = { MODE = "start hangs" }
[services.asleep]
plugin = "crash"
autostart = false
"""
LONG = "echo-of-a-very-long-name-that-fills-a-line-by-itself"


@pytest.fixture(scope="module")
def running() -> Iterator[Host]:
    """Run services that work, and some that do not."""
    files = {"broken.py": "import no_such_library\n"}
    with hosting(CONFIG, ["echo", "crash"], files, up=False) as host:
        host.start()
        until(lambda: (head := host.head()) is not None and head["registered"])
        host.wait_for("echo", "running")
        host.wait_for("refuses", "failed")
        yield host


class Row(msgspec.Struct):
    """The fields of each service in `status --json`."""

    name: str
    service_type: str | None
    plugin: str
    state: str
    wanted: bool
    pid: int | None
    generation: int
    uptime_s: float
    restarts: int
    last_exit: str | None
    reason: str | None
    rss_bytes: int
    cpu_percent: float
    in_flight: int
    beat_age_s: float | None
    health: dict[str, bool | str | float | None] | None


# --- exit codes and envelopes -------------------------------------------------------------

# arguments → exit code, error.code, a part of the sentence
OUTCOMES: list[tuple[list[str], int, str, str]] = [
    (["version"], 0, "", ""),
    (["--version"], 0, "", ""),
    (["docs"], 0, "", ""),
    (["docs", "operate/chaos"], 0, "", ""),
    (["config"], 0, "", ""),
    (["status", "echo"], 0, "", ""),
    (["status"], 3, "", ""),
    (["call", "echo", "echo", "[1]"], 0, "", ""),
    (["reset", "echo"], 0, "", ""),
    (["wait", "echo"], 0, "", ""),
    (["wait", "asleep", "--for", "registered"], 0, "", ""),
    (["events", "-n", "3"], 0, "", ""),
    (["logs", "-n", "1"], 0, "", ""),
    # 1: failed
    (["call", "echo", "fail", '["no luck"]'], 1, "RemoteError", "ValueError: no luck"),
    (["call", "echo", "add", '["x"]'], 1, "InvalidCall", "first"),
    (["call", "echo", "ecko"], 1, "InvalidCall", "did you mean 'echo'"),
    (["call", "asleep", "pid"], 1, "ServiceUnavailable", "registered"),
    (["start", "refuses"], 1, "StartError", "bad token"),
    (["restart", "broken"], 1, "StartError", "no_such_library"),
    (["stop", "broken"], 1, "failed", "cannot be read"),
    # 2: usage
    (["statis"], 2, "usage", "did you mean status"),
    (["restart"], 2, "usage", "NAME"),
    (["status", "--nonsense"], 2, "usage", "--nonsense"),
    (["wait", "echo", "--for", "runing"], 2, "usage", "running"),
    (["call", "echo", "echo", "{"], 2, "usage", """call echo echo '["{"]'"""),
    (["call", "echo", "add", "first=1", "first=2"], 2, "usage", "twice"),
    (["docs", "operate/caos"], 2, "usage", "did you mean operate/chaos"),
    (["start", "echo", "--wait", "0"], 2, "usage", "--wait"),
    (["logs", "-n", "-1"], 2, "usage", "-n"),
    # 4: no such service
    (["status", "ecko"], 4, "no_such_service", "did you mean echo"),
    (["start", "absent"], 4, "no_such_service", "absent"),
    (["stop", "zz*"], 4, "no_such_service", "zz*"),
    (["call", "absent", "echo"], 4, "no_such_service", "absent"),
    (["wait", "absent"], 4, "no_such_service", "absent"),
    (["logs", "absent"], 4, "no_such_service", "absent"),
    (["events", "absent"], 4, "no_such_service", "absent"),
    (["chat", "absent"], 4, "no_such_service", "absent"),
    # 5: config unusable
    (["check", "-c", "none.toml"], 5, "ConfigError", "no such file"),
    (["up", "-c", "none.toml"], 5, "ConfigError", "garrison init"),
    # 75: timed out
    (["wait", "hangs", "--wait", "0.2"], 75, "timed_out", "0.2 s"),
    (["start", "hangs", "--wait", "0.2"], 75, "timed_out", "it goes on"),
]


def titled(value: object) -> str | None:
    """Return the arguments of a case as its title."""
    return " ".join(value) if isinstance(value, list) else None


@pytest.mark.parametrize(("words", "code", "kind", "text"), OUTCOMES, ids=titled)
def test_each_outcome_has_its_exit_code(
    running: Host, words: list[str], code: int, kind: str, text: str
) -> None:
    """An error is a sentence on stderr, never a traceback. With --json, results and errors are
    envelopes on stdout, and the exit code is the same."""
    ran = running.run(*words)
    assert ran.code == code, ran
    assert text in ran.err
    assert bool(ran.err) == (code not in {0, 3})
    ran = running.run(*words, "--json")
    assert ran.code == code, ran
    for answer in ran.answers:
        assert set(answer) == {"v", "ok", "data", "error"}
        assert answer["v"] == 1
    nothing: dict[str, Any] = {"ok": True, "error": None}
    last = ran.answers[-1] if ran.answers else nothing
    assert last["ok"] == (code in {0, 3})
    if kind:
        assert last["error"]["code"] == kind
        assert text in last["error"]["message"]
    else:
        assert last["error"] is None


NEED_SUPERVISOR = (
    *("status", "down", "start x", "stop x", "restart x", "reset x", "wait x", "events"),
    *("upgrade", "deaths", "death x"),
)


@pytest.mark.parametrize("words", [*NEED_SUPERVISOR, "call x y", "chat"])
def test_no_supervisor_is_exit_7_and_names_the_path(tmp_path: Path, words: str) -> None:
    """For every verb that needs one. The sentence says how to start one."""
    env = {**inherited(), "GARRISON_HOME": str(tmp_path / "h")}
    done = run_forked(["--json", *words.split()], tmp_path, env)
    assert done.returncode == 7
    assert not done.stderr
    answer = json.loads(done.stdout)
    assert answer["error"]["code"] == "no_supervisor"
    assert str(tmp_path / "h" / "run" / "control.sock") in answer["error"]["message"]
    assert "garrison up" in answer["error"]["message"]


def test_options_stand_before_or_after_the_verb(running: Host) -> None:
    """`--home` and `--json` mean the same in both places."""
    home = str(running.home)
    for words in (
        ("--home", home, "--json", "status", "echo"),
        ("status", "echo", "--json", "--home", home),
        ("--json", "status", "--home", home, "echo"),
    ):
        ran = running.run(*words, home=False)
        assert ran.code == 0, ran
        assert ran.data["services"][0]["name"] == "echo"


def test_help_is_there_for_every_verb(running: Host) -> None:
    """`--help` says what a verb does, and the list has every one."""
    ran = running.run("--help")
    for verb in verbs():
        assert re.search(rf"^  {verb} ", ran.out, re.MULTILINE)
    assert running.run("call", "--help").code == 0


# --- status -------------------------------------------------------------------------------


def test_status_has_the_promised_fields(running: Host) -> None:
    """All of these for each service, under `supervisor` and `services`; an unreadable plugin is
    one failed row under its NAME."""
    data = running.run("status", json=True).data
    assert set(data) == {"supervisor", "services", "pending", "pending_host", "problems"}
    rows = {row.name: row for row in msgspec.convert(data["services"], list[Row])}
    assert set(rows) == {"echo", LONG, "refuses", "hangs", "asleep", "crash", "broken"}
    assert rows["echo"].state == "running"
    assert rows["echo"].pid is not None
    assert rows["echo"].rss_bytes > 1 << 20
    assert (rows["asleep"].state, rows["asleep"].wanted) == ("registered", False)
    assert (rows["broken"].state, rows["broken"].plugin) == ("failed", "broken")
    assert "no_such_library" in (rows["broken"].reason or "")
    assert data["supervisor"]["pid"] == running.pid


def test_status_fits_80_columns(running: Host) -> None:
    """However long NAMEs and reasons are; 80 columns are assumed without a terminal."""
    for words in (("status",), ("status", "*")):
        ran = running.run(*words)
        head, *lines = ran.out.splitlines()
        for line in [head, *lines] if words == ("status",) else []:
            assert len(line) <= 80, line
    assert "bad token" in running.run("status").out


def test_status_of_one_shows_every_detail(running: Host) -> None:
    """Methods with their signatures, those left out with their reasons, where the log is."""
    out = running.run("status", "echo").out
    for part in ("echo is running", "add(first: int, second: int = 2) -> int", "stream count"):
        assert part in out
    assert str(running.home / "logs" / "echo.log") in out
    assert "Return a sum." in out


@pytest.mark.parametrize(
    "words", [["status"], ["stop"], ["logs"], ["deaths"], ["events", "-f"], ["call"]]
)
def test_a_pattern_that_the_shell_expanded_is_named(running: Host, words: list[str]) -> None:
    """A NAME that no service has and a file in this folder does: `garrison stop *`."""
    rest = ["echo.py"] if words != ["call"] else ["echo.py", "pid"]
    ran = running.run(*words, *rest)
    assert ran.code == 4
    assert "echo.py is a file in this directory" in ran.err
    assert "quote the pattern" in ran.err


def test_globs_stand_for_names(running: Host) -> None:
    """Wherever a NAME goes, several and globs go."""
    rows = running.run("status", "echo*", "refuses", json=True).data["services"]
    assert [row["name"] for row in rows] == ["echo", LONG, "refuses"]
    assert running.run("wait", "echo*").code == 0


# --- logs and events ----------------------------------------------------------------------


def test_logs_shows_the_last_lines(running: Host) -> None:
    """Of one service unchanged, of several after their NAMEs; `-n` is how many."""
    running.ask("reset", "refuses")
    until(lambda: running.log("refuses").count("PermanentFailure") > 3)
    running.wait_for("refuses", "failed")
    everything = running.log("refuses").splitlines()
    assert running.run("logs", "refuses", "-n", "4").out.splitlines() == everything[-4:]
    assert running.run("logs", "refuses", "-n", "0").out == ""
    several = running.run("logs", "ref*", "-n", "2").out.splitlines()
    assert several == [f"refuses | {line}" for line in everything[-2:]]
    lines = running.run("logs", "refuses", "-n", "2", json=True).answers
    assert [line["data"] for line in lines] == [
        {"service": "refuses", "line": line} for line in everything[-2:]
    ]


def test_logs_can_be_followed(running: Host) -> None:
    """`-f` continues with new lines, also of new files."""
    with (
        Following(running, "logs", "refuses", "echo", "-n", "0", "-f") as following,
        (running.home / "logs" / "echo.log").open("a") as log,
    ):

        def appended() -> bool:
            log.write("a line\n")
            log.flush()
            return following.readable(0.3)

        until(appended)  # lines from before the command began are not shown
        assert re.search(r"^echo \| a line$", following.until("a line$"), re.MULTILINE)
        assert following.interrupt() == 130
        assert "Traceback" not in following.rest()


def test_events_are_one_line_each(running: Host) -> None:
    """The line of a transition has its cause; `-n` and NAMEs filter."""
    out = running.run("events", "refuses").out
    assert re.search(r"service\.state service=refuses from=\w+ to=failed .*bad token", out)
    assert "service=echo" not in out
    last = running.run("events", "-n", "2", json=True).answers
    assert len(last) == 2
    assert set(last[0]["data"]) == {"n", "time", "event", "service", "data"}
    assert last[0]["data"]["time"].endswith("Z")


def test_events_can_be_followed(running: Host) -> None:
    """`-f` prints each as it happens, as NDJSON with --json."""
    with Following(running, "events", "echo", "-n", "1", "-f", "--json") as following:
        following.until("running")
        running.ask("restart", "echo")
        text = following.until(r'"to":"stopping"(.|\n)*"to":"running".*\n')
        for line in text.splitlines():
            assert json.loads(line)["data"]["service"] == "echo"


# --- call ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "out"),
    [
        (["add", "[1]"], "3"),
        (["add", "[1, 5]"], "6"),
        (["add", '{"first": 1, "second": 7}'], "8"),
        (["moved", '[{"x": 1}]'], '{\n  "x": 2,\n  "y": 0\n}'),
        (["echo"], "null"),
        (["echo", '["ä"]'], "ä"),
        (["echo", "Ada"], "Ada"),
        (["echo", "a sentence, as text"], "a sentence, as text"),
        (["echo", "7"], "7"),
        (["add", "1", "5"], "6"),
        (["add", "first=1", "second=7"], "8"),
        (["add", "1", "second=7"], "8"),
        (["echo", "[[1, 2]]"], "[\n  1,\n  2\n]"),
        (["count", "[3]"], "0\n1\n2"),
    ],
)
def test_call_prints_the_result(running: Host, arguments: list[str], out: str) -> None:
    """A lone array is positional, a lone object keywords; else each word is one argument. A text is
    printed as it is, a stream's values as they come, anything else as JSON."""
    ran = running.run("call", "echo", *arguments)
    assert ran.out.strip() == out
    answers = running.run("call", "echo", *arguments, json=True).answers
    assert all(answer["ok"] for answer in answers)
    assert len(answers) == (3 if arguments[0] == "count" else 1)


def test_a_streams_error_comes_after_its_values(running: Host) -> None:
    """With --json, the last line is the error."""
    ran = running.run("call", "echo", "fail_at", "[2]", json=True)
    assert ran.code == 1
    assert [answer["data"] for answer in ran.answers[:2]] == [0, 1]
    assert ran.answers[2]["error"]["code"] == "RemoteError"


def test_a_failed_call_shows_the_remote_traceback(running: Host) -> None:
    """The method's own frames, and none of the command line's."""
    ran = running.run("call", "echo", "fail", '["no luck"]')
    assert "raise ValueError(text)" in ran.err
    assert ran.err.startswith("error: echo.fail raised ValueError: no luck")


def test_a_call_has_a_deadline(running: Host) -> None:
    """`--timeout`, after which the exit code is 75."""
    ran = running.run("call", "echo", "hang", '["late"]', "--timeout", "0.2", json=True)
    assert ran.answer["error"]["code"] == "CallTimeout"
    assert ran.code == 75


def test_bytes_are_shown_as_base64(running: Host) -> None:
    """JSON has no bytes."""
    assert running.run("call", "echo", "blob", "[3]", json=True).data == "AAAA"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_the_end_of_a_caller_cancels_its_call(running: Host, number: signal.Signals) -> None:
    """However the program ends; Ctrl-C prints no traceback."""
    key = number.name
    with Following(running, "call", "echo", "hang", f'["{key}"]') as calling:
        until(lambda: key in running.run("call", "echo", "hung", json=True).data)
        calling.process.send_signal(number)
        code = calling.process.wait(PATIENCE)
        assert code == (130 if number is signal.SIGINT else -number)
        assert "Traceback" not in calling.rest()
    until(lambda: key in running.run("call", "echo", "cancellations", json=True).data)


# --- orders -------------------------------------------------------------------------------


def test_start_stop_and_restart_return_when_it_is_done(running: Host) -> None:
    """A service runs when `start` and `restart` return, and has ended when `stop` returns."""
    assert running.run("start", "asleep").out.startswith("asleep runs (pid ")
    assert running.run("call", "asleep", "pid").code == 0
    rows = running.run("restart", "asleep", json=True).data["services"]
    assert rows[0]["state"] == "running"
    assert running.run("stop", "asleep").out == "asleep is stopped\n"
    assert running.status("asleep")["pid"] is None
    assert running.run("wait", "asleep", "--for", "stopped").code == 0
    assert running.run("reset", "asleep").out == "asleep is stopped; its restart count is 0\n"
    assert running.run("reset", "asleep", json=True).data["services"] == {"asleep": "stopped"}


def test_wait_returns_when_the_state_is_reached(running: Host) -> None:
    """Another order may cause it."""
    with Following(running, "wait", LONG, "--for", "stopped") as waiting:
        running.ask("stop", LONG)
        assert waiting.rest() == f"{LONG} is stopped\n"
        assert waiting.process.wait(PATIENCE) == 0
    running.ask("start", LONG)


# --- the first steps ----------------------------------------------------------------------


def test_init_up_call_chat_down(host: Hosting) -> None:
    """`init` writes a config and a service that run, and overwrites nothing; then each verb does
    what its help says."""
    one = host(up=False)
    directory = one.folder / "new"
    ran = one.run("init", str(directory), home=False)
    assert ran.code == 0
    assert {path.name for path in directory.iterdir()} == {"config.toml", "hello.py"}
    before = (directory / "hello.py").read_text()
    again = one.run("init", str(directory), home=False)
    assert again.code == 1
    assert "is there already" in again.err
    assert (directory / "hello.py").read_text() == before

    one.config = directory / "config.toml"
    assert one.run("check", "-c", str(one.config)).code == 0
    one.up()
    assert {row["state"] for row in one.rows().values()} == {"running"}
    assert one.run("status").code == 0
    assert one.run("call", "hello", "greet", '["Ada"]').out == "Hello, Ada!\n"
    assert one.run("call", "hello", "greet", "Ada").out == "Hello, Ada!\n"
    assert one.run("call", "hello", "greet", "name=Ada").out == "Hello, Ada!\n"
    assert one.run("call", "hello", "count", '{"until": 2}').out == "1\n2\n"
    ran = one.run("chat", input="Men are all alike.\n")
    assert ran.code == 0
    assert ran.out.count("Eliza: ") == 2
    assert one.run("down").code == 0


def test_version(running: Host) -> None:
    """As a verb and as an option, as text and as JSON."""
    version = running.run("version", json=True).data["version"]
    assert running.run("version").out == f"garrison {version}\n"
    assert running.run("--version").out == f"garrison {version}\n"
    assert running.run("--version", json=True).data["version"] == version


# --- check --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "parts"),
    [
        ("[plugin.echo]\n", ["config.toml:1", "plugin", "`plugins`"]),
        ("[plugins.echo]\nuse = 'ecko'\n", ["plugins.echo", "ecko"]),
        ("[plugins.echo]\n[services.ecko]\n", ["config.toml:2", "services.ecko", "`echo`"]),
        ("[plugins.echo]\n[services.echo]\ngrase = 1\n", ["config.toml:3", "grase", "`grace`"]),
        ("[plugins.echo]\n[services.echo]\ngrace = 'x'\n", ["config.toml:3", "number of seconds"]),
        ("[plugins.echo]\n[services.echo]\nrestart = 'alwys'\n", ["config.toml:3", "permanent"]),
        ("[plugins.echo]\n[services.two]\nplugin = 'ecko'\n", ["config.toml:3", "`echo`"]),
        ("[plugins.echo\n", ["config.toml:1", "not TOML"]),
        ("[plugins.chat]\n", ["chat.py", "entry point"]),
    ],
)
def test_a_mistake_in_the_config_is_named(host: Hosting, config: str, parts: list[str]) -> None:
    """By file, line, key and what was expected, with a suggestion for a typo."""
    one = host(config, ["echo"], {"chat.py": ""}, up=False)
    ran = one.run("check")
    assert ran.code == 5, ran
    for part in parts:
        assert part in ran.out + ran.err


def test_check_needs_no_supervisor_and_starts_nothing(host: Hosting) -> None:
    """A good config is exit 0, and no home is created."""
    one = host("[plugins.echo]\n[plugins.chat]\n", ["echo"], up=False)
    ran = one.run("check", json=True)
    assert ran.code == 0
    assert ran.data["services"] == ["echo", "chat"]
    assert not one.home.exists()


def test_it_runs_as_a_module_and_as_a_script() -> None:
    """`python -m garrison.supervisor.cli` is the same as `garrison`."""
    script = Path(sys.executable).with_name("garrison")
    if not script.exists():
        pytest.skip("garrison is not installed here")
    done = subprocess.run([script, "version"], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert done.stdout.startswith("garrison ")

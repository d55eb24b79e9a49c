"""What a new user types first: help, version, docs, config; and errors that say what to do."""

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import click
import pytest

from garrison.ipc.errors import OrderFailed
from garrison.supervisor import cli
from garrison.supervisor.cli import app
from garrison.supervisor.cli.app import garrison, run, verbs
from garrison.supervisor.cli.docs import pages
from garrison.supervisor.cli.errors import no_such_service, unquoted_pattern
from garrison.supervisor.cli.reference import COMMON, EXIT_CODES, reference
from garrison.supervisor.cli.verbs import ELSEWHERE
from garrison.supervisor.config.reference import reference_toml

ROOT = Path(__file__).resolve().parents[3]


class Run:
    """Runs a command line in this process."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch, self._capsys = monkeypatch, capsys

    def __call__(self, *words: str) -> tuple[int, str, str]:
        """Return the exit code, and what was printed on stdout and stderr."""
        self._monkeypatch.setattr("sys.argv", ["garrison", *words])
        with pytest.raises(SystemExit) as end:
            run()
        assert isinstance(end.value.code, int)
        out, err = self._capsys.readouterr()
        return end.value.code, out, err


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Return what runs command lines."""
    return Run(monkeypatch, capsys)


def commands(
    group: click.Group = garrison, ctx: click.Context | None = None
) -> list[tuple[str, click.Command]]:
    """Return every command with its path."""
    ctx = ctx or click.Context(garrison, info_name="garrison")
    found = []
    for name in group.list_commands(ctx):
        command = group.get_command(ctx, name)
        assert command is not None
        own = click.Context(command, info_name=name, parent=ctx)
        found.append((own.command_path, command))
        if isinstance(command, click.Group):
            found += commands(command, own)
    return found


def test_the_reference_is_of_these_commands() -> None:
    """docs/reference/cli.md is generated: see its first lines."""
    assert (ROOT / "docs" / "reference" / "cli.md").read_text("utf-8") == reference()


@pytest.mark.parametrize(("path", "command"), commands(), ids=lambda value: str(value))
def test_every_command_has_a_help_text_an_example_and_documented_options(
    path: str, command: click.Command
) -> None:
    """The first sentence of a help text fits into the list of verbs."""
    assert command.help
    assert "…" not in command.get_short_help_str(60)
    assert "..." not in command.get_short_help_str(60)
    assert command.epilog is not None
    assert re.match(rf"Examples?: .*{path}", command.epilog)
    options = [param for param in command.params if isinstance(param, click.Option)]
    assert all(option.help or option.hidden for option in options)
    assert {name for option in options for name in option.opts} >= COMMON - {"--help"}


def test_the_reference_has_every_exit_code_of_the_help_text() -> None:
    """One list for people and one for the reference."""
    shown = re.findall(r"\b(\d+) [a-z]", garrison.help or "")

    assert [str(code) for code, _ in EXIT_CODES] == shown


def test_former_options_of_up_are_accepted() -> None:
    """A supervisor of an earlier version starts its successor with them."""
    (up,) = [command for path, command in commands() if path == "garrison up"]
    hidden = {name for param in up.params if getattr(param, "hidden", False) for name in param.opts}

    assert hidden == {"--events-only", "--check-takeover", "--prove"}


@pytest.mark.parametrize("words", [["--version"], ["version"]])
def test_the_version_is_an_option_and_a_verb(ran: Run, words: list[str]) -> None:
    """As text and as JSON."""
    code, out, _ = ran(*words)
    assert code == 0
    assert re.fullmatch(r"garrison \S+\n", out)
    code, out, _ = ran("--json", *words)
    assert out.split('"')[-4] in ran(*words)[1]


def test_config_prints_the_reference_of_the_keys(ran: Run) -> None:
    """It is TOML that `garrison up` accepts."""
    code, out, _ = ran("config")
    assert code == 0
    assert tomllib.loads(out) == tomllib.loads(reference_toml())
    assert json.loads(ran("config", "--json")[1])["data"] == {"toml": reference_toml()}


def test_docs_lists_every_page_and_shows_each(ran: Run) -> None:
    """By its path in docs/, or by its last part alone."""
    files = {
        str(path.relative_to(ROOT / "docs").with_suffix(""))
        for path in (ROOT / "docs").rglob("*.md")
    }
    assert set(pages()) == files
    code, out, _ = ran("docs")
    assert code == 0
    assert {line.split()[0] for line in out.splitlines()[:-1]} == files
    text = (ROOT / "docs" / "reference" / "cli.md").read_text("utf-8")
    for name in ("reference/cli", "cli", "docs/reference/cli.md"):
        assert ran("docs", name)[1] == text
    assert json.loads(ran("docs", "cli", "--json")[1])["data"]["text"] == text


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (["docs", "reference/clo"], 2, "did you mean reference/cli?"),
        (["docs", "zzz"], 2, "garrison docs lists them"),
        (["statis"], 2, "there is no verb statis; did you mean status?"),
        (["call"], 2, "see: garrison call --help"),
        (["mail", "replay"], 2, "see: garrison mail replay --help"),
        (["ps"], 2, "garrison status shows all services"),
        (["List"], 2, "garrison status shows all services"),
        (["daemon-reload"], 2, "garrison restart NAME"),
        (["kill"], 2, "garrison stop NAME ends a service"),
        (["monit"], 2, "garrison top shows live"),
        (["tail"], 2, "garrison logs NAME -f"),
        (["mail", "list"], 2, "there is no verb mail list; did you mean mail ls?"),
        (["mail", "zzz"], 2, "there are: drop, ls, replay, show"),
        (["call", "hello", "greet", "M\udcfcller"], 2, "the argument M\\xfcller is not UTF-8"),
        (["status", "--home", "/tmp/\udce9"], 2, "the argument /tmp/\\xe9 is not UTF-8"),
        (["status", "--home", "/nonexistent"], 7, "start one with: garrison up"),
    ],
)
def test_an_error_says_what_to_do(ran: Run, words: list[str], code: int, text: str) -> None:
    """In one line on stderr."""
    ended, out, err = ran(*words)

    assert (ended, out) == (code, "")
    assert text in err
    assert len(err.splitlines()) == 1


def test_names_of_other_tools_suggest_verbs_that_exist() -> None:
    """Each sentence names a command, and none stands for a verb of garrison's own."""
    for name, sentence in ELSEWHERE.items():
        assert name not in verbs()
        named = set(re.findall(r"garrison ([a-z]+)", sentence))
        assert named
        assert named <= set(verbs()), name


@pytest.mark.parametrize("words", [["status", "a\udcffb"], ["logs", "x", "--grep", "\udc80"]])
def test_an_argument_that_is_no_text_is_one_answer_in_json(ran: Run, words: list[str]) -> None:
    """It cannot travel, nor be encoded as JSON."""
    code, out, err = ran("--json", *words)

    assert (code, err) == (2, "")
    assert "is not UTF-8" in json.loads(out)["error"]["message"]


def test_a_home_that_is_no_text_is_refused(ran: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it comes from the environment, and with `--json`."""
    monkeypatch.setenv("GARRISON_HOME", "/tmp/\udcff")

    assert "the home /tmp/\\xff is not UTF-8" in ran("status")[2]
    answer = json.loads(ran("status", "--json")[1])
    assert answer["error"]["code"] == "ConfigError"


def test_help_names_every_verb(ran: Run) -> None:
    """Each on a line of its own."""
    _, out, _ = ran("--help")

    assert all(re.search(rf"^  {verb} ", out, re.MULTILINE) for verb in verbs())
    assert "Others:" not in out, "a verb is in no section of supervisor/cli/verbs.py"


def test_a_file_s_name_is_an_expanded_pattern(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only if no service has that name."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "hello.py").touch()

    assert "quote the pattern" in unquoted_pattern(["ecko", "hello.py"])
    assert unquoted_pattern(["ecko", "x" * 5000, "\0"]) == ""
    error: OrderFailed = no_such_service("hello.py", ["hello"])
    assert "hello.py is a file in this directory" in error.message
    assert no_such_service("helo", ["hello"]).message == "no service helo; did you mean hello?"


@pytest.mark.parametrize("platform", ["darwin", "win32"])
def test_off_linux_one_sentence_names_the_ways(
    monkeypatch: pytest.MonkeyPatch, platform: Any
) -> None:
    """The supervisor needs pidfds, /proc and other features of Linux."""
    monkeypatch.setattr("sys.platform", platform)
    with pytest.raises(SystemExit) as end:
        cli.main()

    assert isinstance(end.value.code, str)
    assert all(word in end.value.code for word in ("Linux", "Docker", "WSL 2"))


def test_help_fits_a_narrow_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each line of it, down to 40 columns."""
    for columns in (40, 52):
        monkeypatch.setenv("COLUMNS", str(columns))
        width = app._help_width()
        context = click.Context(app.garrison, terminal_width=width)
        for verb in ("logs", "chaos", "call"):
            command = app.garrison.get_command(context, verb)
            assert command is not None
            shown = command.get_help(click.Context(command, parent=context, info_name=verb))
            assert max(map(len, shown.splitlines())) <= columns, verb
    monkeypatch.setenv("COLUMNS", "200")
    assert app._help_width() is None

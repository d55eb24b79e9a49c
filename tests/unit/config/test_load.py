"""Loading a configuration; a mistake in it is reported by file, line and key."""

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from garrison.ipc.errors import ConfigError
from garrison.ipc.socket_paths import run_folder
from garrison.supervisor.config.homes import find_home
from garrison.supervisor.config.host_spec import HostSpec
from garrison.supervisor.config.load import Config, load
from garrison.supervisor.config.spec import (
    PluginSpec,
    Restart,
    service_spec,
)

Provides = Mapping[str, Sequence[str]]


def loaded(directory: Path, text: str) -> Config:
    """Return the configuration of a text, in a home that is short enough for a socket."""
    path = directory / "config.toml"
    path.write_text(text)
    return load(path, Path("/h"), {})


def refused(directory: Path, text: str, provides: Provides | None = None) -> ConfigError:
    """Return the error of a configuration; it names the file."""
    with pytest.raises(ConfigError) as caught:
        loaded(directory, text).services(provides or {})
    assert caught.value.path == str(directory / "config.toml")
    return caught.value


S = "[services.chat]\n"


@pytest.mark.parametrize(
    ("text", "line", "key", "says"),
    [
        (
            S + "grase = 1",
            2,
            "services.chat.grase",
            r"no such key.*did you mean `grace`\? A setting",
        ),
        (S + "intents = ['a']", 2, "services.chat.intents", r"itself .*\[services.chat.config\]$"),
        (S + "users = ['a']", 2, "services.chat.users", r"service; a .*\[services.chat.config\]$"),
        (S + "state = 'x'", 2, "services.chat.state", r"\[host\]; .*\[services.chat.config\]$"),
        ("[plugins.a]\nlevel = 1", 2, "plugins.a.level", r"itself .* in \[plugins.a.config\]$"),
        ("[defaults]\nmodel = 1", 2, "defaults.model", r"belongs in \[services.NAME.config\]$"),
        (
            "[agents.ada.services.chat]\nmodel = 1",
            2,
            "agents.ada.services.chat.model",
            r"belongs in \[agents.ada.services.chat.config\]$",
        ),
        ("[service.chat]\n", 1, "service", r"no such key.*did you mean `services`\?"),
        ("\nhome = 'x'\n", 2, "home", r"it belongs in \[host\]"),
        ("[host]\ngrace = 1", 2, "host.grace", r"it belongs in \[services.NAME\]"),
        ("[defaults]\nsecrets = []", 2, "defaults.secrets", r"belongs in \[services.NAME\]"),
        ("[plugins.a]\nuses = 'x'", 2, "plugins.a.uses", r"did you mean `use`\?"),
        (S + "grace = '10'", 2, "services.chat.grace", r"a number of seconds.*got a string"),
        (S + "grace = true", 2, "services.chat.grace", r"seconds.*got a boolean"),
        (S + "grace = -1", 2, "services.chat.grace", r"seconds, 0 to .*got -1"),
        (S + "grace = nan", 2, "services.chat.grace", r"seconds, 0 to .*got nan"),
        (S + "watchdog = inf", 2, "services.chat.watchdog", r"seconds, 0 to .*got inf"),
        (S + "watchdog = 1" + "0" * 400, 2, "services.chat.watchdog", r"far too large"),
        (S + "timeout = 0", 2, "services.chat.timeout", r"seconds above 0, got 0"),
        (S + "start_timeout = 0", 2, "services.chat.start_timeout", r"seconds above 0"),
        (S + "period = 0.0", 2, "services.chat.period", r"seconds above 0"),
        (S + "window = 0", 2, "services.chat.window", r"number of calls, 1 or more, got 0"),
        (S + "window = 2.5", 2, "services.chat.window", r"calls, got a number with a fraction"),
        (S + "window = true", 2, "services.chat.window", r"calls, got a boolean"),
        (S + "window_bytes = 0", 2, "services.chat.window_bytes", r"bytes, 1 or more, got 0"),
        (S + f"window_bytes = {2**70}", 2, "services.chat.window_bytes", r"bytes, at most"),
        (S + "memory_max = '512M'", 2, "services.chat.memory_max", r"write 536870912 for 512 MiB"),
        (
            S + "memory_max = '1.5 GiB'",
            2,
            "services.chat.memory_max",
            r"write 1610612736 for 1.5 G",
        ),
        (S + "memory_max = 'much'", 2, "services.chat.memory_max", r"of bytes, got a string$"),
        (
            S + "memory_max = 512",
            2,
            "services.chat.memory_max",
            r"0, or 1,048,576 or more.*got 512",
        ),
        ("[host]\nlog_bytes = '1mb'", 2, "host.log_bytes", r"write 1048576 for 1 MiB"),
        (
            S + "umask = 77",
            2,
            "services.chat.umask",
            r"in quotes, such as \"027\", got a whole number",
        ),
        (S + "umask = '79'", 2, "services.chat.umask", r"octal digits alone"),
        (S + "umask = '1777'", 2, "services.chat.umask", r"at most 777"),
        (S + "intensity = -1", 2, "services.chat.intensity", r"restarts, 0 or more, got -1"),
        (S + "autostart = 'no'", 2, "services.chat.autostart", r"true or false.*got a string"),
        (S + "restart = 'allways'", 2, "services.chat.restart", r"`permanent`.*got `allways`$"),
        (S + "restart = 'transien'", 2, "services.chat.restart", r"did you mean `transient`\?"),
        (S + "restart = false", 2, "services.chat.restart", r"`permanent`.*got a boolean"),
        (S + "depends_on = 'db'", 2, "services.chat.depends_on", r'list of NAMEs.*\["db"\]'),
        (S + "depends_on = {}", 2, "services.chat.depends_on", r"list of NAMEs, got a table"),
        (S + "depends_on = [\n'a',\n3]", 4, "services.chat.depends_on[1]", r"NAME.*whole number"),
        (S + "env = { A = 3 }", 2, "services.chat.env.A", r"a string in quotes, got a whole"),
        (S + "[services.chat.env]\n'A=B' = ''", 3, 'services.chat.env."A=B"', r"name of an env"),
        (S + 'env.A = "\\u0000"', 2, "services.chat.env.A", r"NUL"),
        (S + "pass_env = 'A'", 2, "services.chat.pass_env", r"list of names of env"),
        (S + "secrets = { A = { fiel = 'x' } }", 2, "services.chat.secrets.A.fiel", r"`file`\?"),
        (S + "secrets = { A = {} }", 2, "services.chat.secrets.A", r'or { file = "…" }'),
        (S + "secrets = { A = { file = '' } }", 2, "services.chat.secrets.A.file", r"a path"),
        (S + "secrets = { A = 'HOME' }", 2, "services.chat.secrets.A", r"every service is given"),
        (S + "secrets = ['XDG_A']", 2, "services.chat.secrets[0]", r"every service is given XDG_A"),
        ("[host]\nlog_bytes = 10", 2, "host.log_bytes", r"bytes, 65,536 or more, got 10"),
        ("[host]\nlog_files = 1", 2, "host.log_files", r"files, 2 or more, got 1"),
        (S + "secrets = 'A'", 2, "services.chat.secrets", r"list of names"),
        (S + "config = 1", 2, "services.chat.config", r"a table, got a whole number"),
        (S + "env_file = ''", 2, "services.chat.env_file", r"a path, got an empty string"),
        (S + "env_file = 1979-05-27", 2, "services.chat.env_file", r"a path.*got a date"),
        ("[services]\nchat = 1", 2, "services.chat", r"a table, got a whole number"),
        ("[services.'.chat']\n", 1, 'services.".chat"', r"cannot be a NAME"),
        ("[services.'a/b']\n", 1, 'services."a/b"', r"cannot be a NAME"),
        (f"[services.{'a' * 65}]\n", 1, "services." + "a" * 65, r"at most 64 characters"),
        ("[plugins]\n'é' = {}", 2, 'plugins."é"', r"cannot be a NAME"),
        ("[plugins]\nx = 'a:b'", 2, "plugins.x", r'a table, got a string.*use = "a:b"'),
        ("[plugins]\nx.use = 'a.py'", 2, "plugins.x.use", r"write `a`, without .py"),
        ("[plugins]\nx.use = 'a b:c'", 2, "plugins.x.use", r"a module such as.*got `a b:c`"),
        ("[plugins]\nx.use = []", 2, "plugins.x.use", r"a module such as.*got a list"),
        ("plugins = 3", 1, "plugins", r"a table, got a whole number"),
        ("[host]\nmax_message = 10", 2, "host.max_message", r"bytes, 1,048,576 or more, got 10"),
        ("[host]\nstarts_at_once = -1", 2, "host.starts_at_once", r"services, 0, or 1 or more"),
        ("[host]\norphan_grace = -0.1", 2, "host.orphan_grace", r"got -0.1"),
        ("[host]\npreload = ['a b']", 2, "host.preload[0]", r"name of a module.*`a b`"),
        ("[host]\nrun = '~nobody-of-this-name/x'", 2, "host.run", r"~nobody.*no home directory"),
        ("[host]\nhome = ''", 2, "host.home", r"empty string"),
    ],
)
def test_a_mistake_is_named(tmp_path: Path, text: str, line: int, key: str, says: str) -> None:
    """The error of a value has its line and key, and what was expected, in words."""
    error = refused(tmp_path, text)
    assert (error.line, error.key) == (line, key)
    assert re.search(says, error.problem), error.problem
    assert str(error).startswith(f"{tmp_path}/config.toml:{line}: {key}: ")


def test_the_first_mistake_of_the_file_is_reported(tmp_path: Path) -> None:
    """Of several mistakes, the error names the first in the file."""
    text = "[services.b]\ngrace = 'x'\n[services.a]\ngrace = 'x'\n[host]\nrun = 3\n"
    assert refused(tmp_path, text).line == 2


@pytest.mark.parametrize(
    "text",
    [
        "secrets = { DISCORD_TOKEN = 'MTA.s3cret' }",
        "secrets = ['MTA.s3cret']",
        "secrets = 'MTA.s3cret'",
        "secrets = 's3cret'",
        "pass_env = ['MTA.s3cret']",
        "env = ['MTA.s3cret']",
        "env = { A = ['s3cret'] }",
        "env.A = 's3cret",
    ],
)
def test_a_misplaced_secret_is_not_shown(tmp_path: Path, text: str) -> None:
    """If a token is written in the place of a name, the error does not show it."""
    assert "s3cret" not in str(refused(tmp_path, S + text))


@pytest.mark.parametrize(
    ("content", "line", "says"),
    [
        (b"[host]\nrun = abc\n", 2, r"not TOML: Invalid value at column 7; text is in"),
        (b"[host]\nrun = 'a\n", 2, r"not TOML"),
        (b"[a]\n[a]\n", 2, r"not TOML: Cannot declare .*twice at column"),
        (b"[plugins]\na = {}\n[plugins.a.config]\n", 3, r"into the braces$|into the braces at"),
        (b"[a]\nb = [\n1,\n", 3, r"not TOML"),
        (b"\n\n[host", 3, r"not TOML"),
        (b"a = 1" + b"0" * 5000, None, r"not TOML"),
        (b"a = " + b"[" * 5000, None, r"nested too deeply"),
        (b"[host]\nrun = '\xff'\n", None, r"not UTF-8"),
    ],
)
def test_invalid_toml_is_reported(
    tmp_path: Path, content: bytes, line: int | None, says: str
) -> None:
    """A file that cannot be parsed is a config error, with the line if there is one."""
    path = tmp_path / "config.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=says) as caught:
        load(path, None, {})
    assert caught.value.line == line


def test_a_missing_file_is_reported(tmp_path: Path) -> None:
    """The error of a missing file names the command that makes one; a directory is an error too."""
    with pytest.raises(ConfigError, match="garrison init"):
        load(tmp_path / "none.toml", None, {})
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        load(tmp_path, None, {})


def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    """Nothing may ever write to it, and it would be empty when the config is read again."""
    os.mkfifo(tmp_path / "config.toml")
    with pytest.raises(ConfigError, match="it is no regular file, and garrison reads it again"):
        load(tmp_path / "config.toml", None, {})


def test_a_byte_order_mark_is_no_mistake(tmp_path: Path) -> None:
    """A file that an editor began with a mark is read as any other."""
    path = tmp_path / "config.toml"
    path.write_bytes(b"\xef\xbb\xbf[host]\nstarts_at_once = 2\n")
    assert load(path, Path("/h"), {}).host.starts_at_once == 2


FULL = """
plugins = { p = { use = "my.mod:attr", config = { deep = [1] } }, q = {} }
[defaults]
grace = 1
restart = "transient"
env = { A = "default", B = "default" }
pass_env = ["X"]
[services.a]
grace = 2.5
env = { A = "own" }
pass_env = []
depends_on = ["b", "b"]
env_file = "a.env"
secrets = { TOKEN = "TOKEN_A", KEY = { file = "key.pem" } }
config = { answerer = "eliza" }
[services.b]
secrets = ["ONE", "TWO"]
env_file = "/etc/b.env"
"""


def test_keys_arrive_in_the_specs(tmp_path: Path) -> None:
    """A section overrides `[defaults]`; `env` alone is merged."""
    config = loaded(tmp_path, FULL)
    a, b, c = config.services({"p": ["a", "b"], "q": ["c"]})
    assert config.plugins == {
        "p": PluginSpec(name="p", use="my.mod:attr", config={"deep": [1]}),
        "q": PluginSpec(name="q", use="q"),
    }
    assert a == service_spec(
        name="a",
        plugin="p",
        service_type="a",
        with_parts=True,
        restart=Restart.TRANSIENT,
        grace=2.5,
        env={"A": "own", "B": "default"},
        depends_on=("b",),
        env_file=tmp_path / "a.env",
        secrets={"TOKEN": "TOKEN_A", "KEY": tmp_path / "key.pem"},
        config={"answerer": "eliza"},
    )
    assert (b.supervision.grace, b.environment.secrets) == (1.0, {"ONE": "ONE", "TWO": "TWO"})
    assert b.environment.env_file == Path("/etc/b.env")
    assert (c.environment.env, c.environment.pass_env) == ({"A": "default", "B": "default"}, ("X",))


P = "[plugins]\np = {}\nq = {}\n"
BOTH = {"p": ["t", "u"], "q": ["v"]}
SAME = {"p": ["t"], "q": ["t"]}


@pytest.mark.parametrize(
    ("sections", "provides", "expected"),
    [
        ("", BOTH, "t=p.t u=p.u v=q.v"),
        ("", {"q": ["v"]}, "v=q.v"),
        ("[services.t]", BOTH, "u=p.u t=p.t v=q.v"),
        ("[services.v]\n[services.u]\n[services.t]", BOTH, "u=p.u t=p.t v=q.v"),
        ("[services.x]\nplugin='q'", BOTH, "t=p.t u=p.u v=q.v x=q.v"),
        ("[services.x]\nplugin='p'\ntype='u'", BOTH, "t=p.t u=p.u x=p.u v=q.v"),
        ("[services.t]\nplugin='p'", BOTH, "u=p.u t=p.t v=q.v"),
        ("[services.t]\ntype='t'", BOTH, "u=p.u t=p.t v=q.v"),
        ("[services.t]\nplugin='q'\n[services.z]\nplugin='p'", SAME, "z=p.t t=q.t"),
        ("[services.z]\nplugin='q'\n[services.t]\nplugin='p'", SAME, "t=p.t z=q.t"),
        ("[services.t]\nplugin='p'\ntype='u'\n[services.x]\nplugin='p'\ntype='t'\n[services.u]",
         BOTH, "t=p.u x=p.t u=p.u v=q.v"),
        ("[services.other]", {"p": ["t"]}, "t=p.t"),
        ("[services.x]\nplugin='q'\ntype='any'", {"p": ["t"]}, "t=p.t"),
        ("[services.t]\ndepends_on=['anyone']", {"p": ["t"]}, "t=p.t"),
    ],
)  # fmt: skip
def test_each_service_has_one_name(
    tmp_path: Path, sections: str, provides: Provides, expected: str
) -> None:
    """A plugin's services run under their types, and sections add instances. A NAME that an unread
    plugin may provide is accepted. The order is by plugin, services without a section first."""
    specs = loaded(tmp_path, P + sections).services(provides)
    assert " ".join(f"{s.name}={s.plugin}.{s.service_type}" for s in specs) == expected


@pytest.mark.parametrize(
    ("sections", "provides", "line", "key", "says"),
    [
        ("[services.tt]", BOTH, 4, "services.tt", r"no plugin has a service `tt`.*`t`"),
        ("[services.x]\nplugin='pp'", BOTH, 5, "services.x.plugin", r"no \[plugins.pp\].*`p`"),
        ("[services.x]\nplugin='pp'", {}, 5, "services.x.plugin", r"no \[plugins.pp\].*`p`"),
        ("[services.x]\nplugin='p'", BOTH, 4, "services.x", r"has `t`, `u`: name one.*type"),
        ("[services.x]\nplugin='p'\ntype='w'", BOTH, 6, "services.x.type", r"no `w`.*`t`, `u`"),
        ("[services.x]\ntype='v'", BOTH, 5, "services.x.type", r'add plugin = "q"'),
        ("[services.x]\nplugin='p'", {"p": [], "q": []}, 4, "services.x", r"has no services"),
        ("", SAME, 2, "plugins.p", r'\[services.t\] with plugin = "p".*\[services.t-2\].*"q"'),
        ("[services.t]", SAME, 4, "services.t", r"each have a service `t`"),
        ("[services.t]\nplugin='q'", SAME, 4, "services.t", r'\[services.t-2\] with plugin = "p"'),
        ("[services.t]\ndepends_on=['u','w']", BOTH, 5, "services.t.depends_on[1]", r"no.*`w`"),
        ("[services.t]\nbind_to=['uu']", BOTH, 5, "services.t.bind_to[0]", r"mean `u`"),
    ],
)
def test_a_section_that_fits_nothing_is_refused(
    tmp_path: Path, sections: str, provides: Provides, line: int, key: str, says: str
) -> None:
    """A section without a plugin, a NAME of two owners, an unknown dependency: the error has the
    line to write."""
    error = refused(tmp_path, P + sections, provides)
    assert (error.line, error.key) == (line, key)
    assert re.search(says, error.problem), error.problem


def test_an_error_of_a_service_has_the_nearest_line(tmp_path: Path) -> None:
    """An error that only the plugin can find has the line of the key, or of its table."""
    config = loaded(tmp_path, "[services.a.config]\nx = [\n1,\n2]\n")
    where = ("services", "a", "config")
    assert config.error_at((*where, "x"), "no").line == 2
    assert config.error_at((*where, "x", 1), "no").line == 4
    assert config.error_at((*where, "y"), "no").line == 1
    assert str(config.error_at(("plugins", "p", "config"), "no")) == (
        f"{tmp_path}/config.toml: plugins.p.config: no"
    )


@pytest.mark.parametrize(
    ("home", "variable", "text", "expected"),
    [
        ("/flag", "/env", "[host]\nhome = 'x'", "/flag"),
        (None, "/env", "[host]\nhome = 'x'", "/env"),
        (None, "", "[host]\nhome = 'x'", "DIR/x"),
        (None, None, "[host]\nhome = '/x'", "/x"),
        (None, None, "[host]\nhome = '~/x'", "HOME/x"),
        (None, None, "[host]\nstray = 1\n[services]\nx = 1", "DIR/.garrison"),
        ("/flag", None, "not toml", "/flag"),
        (None, "/env", "not toml", "/env"),
        ("rel", None, "", "CWD/rel"),
    ],
)
def test_the_home_has_an_order_of_sources(
    tmp_path: Path, home: str | None, variable: str | None, text: str, expected: str
) -> None:
    """`--home` overrides the environment, which overrides the config. The config is read only if
    the answer depends on it."""
    path = tmp_path / "config.toml"
    path.write_text(text)
    environ = {} if variable is None else {"GARRISON_HOME": variable}
    found = find_home(Path(home) if home else None, path, environ)
    folders = {"DIR": tmp_path, "HOME": Path.home(), "CWD": Path.cwd()}
    for word, path in folders.items():
        expected = expected.replace(word, str(path))
    assert str(found) == expected


@pytest.mark.parametrize("text", ["not toml", "host = 3", "[host]\nhome = 3"])
def test_an_unreadable_home_is_an_error(tmp_path: Path, text: str) -> None:
    """If the config decides and cannot be read, no home is guessed."""
    path = tmp_path / "config.toml"
    path.write_text(text)
    with pytest.raises(ConfigError):
        find_home(None, path, {})


def test_without_a_config_the_home_is_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without `--config`, the config in the current folder counts, else `.garrison` there."""
    monkeypatch.chdir(tmp_path)
    assert find_home(None, None, {}) == tmp_path / ".garrison"
    (tmp_path / "config.toml").write_text("[host]\nhome = 'h'")
    assert find_home(None, None, {}) == tmp_path / "h"
    with pytest.raises(ConfigError):
        find_home(None, Path("other.toml"), {})


def test_paths_begin_at_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each part of the home can be moved. A path is relative to the file, not to the current
    folder."""
    (tmp_path / "config.toml").write_text("[host]\nrun = '/r'\nlogs = 'l'\nstate = '../s'")
    monkeypatch.chdir("/")
    config = load(tmp_path.relative_to("/") / "config.toml", Path("/h"), {})
    assert config.path == tmp_path / "config.toml"
    assert config.host == HostSpec(
        home=Path("/h"), run=Path("/r"), state=tmp_path.parent / "s", logs=tmp_path / "l"
    )


@pytest.mark.parametrize(("length", "fits"), [(82, True), (83, False)])
def test_a_path_too_long_for_a_socket_is_refused(tmp_path: Path, length: int, fits: bool) -> None:
    """The longest name in run/ still fits into a Unix socket's 107 bytes, counted in bytes."""
    run = "/é" + "x" * (length - 3)
    text = f"[host]\nrun = '{run}'"
    if fits:
        assert loaded(tmp_path, text).host.run == Path(run)
        return
    error = refused(tmp_path, text)
    assert (error.line, error.key) == (2, "host.run")
    assert re.search(r"108 bytes long.*at most 107: set `\[host\] run`", error.problem)


def test_a_home_too_long_for_a_socket_is_refused(tmp_path: Path) -> None:
    """A long --home is refused too, although it is not in the file."""
    path = tmp_path / "config.toml"
    path.write_text("")
    with pytest.raises(ConfigError, match="--home"):
        load(path, Path("/" + "x" * 90), {})


@pytest.mark.parametrize("target", ["/elsewhere/run", "../elsewhere"])
def test_a_moved_run_is_followed(tmp_path: Path, target: str) -> None:
    """The folder of the sockets is the target of the link `run`, even if it does not exist."""
    assert run_folder(tmp_path) == tmp_path / "run"
    (tmp_path / "run").symlink_to(target)
    assert run_folder(tmp_path) == (tmp_path / target).resolve()

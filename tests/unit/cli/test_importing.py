"""What `garrison import` makes of the files of supervisord and pm2."""

import tomllib
from pathlib import Path
from typing import Any

import pytest

from garrison.supervisor.cli.importing.ecosystem import read_ecosystem
from garrison.supervisor.cli.importing.program import (
    Imported,
    ImportProblem,
    is_secret,
    service_name,
)
from garrison.supervisor.cli.importing.supervisord import read_supervisord
from garrison.supervisor.cli.importing.text import config_text, env_text
from garrison.supervisor.config.environment import worker_environment
from garrison.supervisor.config.load import load

FOLDER = Path("/srv/app")
ENVIRON = {"HOME": "/root", "USER": "op", "API_TOKEN": "abc"}


def sections(found: Imported, files: bool = True) -> dict[str, dict[str, Any]]:
    """Return the services of the config that is written."""
    services: dict[str, dict[str, Any]] = tomllib.loads(config_text(found, "x", files))["services"]
    return services


def supervisord(text: str) -> Imported:
    return read_supervisord(text, FOLDER, ENVIRON)


def program(lines: str) -> dict[str, Any]:
    """Return the section of one program of supervisord, without what all have."""
    (section,) = sections(supervisord(f"[program:a]\ncommand=run\n{lines}")).values()
    return {key: value for key, value in section.items() if key not in COMMON}


COMMON = {"command", "working_directory", "restart"}


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ("", {}),
        ("autostart=false", {"autostart": False}),
        ("user=bot ; a comment", {"user": "bot"}),
        ("umask=022", {"umask": "022"}),
        ("stopsignal=INT", {"stop_signal": "SIGINT"}),
        ("stopwaitsecs=30", {"grace": 30}),
        ('environment=A="1,2",B=x/y', {"env": {"A": "1,2", "B": "x/y"}}),
        ("environment=A=%(ENV_HOME)s/x", {"env": {"A": "/root/x"}}),
        ("environment=USER=%(ENV_USER)s", {"pass_env": ["USER"]}),
        ("environment=T=%(ENV_API_TOKEN)s", {"secrets": {"T": "API_TOKEN"}}),
        ("environment=API_TOKEN=%(ENV_API_TOKEN)s", {"secrets": ["API_TOKEN"]}),
        ("environment=DB_PASSWORD=pw", {"env_file": ".env.a"}),
        ('environment=DB="postgres://u:pw@h/d"', {"env_file": ".env.a"}),
    ],
)
def test_a_key_of_supervisord(lines: str, expected: dict[str, Any]) -> None:
    """Each key with a counterpart becomes that."""
    assert program(lines) == expected


@pytest.mark.parametrize(
    ("word", "restart"),
    [
        ("autorestart=true", None),
        ("autorestart=false", "temporary"),
        ("autorestart=unexpected", "transient"),
        ("", "transient"),
    ],
)
def test_when_supervisord_restarts(word: str, restart: str | None) -> None:
    """Its default is to restart after an unexpected end."""
    (section,) = sections(supervisord(f"[program:a]\ncommand=run\n{word}\n")).values()
    assert section.get("restart") == restart


def test_several_processes_are_several_services() -> None:
    """With their numbers in the NAME, the command and the environment."""
    text = """
[program:web]
command=serve --port 80%(process_num)02d 'a b' %(here)s
process_name=%(program_name)s_%(process_num)02d
numprocs=2
numprocs_start=1
environment=N="%(process_num)d"
[group:all]
programs=web
"""
    found = supervisord(text)
    assert {name: one["command"] for name, one in sections(found).items()} == {
        "web_01": ["serve", "--port", "8001", "a b", "/srv/app"],
        "web_02": ["serve", "--port", "8002", "a b", "/srv/app"],
    }
    assert [one["env"] for one in sections(found).values()] == [{"N": "1"}, {"N": "2"}]
    assert "garrison restart web_01 web_02" in config_text(found, "x", True)


def test_each_key_without_a_counterpart_is_named() -> None:
    """With the reason, in a comment."""
    text = """
[inet_http_server]
port=9001
[supervisord]
logfile=/var/log/supervisord.log
nodaemon=true
minfds=2048
directory=/var/app
environment=LANG=C
[program:a]
command=run
priority=5
stdout_logfile=/var/log/a.log
startsecs=10
exitcodes=0,2
invented=1
[eventlistener:e]
command=listen
"""
    written = config_text(supervisord(text), "x", True)
    for key in ("inet_http_server", "priority", "stdout_logfile", "startsecs", "exitcodes"):
        assert f"# left out: {key}" in written or f"# left out: [{key}]" in written
    assert "# left out: invented: not known" in written
    assert "[eventlistener:e]" in written
    assert "# left out: [supervisord] logfile, nodaemon: " in written
    (section,) = tomllib.loads(written)["services"].values()
    assert section["open_files"] == 2048
    assert section["working_directory"] == "/var/app"
    assert section["env"] == {"LANG": "C"}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[program:a]\nautostart=true", "[program:a] has no command"),
        ("[program:a]\ncommand='open", "No closing quotation"),
        ("[program:a]\ncommand=x\nnumprocs=9999", "numprocs is 9999"),
        ("[program:a]\ncommand=x\nstopwaitsecs=soon", "expected a whole number"),
        ("[program:a]\ncommand=x %", "cannot be expanded"),
        ("[program:a]\ncommand=x\nenvironment=A", "expected KEY=VALUE"),
        ("[program:a]\ncommand=x\nenvironment=A=x y", "expected KEY=VALUE"),
        ("[services.a]\n", "no [program:NAME]"),
        ("command=x", "no file of supervisord"),
    ],
)
def test_a_file_that_is_not_supervisords_is_refused(text: str, problem: str) -> None:
    """The error names the section and what is wrong."""
    with pytest.raises(ImportProblem, match=problem.replace("[", r"\[")):
        supervisord(text)


# --- pm2 ----------------------------------------------------------------------------------


def app(**keys: Any) -> dict[str, Any]:
    """Return the section of one program of pm2, without what all have."""
    found = read_ecosystem({"apps": [{"name": "a", "script": "a.js", **keys}]}, FOLDER, 4)
    (section,) = sections(found).values()
    return {key: value for key, value in section.items() if key not in ("working_directory",)}


@pytest.mark.parametrize(
    ("keys", "command"),
    [
        ({}, ["node", "a.js"]),
        ({"args": "--x 'a b'"}, ["node", "a.js", "--x", "a b"]),
        ({"args": ["--x", "a b"]}, ["node", "a.js", "--x", "a b"]),
        ({"node_args": "--max-old-space-size=200"}, ["node", "--max-old-space-size=200", "a.js"]),
        ({"script": "a.py"}, ["python3", "a.py"]),
        ({"script": "a.py", "interpreter": ".venv/bin/python"}, [".venv/bin/python", "a.py"]),
        ({"script": "npm", "args": "start"}, ["npm", "start"]),
        ({"script": "npm start"}, ["npm", "start"]),
        ({"script": "./bin/a", "interpreter": "none"}, ["./bin/a"]),
    ],
)
def test_a_command_of_pm2(keys: dict[str, Any], command: list[str]) -> None:
    """The interpreter follows from the script's ending, unless it is named."""
    assert app(**keys) == {"command": command, "stop_signal": "SIGINT"}


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"autorestart": False}, {"restart": "temporary"}),
        ({"kill_timeout": 1600}, {"grace": 1.6}),
        ({"max_memory_restart": "300M"}, {"memory_max": 314572800}),
        ({"uid": "bot", "gid": "bots"}, {"user": "bot", "group": "bots"}),
        ({"env": {"PORT": 3000, "ON": True}}, {"env": {"PORT": "3000", "ON": "true"}}),
        ({"env": {"JWT_SECRET": "x"}}, {"env_file": ".env.a"}),
    ],
)
def test_a_key_of_pm2(keys: dict[str, Any], expected: dict[str, Any]) -> None:
    """Each key with a counterpart becomes that."""
    assert app(**keys) == {"command": ["node", "a.js"], "stop_signal": "SIGINT", **expected}


def test_instances_and_environments_of_pm2() -> None:
    """Each instance is a service; `env_NAME` is taken in when it is chosen."""
    keys: dict[str, Any] = {
        "script": "a.js",
        "instances": "max",
        "exec_mode": "cluster",
        "increment_var": "PORT",
    }
    keys |= {"env": {"PORT": 3000}, "env_production": {"NODE_ENV": "production"}, "watch": True}
    found = read_ecosystem([keys], FOLDER, 2, "production")
    assert {name: one["env"] for name, one in sections(found).items()} == {
        "a-0": {"PORT": "3000", "NODE_ENV": "production", "NODE_APP_INSTANCE": "0"},
        "a-1": {"PORT": "3001", "NODE_ENV": "production", "NODE_APP_INSTANCE": "1"},
    }
    written = config_text(found, "x", True)
    assert written.count("exec_mode = cluster") == 1
    assert "left out: watch" in written
    assert "--env production takes it in" in config_text(
        read_ecosystem([keys], FOLDER, 2), "x", True
    )


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (None, "no `apps`"),
        ({"apps": []}, "no `apps`"),
        ({"apps": [{"name": "a"}]}, r"apps\[0\] has no `script`"),
        ({"apps": [{"script": "a.js", "instances": 999}]}, "at most 64"),
        ({"apps": [{"script": "a.js", "max_memory_restart": "lots"}]}, "such as"),
    ],
)
def test_a_value_that_is_not_pm2s_is_refused(value: object, problem: str) -> None:
    """The error names what is wrong."""
    with pytest.raises(ImportProblem, match=problem):
        read_ecosystem(value, FOLDER, 2)


# --- what is written ----------------------------------------------------------------------


def test_names_are_permitted_and_unique() -> None:
    """A NAME has few characters, and none is taken twice."""
    assert service_name("my bot:1", ()) == "my-bot-1"
    assert service_name("web", ("web", "web-2")) == "web-3"
    assert service_name("supervisor", ()) == "supervisor-program"
    assert service_name("ü", ()) == "program"


def test_what_looks_like_a_secret() -> None:
    """By the name, or by a password in an address."""
    assert all(is_secret(name, "x") for name in ("API_KEY", "apikey", "BOT_TOKEN", "DB_PASS"))
    assert is_secret("URL", "redis://:pw@host/0")
    assert not any(is_secret(name, "x") for name in ("KEYBOARD", "PASSENGERS", "MONKEYS", "PATH"))
    assert not is_secret("API_KEY", "")


def test_odd_values_are_read_as_they_were(short_path: Path) -> None:
    """Quotes, line breaks and other languages; the config can be loaded, secrets as well."""
    odd = "a'b\"c\\d\nä\t☃ $X #y"
    value = {"apps": [{"script": "a.js", "args": [odd], "env": {"A": odd, "TOKEN": odd}}]}
    found = read_ecosystem(value, FOLDER, 1)
    path = short_path / "config.toml"
    path.write_text(config_text(found, "x", True))
    env_file = short_path / ".env.a"
    env_file.write_text(env_text(found.programs[0]))
    env_file.chmod(0o600)
    config = load(path, Path("/h"), {})
    (spec,) = config.services({"command": ["command"]})
    assert spec.plain.command == ("node", "a.js", odd)
    assert spec.environment.env == {"A": odd}
    assert worker_environment(spec, {})[1] == {"TOKEN": odd}

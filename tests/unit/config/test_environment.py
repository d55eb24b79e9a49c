"""A worker's environment has what its service is given; no other service gets its secrets."""

import os
import struct
from pathlib import Path
from typing import Any

import pytest

from garrison.ipc.character import Character
from garrison.ipc.errors import StartError
from garrison.supervisor.config.characters import (
    character_for,
    read_agent,
    unused_characters,
    unused_secrets,
)
from garrison.supervisor.config.environment import (
    NAMES_MOST,
    base_environment,
    differing_sources,
    not_granted,
    own_environment,
    service_environment,
    worker_environment,
)
from garrison.supervisor.config.spec import AgentSpec, ServiceSpec, service_spec

SUPERVISOR = {
    "PATH": "/bin",
    "LC_ALL": "C.UTF-8",
    "XDG_CACHE_HOME": "/c",
    "TOKEN": "t0k3n",
    "TOKEN_EU": "t0k3n-eu",
    "EXTRA": "extra",
    "HTTPS_PROXY": "http://user:password@proxy",
    "GARRISON_HOME": "/h",
    "LCX": "no",
}
COMMON = {"PATH": "/bin", "LC_ALL": "C.UTF-8", "XDG_CACHE_HOME": "/c"}


def given(text: str = "", **keys: Any) -> tuple[dict[str, str], dict[str, str]]:
    """Return the environment and the secrets of a service with these keys."""
    if text:
        keys["env_file"] = Path("/etc/bot.env")
    spec = service_spec(name="bot", plugin="bot", service_type="bot", **keys)
    return worker_environment(spec, SUPERVISOR, lambda _: text.encode())


def test_only_the_allow_list_passes() -> None:
    """The launcher has the allow-list and nothing else. A service has the same by default."""
    assert base_environment(SUPERVISOR) == COMMON
    assert given() == (COMMON, {})


def test_a_service_is_given_what_its_section_names() -> None:
    """`pass_env` passes on variables that are set, and `env` adds some."""
    public, secrets = given(pass_env=("EXTRA", "NOT_SET"), env={"LEVEL": "debug"})
    assert public == COMMON | {"EXTRA": "extra", "LEVEL": "debug"}
    assert secrets == {}


def test_what_a_service_is_given_besides_names_no_common_variable() -> None:
    """A comparison with the disk reads a service's own variables alone; their names and sources are
    those that its start has noted, also where `env` has a variable that every process gets."""
    keys: dict[str, Any] = {
        "pass_env": ("EXTRA", "LC_ALL"),
        "env": {"LEVEL": "debug", "PATH": "/opt/bin"},
        "secrets": {"TOKEN": "TOKEN_EU", "XDG_CACHE_HOME": "XDG_CACHE_HOME"},
    }
    spec = service_spec(name="bot", plugin="bot", service_type="bot", **keys)
    whole, own = service_environment(spec, SUPERVISOR), own_environment(spec, SUPERVISOR)
    assert own.names == whole.names == ["EXTRA", "LEVEL"]
    assert own.sources == whole.sources
    of_all = {"PATH": "/opt/bin", "LC_ALL": "C.UTF-8"}
    assert whole.public == {**of_all, "EXTRA": "extra", "LEVEL": "debug"}


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"secrets": {"TOKEN": "TOKEN"}}, {"TOKEN": "t0k3n"}),
        ({"secrets": {"TOKEN": "TOKEN_EU"}}, {"TOKEN": "t0k3n-eu"}),
        ({"secrets": {"KEY": "KEY"}, "text": "KEY=from file"}, {"KEY": "from file"}),
        ({"secrets": {"TOKEN": "TOKEN"}, "text": "TOKEN=from file"}, {"TOKEN": "from file"}),
        ({"secrets": {"TOKEN": "TOKEN"}, "text": "TOKEN="}, {"TOKEN": "t0k3n"}),
        ({"secrets": {"TOKEN": "TOKEN"}, "text": "TOKEN=' '"}, {"TOKEN": "t0k3n"}),
        ({"secrets": {"MINE": "KEY"}, "text": "KEY=x"}, {"MINE": "x", "KEY": "x"}),
    ],
)
def test_a_secret_is_found(keys: dict[str, Any], expected: dict[str, str]) -> None:
    """A secret is a variable of env_file or of the supervisor, and may be renamed. An empty value
    is none. It is not in the public environment."""
    assert given(**keys) == (COMMON, expected)


def private(path: Path, data: bytes, mode: int = 0o600) -> Path:
    """Write a file with a mode."""
    path.write_bytes(data)
    path.chmod(mode)
    return path


def secret_of(environ: dict[str, str], source: str | Path, **keys: Any) -> str:
    """Return the secret that a service is given from somewhere."""
    secrets = {"TOKEN": source}
    spec = service_spec(name="bot", plugin="bot", service_type="bot", secrets=secrets, **keys)
    return worker_environment(spec, environ)[1]["TOKEN"]


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (b"t0k3n", "t0k3n"),
        (b"t0k3n\n", "t0k3n"),
        (b"t0k3n\r\n", "t0k3n"),
        (b"t0k3n\n\n", "t0k3n\n"),
        (b" t0 k3n ", " t0 k3n "),
        (b"\xff\xfe", os.fsdecode(b"\xff\xfe")),
    ],
)
def test_a_file_is_one_secret(tmp_path: Path, data: bytes, value: str) -> None:
    """Its content without the end of the last line; it need not be text."""
    assert secret_of({}, private(tmp_path / "token", data)) == value


def test_where_a_secret_is_looked_for(tmp_path: Path) -> None:
    """First in systemd's credentials, then in the service's env_file, then in the environment."""
    folder = tmp_path / "credentials"
    folder.mkdir()
    env_file = private(tmp_path / "bot.env", b"CREDENTIALS_DIRECTORY=/nowhere\n")
    environ = {"CREDENTIALS_DIRECTORY": str(folder), "NAME": "environment"}
    assert secret_of(environ, "NAME", env_file=env_file) == "environment"
    private(env_file, b"NAME=env_file\n")
    assert secret_of(environ, "NAME", env_file=env_file) == "env_file"
    private(folder / "NAME", b"\n", 0o600)
    assert secret_of(environ, "NAME", env_file=env_file) == "env_file"
    private(folder / "NAME", b"credential\n")
    assert secret_of(environ, "NAME", env_file=env_file) == "credential"
    assert secret_of(environ, private(tmp_path / "own", b"own")) == "own"


def test_each_source_is_named_without_the_value(tmp_path: Path) -> None:
    """The source is what an operator looks for after a token was rotated."""
    own, env_file = private(tmp_path / "own", b"s1"), private(tmp_path / "bot.env", b"A=s2\nX=s3")
    spec = service_spec(
        name="bot",
        plugin="bot",
        service_type="bot",
        env_file=env_file,
        secrets={"OWN": own, "A": "A", "B": "B", "C": "EU"},
    )
    found = service_environment(spec, {"A": "old", "B": "s4", "EU": "s5"}).sources
    exported = "the supervisor's environment"
    assert found == {
        "OWN": f"file {own}",
        "A": f"env_file {env_file}",
        "X": f"env_file {env_file}",
        "B": exported,
        "C": exported,
    }


@pytest.mark.parametrize(
    ("text", "keys", "expected"),
    [
        ("TOKEN=other", {"secrets": {"TOKEN": "TOKEN"}}, ["env_file", "the supervisor's"]),
        ("TOKEN=t0k3n", {"secrets": {"TOKEN": "TOKEN"}}, []),
        ("TOKEN=", {"secrets": {"TOKEN": "TOKEN"}}, []),
        ("TOKEN=other", {}, []),
        ("EXTRA=other", {"pass_env": ("EXTRA",)}, ["env_file", "the supervisor's"]),
        ("EXTRA=other", {"env": {"EXTRA": "x"}}, ["env", "env_file"]),
        ("TOKEN_EU=other", {"secrets": {"T": "TOKEN_EU"}}, ["env_file", "the supervisor's"]),
    ],
)
def test_two_sources_that_differ_are_found(
    text: str, keys: dict[str, Any], expected: list[str]
) -> None:
    """The source that is used comes first; what the service is not given does not count."""
    spec = service_spec(
        name="bot", plugin="bot", service_type="bot", env_file=Path("/etc/bot.env"), **keys
    )
    found = differing_sources(spec, SUPERVISOR, lambda _: text.encode())
    assert [place.split(" ")[0] for places in found.values() for place in places] == [
        word.split(" ")[0] for word in expected
    ]


@pytest.mark.parametrize("data", [b"", b"\n", b" \r\n"])
def test_an_empty_secret_is_refused(tmp_path: Path, data: bytes) -> None:
    """Wherever it is: no service can use one, and each would report it in its own way."""
    path = private(tmp_path / "token", data)
    assert refused({}, path) == f"secret TOKEN: {path} is empty; put the value into it"
    text = data.decode()
    assert "is empty in the supervisor's environment: export" in refused({"KEY": text}, "KEY")
    assert f"is empty in credential {path}" in refused(
        {"CREDENTIALS_DIRECTORY": str(tmp_path)}, "token"
    )


def refused(environ: dict[str, str], source: str | Path) -> str:
    """Return why a secret is refused."""
    with pytest.raises(StartError) as caught:
        secret_of(environ, source)
    assert "s3cret" not in str(caught.value)
    return caught.value.reason


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o610, 0o601, 0o644, 0o444])
def test_a_file_open_to_others_is_refused(tmp_path: Path, mode: int) -> None:
    """All three kinds of file. The error has the file, its mode and the command to run."""
    path = private(tmp_path / "it's", b"s3cret", mode)
    says = f"{path} has mode {mode:04o}, so others can get at it: chmod 600 '{tmp_path}/it'\"'\"'s'"
    assert refused({}, path) == f"secret TOKEN: {says}"
    assert refused({"CREDENTIALS_DIRECTORY": str(tmp_path)}, "it's") == f"secret TOKEN: {says}"
    spec = service_spec(name="bot", plugin="bot", service_type="bot", env_file=path)
    with pytest.raises(StartError) as caught:
        worker_environment(spec, {})
    assert caught.value.reason == f"env_file {says}"


def test_a_file_that_is_no_secret_is_refused(tmp_path: Path) -> None:
    """A missing file, a folder, a pipe without a writer, a large file, one with a NUL."""
    assert "there is no file" in refused({}, tmp_path / "none")
    assert "cannot be read: " in refused({}, tmp_path)
    os.mkfifo(tmp_path / "pipe", 0o600)
    assert "no regular file" in refused({}, tmp_path / "pipe")
    assert "larger than" in refused({}, private(tmp_path / "big", b"s3cret" * 200_000))
    assert "NUL" in refused({}, private(tmp_path / "nul", b"s3cret\0"))
    assert "no regular file" in refused({}, Path("/dev/null"))


ACL_ENTRIES = {"owner": (1, 4, -1), "mine": (2, 4, os.geteuid()), "mask": (16, 4, -1),
               "group": (4, 0, -1), "others": (32, 0, -1)}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "taken"),
    [
        ({}, True),
        ({"mine": (2, 4, os.geteuid() + 1)}, False),
        ({"group": (4, 4, -1)}, False),
        ({"others": (32, 4, -1)}, False),
    ],
)
def test_an_access_list_for_its_own_user_is_accepted(
    tmp_path: Path, change: dict[str, tuple[int, int, int]], taken: bool
) -> None:
    """systemd gives credentials to a unit's user by an access list, whose mask looks like an open
    group. A list that lets other users read is refused."""
    path = private(tmp_path / "NAME", b"s3cret", 0o400)
    entries = sorted((ACL_ENTRIES | change).values())
    packed = b"".join(struct.pack("<HHI", tag, may, who % 2**32) for tag, may, who in entries)
    try:
        os.setxattr(path, "system.posix_acl_access", struct.pack("<I", 2) + packed)
    except OSError as error:
        pytest.skip(f"this file system has no access lists: {error}")
    assert path.stat().st_mode & 0o040
    environ = {"CREDENTIALS_DIRECTORY": str(tmp_path)}
    if taken:
        assert secret_of(environ, "NAME") == "s3cret"
    else:
        assert "has mode" in refused(environ, "NAME")


@pytest.mark.parametrize(
    ("keys", "value"),
    [
        ({"pass_env": ("PATH",)}, "/bin"),
        ({"text": "PATH=file"}, "file"),
        ({"text": "EXTRA=file", "pass_env": ("EXTRA",), "name": "EXTRA"}, "file"),
        ({"text": "PATH=file", "env": {"PATH": "env"}}, "env"),
        ({"env": {"PATH": "env"}, "secrets": {"PATH": "TOKEN"}}, "t0k3n"),
        ({"text": "PATH=file", "secrets": {"PATH": "TOKEN"}}, "t0k3n"),
    ],
)
def test_the_stronger_source_counts(keys: dict[str, Any], value: str) -> None:
    """From weak to strong: allow-list, pass_env, env_file, env, secrets; and each name has one
    value, so the order in which both parts are applied does not matter."""
    name = keys.pop("name", "PATH")
    public, secrets = given(**keys)
    assert not public.keys() & secrets.keys()
    assert (public | secrets)[name] == value


def test_all_of_env_file_is_secret() -> None:
    """Tokens are kept there, so none of its variables is in the public part."""
    public, secrets = given(text="A=1\nB=2\n", env={"B": "3"})
    assert public == COMMON | {"B": "3"}
    assert secrets == {"A": "1"}


@pytest.mark.parametrize(("text", "where"), [("", "an env_file"), ("OTHER=s3cret", "/etc/bot.env")])
def test_a_missing_secret_says_what_to_do(text: str, where: str) -> None:
    """A secret that is not found stops the start. The error has both of its names and no value."""
    with pytest.raises(StartError) as caught:
        given(text, secrets={"PASSWORD": "PASSWORD_EU"})
    assert caught.value.service == "bot"
    assert caught.value.reason == (
        "secret PASSWORD is not set: export PASSWORD_EU where the supervisor starts, "
        f"or put it into {where}"
    )


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("K=v", "v"),
        ("export K=v", "v"),
        ("  K = v w  ", "v w"),
        ("K=", ""),
        ("K= # comment", ""),
        ("K=v # comment", "v"),
        ("K=v#w", "v#w"),
        ("K=#fff", "#fff"),
        ("K=a=b", "a=b"),
        ("K=it's", "it's"),
        ("K='a # \"b\" \\n' # comment", 'a # "b" \\n'),
        ('K="a # \'b\'"', "a # 'b'"),
        (r'K="a\n\t\"\\\$\d"', 'a\n\t"\\$\\d'),
        ("K=\"\"#", ""),
        ("K=v\r", "v"),
        ("# K=no\n\n  #\nK=v\n", "v"),
        ("K=1\nK=2", "2"),
    ],
)  # fmt: skip
def test_a_line_reads_as_in_a_shell(line: str, value: str) -> None:
    """Quotes, comments and `export` have their meaning of the shell; nothing is expanded."""
    assert given(line)[1] == {"K": value}


@pytest.mark.parametrize(
    "line",
    ["s3cret", "=s3cret", "1K=s3cret", "K='s3cret", 'K="s3cret', "K='a' s3cret", "K s3cret=1",
     "K=s3cret\0", 'K="s3cret\\"', "export s3cret"],
)  # fmt: skip
def test_an_error_of_a_line_does_not_show_it(line: str) -> None:
    """A line that cannot be read is named by file and number, for it may hold a secret."""
    with pytest.raises(StartError, match=r"/etc/bot.env:2 is not KEY=VALUE") as caught:
        given(f"OK=1\n{line}\n")
    assert "s3cret" not in str(caught.value)


def test_an_unreadable_env_file_stops_the_start(tmp_path: Path) -> None:
    """A missing file, or one that is not text. The error shows none of its bytes."""
    path = tmp_path / "bot.env"
    spec = service_spec(name="bot", plugin="bot", service_type="bot", env_file=path)
    with pytest.raises(StartError, match=r"bot.env cannot be read: there is no such file"):
        worker_environment(spec, {})
    path.write_bytes(b"K=s3cret\xff")
    path.chmod(0o600)
    with pytest.raises(StartError, match=r"bot.env is not UTF-8 text$") as caught:
        worker_environment(spec, {})
    assert caught.value.__cause__ is None
    path.write_bytes(b"\xef\xbb\xbfK=v")
    assert worker_environment(spec, {}) == ({}, {"K": "v"})


WHO = AgentSpec(
    name="ada",
    character=Character(
        name="Ada",
        secrets={"TOKEN": "of-ada", "EMPTY": "", "NUMBER": 5, "NUL": "a\0b"},
        settings={"secrets": {"KEY": "nested"}, "voice": "low"},
    ),
    file=Path("/c/ada.json"),
)


@pytest.mark.parametrize(
    ("secrets", "expected", "left"),
    [
        ({"TOKEN": "TOKEN"}, {"TOKEN": "of-ada"}, {"TOKEN": "of-ada"}),
        ({"MINE": "TOKEN"}, {"MINE": "of-ada"}, {}),
        ({"TOKEN": "TOKEN_EU"}, {"TOKEN": "t0k3n-eu"}, {}),
        ({"KEY": "KEY"}, {"KEY": "nested"}, {"KEY": "nested"}),
        ({"NUMBER": "NUMBER"}, {"NUMBER": "5"}, {"NUMBER": 5}),
        ({"EMPTY": "EXTRA"}, {"EMPTY": "extra"}, {}),
        ({}, {}, {}),
    ],
)
def test_a_characters_secrets_come_first(
    secrets: dict[str, str | Path], expected: dict[str, str], left: dict[str, Any]
) -> None:
    """Its value overrides the supervisor's variable. Of other secrets, the worker's character has
    the names alone."""
    found = given(secrets=secrets, agent=WHO)
    spec = service_spec(name="b", plugin="b", service_type="b", secrets=secrets, agent=WHO)
    character, withheld = character_for(spec, found[1])

    assert found == (COMMON, expected)
    kept = {**character.settings["secrets"], **character.secrets}
    assert {name: value for name, value in kept.items() if value != ""} == left
    assert set(withheld) == {"TOKEN", "KEY", "NUMBER", "NUL"} - set(left) - set(expected)


def test_an_open_character_file_gives_no_secret(tmp_path: Path) -> None:
    """Only a service that names one of its secrets is refused; the rest of the file is used."""
    path = private(tmp_path / "c.json", b'{"name": "C", "secrets": {"TOKEN": "s3cr3t"}}', 0o644)
    agent, _ = read_agent("", path)

    assert given(agent=agent, secrets={"EXTRA": "EXTRA"})[1] == {"EXTRA": "extra"}
    with pytest.raises(StartError) as caught:
        given(agent=agent, secrets={"TOKEN": "TOKEN"})
    reason = f"secret TOKEN: {path} has mode 0644, so others can get at it: chmod 600 {path}"
    assert caught.value.reason == reason
    assert "s3cr3t" not in repr(agent)
    path.chmod(0o600)
    assert given(agent=read_agent("", path)[0], secrets={"TOKEN": "TOKEN"})[1] == {
        "TOKEN": "s3cr3t"
    }


def test_a_secret_with_a_nul_is_refused() -> None:
    """The error shows no value. For a secret that is not found, it names the character's file."""
    with pytest.raises(StartError, match=r"secret NUL: /c/ada.json has a NUL in it$"):
        given(agent=WHO, secrets={"NUL": "NUL"})
    with pytest.raises(StartError, match=r"or into the secrets of /c/ada.json$"):
        given(agent=WHO, secrets={"OTHER": "OTHER"})


def test_a_character_that_no_service_answers_as_is_noted() -> None:
    """The agent's other services run all the same; the host's agent answers them."""

    def service(name: str, service_type: str, agent: AgentSpec) -> ServiceSpec:
        return service_spec(name=name, plugin="p", service_type=service_type, agent=agent)

    own = AgentSpec(character=WHO.character, file=Path("/c/all.json"))
    services = [service("ada.chat", "chat", WHO), service("agent", "agent", own)]
    (note,) = unused_characters([AgentSpec(), own, WHO], services)
    assert note.startswith(
        "no service answers as Ada (/c/ada.json): [agents.ada] has no service of"
    )

    services = [service("ada.chat", "chat", WHO), service("ada.agent", "agent", WHO)]
    (note,) = unused_characters([AgentSpec(), own, WHO], services)
    assert note.startswith("no service answers as Ada (/c/all.json): [agent] has no service of")
    assert unused_characters([AgentSpec(), WHO], services) == []


def test_secrets_that_no_service_names_are_noted() -> None:
    """The note has their names, and the line to write."""
    one = service_spec(
        name="ada.bot", plugin="b", service_type="b", agent=WHO,
        secrets={"T": "TOKEN", "NUL": Path("/x")},
    )  # fmt: skip
    other = service_spec(name="bot", plugin="b", service_type="b", secrets={"KEY": "KEY"})

    (note,) = unused_secrets([AgentSpec(), WHO], [one, other])
    assert note == (
        "/c/ada.json has secrets that no service is given: KEY, NUMBER, NUL; "
        '[agents.ada.services.NAME] secrets = ["KEY"] gives one to it'
    )


def test_a_worker_is_told_the_names_of_what_it_is_not_granted(tmp_path: Path) -> None:
    """Never a value, nothing that it is given or that is empty, and a bounded number of names."""
    (tmp_path / "FROM_SYSTEMD").write_text("cAn4ry")
    environ = SUPERVISOR | {"CREDENTIALS_DIRECTORY": str(tmp_path), "EMPTY": "", "a-b": "no name"}
    spec = service_spec(
        name="bot",
        plugin="bot",
        service_type="bot",
        pass_env=("EXTRA",),
        secrets={"TOKEN": "TOKEN"},
    )
    names = not_granted(environ, service_environment(spec, environ))
    assert names == (
        *("CREDENTIALS_DIRECTORY", "FROM_SYSTEMD", "GARRISON_HOME", "HTTPS_PROXY", "LCX"),
        "TOKEN_EU",
    )
    many = {f"V{number}": "x" for number in range(NAMES_MOST * 2)}
    assert len(not_granted(many, service_environment(spec, SUPERVISOR))) == NAMES_MOST

"""Agents in the config: their services, the NAMEs within an agent, and their characters."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from garrison.ipc.errors import ConfigError
from garrison.supervisor.config.characters import unused_fields
from garrison.supervisor.config.load import Config, load

Provides = Mapping[str, Sequence[str]]

P = "[plugins]\np = {}\nq = {}\n"
BOTH = {"p": ["t", "u"], "q": ["v"]}
TWO = "[agents]\nada = {}\nmax = {}\n"


def loaded(directory: Path, text: str) -> Config:
    """Return the configuration of a text."""
    path = directory / "config.toml"
    path.write_text(text)
    return load(path, Path("/h"), {})


@pytest.mark.parametrize(
    ("sections", "provides", "expected"),
    [
        ("[agents.ada]", BOTH, "ada.t*=p.t ada.u=p.u ada.v*=q.v"),
        (TWO, {"p": ["t"], "q": ["v"]}, "ada.t*=p.t ada.v*=q.v max.t*=p.t max.v*=q.v"),
        ("[agents.ada]\nplugins=['q']", BOTH, "t*=p.t u=p.u ada.v*=q.v"),
        ("[agents.ada]\nplugins=[]", BOTH, "t*=p.t u=p.u v*=q.v"),
        ("[agents.ada]\nplugins=['q']\n[agents.max]\nplugins=['q','p']", BOTH,
         "ada.v*=q.v max.t*=p.t max.u=p.u max.v*=q.v"),
        ("[agents.ada.services.x]\nplugin='q'", BOTH, "ada.t*=p.t ada.u=p.u ada.v*=q.v ada.x=q.v"),
        ("[agents.ada.services.x]\nplugin='p'\ntype='u'", BOTH,
         "ada.t*=p.t ada.u=p.u ada.x=p.u ada.v*=q.v"),
        ("[agents.ada]\nplugins=['q']\n[services.t]", BOTH, "u=p.u t*=p.t ada.v*=q.v"),
        ("[agents.ada]\nplugins=['p']", {"q": ["v"]}, "v*=q.v"),
        ("[agents.ada]\nplugins=['p']\n[services.any]", {"q": ["v"]}, "v*=q.v"),
        ("[agents.ada.services.any]\n[services.other]", {}, ""),
        ("[agents.ada]\nplugins=['q']\n[services.w]", {"q": ["w"]}, "ada.w*=q.w"),
        ("[services.x]\nplugin='p'\ntype='t'", BOTH, "t*=p.t u=p.u x=p.t v*=q.v"),
    ],
)  # fmt: skip
def test_each_agent_has_services_of_its_own(
    tmp_path: Path, sections: str, provides: Provides, expected: str
) -> None:
    """Under NAMEs that begin with its own. A plugin that an agent runs is not run for the host. Of
    each agent and plugin, one service, `*`, has the plugin's parts."""
    specs = loaded(tmp_path, P + sections).services(provides)

    shown = [f"{s.name}{'*' * s.with_parts}={s.plugin}.{s.service_type}" for s in specs]
    assert " ".join(shown) == expected
    assert [s.agent.name for s in specs] == [
        s.name.partition(".")[0] if "." in s.name else "" for s in specs
    ]


@pytest.mark.parametrize(
    ("sections", "line", "key", "says"),
    [
        ("[agents.ada]\nplugins=['p','pp']", 5, "agents.ada.plugins[1]", r"no \[plugins.pp\].*`p`"),
        ("[agents.ada]\nplugin=['p']", 5, "agents.ada.plugin", r"mean `plugins`"),
        ("[agents.ada]\nsystem='x'", 5, "agents.ada.system", r"no such key in an agent"),
        ("[agents.ada]\ngrace=1", 5, "agents.ada.grace", r"belongs in \[services.NAME\]"),
        ("[agents.'a.b']", 4, 'agents."a.b"', r"NAME has no dot; call it `a-b`"),
        ("[agents.'a b']", 4, 'agents."a b"', r"cannot be a NAME"),
        ("[agent]\nname='x'", 5, "agent.name", r"no such key in \[agent\]"),
        ("[agent]\ncharacter=3", 5, "agent.character", r"a path in quotes, got a whole number"),
        ("[agents.ada.services.tt]", 4, "agents.ada.services.tt", r"no plugin has.*`t`"),
        ("[agents.ada.services.x]\nplugin='p'", 4, "agents.ada.services.x", r"name one of them"),
        ("[agents.ada.services.x]\ngrase=1", 5, "agents.ada.services.x.grase", r"`grace`"),
        ("[agents.ada]\nplugins=['q']\n[agents.ada.services.t]", 6, "agents.ada.services.t",
         r"`p` is run by the host, and not by agent `ada`: add \"p\" to \[agents.ada\] plugins, or "
         r"write \[services.t\]"),
        ("[agents.ada]\nplugins=['q']\n[agents.max]\nplugins=['p']\n[agents.ada.services.x]\n"
         "plugin='p'", 8, "agents.ada.services.x", r"run by agent `max`, and not.*add \"p\" to"),
        ("[agents.ada]\n[services.t]", 5, "services.t",
         r"`p` is run by agent `ada`: write \[agents.ada.services.t\]"),
        (TWO + "[services.x]\nplugin='q'", 7, "services.x",
         r"run by agents `ada`, `max`: write \[agents.ada.services.x\]"),
        ("[agents.ada]\nplugins=['q']\n[services.'ada.v']\nplugin='p'\ntype='t'", 6,
         'services."ada.v"', r"`ada.v` is a service of agent `ada` too"),
        (f"[agents.{'a' * 60}]\n[agents.{'a' * 60}.services.v2345]\nplugin='q'", 5,
         f"agents.{'a' * 60}.services.v2345", r"too long for a NAME"),
        ("[agents.ada.services.t]\ndepends_on=['u','w']", 5,
         "agents.ada.services.t.depends_on[1]", r"no service `w`"),
        ("[agents.ada]\nplugins=['q']\n[services.t]\nbind_to=['v']", 7, "services.t.bind_to[0]",
         r"no service `v`.*`ada.v`"),
        ("[agents.ada.services.t]\ndepends_on=['u']\n[agents.ada.services.u]\ndepends_on=['t']", 5,
         "agents.ada.services.t.depends_on", r"circle: ada.t → ada.u → ada.t"),
        ("[agents.ada.services.t]\npriority='high'", 5, "agents.ada.services.t.priority",
         r"a whole number, -1,000,000,000 to 1,000,000,000, got a string"),
        ("[agents.ada.services.t]\npriority=true", 5, "agents.ada.services.t.priority",
         r"whole number.*got a boolean"),
    ],
)  # fmt: skip
def test_a_mistake_says_where_and_what_to_write(
    tmp_path: Path, sections: str, line: int, key: str, says: str
) -> None:
    """Each is named by file, line and key."""
    from garrison.supervisor.fitting import configured_services

    with pytest.raises(ConfigError) as caught:
        configured_services(loaded(tmp_path, P + sections), {k: list(v) for k, v in BOTH.items()})
    assert (caught.value.line, caught.value.key) == (line, key)
    assert re.search(says, caught.value.problem), caught.value.problem


def test_two_plugins_of_one_type_need_sections_of_the_agent(tmp_path: Path) -> None:
    """The error names sections of the agent."""
    with pytest.raises(ConfigError) as caught:
        loaded(tmp_path, P + "[agents.ada.services.t]").services({"p": ["t"], "q": ["t"]})
    assert "[agents.ada.services.t] with" in caught.value.problem
    assert "[agents.ada.services.t-2] with" in caught.value.problem


@pytest.mark.parametrize(
    ("name", "meant"),
    [("u", "ada.u"), ("ada.u", "ada.u"), ("max.u", "max.u"), ("v", "v"), ("max.t", "max.t")],
)
def test_within_an_agent_a_name_means_its_own(tmp_path: Path, name: str, meant: str) -> None:
    """Then the host's. A service of another agent has its full NAME."""
    text = P + "[agents.max]\nplugins=['p']\n[agents.ada]\nplugins=['p']\n"
    text += f"[agents.ada.services.t]\ndepends_on=['{name}']\nbind_to=['{name}']\n"

    specs = {spec.name: spec for spec in loaded(tmp_path, text).services(BOTH)}
    assert specs["ada.t"].supervision.depends_on == specs["ada.t"].supervision.bind_to == (meant,)


def test_sections_of_agents_are_read_with_their_plugin(tmp_path: Path) -> None:
    """Under their full NAMEs, with their NAMEs within the agent. An error names their own lines."""
    text = P + "[agents.ada]\nplugins=['q']\n[agents.ada.services.v.config]\nx = 1\n[services.t]\n"
    config = loaded(tmp_path, text)

    ((name, called),) = [(one.name, one.called) for one in config.sections("q")]
    assert (name, called) == ("ada.v", "v")
    assert [one.name for one in config.sections("p")] == ["t"]
    error = config.error_at(("services", "ada.v", "config", "x"), "no")
    assert (error.line, error.key) == (7, "agents.ada.services.v.config.x")


# --- characters ---------------------------------------------------------------------------

SEVERAL = '[{"name": "Ada"}, {"name": "Max"}]'


@pytest.mark.parametrize(
    ("text", "content", "key", "says"),
    [
        ("[agent]\ncharacter='no.json'", None, "agent.character", r"there is no file .*/no.json"),
        ("[agent]\ncharacter='c.json'", "{", "agent.character", r"c.json: it is not JSON"),
        ("[agents.ada]\ncharacter='c.json'", '{"bio": 1}', "agents.ada.character",
         r"c.json: name is missing"),
        ("[agent]\ncharacter='c.json'", SEVERAL, "agent.character",
         r'several characters: Ada, Max; pick one by its name after a #, as in "FILE#Ada"'),
        ("[agents.eva]\ncharacter='c.json'", SEVERAL, "agents.eva.character", r"Ada, Max; pick"),
        ("[agent]\ncharacter='c.json#Eva'", SEVERAL, "agent.character",
         r"no character of the name Eva, but Ada, Max"),
        ("[agent]\ncharacter='c.json'", f'{{"name": "{"x" * 2**20}"}}', "agent.character",
         r"larger than 1,048,576 bytes"),
        (f"[agent]\ncharacter='{'x' * 300}#y'", None, "agent.character", r"cannot be read"),
        ("[agent]\ncharacter='.'", None, "agent.character", r"cannot be read"),
    ],
)  # fmt: skip
def test_an_unusable_character_is_an_error(
    tmp_path: Path, text: str, content: str | None, key: str, says: str
) -> None:
    """The error names the key of the file."""
    if content is not None:
        (tmp_path / "c.json").write_text(content)
    with pytest.raises(ConfigError) as caught:
        loaded(tmp_path, text)
    assert (caught.value.line, caught.value.key) == (2, key)
    assert re.search(says, caught.value.problem), caught.value.problem


def test_each_agent_has_the_character_of_its_file(tmp_path: Path) -> None:
    """One of several is picked by its name, or by the agent's NAME. The default is Eliza under the
    agent's NAME."""
    (tmp_path / "c.json").write_text(SEVERAL)
    text = "[agent]\ncharacter='c.json#ada'\n[agents.max]\ncharacter='c.json'\n[agents.eva]\n"
    config = loaded(tmp_path, text)

    names = {name: agent.character.name for name, agent in config.agents.items()}
    assert names == {"": "Ada", "max": "Max", "eva": "eva"}
    assert loaded(tmp_path, "").agents[""].character.name == "Eliza"


def test_another_character_is_another_config(tmp_path: Path) -> None:
    """A supervisor that adopts detects the change by the digest."""
    text = "[agent]\ncharacter='c.json'\n"
    (tmp_path / "c.json").write_text('{"name": "A"}')
    before = loaded(tmp_path, text).digest
    assert loaded(tmp_path, text).digest == before
    (tmp_path / "c.json").write_text('{"name": "B"}')
    assert loaded(tmp_path, text).digest != before


def test_what_a_character_has_in_vain_is_named(tmp_path: Path) -> None:
    """By `check`, without failing; of many parts the first ones."""
    path = tmp_path / "ada.json"
    path.write_text('{"name": "Ada", "clients": ["x"], "plugins": ["y"], "lore": ["z"]}')
    config = loaded(tmp_path, f"[agent]\ncharacter = '{path}'\n{P}")
    expected = f"{path}: of Ada the agent does not use clients, plugins; "
    expected += "services read them from runtime.character"
    assert unused_fields(config.agents.values()) == [expected]

    more = ", ".join(f'"key{number}": 1' for number in range(30))
    path.write_text(f'{{"name": "Ada", {more}}}')
    (note,) = unused_fields(config.agents.values())
    assert "key19 and 10 more" in note
    path.unlink()
    assert unused_fields(config.agents.values()) == []

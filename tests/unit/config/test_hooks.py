"""`[hooks.NAME]`: the service that it adds, and what is wrong with a hook."""

from pathlib import Path
from typing import Any

import pytest

from garrison.ipc.errors import ConfigError, StartError
from garrison.supervisor.config.accepted import Accepted, accept_services, accept_whole
from garrison.supervisor.config.environment import service_environment
from garrison.supervisor.config.load import Config, load
from garrison.supervisor.config.spec import ServiceSpec

PROVIDES = {"chat": ["chat"], "hooks": ["hooks"]}
PAGE = '[hooks.page]\non = ["failed"]\n'


def loaded(folder: Path, text: str, accepted: Accepted | None = None) -> Config:
    """Return the configuration of a text."""
    path = folder / "config.toml"
    path.write_text(text)
    return load(path, Path("/h"), {}, accepted)


def service(config: Config) -> ServiceSpec | None:
    """Return the service that runs hooks; None: there is none."""
    return next((one for one in config.services(PROVIDES) if one.name == "hooks"), None)


def hooks(config: Config) -> dict[str, Any]:
    """Return the hooks that it runs."""
    spec = service(config)
    assert spec is not None
    found: dict[str, Any] = spec.config["hooks"]
    return found


def test_a_hook_adds_its_service_for_the_host_alone(short_path: Path) -> None:
    """With the secrets of all hooks, and what its own section says; without one there is none."""
    text = (
        '[plugins.chat]\n[agents.ada]\n[services.hooks]\nmemory_max = 99_000_000\nsecrets = ["A"]\n'
        f'{PAGE}command = ["cat", "-", "-"]\nsecrets = {{ B = "B_EU" }}\n'
        '[hooks.ops]\non = ["disk"]\nwebhook = "$D"\nsecret = "C"\n'
        '[hooks.talk]\non = ["failed"]\ncall = "ada.chat.say"\nwith = { room = "1" }\n'
    )
    config = loaded(short_path, text)
    names = [one.name for one in config.services(PROVIDES)]
    spec = service(config)

    assert names == ["hooks", "ada.chat"]
    assert spec is not None
    assert spec.environment.secrets == {"A": "A", "B": "B_EU", "C": "C", "D": "D"}
    assert spec.limits.memory_max == 99_000_000
    # "A" is its own, so it does not start without it.
    assert service_environment(spec, {"A": "1", "C": "3"}).values == {"A": "1", "C": "3"}
    with pytest.raises(StartError, match="secret A is not set"):
        service_environment(spec, {"C": "3"})
    assert hooks(config) == {
        "page": {"on": ["failed"], "command": ["cat", "-", "-"], "secrets": ["B"]},
        "ops": {"on": ["disk"], "webhook": "$D", "secret": "C"},
        "talk": {"on": ["failed"], "call": "ada.chat.say", "with": {"room": "1"}},
    }
    assert service(loaded(short_path, "[plugins.chat]\n")) is None


@pytest.mark.parametrize(
    ("text", "key", "problem"),
    [
        (PAGE, "hooks.page", "has one of `command`, `webhook` and `call`: it has none"),
        (f'{PAGE}command = ["a"]\ncall = "a.b"', "hooks.page", "it has `command` and `call`"),
        (f'{PAGE}command = "a b"', "hooks.page.command", "without a shell"),
        (f"{PAGE}command = []", "hooks.page.command", "the program and its arguments"),
        (f'{PAGE}command = ["a", 1]', "hooks.page.command[1]", "a string in quotes"),
        (f'{PAGE}webhook = "ftp://x/"', "hooks.page.webhook", "https://example.com"),
        (f'{PAGE}webhook = "https://u:p@x/"', "hooks.page.webhook", "no user in it"),
        (f'{PAGE}call = "notify"', "hooks.page.call", "NAME.method"),
        (f'{PAGE}command = ["a"]\nsecret = "S"', "hooks.page.secret", "hook with `webhook`"),
        (f'{PAGE}command = ["a"]\nwith = {{ a = 1 }}', "hooks.page.with", "hook with `call`"),
        (f'{PAGE}comand = ["a"]', "hooks.page.comand", "did you mean `command`"),
        ('[hooks.page]\ncommand = ["a"]', "hooks.page", "it needs `on`"),
        ('[hooks.page]\non = ["dead"]\ncommand = ["a"]', "hooks.page.on[0]", "expected one of"),
        ('[hooks.page]\non = ["failed"]\nservices = ["a b"]', "hooks.page.services[0]", "pattern"),
        (
            f'[plugins.hooks]\nuse = "mine"\n{PAGE}command = ["a"]',
            "plugins.hooks.use",
            "`hooks` is the NAME",
        ),
        (
            f'[services.hooks]\nplugin = "chat"\n{PAGE}command = ["a"]',
            "services.hooks.plugin",
            "`hooks` is the NAME",
        ),
        (
            f'[services.hooks.config.hooks.a]\non = []\n{PAGE}command = ["a"]',
            "services.hooks.config.hooks",
            "write hooks as",
        ),
        (
            f'{PAGE}command = ["a"]\nsecrets = {{ A = "B" }}\n[hooks.b]\non = ["disk"]\n'
            'command = ["a"]\nsecrets = ["A"]',
            "hooks.b.secrets.A",
            "found elsewhere",
        ),
    ],
)
def test_what_is_wrong_is_named_by_its_key(
    short_path: Path, text: str, key: str, problem: str
) -> None:
    """And by its line."""
    with pytest.raises(ConfigError) as raised:
        loaded(short_path, text)
    assert raised.value.key == key
    assert problem in str(raised.value)
    assert raised.value.line is not None


def test_a_hook_that_does_not_fit_is_replaced_by_what_was_accepted(short_path: Path) -> None:
    """The others are as the file has them; one that was never accepted is left out."""
    good = f'{PAGE}command = ["old"]\n[hooks.b]\non = ["disk"]\ncommand = ["b"]\n'
    stored = accept_whole(loaded(short_path, good).origins, ["hooks"])
    bad = f'{PAGE}command = "x"\n[hooks.b]\non = ["disk"]\ncommand = ["new"]\n[hooks.c]\non = []\n'
    config = loaded(short_path, bad, Accepted.parse(stored))

    assert {name: one["command"] for name, one in hooks(config).items()} == {
        "page": ["old"],
        "b": ["new"],
    }
    assert [one.unit for one in config.rejected] == [("hooks", "page"), ("hooks", "c")]
    spec = service(config)
    assert spec is not None
    assert all(one.concerns(spec) for one in config.rejected)
    broken = loaded(short_path, "not toml", Accepted.parse(stored))
    assert hooks(broken)["page"]["command"] == ["old"]


def test_a_restart_of_the_service_accepts_the_hooks(short_path: Path) -> None:
    """A restart of another one does not."""
    former = accept_whole(loaded(short_path, f'{PAGE}command = ["old"]').origins, ["hooks"])
    origins = loaded(short_path, f'{PAGE}command = ["new"]').origins
    other = accept_services(origins, {}, former)
    own = accept_services(origins, {"hooks": ("hooks", "")}, former)

    assert (other.hooks == former.hooks, own.hooks == former.hooks) == (True, False)
    assert hooks(loaded(short_path, "?", Accepted.parse(own)))["page"]["command"] == ["new"]

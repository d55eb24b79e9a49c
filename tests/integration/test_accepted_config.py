"""A config that does not fit in part, or at all: the host goes on with what it accepted last."""

import asyncio
import json
import stat
from pathlib import Path
from typing import Any

import pytest
from tests.support.host import Host, Hosting
from tests.support.waiting import until

from garrison.ipc import OrderFailed

CONFIG = """
[plugins.signs]
[plugins.echo]
[services.signs]
grace = 5
[services.signs.config]
word = "{word}"
[services.echo]
grace = 4
"""


def state_file(one: Host) -> Path:
    """Return the file of the accepted config."""
    return one.home / "state" / "accepted.json"


def marks(one: Host) -> list[str]:
    """Return the marks that `status` shows."""
    ran = one.run("status")
    return [line for line in ran.out.splitlines() if line.startswith("! config rejected: ")]


def keys(one: Host) -> dict[str | None, str | None]:
    """Return the rejected keys, by service."""
    head: dict[str, Any] = one.ask("status")["supervisor"]
    return {row["service"]: row["key"] for row in head["config_rejected"]}


def die_and_up(one: Host) -> None:
    """Kill the supervisor, and start it again."""
    one.end(9)
    one.up()


async def test_one_bad_key_holds_back_that_service_alone(host: Hosting) -> None:
    """After a kill and after an orderly end; the others are started as the file says."""
    one = host(CONFIG.format(word="one"), ["signs", "echo"])
    file = state_file(one)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    (stored,) = json.loads(file.read_text())["documents"].values()
    assert (stored["text"], stored["folder"]) == (one.config.read_text(), str(one.folder))
    pid = one.status("signs")["pid"]

    bad = CONFIG.format(word="two").replace("grace = 4", "greace = 3")
    one.write("config.toml", bad)
    die_and_up(one)
    assert one.status("signs")["pid"] == pid  # adopted
    assert keys(one) == {"echo": "services.echo.greace"}
    (mark,) = marks(one)
    assert f"{one.config}:9: services.echo.greace: no such key" in mark
    until(lambda: "! config rejected: " in one.output, what="`up` shows the mark")
    assert "greace" in one.status("echo")["config_rejected"]
    assert one.status("signs")["config_rejected"] is None
    assert "! rejected: " in one.run("status", "echo").out

    upgraded = one.run("upgrade")  # it goes on as it runs
    assert upgraded.code == 0, upgraded.err
    assert f"{one.config}:9: services.echo.greace: no such key" in upgraded.out
    assert one.status("signs")["pid"] == pid

    one.restart()
    assert {row["state"] for row in one.rows().values()} == {"running"}
    assert await one.call("signs", "word") == "two"
    assert (
        json.loads(file.read_text())["services"]["echo"]
        != (json.loads(file.read_text())["services"]["signs"])
    )
    with pytest.raises(OrderFailed, match="greace"):
        await asyncio.to_thread(one.ask, "restart", "echo")
    await asyncio.to_thread(one.ask, "restart", "signs")
    assert one.config.read_text() == bad

    one.write("config.toml", bad.replace("greace", "grace"))
    await asyncio.to_thread(one.ask, "restart", "echo")
    assert keys(one) == {}
    assert marks(one) == []


async def test_a_file_that_does_not_parse_is_ignored(host: Hosting) -> None:
    """Also one that is not there; `up --strict` and `check` refuse it."""
    one = host(CONFIG.format(word="one"), ["signs", "echo"])
    one.write("config.toml", CONFIG.format(word="two") + "[services.more\n")
    for _ in range(2):
        one.restart()
        assert await one.call("signs", "word") == "one"
        (mark,) = marks(one)
        assert f"{one.config}:10: not TOML" in mark
    with pytest.raises(OrderFailed, match="not TOML"):
        await asyncio.to_thread(one.ask, "restart", "signs")
    assert one.end() == 0
    for words in (["up", "--strict"], ["up", "--strict", "--detach"], ["check"]):
        ran = one.run(*words)
        assert (ran.code, "not TOML" in ran.err) == (5, True), ran
    one.config.unlink()
    one.up()
    assert await one.call("signs", "word") == "one"
    assert "no such file" in marks(one)[0]
    one.write("other.toml", "[services.more\n")
    for other in ("typo.toml", "other.toml"):  # not those that the host was started with
        assert one.run("up", "-c", other).code == 5


def test_a_service_that_was_removed_stays_away(host: Hosting) -> None:
    """Also where the next start finds a config that cannot be used."""
    one = host(CONFIG.format(word="one"), ["signs", "echo"])
    one.write("config.toml", CONFIG.format(word="one").partition("[services.echo]")[0])
    one.write("config.toml", one.config.read_text().replace("[plugins.echo]\n", ""))
    assert "echo removed" in one.run("apply").out
    one.write("config.toml", "broken [")
    die_and_up(one)
    assert sorted(one.rows()) == ["listener", "signs"]


async def test_a_new_service_whose_section_is_wrong_is_not_started(host: Hosting) -> None:
    """It is registered and marked; what depends on it goes on as accepted. With the section
    corrected, `restart` starts it."""
    one = host("[plugins.echo]\n", ["signs", "echo"])
    new = '[services.late]\nplugin = "signs"\ntype = "signs"\nwatch = 3\n'
    depends = '[services.echo]\ndepends_on = ["late"]\n'
    one.write("config.toml", f"[plugins.echo]\n[plugins.signs]\n{new}{depends}")
    die_and_up(one)
    rows = one.rows()
    assert {name: row["state"] for name, row in rows.items()} == {
        "echo": "running",
        "signs": "running",
        "listener": "running",
        "late": "registered",
    }
    assert "services.late.watch" in rows["late"]["reason"]
    assert keys(one) == {"late": "services.late.watch", "echo": "services.echo.depends_on[0]"}
    for verb in ("start", "restart"):
        with pytest.raises(OrderFailed, match=r"services\.late\.watch"):
            await asyncio.to_thread(one.ask, verb, "late")
    one.write(
        "config.toml",
        f"[plugins.echo]\n[plugins.signs]\n{new}{depends}".replace("watch", "watchdog"),
    )
    await asyncio.to_thread(one.ask, "restart", "late")
    assert one.status("late")["state"] == "running"
    assert keys(one) == {}
    await asyncio.to_thread(one.ask, "restart", "echo")
    assert one.status("echo")["depends_on"] == ["late"]


async def test_a_setting_that_the_plugin_refuses_holds_back_its_service(host: Hosting) -> None:
    """Adopted or started anew, at the next start too; a new one is registered."""
    one = host(CONFIG.format(word="one"), ["signs", "echo"])
    more = '[services.more]\nplugin = "signs"\ntype = "signs"\nconfig.number = "x"\n'
    one.write("config.toml", CONFIG.format(word="two").replace("word =", "wrod =") + more)
    die_and_up(one)
    until(lambda: keys(one), what="the adopted service's config was checked")
    wrong = {"signs": "services.signs.config.wrod", "more": "services.more.config.number"}
    assert keys(one) == wrong
    one.until_reborn("signs", one.kill("signs"))
    assert await one.call("signs", "word") == "one"
    one.restart()
    assert await one.call("signs", "word") == "one"
    assert (one.status("more")["state"], keys(one)) == ("registered", wrong)
    assert one.end() == 0
    ran = one.run("up", "--strict")
    assert (ran.code, "config.wrod" in ran.err) == (5, True), ran


def test_the_host_and_the_defaults_are_kept_whole(host: Hosting) -> None:
    """The sections of services are taken nevertheless, with the accepted defaults."""
    config = "[host]\nlog_files = {files}\n[defaults]\ngrace = {grace}\n[plugins.echo]\n{more}"
    one = host(config.format(files=3, grace=7, more=""), ["echo"])
    wrong = config.format(files=1, grace=8, more="[services.echo]\nwatchdog = 9\n")
    one.write("config.toml", wrong.replace("grace = 8", "grace = 8\nwindow = 0"))
    die_and_up(one)
    assert keys(one) == {None: "defaults.window"}
    found = {row["key"] for row in one.ask("status")["supervisor"]["config_rejected"]}
    assert found == {"host.log_files", "defaults.window"}


def test_the_secrets_of_a_character_are_not_kept(host: Hosting) -> None:
    """Its text is; the secrets are read from the file at the next start."""
    ada = {"name": "Ada", "bio": "first", "secrets": {"TOKEN": "s3cret-1"}}
    ada["settings"] = {"voice": "low", "secrets": {"KEY": "s3cret-2"}}
    one = host(
        '[agent]\ncharacter = "ada.json"\n[plugins.signs]\n[services.signs]\nsecrets = ["TOKEN"]\n',
        ["signs"],
        {"ada.json": json.dumps(ada)},
        up=False,
    )
    file = one.folder / "ada.json"
    file.chmod(0o600)
    one.up()
    assert one.status("signs")["state"] == "running"
    kept = "".join(path.read_text() for path in (one.home / "state").glob("*.json"))
    assert "s3cret" not in kept
    assert "first" in kept
    file.write_text(json.dumps({**ada, "bio": 3}))
    one.restart()
    row = one.status("signs")
    assert (row["state"], row["character"]) == ("running", "Ada")
    assert "ada.json: bio" in marks(one)[0]


def test_the_home_beside_an_unreadable_file(host: Hosting) -> None:
    """It is `.garrison` there, if it has an accepted config; otherwise none is guessed."""
    one = host("[plugins.echo]\n", ["echo"], up=False)
    one.write("config.toml", "[plugins.echo\n")
    for verb in ("up", "status", "down"):
        assert one.run(verb, home=False).code == 5
    one.write("config.toml", "[plugins.echo]\n")
    assert one.run("up", "--detach", home=False).code == 0
    assert one.run("down", home=False).code == 0
    one.write("config.toml", "[plugins.echo\n")
    ran = one.run("up", "--detach", home=False)
    assert (ran.code, "! config rejected: " in ran.out) == (0, True), ran
    assert one.run("down", home=False).code == 0
    assert Path(one.folder / ".garrison").is_dir()


async def test_a_plugin_that_is_gone_while_its_section_is_not(host: Hosting) -> None:
    """Nothing fits but the accepted config: its plugin is read again, and the service runs."""
    one = host(CONFIG.format(word="one"), ["signs", "echo"])
    one.write("config.toml", CONFIG.format(word="two").replace("[plugins.signs]\n", ""))
    for up in (one.restart, lambda: die_and_up(one)):
        up()
        assert await one.call("signs", "word") == "one"
        assert keys(one) == {None: "services.signs"}


def test_status_shows_what_a_service_was_started_with(host: Hosting) -> None:
    """Names of its environment and secrets, never a value; and what a restart would change, also
    after the supervisor was replaced."""
    config = (
        '[plugins.signs]\n[services.signs]\ngrace = 5\nenv_file = "s.env"\nsecrets = ["TOKEN"]\n'
        'env = {{ LEVEL = "debug" }}\nconfig.word = "{word}"\n{more}'
    )
    one = host(config.format(word="one", more=""), ["signs"], {"s.env": "TOKEN=s3cret-1"}, up=False)
    one.env["TOKEN"] = "s3cret-0"
    one.up()
    row = one.status("signs")
    started = row["started_with"]
    source = f"env_file {one.folder}/s.env"
    assert (started["grace"], started["config"]) == (5, {"word": "one"})
    assert (started["environment"], started["secrets"]) == (["LEVEL"], {"TOKEN": source})
    assert (row["secrets"], row["differs"]) == ({"TOKEN": source}, [])
    checked = one.run("check")
    assert f"TOKEN is not the same in {source} and in the supervisor's environment" in checked.out
    assert one.run("check", "--strict").code == 5
    one.write("s.env", "TOKEN=s3cret-2")
    pending = one.run("diff")
    assert (pending.out, pending.code) == (f"~ signs: secrets in {one.folder}/s.env\n", 3)
    one.write("s.env", "TOKEN=s3cret-1")

    more = '[services.second]\nplugin = "signs"\ntype = "signs"\ndepends_on = ["signs"]\n'
    text = config.format(word="two", more=more).replace("= 5", "= 6").replace("LEVEL", "MORE")
    one.write("config.toml", text)
    (one.folder / "s.env").unlink()
    one.write("config.toml", text.replace('env_file = "s.env"\n', ""))
    die_and_up(one)
    shown = one.status("signs")
    exported = "secret TOKEN from the supervisor's environment"
    assert shown["pid"] == row["pid"]
    assert shown["differs"] == [
        *("grace 5 → 6", "config.word", "without LEVEL", "with MORE", exported),
    ]
    assert shown["dependents"] == ["second"]
    out = one.run("status", "signs").out
    for part in ("needed by", "second", f"secret TOKEN: {source}", "differs from disk: grace 5"):
        assert part in " ".join(out.split()), out
    assert "s3cret" not in out + json.dumps(shown)
    one.ask("restart", "signs")
    assert one.status("signs")["differs"] == []


def test_what_would_not_start_is_an_exit_code(host: Hosting) -> None:
    """`check` and `up --detach` exit 3 and show the line; a strict check refuses any warning."""
    config = '[plugins.signs]\n[plugins.echo]\n[services.signs]\nsecrets = ["NOT_SET"]\n'
    one = host(config, ["signs", "echo"], up=False)
    for options in ([], ["--strict"]):
        ran = one.run("check", *options)
        assert (ran.code, "secret NOT_SET is not set" in ran.out) == (3, True), ran
    ran = one.run("check", json=True)
    assert (ran.code, ran.data["usable"], len(ran.data["would_not_start"])) == (3, True, 1)
    ran = one.run("up", "--detach")
    assert (ran.code, "secret NOT_SET is not set" in ran.out) == (3, True), ran
    assert one.run("down").code == 0


def test_a_default_is_no_order(host: Hosting) -> None:
    """`autostart` turned on starts a service after an unclean end too; a `stop` holds."""
    config = (
        "[plugins.signs]\n[services.signs]\nautostart = {0}\n[services.listener]\nautostart = {0}\n"
    )
    one = host(config.format("false"), ["signs"])
    one.ask("start", "listener")
    one.ask("stop", "listener")
    one.write("config.toml", config.format("true"))
    die_and_up(one)
    one.wait_for("signs", "running")
    assert one.status("listener")["state"] == "stopped"

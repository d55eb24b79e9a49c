"""`garrison diff` shows what is pending, and `garrison apply` does exactly that."""

import os
from collections.abc import Iterator
from typing import Any

import pytest
from tests.support.host import Host, Hosting, hosting
from tests.support.waiting import until

from garrison.ipc import OrderFailed

CONFIG = """
[plugins.echo]
[plugins.steady]
[services.echo]
[services.second]
plugin = "echo"
"""
NEW = """
[services.third]
plugin = "echo"
depends_on = ["second"]
"""
OWN = '''
from typing import Self
from garrison.workers import Plugin, Runtime, Service
import my_helper

class Own(Service):
    service_type = "own"
    async def value(self) -> int:
        """Return the helper's value."""
        return my_helper.VALUE

plugin = Plugin(name="own", services=[Own])
'''


@pytest.fixture(scope="module")
def shared() -> Iterator[Host]:
    """Run three services."""
    with hosting(CONFIG, ["echo", "steady"]) as running:
        yield running


@pytest.fixture
def one(shared: Host) -> Host:
    """Return the shared host with three services that run and nothing pending."""
    shared.write("config.toml", CONFIG)
    shared.ask("apply")
    for name, row in shared.rows().items():
        if row["state"] != "running":
            shared.ask("start", name)
    return shared


def pending(one: Host) -> dict[str, tuple[str, list[str]]]:
    """Return what `diff` shows: NAME → change and details."""
    ran = one.run("diff", json=True)
    assert ran.code == (3 if ran.data["pending"] else 0)
    return {row["name"]: (row["change"], row["details"]) for row in ran.data["services"]}


def pids(one: Host) -> dict[str, int]:
    """Return the pid of each service."""
    return {name: row["pid"] for name, row in one.rows().items()}


def test_nothing_is_pending_after_a_start(one: Host) -> None:
    """Also not for a service that was stopped by order, or after a restart of the supervisor."""
    one.ask("stop", "second")
    assert pending(one) == {}
    assert one.run("diff").out == "nothing is pending\n"
    one.restart()
    assert pending(one) == {}


def test_an_order_about_one_service_starts_no_other(one: Host) -> None:
    """A restart takes its own part of the file; what is new waits for `apply`, or its `start`."""
    one.write("config.toml", CONFIG + NEW)
    one.ask("restart", "echo")
    assert set(one.rows()) == {"echo", "second", "steady"}
    assert pending(one) == {"third": ("new", [])}
    one.ask("start", "third")
    assert one.status("third")["state"] == "running"
    assert pending(one) == {}


def test_apply_does_what_diff_shows(one: Host) -> None:
    """What is new starts, what is gone ends and is no service any more, what changed is restarted,
    and the others keep their processes."""
    before = pids(one)
    text = CONFIG.replace("[plugins.steady]\n", "") + "intensity = 3\n" + NEW
    one.write("config.toml", text)
    assert pending(one) == {
        "steady": ("gone", []),
        "second": ("changed", ["intensity 5 → 3"]),
        "third": ("new", []),
    }
    dry = one.run("apply", "--dry-run")
    assert dry.code == 3
    assert pids(one) == before

    ran = one.run("apply", "--why", "a new version")
    assert ran.code == 0, ran
    assert ran.out == "steady removed\nthird added\nsecond restarted\n"
    after = pids(one)
    assert set(after) == {"echo", "second", "third"}
    assert after["echo"] == before["echo"]
    assert after["second"] != before["second"]
    assert pending(one) == {}
    with pytest.raises(OrderFailed, match="no service steady"):
        one.ask("restart", "steady")


def test_a_plugin_that_was_taken_out_can_come_back(one: Host) -> None:
    """Also where others have changed with it."""
    one.write("config.toml", CONFIG.replace("[plugins.steady]\n", "") + NEW)
    one.ask("apply")
    one.write("config.toml", CONFIG)
    assert pending(one) == {"steady": ("new", []), "third": ("gone", [])}
    one.ask("apply")
    assert pending(one) == {}
    assert one.status("steady")["state"] == "running"


async def test_programs_learn_that_a_service_is_gone(one: Host) -> None:
    """It is not in their directory any more."""
    async with one.connect() as client:
        assert client.get_service("steady") is not None
        one.write("config.toml", CONFIG.replace("[plugins.steady]\n", ""))
        one.ask("apply")
        assert await client.order("status")
        assert client.get_service("steady") is None


def test_apply_of_some_leaves_the_rest_pending(one: Host) -> None:
    """By NAME or glob; a NAME that has nothing pending is none to complain of."""
    one.write("config.toml", CONFIG + NEW + '[services.fourth]\nplugin = "echo"\n')
    one.ask("apply", "thi*", "echo")
    assert set(one.rows()) == {"echo", "second", "steady", "third"}
    assert pending(one) == {"fourth": ("new", [])}
    with pytest.raises(OrderFailed, match="no service nowhere"):
        one.ask("apply", "nowhere")


def test_changed_code_is_pending(host: Hosting) -> None:
    """Also that of a module that the plugin imports; `apply` runs it."""
    files = {"own.py": OWN, "my_helper.py": "VALUE = 1\n"}
    one = host("[plugins.own]\n[plugins.echo]\n", ["echo"], files)
    assert pending(one) == {}
    before = pids(one)
    helper = one.write("my_helper.py", "VALUE = 22\n")
    assert pending(one) == {"own": ("changed", [f"code: {helper}"])}
    one.ask("apply")
    assert one.run("call", "own", "value").out == "22\n"
    assert pids(one)["echo"] == before["echo"]
    assert pending(one) == {}


def test_what_cannot_be_applied_changes_nothing(one: Host) -> None:
    """A value that does not fit is a problem; a plugin that is broken, too."""
    before = pids(one)
    broken = "[plugins.broken]\n"
    one.write("broken.py", "raise RuntimeError('no')\n")
    one.write("config.toml", broken + CONFIG + "grace = 'long'\n")
    ran = one.run("diff", json=True)
    assert ran.data["services"] == []
    assert len(ran.data["problems"]) == 2
    applied = one.run("apply")
    assert applied.code == 1
    assert "plugin broken cannot be read" in applied.out
    assert pids(one) == before


@pytest.mark.parametrize("verb", ["apply", "diff"])
def test_a_wrong_setting_is_a_problem_and_no_change(host: Hosting, verb: str) -> None:
    """Also of a plugin that was read before: `diff` finds what `check` and `apply` would refuse."""
    one = host("[plugins.mailbox]\n", [])
    one.write("config.toml", "[plugins.mailbox]\n[services.mailbox.config]\nmax_attempts = 0\n")
    ran = one.run("diff", json=True)
    assert (ran.code, ran.data["services"]) == (3, [])
    assert "config.toml:3: services.mailbox.config.max_attempts" in ran.data["problems"][0]
    applied = one.run("apply")
    assert (applied.code, applied.out.splitlines()[0]) == (1, "nothing was applied")
    assert "max_attempts" in one.status("mailbox")["config_rejected"]
    one.write("config.toml", "[plugins.mailbox]\n")
    assert one.run(verb).out in {"nothing was pending\n", "nothing is pending\n"}
    assert one.status("mailbox")["config_rejected"] is None  # also where nothing else changed
    one.write("config.toml", "[plugins.mailbox]\n[services.mailbox.config]\nmax_attempts = 7\n")
    assert pending(one) == {"mailbox": ("changed", ["config.max_attempts"])}


def test_what_fails_half_way_says_what_was_done(one: Host) -> None:
    """The exit code is 1, and the rest stays pending."""
    text = CONFIG.replace("[plugins.steady]\n", "") + '[services.bad]\nplugin = "echo"\n'
    one.write("config.toml", text + "env = { FAIL = '1' }\nsecrets = ['NOT_SET']\n")
    ran = one.run("apply")
    assert ran.code == 1
    assert "Done before: steady removed, bad added" in ran.err


def test_keys_of_the_host_need_an_upgrade(host: Hosting) -> None:
    """`diff` says which command takes them."""
    one = host(CONFIG, ["echo", "steady"])
    one.write("config.toml", "[host]\nlog_files = 9\n" + CONFIG)
    ran = one.run("diff")
    assert (ran.code, ran.out) == (3, "! [host] log_files: garrison upgrade takes it\n")
    assert one.run("upgrade").code == 0
    assert one.run("diff").code == 0


def outcomes(one: Host) -> list[dict[str, Any]]:
    """Return the outcomes of applying that were recorded."""
    kinds = {"config.applied", "config.not_applied"}
    return [event for event in one.events() if event["event"] in kinds]


def test_a_hangup_applies(one: Host) -> None:
    """SIGHUP to a supervisor without a terminal."""
    before = len(outcomes(one))
    one.write("config.toml", CONFIG + NEW)
    os.kill(one.pid, 1)
    outcome = until(lambda: outcomes(one)[before:])
    assert outcome[0]["data"]["done"] == "third added", outcome
    one.wait_for("third", "running")


def test_status_marks_what_is_pending(one: Host) -> None:
    """With the verb that shows more; a NAME is marked by what concerns it alone."""
    assert "pending" not in one.run("status").out
    one.write("config.toml", CONFIG.replace("[plugins.steady]\n", "") + "grace = 3.0\n" + NEW)
    mark = "! pending: steady (gone), second (changed), third (new); see garrison --home "
    assert mark in " ".join(one.run("status").out.split())  # a line is wrapped
    assert "! pending: second (changed); see" in " ".join(one.run("status", "second").out.split())
    assert "pending" not in one.run("status", "echo").out
    (first, *_) = one.run("status", json=True).data["pending"]
    assert first == {"name": "steady", "change": "gone", "details": []}


def test_status_shows_what_no_plugin_has_to_be_read_for(one: Host) -> None:
    """Services of new plugins, keys of the host, and what of the config on disk cannot be used,
    until it is corrected: also what was rejected at a restart."""
    new = '[plugins.ailing]\n[plugins.other]\nuse = "other"\n[services.ill]\nplugin = "ailing"\n'
    one.write("config.toml", "[host]\nlog_files = 9\n" + CONFIG + new)
    mark = "! pending: ill (new), other (new), [host] log_files; see"
    assert mark in " ".join(one.run("status").out.split())
    one.write("config.toml", CONFIG + "greace = 3.0\n" + new)
    assert "! config on disk cannot be used: " in one.run("status").out
    assert one.run("restart", "second").code != 0
    shown = one.run("status").out
    assert ("! config rejected: " in shown, "on disk" in shown) == (True, False)
    one.write("config.toml", CONFIG + new)
    data = one.run("status", json=True).data
    assert (data["supervisor"]["config_rejected"], data["problems"]) == ([], [])

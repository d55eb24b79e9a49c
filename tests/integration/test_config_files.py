"""Hosts whose config is several files: two environments, and a file that cannot be used."""

import os
import signal
from pathlib import Path

import pytest
from tests.support.host import Host, Hosting, Ran
from tests.support.waiting import until

CONFIG = """
[host]
include = ["conf.d/*.toml"]
[plugins.echo]
[services.echo]
"""
PART = "[plugins.steady]\n[services.steady]\ngrace = 3\n"
STAGING = "[services.steady]\ngrace = 4\n"
BOTH = ("-c", "config.toml", "-c", "staging.toml")


@pytest.fixture
def one(host: Hosting) -> Host:
    """Run what two files make together."""
    one = host("[plugins.echo]\n", ["echo", "steady"], {"staging.toml": STAGING})
    (one.folder / "conf.d").mkdir()
    one.write("conf.d/steady.toml", PART)
    one.write("config.toml", CONFIG)
    assert one.run("apply").code == 0
    return one


def test_a_bad_file_holds_back_its_own_services_alone(one: Host) -> None:
    """They run on, cannot be restarted, and are not gone; a file that is new or gone is pending."""
    before = {name: row["pid"] for name, row in one.rows().items()}
    part = one.write("conf.d/steady.toml", "[services.steady\n")
    one.write("config.toml", CONFIG + "grace = 5\n")
    ran = one.run("diff", json=True)
    assert [row["name"] for row in ran.data["services"]] == ["echo"]
    assert ran.data["problems"][0].startswith(f"{part}:1: not TOML")
    refused = one.run("restart", "steady")
    assert (refused.code, f"{part}:1: not TOML" in refused.err) == (5, True)
    assert one.run("apply").code == 1
    rows = one.rows()
    assert rows["steady"]["pid"] == before["steady"]
    assert rows["echo"]["pid"] != before["echo"]
    assert f"! config rejected: {part}:1: not TOML" in one.run("status").out
    one.restart()
    assert one.rows()["steady"]["state"] == "running"
    part.unlink()
    assert "- steady: no longer in the config" in one.run("diff").out
    one.write("conf.d/other.toml", PART)
    assert one.run("diff").code == 0


def test_two_environments_run_beside_each_other(one: Host) -> None:
    """Each has its home, every verb finds the one that its files name, and an upgrade, or a start
    after a kill, has the same files."""

    def staging(*words: str, json: bool = False) -> Ran:
        return one.run(*words, *BOTH, json=json, home=False)

    home = one.folder / ".garrison-staging"
    try:
        assert staging("up", "--detach").code == 0
        head = staging("status", json=True).data["supervisor"]
        assert (head["home"], Path(head["config_paths"][1]).name) == (str(home), "staging.toml")
        assert head["pid"] != one.pid
        assert "a supervisor already runs for" in staging("up", "--detach").err
        one.write("staging.toml", STAGING.replace("4", "7"))
        assert staging("diff").out == "~ steady: grace 4 → 7 (staging.toml:2)\n"
        assert one.run("diff").code == 0
        assert staging("apply").out == "steady restarted\n"
        assert staging("upgrade").code == 0
        assert staging("diff").code == 0
        os.kill(head["pid"], signal.SIGKILL)
        until(lambda: staging("status").code == 7)
        environ = {"GARRISON_CONFIG": "config.toml:staging.toml"}
        assert one.run("up", "--detach", home=False, env=environ).code == 0
        assert one.run("diff", home=False, env=environ).out == "nothing is pending\n"
    finally:
        assert staging("down").code == 0

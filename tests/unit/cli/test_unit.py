"""The systemd unit that `garrison systemd` writes."""

import configparser
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from garrison.supervisor.cli.unit import (
    UnitPlan,
    node_unit_text,
    unit_name,
    unit_text,
)

PLAN = UnitPlan(
    config=Path("/srv/my bot/config.toml"),
    python="/srv/my bot/.venv/bin/python",
    home=Path("/srv/my bot/.garrison"),
    stop_s=30.0,
    secrets=("DISCORD_TOKEN",),
    user="bot",
    version=257,
)


def node_unit(user: str, folder: Path = Path("/srv/my bot"), python: str = "/v/python") -> str:
    """Return the unit of a node."""
    return node_unit_text("gpu-box", folder / "node.key", folder / "home", python, user)


def keys(plan: UnitPlan | str) -> dict[str, str]:
    """Return the keys of a unit; of a repeated one, the last."""
    text = plan if isinstance(plan, str) else unit_text(plan)
    parsed = configparser.ConfigParser(strict=False, interpolation=None)
    parsed.optionxform = str  # type: ignore[assignment,method-assign]
    parsed.read_string(text)
    return {key: value for section in parsed.sections() for key, value in parsed[section].items()}


def test_a_unit_of_the_system() -> None:
    """It has a user, a stop that is as long as the services need, and words with blanks quoted."""
    found = keys(PLAN)

    assert found["User"] == "bot"
    assert found["Type"] == "notify"
    assert found["KillMode"] == "process"
    assert found["TimeoutStopSec"] == "45"
    assert found["WorkingDirectory"] == "/srv/my bot"
    assert '--config "/srv/my bot/config.toml"' in found["ExecStart"]
    assert found["DelegateSubgroup"] == "garrison-supervisor"
    assert found["RestartPreventExitStatus"] == "5"
    assert "#LoadCredential=DISCORD_TOKEN:/etc/garrison/DISCORD_TOKEN" in unit_text(PLAN)


def test_a_unit_of_a_user() -> None:
    """It has neither a user nor a network to wait for."""
    found = keys(PLAN._replace(user=""))

    assert "User" not in found
    assert "After" not in found
    assert found["WantedBy"] == "default.target"


def test_a_unit_of_a_node() -> None:
    """It is started again whatever has ended it, its workers outlive it, and it is ready once it
    has contact, however long that takes."""
    found = keys(node_unit("bot"))

    assert found["ExecStart"].endswith(
        '--home "/srv/my bot/home" node --key "/srv/my bot/node.key"'
    )
    assert found["WorkingDirectory"] == "/srv/my bot"
    assert (found["Type"], found["KillMode"], found["Restart"]) == ("notify", "process", "always")
    assert (found["TimeoutStartSec"], found["StartLimitIntervalSec"]) == ("infinity", "0")
    assert (found["User"], found["WantedBy"]) == ("bot", "multi-user.target")
    assert "User" not in keys(node_unit(""))


def test_an_older_systemd_has_no_subgroup() -> None:
    """Before 254 the key would be an unknown one."""
    assert "DelegateSubgroup" not in keys(PLAN._replace(version=252))
    assert "DelegateSubgroup" in keys(PLAN._replace(version=0))


def test_percent_and_dollar_are_not_systemds() -> None:
    """A path with either is taken as it is."""
    found = keys(PLAN._replace(config=Path("/srv/50%/a$b.toml")))

    assert found["WorkingDirectory"] == "/srv/50%%"
    assert "--config /srv/50%%/a$$b.toml" in found["ExecStart"]


def test_a_unit_has_the_name_of_its_folder() -> None:
    """Written with what a unit's name may have."""
    assert unit_name(Path("/srv/my bot")) == "garrison-my-bot.service"
    assert unit_name(Path("/")) == "garrison-host.service"


@pytest.mark.external
@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
@pytest.mark.parametrize("is_node", [False, True])
@pytest.mark.parametrize("user", ["root", ""])
def test_systemd_finds_nothing_to_complain_of(tmp_path: Path, user: str, is_node: bool) -> None:
    """The unit passes the check of the systemd that is installed."""
    words = subprocess.run(
        ["systemctl", "--version"], capture_output=True, text=True, check=True
    ).stdout.split()
    plan = PLAN._replace(
        config=tmp_path / "config.toml", python=sys.executable, user=user, version=int(words[1])
    )
    unit = tmp_path / "garrison-x.service"
    unit.write_text(node_unit(user, tmp_path, sys.executable) if is_node else unit_text(plan))
    verify = ["systemd-analyze", "verify", *([] if user else ["--user"]), str(unit)]
    env = os.environ | {"XDG_RUNTIME_DIR": str(tmp_path)}
    ran = subprocess.run(verify, capture_output=True, text=True, check=False, env=env)

    complaints = [line for line in ran.stderr.splitlines() if "garrison-x" in line]
    assert complaints == []
    assert ran.returncode == 0, ran.stderr

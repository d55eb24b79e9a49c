"""Limits that a worker applies to itself, and the warning where the machine cannot."""

import os
import resource
import shutil
from pathlib import Path
from typing import Any

import pytest
from tests.support.host import Host, Hosting

pytestmark = pytest.mark.xdist_group("machine")

LIMITS = """
open_files = 99
nice = 7
oom_score_adj = 300
umask = "027"
working_directory = "inside"
no_new_privs = true
"""
CONFIG = """
[plugins.glutton]
[services.held]
plugin = "glutton"
type = "glutton"
{held}
[services.free]
plugin = "glutton"
type = "glutton"
"""
TOO_MUCH = "open_files = 2000000000\ncpu_weight = 20"
CAP_SYS_NICE = 23  # linux/capability.h


def may(capability: int) -> bool:
    """Return True if this process has a capability."""
    lines = Path("/proc/self/status").read_text().splitlines()
    rights = int(next(line for line in lines if line.startswith("CapEff:")).split()[1], 16)
    return bool(rights >> capability & 1)


def unheld(host: Host, name: str) -> str:
    """Return the warnings about a service's limits at its start."""
    events = host.events("limit.unheld", name)
    return "\n".join(one["data"]["reason"] for one in events)


async def test_a_service_is_held_to_its_limits(host: Hosting) -> None:
    """With all that it starts. Another service has the supervisor's limits."""
    running = host(CONFIG.format(held=LIMITS), ["glutton"], up=False)
    (running.folder / "inside").mkdir()
    running.up()

    held: dict[str, Any] = await running.call("held", "itself")
    free: dict[str, Any] = await running.call("free", "itself")

    folder = str(running.folder / "inside")
    assert held["child"] == ["0027", "7", "99", "300", folder]
    assert list(held["open_files"]) == [99, 99]
    assert [held[key] for key in ("nice", "oom_score_adj", "umask")] == [7, 300, 0o027]
    assert (held["folder"], held["no_new_privs"]) == (folder, 1)
    assert free["no_new_privs"] == 0
    assert free["nice"] == os.getpriority(os.PRIO_PROCESS, 0)
    assert free["folder"] != folder
    assert free["open_files"][1] == resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    assert unheld(running, "held") == ""


async def test_the_next_incarnation_is_held_too(host: Hosting) -> None:
    """Also one whose process was forked before its service was known."""
    running = host(CONFIG.format(held="nice = 7"), ["glutton"])
    old = running.kill("held")
    running.until_reborn("held", old)
    assert (await running.call("held", "itself"))["nice"] == 7


def test_without_its_folder_a_service_does_not_start(host: Hosting) -> None:
    """This failure is permanent."""
    running = host(CONFIG.format(held='working_directory = "nowhere"'), ["glutton"])

    row = running.status("held")

    assert row["state"] == "failed"
    where = f"{running.folder}/nowhere"
    assert row["reason"].startswith(f"its working_directory {where} cannot be entered")
    assert row["again_in_s"] is None
    assert running.status("free")["state"] == "running"
    checked = running.run("check")
    line = 1 + (running.folder / "config.toml").read_text().split("working_dir")[0].count("\n")
    place = f"config.toml:{line}: services.held.working_directory"
    assert f"{place}: held would not start: there is no folder {where}" in checked.out


def test_limits_that_the_machine_cannot_apply_are_reported(host: Hosting) -> None:
    """By `check`, at the start and by `status`; once, and the service runs."""
    running = host(CONFIG.format(held=TOO_MUCH), ["glutton"])
    old = running.kill("held")
    row = running.until_reborn("held", old)

    warnings = unheld(running, "held")
    assert warnings.count("services.held.open_files cannot be held here") == 1
    assert "2,000,000,000" in warnings
    assert "services.held.open_files cannot be held here" in running.output
    assert "limit not granted: open_files = 2000000000" in running.log("held")
    checked = running.run("check")
    assert checked.code == 0
    assert "warning: services.held.open_files cannot be held here" in checked.out
    assert set(row["unheld"]) <= set(warnings.splitlines())
    for shown in (running.run("status", "held").out, checked.out):
        assert ("cpu_weight cannot be held here" in shown) == ("cpu_weight" in warnings)
    assert unheld(running, "free") == ""


def test_too_little_memory_is_reported_beforehand(host: Hosting) -> None:
    """By `check`, as a warning."""
    running = host(CONFIG.format(held="memory_max = 16777216"), ["glutton"], up=False)
    checked = running.run("check", "-c", str(running.config), home=False)
    assert checked.code == 0
    warnings = "warning: services.held.memory_max is 16 MiB: an idle worker uses nearly"
    assert warnings in checked.out


@pytest.mark.skipif(may(CAP_SYS_NICE), reason="root's processes may be as little nice as they like")
def test_an_ordinary_user_is_warned_that_nice_stays(host: Hosting) -> None:
    """Only root can set a lower value than the supervisor's."""
    running = host(CONFIG.format(held="nice = -5"), ["glutton"])
    assert "services.held.nice cannot be held here: an ordinary user" in unheld(running, "held")


@pytest.mark.skipif(not may(CAP_SYS_NICE), reason="needs CAP_SYS_NICE, as root has it")
async def test_root_can_be_less_nice(host: Hosting) -> None:
    """Without a warning."""
    running = host(CONFIG.format(held="nice = -5"), ["glutton"])
    assert (await running.call("held", "itself"))["nice"] == -5
    assert unheld(running, "held") == ""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become an ordinary user")
def test_root_warns_about_an_ordinary_user_too(host: Hosting) -> None:
    """`check` reports what its own user may do."""
    if shutil.which("setpriv") is None:
        pytest.skip("there is no setpriv")
    running = host(CONFIG.format(held="nice = -5\noom_score_adj = -10"), ["glutton"], up=False)
    rights = ("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search")
    running.folder.chmod(0o755)
    user = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", *rights)

    checked = running.run("check", before=user)

    assert "services.held.nice cannot be held here: an ordinary user goes no lower" in checked.out
    assert "services.held.oom_score_adj cannot be held here: an ordinary user" in checked.out

"""A service's `health` method: polled, shown in `status`; two bad results restart the service."""

import os
from pathlib import Path
from typing import Any

import pytest
from tests.support.host import LONG_GRACE, Host, Hosting, found
from tests.support.waiting import until

CONFIG = """
[plugins.ailing]
[services.ailing]
health_interval = {interval}
{more}
config = {{ says = "{folder}" }}
[services.clinic]
"""


def says(folder: Path, text: str) -> None:
    """Set what the service's `health` does from now on."""
    new = folder / "new"
    new.write_text(text)
    new.rename(folder / "says")


def checks(folder: Path) -> list[str]:
    """Return the log of the checks so far."""
    path = folder / "checks"
    return path.read_text().splitlines() if path.exists() else []


def ailing(host: Hosting, folder: Path, text: str, interval: float = 0.1, more: str = "") -> Host:
    """Run a host with a service whose `health` does this."""
    folder.chmod(0o755)
    says(folder, text)
    return host(LONG_GRACE + CONFIG.format(folder=folder, interval=interval, more=more), ["ailing"])


def health(running: Host) -> dict[str, Any] | None:
    """Return its health from `status`."""
    result: dict[str, Any] | None = running.status("ailing")["health"]
    return result


@pytest.mark.parametrize("answer", ["True", "None"])
def test_who_is_well_goes_on(host: Hosting, tmp_path: Path, answer: str) -> None:
    """It is polled, one check at a time, and `status` shows the result."""
    running = ailing(host, tmp_path, answer)
    pid = running.status("ailing")["pid"]

    until(lambda: len(checks(tmp_path)) >= 8)

    assert checks(tmp_path)[:4] == ["1 begins", "1 ends"] * 2
    result = until(lambda: health(running))
    assert result is not None
    assert (result["well"], result["problem"]) == (True, None)
    assert 0 <= result["took_s"] < 5
    assert 0 <= result["age_s"] < 5
    assert running.status("ailing")["pid"] == pid
    assert "health" in running.run("status", "ailing").out
    assert not running.events("service.unwell")


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        ("False", "it returned a false value"),
        ("raise", "ConnectionError: the gateway is gone"),
        ("late", "no answer within 0.2 s"),
        ("deaf", "no answer within 0.2 s"),
    ],
)
def test_who_is_unwell_twice_in_a_row_is_restarted(
    host: Hosting, tmp_path: Path, answer: str, problem: str
) -> None:
    """It drains and is restarted as after a crash; its record and `death` have the reason."""
    running = ailing(host, tmp_path, "True", interval=0.2)
    old = running.status("ailing")["pid"]
    says(tmp_path, f"{answer} in 1")
    new = running.until_reborn("ailing", old)

    (death,) = new["deaths"]
    assert death["kind"] == "health"
    cause = f"its health was not good twice in a row ({problem}), so it was ended"
    assert death["cause"] == cause
    assert cause in " ".join(running.run("death", death["id"]).out.split())
    record = running.run("death", death["id"], json=True).data
    assert record["state"] == "running"
    (unwell,) = running.events("service.unwell")
    assert unwell["data"]["problem"] == problem
    moved = [one["data"] for one in running.events("service.state", "ailing")]
    assert [one["reason"] for one in moved if one["to"] == "stopping"] == [cause]
    assert new["restarts"] == 1
    begun = [line for line in checks(tmp_path) if line.startswith("1 ")]
    assert begun == (["1 begins", "1 ends"] * len(begun))[: len(begun)], "two at once"


async def test_calls_under_way_end_before_it_does(host: Hosting, tmp_path: Path) -> None:
    """It is drained, without further checks meanwhile."""
    running = ailing(host, tmp_path, "True", more="grace = 20.0")
    async with running.connect() as client:
        call = found(client, "ailing").slow(1.0)
        says(tmp_path, "False in 1")
        assert await call == "done"
    until(lambda: running.status("ailing")["generation"] == 2)
    assert sum(line == "1 begins" for line in checks(tmp_path)) >= 2


def test_one_bad_answer_is_shown_and_forgiven(host: Hosting, tmp_path: Path) -> None:
    """The table has a mark and the problem below, within 80 columns."""
    running = ailing(host, tmp_path, "raise", interval=2.0)
    pid = running.status("ailing")["pid"]
    result = until(lambda: health(running))
    assert result is not None
    assert not result["well"]

    table = running.run("status").out
    detail = running.run("status", "ailing").out
    says(tmp_path, "True")

    assert "running !" in table
    assert "ailing ! its health: ConnectionError: the gateway is gone" in table
    assert max(map(len, table.splitlines()[1:])) <= 80
    assert "not well: ConnectionError: the gateway is gone" in detail
    until(lambda: (health(running) or {}).get("well"))
    assert running.status("ailing")["pid"] == pid


def test_never_means_never(host: Hosting, tmp_path: Path) -> None:
    """An interval of 0 turns checks off, and `status` shows no health."""
    running = ailing(host, tmp_path, "False", interval=0)
    until(lambda: running.status("ailing")["beat_age_s"] is not None)
    running.ask("restart", "ailing")
    assert checks(tmp_path) == []
    assert health(running) is None


def test_who_is_never_well_is_given_up_in_time(host: Hosting, tmp_path: Path) -> None:
    """Each restart counts as a crash, so the service fails in the end."""
    running = ailing(host, tmp_path, "False", 0.05, "intensity = 1\nperiod = 60.0")
    row = running.wait_for("ailing", "failed")
    assert "its health was not good" in row["reason"]


def test_a_health_that_blocks_is_the_watchdogs_business(host: Hosting, tmp_path: Path) -> None:
    """Its loop is silent, so its worker cannot report it."""
    running = ailing(host, tmp_path, "True", more="watchdog = 1.0")
    old = running.status("ailing")["pid"]
    says(tmp_path, "block in 1")
    (death,) = running.until_reborn("ailing", old)["deaths"]
    assert death["kind"] == "watchdog"


def test_the_next_supervisor_checks_health_too(host: Hosting, tmp_path: Path) -> None:
    """An adopted service is checked and restarted as before."""
    running = ailing(host, tmp_path, "True")
    pid = running.status("ailing")["pid"]
    os.kill(running.pid, 9)
    running.end()
    running.up()
    assert running.status("ailing")["pid"] == pid
    until(lambda: health(running))
    says(tmp_path, "False in 1")
    running.until_reborn("ailing", pid)


async def test_whose_health_takes_arguments_has_a_method_like_any(
    host: Hosting, tmp_path: Path
) -> None:
    """It can be called but is not polled; `check`, `status` and the event log say so."""
    running = ailing(host, tmp_path, "True")
    note = "its health is an ordinary method, not a health check: it cannot be called without"

    assert await running.call("clinic", "health", "Ada") == "Ada is well"
    with pytest.raises(AttributeError, match="no such method"):
        await running.call("ailing", "health")

    assert f"note: clinic: {note}" in running.run("check", "-c", str(running.config)).out
    assert note in running.status("clinic")["notes"][0]
    (result,) = running.events("plugin.note")
    assert result["data"]["service_type"] == "clinic"
    assert running.status("clinic")["health"] is None

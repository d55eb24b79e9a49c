"""A host is moved by a backup in conversation: no message is lost, none is answered twice.

The platform keeps count in a process of its own, and does not know that the host was moved.
"""

import time
from pathlib import Path

import pytest
from tests.support.exactly_once import Kind, Trial, trial
from tests.support.waiting import until


def move(one: Trial, archive: Path, name: str) -> None:
    """Restore a backup into another folder, and have the trial's host be there from now on."""
    host = one.host
    former, folder = host.home, host.folder / name
    host.home = folder / "h"
    restored = host.run("restore", str(archive), "--into", str(folder))
    assert restored.code == 0, restored
    former.rename(former.with_name(f"{former.name}-before"))  # nothing of it can be used
    host.config = folder / "config.toml"
    host.up()
    assert all(row["paused"] for row in host.rows().values())


def finish(one: Trial) -> None:
    """Pause the agent, and wait until it has finished what it is at, by a later heartbeat."""
    one.host.ask("pause", "agent")
    after = time.monotonic() + 0.5

    def finished() -> bool:
        row = one.host.status("agent")
        return not row["in_flight"] and time.monotonic() - row["beat_age_s"] > after

    until(finished, what="the agent has finished")


@pytest.mark.parametrize(
    "kind",
    [Kind(), pytest.param(Kind(lookup=True, database=True), marks=pytest.mark.external)],
    ids=["no lookup", "lookup"],
)
def test_a_host_is_moved_in_conversation(kind: Kind, tmp_path: Path) -> None:
    """The agent finishes what it is at, then the host is ended, saved, and restored elsewhere: also
    on a platform that cannot say what it has."""
    archive = tmp_path / "b.tgz"
    with trial(kind) as one:
        one.burst()
        one.until_answered()
        one.burst()
        finish(one)
        assert one.host.end() == 0
        saved = one.host.run("backup", str(archive), "-c", str(one.host.config))
        assert saved.code == 0, saved
        one.burst()
        move(one, archive, "new")
        answered = len(one.platform.answers())
        one.burst()
        assert len(one.platform.answers()) == answered, "a restored host is paused"
        assert one.host.run("resume", "--all").code == 0
        one.burst()
        one.until_answered()
        assert one.faults() == {}


def test_a_backup_of_a_running_host_is_of_one_moment(tmp_path: Path) -> None:
    """Made while messages are answered, and the host is lost later: what was sent since the backup
    arrives again, and is not sent twice. Actions are left out: what they did since is unknown."""
    texts = ["short", "long"]
    with trial(Kind(lookup=True)) as one:
        one.burst(kinds=texts)
        one.until_answered()
        archive = tmp_path / "b.tgz"
        for force in ((), ("--force",)):
            one.burst(6, texts)
            saved = one.host.run("backup", str(archive), *force, json=True)
            assert saved.code == 0, saved
            assert saved.data["held_s"] < 2.0
            assert saved.data["damaged"] == []
            one.burst(kinds=texts)
        one.until_answered()
        one.crash()
        move(one, archive, "new")
        assert one.host.run("resume", "--all").code == 0
        one.burst(kinds=texts)
        one.until_answered()
        assert one.faults() == {}

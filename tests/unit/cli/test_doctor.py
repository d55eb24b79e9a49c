"""What `garrison doctor` finds, and what it advises."""

import json
from pathlib import Path

import click
import pytest
from tests.unit.cli.test_front_door import Run
from tests.unit.cli.test_front_door import ran as ran

from garrison.supervisor.cli import doctor
from garrison.supervisor.processes.capabilities import UNLIMITED, Capabilities

ALL = frozenset({"memory", "pids", "cpu"})


def refuse(pid: int) -> int:
    """Refuse as an old kernel, or a sandbox, does."""
    raise OSError(pid)


@pytest.mark.parametrize(
    ("finding", "advice"),
    [
        (doctor.python((3, 11)), ""),
        (doctor.python((3, 10)), "Use 3.11 to 3.14"),
        (doctor.python((3, 15)), "Use 3.11 to 3.14"),
        (doctor.pidfds(refuse), "Linux 5.4"),
        (doctor.pidfds(None), "Linux 5.4"),
        (doctor.descriptors(Capabilities(files_hard=1024)), "LimitNOFILE"),
        (doctor.descriptors(Capabilities(files_hard=65536)), ""),
        (doctor.descriptors(Capabilities(files_hard=UNLIMITED)), ""),
        (doctor.cgroups(Capabilities(controllers=ALL)), ""),
        (doctor.cgroups(Capabilities(controllers=frozenset({"memory", "pids"}))), "cpu_weight"),
        (doctor.cgroups(Capabilities(no_controllers="none is mounted")), "memory_max"),
        (doctor.user(Capabilities(root=True)), ""),
        (doctor.user(Capabilities()), ""),
        (doctor.memory(Path("/nowhere")), "hidepid"),
        (doctor.disk(Path("/proc")), "Make room"),
    ],
)
def test_each_finding_has_its_advice(finding: doctor.Finding, advice: str) -> None:
    """What is as it should be has none."""
    assert finding.what
    assert finding.state
    assert advice in finding.mend
    assert bool(finding.mend) is bool(advice)


def test_a_folder_without_a_config_is_examined_too(
    ran: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The machine alone; the exit code says whether something is to be mended."""
    monkeypatch.chdir(tmp_path)
    code, out, _ = ran("--home", str(tmp_path / "h"), "doctor", "--json")
    data = json.loads(out)["data"]
    by_name = {one["what"]: one for one in data["findings"]}

    assert code == (0 if data["sound"] else 1)
    assert "does not run" in by_name["host"]["state"]
    assert "library" not in by_name


def test_a_library_that_is_missing_is_named(
    ran: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the command that installs it here."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("garrison.supervisor.cli.catalogue._installed", lambda package: ("", ""))
    (tmp_path / "config.toml").write_text("[plugins]\ndiscord = {}\neliza = {}\n")
    code, out, _ = ran("--home", "/tmp/h", "doctor", "--json")
    library = next(one for one in json.loads(out)["data"]["findings"] if one["what"] == "library")

    assert code == 1
    assert library["state"].startswith("discord lacks discord")
    assert "-m pip install 'discord" in library["mend"]


def test_a_config_that_cannot_be_used_is_a_finding(
    ran: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The machine is examined all the same."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.toml").write_text("[host]\norphan_grace = 'long'\n")
    code, out, _ = ran("doctor", "--json")
    by_name = {one["what"]: one for one in json.loads(out)["data"]["findings"]}

    assert code == 1
    assert "orphan_grace" in by_name["config"]["state"]
    assert "python" in by_name


@pytest.mark.parametrize("columns", [24, 40, 80, 200])
def test_findings_fit_the_terminal(columns: int) -> None:
    """What is to be mended is last, next to the prompt; no line is longer than the terminal."""
    findings = [
        doctor.Finding(
            "cgroups", "there are none at all, as far as is known", "Delegate one of them"
        ),
        doctor.Finding("python", "3.11"),
    ]
    lines = [click.unstyle(line) for line in doctor.lines_of(findings, columns)]

    assert max(map(len, lines)) <= columns
    assert lines[0].startswith("✓ python")
    assert "Delegate one of them" in " ".join(" ".join(lines).split())

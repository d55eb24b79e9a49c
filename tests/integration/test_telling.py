"""What the command line tells is so: versions, use of processors, and what happened when."""

import shutil
from pathlib import Path

from tests.support.host import ROOT, Hosting


def installed(folder: Path, version: str) -> None:
    """Make a version of garrison the installed one, as pip does."""
    for old in folder.glob("*.dist-info"):
        shutil.rmtree(old)
    made = folder / f"garrison-{version}.dist-info"
    made.mkdir(parents=True)
    (made / "METADATA").write_text(f"Metadata-Version: 2.1\nName: garrison\nVersion: {version}\n")


def test_the_running_version_is_told_from_the_installed_one(host: Hosting, tmp_path: Path) -> None:
    """Between an installation and `garrison upgrade`, both are shown; then they are the same."""
    installed(tmp_path, "7.1")
    paths = f"{tmp_path}:{ROOT / '.src'}"
    one = host("[plugins.echo]\n", ["echo"], env={"PYTHONPATH": paths})
    versions = "version", "installed", "upgrade_pending"

    def shown() -> tuple[object, ...]:
        head = one.run("status", json=True).data["supervisor"]
        return tuple(head[key] for key in versions)

    assert shown() == ("7.1", "7.1", False)
    assert "upgrade pending" not in one.run("status").out

    installed(tmp_path, "7.2")

    assert shown() == ("7.1", "7.2", True)
    said = " ".join(one.run("status").out.split())
    assert "upgrade pending: the supervisor runs garrison 7.1, installed is 7.2" in said
    assert one.run("version").out == "garrison 7.2\n"
    ran = one.run("upgrade", json=True)
    assert (ran.data["from"], ran.data["version"]) == ("7.1", "7.2")
    assert shown() == ("7.2", "7.2", False)
    assert one.rows()["echo"]["cpu_seconds"] > 0.0
    assert one.ask("status")["supervisor"]["cpu_seconds"] > 0.0

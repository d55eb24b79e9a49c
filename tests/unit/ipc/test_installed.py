"""Which version is installed."""

from pathlib import Path

import pytest

from garrison.ipc.system.installed import installed_version


def test_what_is_installed_meanwhile_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the place was read before."""
    monkeypatch.setattr("sys.path", [str(tmp_path / "nowhere"), str(tmp_path)])
    assert installed_version() == "0+checkout"
    (tmp_path / "garrison-1.2.dist-info").mkdir()
    assert installed_version() == installed_version() == "1.2"
    (tmp_path / "garrison-1.3.dist-info").mkdir()
    assert installed_version() == "1.3"
    (tmp_path / "garrison-1.3.dist-info").rmdir()
    assert installed_version() == "1.2"

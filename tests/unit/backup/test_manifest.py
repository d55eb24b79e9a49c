"""What a backup may say of itself, and what a config names, by table."""

from typing import Any

import msgspec
import pytest

from garrison.supervisor.backup.manifest import (
    BackupError,
    BackupFile,
    Manifest,
    is_inside,
    outside_path,
    read_manifest,
    version_problem,
)
from garrison.supervisor.backup.references import references

MANIFEST = Manifest(
    garrison="0.2.0",
    python="3.11.7",
    made_at="2026-05-06T14:05:00+00:00",
    machine="m",
    running=True,
    config="config.toml",
    folder="/srv/a",
    home="/srv/a/.garrison",
    services=("a",),
    files=(BackupFile("config/config.toml", 3, "0" * 64),),
)


def encoded(**changes: Any) -> bytes:
    """Return the manifest as JSON, with changes."""
    return msgspec.json.encode({**msgspec.to_builtins(MANIFEST), **changes})


def test_a_manifest_is_read_as_it_was_written() -> None:
    """Fields that a later version adds are left out."""
    assert read_manifest(encoded(later="x"), "b") == MANIFEST


def file(path: str, **more: Any) -> dict[str, Any]:
    """Return one file of a manifest."""
    return {"path": path, "size": 1, "sha256": "", **more}


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"{", "no backup of garrison"),
        (b"[]", "no backup of garrison"),
        (b"\xff\xfe", "no backup of garrison"),
        (encoded(format=2, garrison="9.0"), "install the version that made it, 9.0"),
        (encoded(services=7), "is damaged: its manifest has"),
        (encoded(files=[file("config/../../etc/passwd")]), "leads out of it"),
        (encoded(files=[file("/etc/passwd")]), "leads out of it"),
        (encoded(files=[file("etc/passwd")]), "leads out of it"),
        (encoded(files=[file("home/a\0b")]), "leads out of it"),
        (encoded(config="../x.toml"), "leads out of it"),
        (encoded(files=[file("home/a"), file("home/a")]), "names a file twice"),
        (encoded(files=[file("home/a", size=-1)]), "size or mode"),
        (encoded(files=[file("home/a", mode=0o4755)]), "size or mode"),
    ],
)
def test_a_manifest_that_is_none_is_refused(data: bytes, text: str) -> None:
    """With the reason; no path leads out of the folders of a backup."""
    with pytest.raises(BackupError, match="b ") as raised:
        read_manifest(data, "b")

    assert text in str(raised.value)


def test_paths_of_files_elsewhere_stay_inside() -> None:
    """They are kept under their whole path."""
    assert outside_path("/etc/garrison/x.toml") == "outside/etc/garrison/x.toml"
    assert is_inside(outside_path("/x"))
    assert not is_inside("home")


@pytest.mark.parametrize(
    ("made", "installed", "fits"),
    [
        ("0.1.0", "0.1.0", True),
        ("0.1.0", "0.2.0", True),
        ("0.9.0", "0.10.0", True),
        ("0.2.0", "0.1.9", False),
        ("0.2.0+local", "0.2.0", True),
        ("1.0", "0.9", False),
    ],
)
def test_a_backup_fits_its_own_version_and_later_ones(
    made: str, installed: str, fits: bool
) -> None:
    """An older one does not know what is in the files."""
    assert (version_problem(made, installed) == "") is fits


def test_what_a_config_names_is_found_in_all_its_files() -> None:
    """Files of secrets, characters, modules, users, programs; addresses without passwords."""
    found = references(
        [
            {
                "plugins": {"bot": {}, "x": {"use": "lib.part:plugin"}},
                "services": {
                    "a": {"env_file": "a.env", "secrets": ["TOKEN"], "user": 1001},
                    "b": {"secrets": {"KEY": {"file": "key"}, "P": "OTHER"}, "user": "mia"},
                    "legacy": {"command": ["node", "bot.js"]},
                    "mcp": {"config": {"servers": {"s": {"command": "npx thing"}}}},
                    "database": {"config": {"url": "postgresql+psycopg://u:pw@db/x"}},
                },
            },
            {"agents": {"ada": {"character": "ada.json#Ada"}}, "agent": {"character": "c.json"}},
        ]
    )

    assert found.secret_files == ["a.env", "key"]
    assert found.secrets == {"TOKEN": "env_file a.env", "KEY": "file key", "P": "OTHER"}
    assert found.modules == ["bot", "lib"]
    assert found.users == ["1001", "mia"]
    assert found.programs == ["node", "npx"]
    assert found.databases == ["postgresql+psycopg://u@db/x"]
    assert sorted(found.characters) == ["ada.json", "c.json"]

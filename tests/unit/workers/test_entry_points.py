"""Entry points of a group, read without `importlib.metadata`."""

import sys
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

from garrison.workers.process.entry_points import EntryPoint, entry_points, parsed

TEXT = """
# a comment
[console_scripts]
tool = package.tool:main

[ours]
one = package:plugin
two=package.module : some.attribute [extra, other]
nothing
[theirs]
one = elsewhere
"""


def install(place: Path, folder: str, text: str | None) -> None:
    """Install a distribution in a place, with entry points or without."""
    (place / folder).mkdir(parents=True)
    if text is not None:
        (place / folder / "entry_points.txt").write_text(text)


def test_a_group_is_read() -> None:
    """Other groups, comments and lines without `=` are left out."""
    assert list(parsed(TEXT, "ours")) == [
        EntryPoint("one", "package:plugin"),
        EntryPoint("two", "package.module : some.attribute [extra, other]"),
    ]


@pytest.mark.parametrize("group", ["garrison.plugins", "console_scripts", "pytest11"])
def test_they_are_those_that_the_library_finds(group: str) -> None:
    """In this environment."""
    expected = {(point.name, point.value) for point in metadata.entry_points(group=group)}
    assert {(one.name, one.value) for one in entry_points(group)} == expected


def test_the_first_distribution_of_a_name_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As an import takes the first module; also where it has no entry points."""
    one, two = tmp_path / "one", tmp_path / "two"
    install(one, "a_b-2.dist-info", "[ours]\nx = new\n")
    install(one, "c-2.dist-info", None)
    install(two, "A.B-1.egg-info", "[ours]\nx = old\n")
    install(two, "c-1.dist-info", "[ours]\ny = hidden\n")
    install(two, "d-1.egg-info", "[ours]\nz = other\n")
    monkeypatch.setattr(sys, "path", [str(one), str(tmp_path / "none"), str(two)])
    assert entry_points("ours") == (EntryPoint("x", "new"), EntryPoint("z", "other"))


def test_one_in_an_archive_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the library."""
    archive = tmp_path / "all.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("a-1.dist-info/METADATA", "Metadata-Version: 2.1\nName: a\nVersion: 1\n")
        file.writestr("a-1.dist-info/entry_points.txt", "[ours]\nx = in.archive\n")
    monkeypatch.setattr(sys, "path", [str(archive)])
    assert entry_points("ours") == (EntryPoint("x", "in.archive"),)


def test_what_it_leads_to_is_imported() -> None:
    """A module, or an attribute at any depth."""
    assert EntryPoint("a", "os.path:join").load() is __import__("os").path.join
    assert EntryPoint("a", "pathlib : Path.home [extra]").load() == Path.home
    assert EntryPoint("a", "json").load().__name__ == "json"
    with pytest.raises(ValueError, match="leads to"):
        EntryPoint("a", "no module!").load()

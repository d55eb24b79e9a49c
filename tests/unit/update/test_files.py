"""The steps on disk can each be repeated: a kill between any two of them leaves one version."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from garrison.supervisor.cli.update_packages import link_environment
from garrison.supervisor.update import environment
from garrison.supervisor.update.data import copy_data, put_back
from garrison.supervisor.update.environment import current_of, next_number, switch, versions_of


class Killed(BaseException):
    """Stands for a kill."""


@pytest.fixture
def killed_at(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Return what ends the process, as it were, before the n-th change of a path."""
    left = [0]

    def ending(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*words: Any, **named: Any) -> Any:
            left[0] -= 1
            if left[0] == 0:
                raise Killed
            return function(*words, **named)

        return call

    for name in ("rename", "replace", "symlink_to", "unlink"):
        monkeypatch.setattr(Path, name, ending(getattr(Path, name)))
    monkeypatch.setattr(environment, "exchange", ending(environment.exchange))

    def set_left(number: int) -> None:
        left[0] = number

    return set_left


def version(path: Path) -> str:
    """Return what is at a path."""
    return (path / "version").read_text()


def make(path: Path, text: str) -> Path:
    """Make a version."""
    path.mkdir(parents=True)
    (path / "version").write_text(text)
    return path


def versions(folder: Path, is_link: bool) -> tuple[Path, Path, Path]:
    """Make two versions; return the path, the new one's folder and the former one's."""
    path = folder / "venv"
    new, former = make(versions_of(path) / "2", "new"), versions_of(path) / "1"
    if is_link:
        make(former, "former")
        path.symlink_to("venv.versions/1")
    else:
        make(path, "former")
    return path, new, former


@pytest.mark.parametrize("is_link", [False, True])
def test_a_switch_is_done_or_not(
    tmp_path: Path, is_link: bool, killed_at: Callable[[int], None]
) -> None:
    """Wherever it is killed, the path leads to one version, and the next try finishes it."""
    seen = set[str]()
    for number in range(1, 9):
        path, new, former = versions(tmp_path / str(number), is_link)
        killed_at(number)
        try:
            switch(path, new, former)
        except Killed:
            seen.add(version(path))
            killed_at(0)
            switch(path, new, former)
        else:
            break
        finally:
            killed_at(0)
        assert version(path) == "new"
        assert version(former) == "former"
        assert sorted(one.name for one in versions_of(path).iterdir()) == ["1", "2"]
        switch(path, new, former)
    else:
        pytest.fail("it has more steps than were tried")
    assert "former" in seen
    assert path.is_symlink()
    assert not Path(os.readlink(path)).is_absolute()  # noqa: PTH115
    assert current_of(path) == new
    assert next_number(path) == 3


def test_data_is_put_back_or_not(tmp_path: Path, killed_at: Callable[[int], None]) -> None:
    """Wherever that is killed, the next try finishes it; what was there goes aside."""
    for number in range(1, 5):
        folder = tmp_path / str(number)
        source, copy, aside = folder / "s" / "a", folder / "before" / "a", folder / "failed" / "a"
        make(source, "former")
        copy_data(source, copy)
        (source / "version").write_text("new")
        killed_at(number)
        try:
            put_back(source, copy, aside)
        except Killed:
            killed_at(0)
            put_back(source, copy, aside)
        else:
            break
        finally:
            killed_at(0)
        assert (version(source), version(aside)) == ("former", "new")
        assert not put_back(source, copy, aside)
        assert (version(source), version(aside)) == ("former", "new")
    else:
        pytest.fail("it has more steps than were tried")


def test_a_copy_has_everything_that_a_service_keeps(tmp_path: Path) -> None:
    """Folders, links, modes and times; sockets are made anew by the service."""
    source, copy = make(tmp_path / "a", "1"), tmp_path / "before" / "a"
    make(source / "sub", "2").chmod(0o700)
    (source / "sub" / "version").chmod(0o600)
    (source / "link").symlink_to("sub/version")
    os.mkfifo(source / "pipe")
    os.utime(source / "version", (1, 1))
    copy_data(source, copy)
    assert sorted(str(one.relative_to(copy)) for one in copy.rglob("*")) == [
        *("link", "sub", "sub/version", "version")
    ]
    assert (copy / "version").stat().st_mtime == 1
    assert (copy / "sub" / "version").stat().st_mode & 0o777 == 0o600
    assert (copy / "link").readlink() == Path("sub/version")
    (source / "version").write_text("later")
    copy_data(source, copy)  # the first one is kept: it was made before the new version ran
    assert version(copy) == "1"
    copy_data(tmp_path / "none", tmp_path / "before" / "none")
    assert list((tmp_path / "before" / "none").iterdir()) == []


def test_a_linked_environment_is_changed_alone(tmp_path: Path) -> None:
    """A file that pip replaces, a script and a `.pth` file of one are not those of the other."""
    source, target = tmp_path / "venv", tmp_path / "venv.versions" / "2"
    make(source / "lib", "1")
    make(source / "bin", "1")
    (source / "lib" / "a.pth").write_text("1")
    (source / "bin" / "python").symlink_to("/usr/bin/python3")
    link_environment(source, target, lambda _: None)
    assert (target / "lib" / "version").samefile(source / "lib" / "version")
    for name in ("lib/a.pth", "bin/version"):
        (target / name).write_text("2")
        assert (source / name).read_text() == "1"
    assert (target / "bin" / "python").readlink() == Path("/usr/bin/python3")

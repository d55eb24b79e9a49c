"""What an update would bring, before anything is built."""

from pathlib import Path

import pytest

from garrison.ipc.errors import OrderFailed
from garrison.supervisor.cli.update_packages import planned_version


@pytest.mark.parametrize(
    ("project", "expected"),
    [
        ('[project]\nname = "My_Bot"\nversion = "2.0"', ("my-bot", "2.0")),
        ('[project]\nname = "bot"\ndynamic = ["version"]', ("bot", "as built")),
        ("[project]", ("checkout", "as built")),
        ("project = 3", ("checkout", "as built")),
        ("no TOML", ("checkout", "as built")),
        (None, ("checkout", "as built")),
    ],
)
def test_a_checkout_is_named_by_its_project(
    tmp_path: Path, project: str | None, expected: tuple[str, str]
) -> None:
    """Else by its folder: its name and version come with the wheel that is built."""
    checkout = tmp_path / "checkout"
    checkout.mkdir()
    if project is not None:
        (checkout / "pyproject.toml").write_text(project)

    assert planned_version(checkout) == expected


def test_a_file_that_is_no_wheel_is_an_error(tmp_path: Path) -> None:
    """It is named."""
    (tmp_path / "x.whl").write_text("x")
    with pytest.raises(OrderFailed, match=r"x\.whl is no wheel"):
        planned_version(tmp_path / "x.whl")

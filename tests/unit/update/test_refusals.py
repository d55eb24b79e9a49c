"""Where an environment cannot be updated, and the error of each."""

from dataclasses import replace
from typing import Any

import pytest

from garrison.supervisor.update.refusals import Facts, refusal

GOOD = Facts("/srv/bot/.venv")


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"container": "/.dockerenv", "in_image": True}, "Build or pull the new image"),
        ({"is_first": True}, "with the same volume"),
        ({"user": "bots"}, "sudo -u bots"),
        ({"runs_by": "/srv/other"}, "run /srv/other/bin/garrison update"),
        ({"pipx": True}, "pipx upgrade garrison, then garrison upgrade"),
        ({"uv_tool": True}, "uv tool upgrade garrison, then garrison upgrade"),
        ({"is_venv": False}, "python3 -m venv .venv"),
        ({"editable": "/srv/garrison"}, "checkout /srv/garrison (pip install -e)"),
        ({"has_pip": False}, "/srv/bot/.venv/bin/python -m ensurepip"),
        ({"writable": False}, "cannot be written"),
        ({"exchanges": False}, "renameat2"),
        ({"others": ("/srv/two/.garrison",)}, "another host runs by /srv/bot/.venv as well"),
    ],
)
def test_a_refusal_says_what_to_do(facts: dict[str, Any], words: str) -> None:
    """Each by itself; what can be updated is not refused."""
    assert words in refusal(replace(GOOD, **facts))
    assert refusal(GOOD) == ""


def test_an_environment_on_a_volume_is_no_part_of_an_image() -> None:
    """The next container has it too, so it can be updated in one."""
    assert refusal(replace(GOOD, container="/.dockerenv")) == ""


def test_a_container_comes_first() -> None:
    """Nothing else is of use in one."""
    both = replace(GOOD, container="/.dockerenv", in_image=True, is_venv=False, has_pip=False)
    assert "image" in refusal(both)

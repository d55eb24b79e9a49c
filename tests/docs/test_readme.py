"""The README says what the code does."""

import re
import tomllib
from pathlib import Path

from garrison.supervisor.cli.app import verbs
from garrison.supervisor.lifecycle.policy import diagram

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def test_the_diagram_is_the_table() -> None:
    """The README's diagram of a service's life is printed from the policy's table."""
    found = re.search(r"<!-- diagram -->\n```mermaid\n(.*?)\n```", README, re.DOTALL)

    assert found is not None
    assert found[1] == diagram()


def test_every_verb_is_told_of() -> None:
    """The README's table of verbs has every verb of the command line."""
    table = README.split("## Operating it")[1].split("NAMEs can be globs")[0]
    shown = set(re.findall(r"`([a-z]+)", table))

    assert set(verbs()) - {"config", "docs"} <= shown


def test_the_bundled_plugins_are_entry_points() -> None:
    """What `config.toml` runs is found as an entry point of the installed package."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    config = tomllib.loads((ROOT / "config.toml").read_text())

    assert set(config["plugins"]) <= set(project["project"]["entry-points"]["garrison.plugins"])


def test_the_two_commands_stand_on_lines_of_their_own() -> None:
    """A machine that has Python alone needs two commands, which `.ci/run` reads from here."""
    commands = re.findall(r"^python3 -m venv .*$", README, re.MULTILINE)

    assert commands == [
        "python3 -m venv .venv && .venv/bin/pip install -e . && .venv/bin/garrison up",
        "python3 -m venv .venv && .venv/bin/pip install -e '.[test]' && .venv/bin/pytest",
    ]

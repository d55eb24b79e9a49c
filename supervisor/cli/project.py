"""The files of a new project that runs chosen plugins (`init --with`). Pure."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from garrison.supervisor.cli.catalogue import InstalledPlugin, Library

BASE = {
    "chat": "`garrison chat` talks to the agent from a terminal",
    "agent": "answers messages, and remembers them",
    "eliza": "a model without a key: it answers where no other one does",
    "mailbox": "what must not be lost is on disk first",
}
COMMAND = "command"  # the plugin that needs no line under [plugins]
COMMAND_SECTION = """
# A program of any kind. Its keys: garrison docs services/command
[services.legacy]
command = ["sleep", "infinity"]
"""
PRIVATE = 0o600
GITIGNORE = ".env*\n.garrison/\n.venv/\n__pycache__/\n"

TEST = '''\
"""The config of this folder can be used: each plugin can be read, and each key is known."""

import json
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parent


def test_the_config_is_usable() -> None:
    """`garrison check` finds no error; a token that is not set yet is none."""
    command = [sys.executable, "-m", "garrison.supervisor.cli", "check", "--json"]
    ran = subprocess.run(command, cwd=FOLDER, capture_output=True, text=True, timeout=120)

    report = json.loads(ran.stdout)["data"]
    assert report["errors"] == []
'''


class NewFile(NamedTuple):
    """A file to write."""

    text: str
    mode: int = 0o644


def project_files(name: str, plugins: Iterable[InstalledPlugin]) -> dict[str, NewFile]:
    """Return the files of a project, by name.

    Args:
        name: Of the folder.
        plugins: Those that were chosen, in their order.
    """
    chosen = [one for one in plugins if one.name not in BASE]
    files = {
        "config.toml": NewFile(_config(chosen)),
        "requirements.txt": NewFile(_requirements(chosen)),
        "test_config.py": NewFile(TEST),
        ".gitignore": NewFile(GITIGNORE),
        "README.md": NewFile(_readme(name, chosen)),
    }
    for one in chosen:
        if one.secrets:
            files[env_file(one.name)] = NewFile(_environment(one.secrets), PRIVATE)
    return files


def env_file(plugin: str) -> str:
    """Return the name of a plugin's file of secrets, whose lines reach its service alone."""
    return f".env.{plugin}"


def _config(chosen: Iterable[InstalledPlugin]) -> str:
    lines = [
        "# What garrison runs here. `garrison up` starts it, `garrison check` checks a change.",
        "# `garrison config` prints every key with its default; `garrison docs` lists the manual.",
        "",
        "[plugins]",
    ]
    with_command = any(one.name == COMMAND for one in chosen)
    chosen = [one for one in chosen if one.name != COMMAND]
    width = max(len(name) for name in [*BASE, *(one.name for one in chosen)])
    about = BASE | {one.name: _first_line(one.description) for one in chosen}
    lines += [f"{f'{name} = {{}}':<{width + 5}}  # {text}" for name, text in about.items()]
    for one in chosen:
        page = f"# Its keys: garrison docs services/{one.name}" if one.bundled else ""
        if one.secrets:
            names = ", ".join(f'"{name}"' for name in one.secrets)
            lines += ["", f"[services.{one.name}]", f'env_file = "{env_file(one.name)}"']
            lines += [f"secrets = [{names}]  # it does not start without them"]
        lines += ["", f"[services.{one.name}.config]", *([page] if page else [])]
    return "\n".join(lines) + "\n" + (COMMAND_SECTION if with_command else "")


def _first_line(text: str, most: int = 70) -> str:
    return text if len(text) <= most else f"{text[: most - 1].rstrip()}…"


def _environment(secrets: Mapping[str, str]) -> str:
    lines = ["# Secrets of one service. Keep this file private: mode 600, and out of git."]
    for name, where in secrets.items():
        lines += ["", f"# get it at {where}", f"{name}="]
    return "\n".join(lines) + "\n"


def _requirements(chosen: Iterable[InstalledPlugin]) -> str:
    lines = ["# Beside garrison itself, which is installed from its checkout.", "pytest"]
    for one in chosen:
        lines += [_pinned(library) for library in one.libraries]
        lines += [] if one.bundled else [f"{one.package}=={one.version}"]
    return "\n".join(dict.fromkeys(lines)) + "\n"


def _pinned(library: Library) -> str:
    """Return a requirement of the version that is installed, else as the plugin states it."""
    name = library.requirement.partition(">=")[0].partition("==")[0]
    return f"{name}=={library.installed}" if library.installed else library.requirement


def _readme(name: str, chosen: list[InstalledPlugin]) -> str:
    secrets = [f"`{env_file(one.name)}`" for one in chosen if one.secrets]
    fill = f"1. Fill in {' and '.join(secrets)}: each line states where to get what it needs.\n"
    steps = [
        *([fill] if secrets else []),
        "1. `python -m pip install -r requirements.txt`, with the Python that garrison runs in, "
        "installs the libraries.\n",
        "1. `garrison check` finds what is missing.\n",
        "1. `garrison up` starts everything; `garrison status` and `garrison logs -f` show it.\n",
    ]
    names = ", ".join(one.name for one in chosen)
    return (
        f"# {name}\n\nA garrison host with {names}.\n\n{''.join(steps)}\n"
        "`garrison chat` talks to the agent from a terminal, and `pytest` checks the config.\n"
    )

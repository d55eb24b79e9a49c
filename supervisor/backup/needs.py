"""Finds out what another machine needs for a host: packages, and where this one's files are."""

import shutil
from importlib import metadata
from pathlib import Path

from .manifest import Needs
from .references import References


def installed_packages() -> list[str]:
    """Return the packages of this interpreter, as `name==version`."""
    found = {
        f"{one.metadata['Name']}=={one.version}"
        for one in metadata.distributions()
        if one.metadata["Name"]
    }
    return sorted(found, key=str.lower)


def needs_of(named: References, files: list[str]) -> Needs:
    """Return the needs of a host.

    Args:
        named: What its config names.
        files: What the backup has not, with the reason.
    """
    return Needs(
        packages=tuple(installed_packages()),
        secrets=named.secrets,
        users=tuple(named.users),
        programs=tuple(map(_program, named.programs)),
        files=tuple(files),
        databases=tuple(named.databases),
    )


def _program(name: str) -> str:
    found = shutil.which(name)
    return name if found is None or found == name else f"{name} ({Path(found)})"

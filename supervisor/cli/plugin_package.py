"""The files of a new package with one plugin (`init --plugin`). Pure."""

import keyword
import re
import sys

from .project import NewFile

NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")

PYPROJECT = """\
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "{name}"
version = "0.1.0"
description = "A garrison plugin: {name}"
readme = "README.md"
requires-python = ">=3.11"
dependencies = []  # garrison is there already: it is what imports this package

[project.entry-points."garrison.plugins"]
{name} = "{name}:plugin"

[tool.hatch.build.targets.wheel]
packages = ["src/{name}"]

[tool.pytest.ini_options]
pythonpath = ["src"]
asyncio_mode = "auto"
asyncio_default_fixture_loop_scope = "function"

[tool.mypy]
strict = true
mypy_path = "src"
files = ["src", "tests"]
"""

CODE = '''\
"""The plugin {name}: one service of the same type."""

from typing import Annotated, Self

import msgspec

from garrison.workers import Plugin, Runtime, Service


class {cls}Service(Service):
    """Counts up."""

    service_type = "{name}"
    capability_description = "Counts up"

    class Config(msgspec.Struct):
        """The keys of [services.{name}.config]."""

        step: Annotated[int, msgspec.Meta(ge=1)] = 1

    config: Config
    total: int

    @classmethod
    async def start(cls, runtime: Runtime) -> Self:
        """Open what the service needs; it runs once this returns."""
        service = cls(runtime)
        service.total = 0
        return service

    async def add(self) -> int:
        """Count one step up; return the total: garrison call {name} add"""
        self.total += self.config.step
        return self.total

    async def stop(self) -> None:
        """Close what `start` opened."""


plugin = Plugin(name="{name}", services=[{cls}Service])
'''

TEST = '''\
"""The service of {name}, run in this process."""

import pytest
from garrison.workers.testing import run
from {name} import {cls}Service


@pytest.mark.parametrize("step", [1, 5])
async def test_it_counts_in_steps(step: int) -> None:
    """Each call adds the step of the config."""
    async with run({cls}Service, config={{"step": step}}) as service:
        assert await service.add() == step
        assert await service.add() == 2 * step
'''

CONFIG = """\
# A host to try the plugin in: pip install -e . && garrison up

[plugins]
{name} = {{}}

[services.{name}.config]
step = 1
"""

README = """\
# {name}

A plugin of garrison with one service.

1. `pip install -e . pytest pytest-asyncio` installs it, and what its tests need.
1. `pytest` runs its tests.
1. `garrison up` runs it by the `config.toml` here; `garrison call {name} add` calls it.

Elsewhere, `{name} = {{}}` under `[plugins]` of a config is all that it needs.
"""

FILES = {
    "pyproject.toml": PYPROJECT,
    "src/{name}/__init__.py": CODE,
    "src/{name}/py.typed": "",
    "tests/test_{name}.py": TEST,
    "config.toml": CONFIG,
    "README.md": README,
    ".gitignore": ".garrison/\n.venv/\n__pycache__/\n*.egg-info/\ndist/\n",
}


def name_problem(name: str) -> str:
    """Return why a text cannot be the name of a plugin's package; "" if it can."""
    if not NAME.fullmatch(name):
        return "write it with lower-case letters, digits and _, beginning with a letter"
    if keyword.iskeyword(name) or name in sys.stdlib_module_names or name == "garrison":
        return "Python or garrison has a module of this name"
    return ""


def package_files(name: str) -> dict[str, NewFile]:
    """Return the files of a package with one plugin, by path.

    Args:
        name: Of the plugin, the package and the service type; `name_problem` finds none.
    """
    cls = "".join(part.capitalize() for part in name.split("_"))
    return {
        path.format(name=name): NewFile(text.format(name=name, cls=cls))
        if "{" in text
        else NewFile(text)
        for path, text in FILES.items()
    }

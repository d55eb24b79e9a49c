"""A plugin's service types, as the author API shows them, are known to mypy and to pyright."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support.host import ROOT

SAMPLE = """\
from typing import Final, assert_type

from garrison.workers import Runtime, Service, ServiceType


class MyServiceType(ServiceType):
    DISCORD: Final = "discord"


class Discord(Service):
    service_type = MyServiceType.DISCORD

    async def guilds(self) -> int:
        return 1


async def use(runtime: Runtime) -> None:
    text: str = MyServiceType.TASK
    assert runtime.get_service(MyServiceType.DISCORD) is not None, text
    discord = runtime.get_service(Discord)
    assert discord is not None
    assert_type(await discord.guilds(), int)
"""
WRONG = """

class Redefined(MyServiceType):
    TASK: Final = "other"


print(MyServiceType.DISCRD)
"""
LINES = {26, 29}  # of the mistakes


def mypy(folder: Path, name: str) -> set[int]:
    """Return the lines with errors."""
    cache = ROOT / ".mypy_cache" / "examples"
    command = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary"]
    done = subprocess.run(
        [*command, name, f"--cache-dir={cache}"],
        cwd=folder,
        env={"PATH": "/usr/bin:/bin", "MYPYPATH": str(ROOT / ".src")},
        capture_output=True,
        text=True,
        check=False,
    )
    errors = [line for line in done.stdout.splitlines() if " error: " in line]
    assert done.stderr == ""
    return {int(line.split(":")[1]) for line in errors}


def pyright(folder: Path, name: str) -> set[int]:
    """Return the lines with errors."""
    settings = {
        "include": [name],
        "extraPaths": [str(ROOT / ".src")],
        "pythonVersion": "3.11",
        "typeCheckingMode": "strict",
    }
    (folder / "pyrightconfig.json").write_text(json.dumps(settings))
    command = [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    found = json.loads(done.stdout)["generalDiagnostics"]
    return {one["range"]["start"]["line"] + 1 for one in found if one["severity"] == "error"}


@pytest.mark.parametrize("checker", [mypy, pyright])
def test_a_checker_knows_a_plugins_service_types(tmp_path: Path, checker: object) -> None:
    """A typo and a second meaning of a core type are errors, and nothing else is."""
    assert callable(checker)
    (tmp_path / "sample.py").write_text(SAMPLE + WRONG)
    assert checker(tmp_path, "sample.py") == LINES

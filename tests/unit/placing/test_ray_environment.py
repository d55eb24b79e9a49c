"""What Ray has brought is kept for the node, which outlives it."""

import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from garrison.supervisor.placing.ray_environment import FOLDER, Brought, brought, kept

RAY = "/tmp/ray/session_1/runtime_resources"


@pytest.mark.parametrize(
    ("python", "path", "expected"),
    [
        ("/usr/bin/python", ["", "/usr/lib"], Brought("/usr/bin/python")),
        (
            "/usr/bin/python",
            [f"{RAY}/py_modules_files/a", "/usr/lib", f"{RAY}/py_modules_files/a"],
            Brought("/usr/bin/python", "", (f"{RAY}/py_modules_files/a",)),
        ),
        (
            f"{RAY}/pip/x/virtualenv/bin/python",
            [f"{RAY}/pip/x/virtualenv/lib/python3.11/site-packages", f"{RAY}/py_modules_files/b"],
            Brought(
                f"{RAY}/pip/x/virtualenv/bin/python",
                f"{RAY}/pip/x/virtualenv",
                (f"{RAY}/py_modules_files/b",),
            ),
        ),
    ],
)
def test_what_is_by_ray_is_seen_by_its_path(
    python: str, path: list[str], expected: Brought
) -> None:
    """All of it lies in one folder of Ray's session."""
    assert brought(python, path) == expected


def test_it_outlives_what_ray_deletes(tmp_path: Path) -> None:
    """Modules are found by a variable, a virtual environment by its own Python."""
    by_ray, home = tmp_path / "runtime_resources", tmp_path / "home"
    home.mkdir()
    made = by_ray / "pip" / "x" / "virtualenv"
    venv.create(made, with_pip=False, symlinks=True)
    packages = next(made.glob("lib/python*/site-packages"))
    (packages / "brought_one.py").write_text("VALUE = 1\n")
    modules = by_ray / "py_modules_files" / "a"
    modules.mkdir(parents=True)
    (modules / "brought_two.py").write_text("VALUE = 2\n")
    environ = {"PYTHONPATH": f"{modules}{os.pathsep}/own", "PATH": os.environ["PATH"]}

    what = brought(str(made / "bin" / "python"), [str(packages), str(modules)])
    python = kept(home, what, environ)
    shutil.rmtree(by_ray)
    code = "import brought_one, brought_two; print(brought_one.VALUE, brought_two.VALUE)"
    done = subprocess.run([python, "-c", code], env=environ, capture_output=True, text=True)
    assert done.stdout.strip() == "1 2", done.stderr
    assert environ["PYTHONPATH"].endswith(f"{os.pathsep}/own")
    assert str(by_ray) not in environ["PYTHONPATH"]


def test_the_last_two_are_kept(tmp_path: Path) -> None:
    """Workers of the former one may run on; without any, nothing is changed."""
    assert kept(tmp_path, Brought(sys.executable), {}) == sys.executable
    place = ""
    for number in range(4):
        modules = tmp_path / "runtime_resources" / str(number)
        modules.mkdir(parents=True)
        environ: dict[str, str] = {}
        assert kept(tmp_path, Brought(sys.executable, "", (str(modules),)), environ)
        (place,) = environ["PYTHONPATH"].split(os.pathsep)
        os.utime(Path(place).parent, (number, number))
    assert len(list((tmp_path / FOLDER).iterdir())) == 2
    assert Path(place).exists()

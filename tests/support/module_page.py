"""Prints docs/modules.md, from the first sentence of each module.

Run it as `python -m tests.support.module_page > docs/modules.md`.
"""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("supervisor", "workers", "ipc")
PURE = re.compile(r"\(pure\)|(?:^|[.:] )Pure\b")  # of the module, not of a part of it

HEAD = """\
# Modules

Every file of the code and its one job, folder by folder, for finding the place of a change by a
word. A **pure** module decides and does no I/O. [Architecture](architecture.md) shows how they work
together.
"""


def page() -> str:
    """Return the page."""
    folders = [
        folder.parent
        for package in PACKAGES
        for folder in sorted((ROOT / package).rglob("__init__.py"))
    ]
    return "\n".join([HEAD, *map(_section, folders)])


def _section(folder: Path) -> str:
    """Return the heading of a folder, its job, and a table of its modules."""
    title = f"## {folder.relative_to(ROOT)}/\n\n{_job(folder / '__init__.py')[0]}\n"
    files = [file for file in sorted(folder.glob("*.py")) if file.name != "__init__.py"]
    if not files:
        return title
    rows = "\n".join(_row(file) for file in files)
    return f"{title}\n| module | its job | |\n|---|---|---|\n{rows}\n"


def _row(file: Path) -> str:
    """Return the row of a module."""
    job, pure = _job(file)
    return f"| `{file.name}` | {job.replace('|', chr(92) + '|')} | {'pure' if pure else ''} |"


def _job(file: Path) -> tuple[str, bool]:
    """Return the first sentence of a module's docstring, and whether the module says it is pure."""
    text = ast.get_docstring(ast.parse(file.read_text())) or ""
    first = " ".join(text.partition("\n\n")[0].split())
    sentence = re.split(r"(?<=\.) ", first)[0].replace(" (pure)", "")
    return sentence.rstrip(".") + ".", bool(PURE.search(first))


if __name__ == "__main__":
    print(page(), end="")

"""The author's reference lists the names of the runtime, no more and no fewer."""

import re
from pathlib import Path

from garrison.workers.testing import Harness

PAGE = Path(__file__).parents[2] / "docs/reference/author-api.md"


async def test_the_reference_lists_every_public_name_of_the_runtime() -> None:
    """`dir(runtime)` without underscore names is what the section "Runtime" has in its table."""
    section = PAGE.read_text().split("\n## Runtime\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (.+?) \|", section, re.MULTILINE)
    listed = {name for row in rows for name in re.findall(r"\bruntime\.(\w+)", row)}
    harness = Harness("clock")
    names = {name for name in dir(harness.runtime) if not name.startswith("_")}
    await harness.close()

    assert listed == names - {"emitted"}  # of the runtime for tests

"""Prints `eliza.toml` as the JSON that a host reads at its start:

.venv/bin/python -m tests.support.eliza_script > workers/services/eliza/eliza.json
"""

import json
import tomllib
from pathlib import Path

from garrison.workers.services import eliza

FOLDER = Path(eliza.__file__).parent


def as_json() -> str:
    """Return the bundled script as JSON."""
    values = tomllib.loads((FOLDER / "eliza.toml").read_text(encoding="utf-8"))
    return json.dumps(values, indent=0, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    print(as_json(), end="")

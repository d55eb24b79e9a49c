"""`garrison` with an engine whose reports arrive late: `python slow_host.py up …`."""

import sys
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.support.engines import DELAY_S, DelayedEngine

from garrison.supervisor import components
from garrison.supervisor.cli import main
from garrison.supervisor.processes.local import LocalEngine


def slow_engine(delay: float, *args: Any, **kwargs: Any) -> DelayedEngine:
    """Return the local engine, with late reports."""
    return DelayedEngine(LocalEngine(*args, **kwargs), delay)


if __name__ == "__main__":
    setattr(components, "LocalEngine", partial(slow_engine, DELAY_S))  # noqa: B010
    main()

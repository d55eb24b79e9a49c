"""`load_library`: imports a library that is an extra, in the worker that needs it."""

import importlib
import sys
from typing import Any

from garrison.ipc import PermanentFailure


def load_library(module: str, *requirements: str) -> Any:
    """Import a module of a library.

    Args:
        module: Its name.
        requirements: What pip installs it by, and what is needed beside it.

    Raises:
        PermanentFailure: It is not installed; the text has the command.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing != module.partition(".")[0]:
            raise
        raise PermanentFailure(
            f"the library {module} is not installed: run {sys.executable} -m pip install "
            f"{' '.join(map(repr, requirements))}, then restart the service"
        ) from error

"""Garbage collection, which is off while a command is imported, is turned on when it runs."""

import gc


def resume_collecting() -> None:
    """Collect from now on, if that is off, and never look through what was imported."""
    if not gc.isenabled():
        gc.freeze()
        gc.enable()

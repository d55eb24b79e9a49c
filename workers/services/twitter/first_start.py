"""The time of the service's first start: mentions before it are not answered. Unix seconds."""

from pathlib import Path

FILE = "first-start"


def first_start(folder: Path, now: float) -> float:
    """Return the recorded time; the first call records it.

    Until a first mention has come there is no position to read on from, and a process that is
    killed before that must not begin anew.
    """
    file = folder / FILE
    try:
        return min(float(file.read_text("ascii")), now)
    except (FileNotFoundError, ValueError):
        new = folder / f"{FILE}.new"
        new.write_text(f"{now:.3f}\n", "ascii")
        new.replace(file)
        return now

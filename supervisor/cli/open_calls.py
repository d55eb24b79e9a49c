"""The calls that a running service has not ended, as its flight recorder has them.

The file is read without the service taking part. Durations are seconds, sizes are bytes.
"""

from pathlib import Path
from typing import Any

from garrison.ipc import flight_recorder
from garrison.ipc.flight_record import IN, LATE, UNKNOWN, RecordedCalls

SHOWN_MOST = 64
INTERNAL = "$"  # begins the names of garrison's own methods


def open_calls(path: Path, now: float) -> dict[str, Any]:
    """Return the calls of a running service that have not ended, the oldest first.

    Args:
        path: Of its flight recorder's file.
        now: Wall clock.

    Returns:
        `calls`, each with `direction` ("in": it handles the call, "out": it waits for it),
        `service` (the caller or the callee), `method`, `size`, `age_s`, `items` (of a stream)
        and `trace` (the id of its trace, or empty); and `more_calls`, how many are left out.
    """
    return of_recorded(flight_recorder.read(path), now)


def of_recorded(recorded: RecordedCalls, now: float) -> dict[str, Any]:
    """Return those of what was recorded, as `open_calls` does."""
    found = [
        {
            "direction": "in" if one.kind & ~LATE == IN else "out",
            "service": "a program" if one.peer.startswith(UNKNOWN) else one.peer,
            "method": one.method,
            "size": one.size,
            "age_s": max(now - one.began, 0.0),
            "items": one.items,
            "trace": one.trace,
        }
        for one in sorted(recorded.noted, key=lambda one: one.began)
        if not one.outcome and not one.method.startswith(INTERNAL)
    ]
    left_out = max(len(found) - SHOWN_MOST, 0) + recorded.without
    return {"calls": found[:SHOWN_MOST], "more_calls": left_out}

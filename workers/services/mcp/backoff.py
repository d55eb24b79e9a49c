"""How long to wait before a server is connected to again. Pure; durations are seconds."""

FIRST_S, LONGEST_S = 0.5, 60.0
STEADY_S = 30.0  # after which the next failure is a first one


def failures_now(before: int, lasted: float, answered: bool) -> int:
    """Return the number of failures in a row, with the present one.

    Args:
        before: Those before it.
        lasted: How long it was tried, or connected.
        answered: A call was answered meanwhile.
    """
    return 1 if answered or lasted >= STEADY_S else before + 1


def wait(failures: int, jitter: float) -> float:
    """Return the wait after so many failures in a row.

    Args:
        failures: 1 or more.
        jitter: 0 to 1.
    """
    return float(min(FIRST_S * 2 ** min(failures - 1, 10), LONGEST_S) * (0.75 + 0.5 * jitter))

"""What a provider has been used for since it started: requests, failures, tokens. Pure."""

from dataclasses import dataclass


@dataclass
class Used:
    """The tokens of one request, as its provider counts them."""

    read: int = 0
    cached: int = 0  # of those that were read; they cost less
    written: int = 0
    finish: str = ""  # the provider's word for why the text ended

    @property
    def tokens(self) -> int:
        """Return all of them."""
        return self.read + self.written


CUT = frozenset({"length", "max_tokens"})  # the text ended because it may not be longer


class Usage:
    """The sums of all requests."""

    def __init__(self) -> None:
        self.requests = self.failures = self.cut = 0
        self.read = self.cached = self.written = 0

    def add(self, used: Used, failed: bool) -> None:
        """Count one request."""
        self.requests += 1
        self.failures += failed
        self.cut += used.finish in CUT
        self.read += used.read
        self.cached += used.cached
        self.written += used.written

    def facts(self, budget_left: int | None) -> dict[str, float]:
        """Return what `garrison status` shows."""
        facts = {
            "requests": self.requests,
            "failures": self.failures,
            "tokens_in": self.read,
            "tokens_cached": self.cached,
            "tokens_out": self.written,
            "cut_short": self.cut,
        }
        left = {} if budget_left is None else {"budget_left": budget_left}
        return {name: float(value) for name, value in (facts | left).items()}

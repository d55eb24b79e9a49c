"""What models cost: prices from the config, in its own currency, per million tokens. Pure."""

from typing import Annotated

import msgspec

from .usage import Used

PER = 1_000_000  # tokens that a price is for

Money = Annotated[float, msgspec.Meta(ge=0)]


class Price(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The price of one model."""

    input: Money = 0.0
    output: Money = 0.0
    cached: Money | None = None  # input that the server read from its cache; None: as `input`
    stored: Money | None = None  # input that its cache keeps from now on; None: as `input`

    def of(self, used: Used) -> float:
        """Return what a request costs."""
        cached = self.input if self.cached is None else self.cached
        stored = self.input if self.stored is None else self.stored
        fresh = max(used.read - used.cached - used.stored, 0)
        tokens = (fresh, used.cached, used.stored, used.written)
        prices = (self.input, cached, stored, self.output)
        return sum(number * price for number, price in zip(tokens, prices, strict=True)) / PER

    def most(self, tokens: int) -> float:
        """Return the most that so many tokens can cost."""
        return tokens * max(self.input, self.output, self.cached or 0.0, self.stored or 0.0) / PER


Prices = dict[str, Price]  # by the model's name

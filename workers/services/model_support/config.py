"""Config keys that the providers of models share."""

from typing import Annotated

import msgspec

from .prices import Money, Prices

Count = Annotated[int, msgspec.Meta(ge=0)]
Positive = Annotated[int, msgspec.Meta(ge=1)]
Seconds = Annotated[float, msgspec.Meta(gt=0)]


class Limits(msgspec.Struct):
    """What may be requested of one provider."""

    timeout: Seconds = 60.0  # seconds for an answer, and between the pieces of a stream
    concurrency: Positive = 8  # requests at a time; further ones wait
    rpm: Count = 0  # requests per minute; 0 is no limit
    tpm: Count = 0  # tokens per minute, read and written; 0 is no limit
    budget_per_day: Count = 0  # tokens per day (UTC); 0 is no limit
    budget_cost_per_day: Money = 0.0  # in the currency of `prices`, likewise
    prices: Prices = {}  # per million tokens, by the model's name
    check_key: bool = False  # at the start, the server is asked whether it accepts the key

"""An amount of a disk: bytes with a unit, or a share of it in percent (pure)."""

import re

from .values import ConfigValueError, wrong_type

AMOUNT = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,3})?) ?(%|[kmgt]i?b?|b)?", re.IGNORECASE)
POWERS = {"": 0, "b": 0, "k": 1, "m": 2, "g": 3, "t": 4}


def amount(value: object) -> str:
    """Read an amount: "1GiB", "5%", or a number of bytes."""
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    if not isinstance(text, str):
        raise wrong_type('an amount in quotes, such as "1GiB" or "5%"', value)
    try:
        parse_amount(text)
    except ValueError:
        problem = f'expected an amount such as "1GiB", "5%" or "0", got `{text[:40]}`'
        raise ConfigValueError(problem) from None
    return text


def parse_amount(text: str) -> tuple[float, bool]:
    """Return a number of bytes, or of percent, and whether it is percent.

    Raises:
        ValueError: It is neither.
    """
    found = AMOUNT.fullmatch(text.strip())
    if found is None:
        raise ValueError(text)
    number, unit = float(found[1]), (found[2] or "").lower()
    if unit == "%":
        if number >= 100:
            raise ValueError(text)
        return number, True
    return number * 1024 ** POWERS[unit[:1]], False


def limit_of(amount: str, total: int) -> int:
    """Return the free bytes below which a disk has little space.

    Args:
        amount: As the config has it, "1GiB" or "5%"; "0" is none.
        total: The disk's size.
    """
    number, is_share = parse_amount(amount)
    return int(total * number / 100) if is_share else int(number)

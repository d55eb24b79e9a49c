"""Checks the form of an author's platform: its methods, attributes and config class. Pure."""

import inspect
from typing import Any

from .config import PlatformConfig
from .platform import Platform

EXCLUSIVE_PROBLEM = (
    "a platform is always exclusive, because two of its processes would answer each message twice; "
    "take this key out"
)
COROUTINES = (
    "receive",
    "deliver",
    "was_delivered",
    "typing",
    "dead_letter",
    "probe",
    "direct_channel",
)


def check_form(cls: type[Platform]) -> None:
    """Check that a platform can be worked with.

    Raises:
        TypeError: It has the wrong form; the text states what to write.
    """
    name = cls.__name__
    if cls.deliver is Platform.deliver:
        raise TypeError(f"{name} has no deliver; write async def deliver(self, m: Outgoing) -> str")
    if cls.send_message is not Platform.send_message:
        raise TypeError(
            f"{name}.send_message is garrison's own, which logs each send; write what sends one "
            "message as deliver"
        )
    for one in COROUTINES:
        if not inspect.iscoroutinefunction(inspect.unwrap(getattr(cls, one))):
            raise TypeError(f"{name}.{one} is not `async def`")
    if not inspect.isasyncgenfunction(inspect.unwrap(cls.catch_up)) and (
        cls.catch_up is not Platform.catch_up
    ):
        raise TypeError(f"{name}.catch_up is not an asynchronous generator: `async def`, `yield`")
    config: Any = cls.Config
    if not (isinstance(config, type) and issubclass(config, PlatformConfig)):
        raise TypeError(f"{name}.Config is not a subclass of Platform.Config; write it as one")
    _check_attributes(cls)


def _check_attributes(cls: type[Platform]) -> None:
    """Raise TypeError for a class attribute that cannot be used."""
    name, longest = cls.__name__, cls.max_length
    if not isinstance(cls.credential, str):
        raise TypeError(f"{name}.credential is the NAME of a secret, not {cls.credential!r:.40}")
    if cls.uncertain not in {"skip", "repeat"}:
        raise TypeError(f"{name}.uncertain is {cls.uncertain!r:.40}; write 'skip' or 'repeat'")
    for key, least in (("settle", 0), ("deliver_timeout", 0.001)):
        value = getattr(cls, key)
        if not isinstance(value, int | float) or not least <= value <= 86_400:
            raise TypeError(f"{name}.{key} is seconds, up to a day, not {value!r:.40}")
    if longest is not None and (not isinstance(longest, int) or longest < 1):
        raise TypeError(f"{name}.max_length is a number from 1, or None, not {longest!r:.40}")

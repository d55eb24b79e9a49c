"""Choices that a message offers, such as buttons: how they are written, and what is wrong. Pure."""

from collections.abc import Mapping
from typing import Any

import msgspec

KEY = "choices"  # in a content's data
CHOICES_MOST = 25  # of one message
LABEL_MOST = 80  # characters
VALUE_MOST = 100  # characters


class Choice(msgspec.Struct):
    """One choice of a message. Whoever takes it sends its value, or its label without one."""

    label: str
    value: str = ""

    @property
    def text(self) -> str:
        """Return what is received when it is taken."""
        return self.value or self.label


class Choices(msgspec.Struct, frozen=True):
    """The usable choices of a message, and why the others are left out; "" if none is."""

    choices: list[Choice]
    problem: str


def choices_of(data: Mapping[str, Any]) -> Choices:
    """Return the choices in a content's data: texts, or mappings with `label` and `value`."""
    given = data.get(KEY)
    if given is None:
        return Choices([], "")
    if not isinstance(given, list | tuple):
        return Choices([], f"choices is a {type(given).__name__}: write a list of texts")
    found, problems = list[Choice](), list[str]()
    for one in given:
        try:
            found.append(_choice(one))
        except ValueError as error:
            problems.append(str(error))
    if len(found) > CHOICES_MOST:
        problems.append(f"there are {len(found)} choices; a message has at most {CHOICES_MOST}")
    return Choices(found[:CHOICES_MOST], "; ".join(problems[:3]))


def _choice(given: Any) -> Choice:
    """Return one choice.

    Raises:
        ValueError: It is none; the text states what to write.
    """
    if isinstance(given, str):
        given = {"label": given}
    try:
        made = msgspec.convert(given, Choice, from_attributes=True)
    except msgspec.ValidationError as error:
        raise ValueError(f"a choice is a text, or has a label and a value: {error}") from error
    if not made.label.strip():
        raise ValueError("a choice has no label")
    if len(made.label) > LABEL_MOST or len(made.value) > VALUE_MOST:
        raise ValueError(
            f"the choice {made.label[:20]!r} is too long: a label has at most {LABEL_MOST} "
            f"characters, a value {VALUE_MOST}"
        )
    return made

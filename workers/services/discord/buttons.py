"""Choices as buttons. A button's id has its value, so that it works after any restart."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from garrison.workers import Choice, NotSent

if TYPE_CHECKING:
    import discord

LETTERS = "abcdefghijklmnopqrstuvwxyz"  # the first character of an id: makes equal values differ
VALUE_MOST = 99  # characters; Discord's ids have 100


def view(choices: Sequence[Choice], library: Any) -> "discord.ui.View":
    """Return the buttons of a message.

    Args:
        choices: At most 25.
        library: The module `discord`.

    Raises:
        NotSent: A value is too long for a button.
    """
    made = library.ui.View(timeout=None)
    for letter, choice in zip(LETTERS, choices, strict=False):
        if len(choice.value) > VALUE_MOST:
            raise NotSent(
                f"the choice {choice.label!r:.30} has a value of {len(choice.value)} characters; "
                f"a button of Discord has at most {VALUE_MOST}"
            )
        made.add_item(library.ui.Button(label=choice.label, custom_id=f"{letter}{choice.value}"))
    made.stop()  # the library keeps views that run: this service answers by the ids alone
    return made  # type: ignore[no-any-return]


def chosen_text(message: "discord.Message", custom_id: str) -> str:
    """Return what a press says: the value of its button, or the label; "" if it is no choice."""
    for button in _buttons(message):
        if button.custom_id == custom_id and custom_id[:1] in LETTERS:
            return custom_id[1:] or button.label or ""
    return ""


def disabled(message: "discord.Message", custom_id: str, library: Any) -> "discord.ui.View":
    """Return a message's buttons as they are once one was pressed."""
    made = library.ui.View(timeout=None)
    for button in _buttons(message):
        is_chosen = button.custom_id == custom_id
        style = library.ButtonStyle.success if is_chosen else library.ButtonStyle.secondary
        made.add_item(
            library.ui.Button(
                label=button.label, custom_id=button.custom_id, style=style, disabled=True
            )
        )
    made.stop()
    return made  # type: ignore[no-any-return]


def _buttons(message: "discord.Message") -> list["discord.Button"]:
    rows: list[Any] = list(message.components)
    found = [one for row in rows for one in getattr(row, "children", [])]
    return [one for one in found if getattr(one, "custom_id", None)]

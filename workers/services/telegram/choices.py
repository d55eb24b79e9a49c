"""Choices as buttons below a message, and what a press of one stands for. Pure.

A button's data is all that Telegram returns of it: it has the choice's text, so that a press works
after any restart. A label that is too long for that is read from the message that has the button.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from garrison.workers import Choice, NotSent

if TYPE_CHECKING:
    import telegram

DATA_MOST = 64  # bytes of a button's data
TEXT, NUMBER = "t:", "n:"  # what follows: the text, or the button's number from 0
ROW_MOST = 24  # characters of the labels that share a row


def buttons(choices: Sequence[Choice]) -> list[list[tuple[str, str]]]:
    """Return the rows of buttons for choices: label and data of each.

    Raises:
        NotSent: A value is longer than a button can carry.
    """
    rows, width = list[list[tuple[str, str]]](), ROW_MOST + 1
    for number, choice in enumerate(choices):
        data = f"{TEXT}{choice.value or choice.label}"
        if len(data.encode()) > DATA_MOST:
            if choice.value:
                raise NotSent(
                    f"the value of the choice {choice.label!r:.40} is longer than a button of "
                    f"Telegram can carry: {DATA_MOST - len(TEXT)} bytes"
                )
            data = f"{NUMBER}{number}"
        width += len(choice.label)
        if width > ROW_MOST:
            rows.append([])
            width = len(choice.label)
        rows[-1].append((choice.label, data))
    return rows


def pressed(data: str, message: "telegram.MaybeInaccessibleMessage | None") -> str | None:
    """Return the text of the button that was pressed; None: it is not known any more.

    Args:
        data: The button's.
        message: That has it.
    """
    if data.startswith(TEXT):
        return data.removeprefix(TEXT)
    markup: Any = getattr(message, "reply_markup", None)
    if markup is None:
        return None
    labels = [
        one.text for row in markup.inline_keyboard for one in row if one.callback_data == data
    ]
    return labels[0] if labels else None

"""Presses of buttons that follow each other closely."""

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from garrison.workers.services.discord import interactions
from garrison.workers.services.discord.interaction_store import InteractionStore
from garrison.workers.services.discord.interactions import Interactions


class Press:
    """A press of a button, as the library has it.

    Args:
        number: Of the interaction.
        button: Which one.
    """

    def __init__(self, number: int, button: str) -> None:
        self.id, self.token, self.application_id = number, "t", 1
        self.data = {"custom_id": button}
        self.message = SimpleNamespace(id=7)
        self.response = self
        self.acknowledged = asyncio.Event()
        self.shown = ""

    async def edit_message(self, view: str) -> None:
        """Acknowledge it, once Discord has answered."""
        self.shown = view
        await self.acknowledged.wait()


async def test_the_first_press_counts_whichever_is_acknowledged_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is handed over is what the message shows as pressed."""
    monkeypatch.setattr(interactions, "is_wanted", lambda *_: True)
    monkeypatch.setattr(interactions, "disabled", lambda _, button, __: button)
    heard = asyncio.Queue[str]()
    fake: Any = SimpleNamespace()
    store = InteractionStore(tmp_path)
    await store.open()
    receive: Any = heard.put
    taken = Interactions(fake, fake, store, fake, receive, fake)
    first, second = Press(1, "left"), Press(2, "right")
    presses: list[Any] = [(first, "left"), (second, "right")]
    taking = [asyncio.ensure_future(taken._take(one, text)) for one, text in presses]
    second.acknowledged.set()
    assert await heard.get() == "left"
    first.acknowledged.set()
    assert await heard.get() == "left"
    await asyncio.gather(*taking)
    assert (first.shown, second.shown) == ("left", "left")

"""Orders that an operator gives in the chat: their words, and the confirmation of some. Pure."""

import base64
import hashlib
import re
from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple

import msgspec

from .decision import Clocks, elapsed_since

CONFIRM_S = 60.0  # for a confirmation, from the question
KEPT_S = 86_400.0  # questions, for messages that are received again
WAITING_MOST = 100  # questions; of more, the oldest are forgotten
NAME_MOST = 200  # characters
CODE_LENGTH = 6

# A slash or `!`, since some platforms keep the slash for themselves; after a mention of the bot,
# and with the bot's name, as groups of Telegram have it
_ORDER = re.compile(r"(?:<?@\S+\s+)?[/!]([a-z]+)(?:@\S+)?(?:\s+(.*))?", re.DOTALL | re.IGNORECASE)


class Verb(StrEnum):
    """What an operator may write."""

    SERVICES = "services"
    WHY = "why"
    LOGS = "logs"
    RESTART = "restart"
    PAUSE = "pause"
    RESUME = "resume"
    YES = "yes"
    NO = "no"


NAMED = frozenset({Verb.WHY, Verb.LOGS, Verb.RESTART, Verb.PAUSE, Verb.RESUME})
CONFIRMED = frozenset({Verb.RESTART, Verb.PAUSE})


class ChatOrder(NamedTuple):
    """One order."""

    verb: Verb
    name: str = ""  # of a service; of YES and NO, the question's code, or none
    problem: str = ""  # why it cannot be carried out as it is written


def parse(text: str) -> ChatOrder | None:
    """Return the order in a text; None if it is none."""
    found = _ORDER.fullmatch(text.strip())
    if found is None or found[1].lower() not in set(Verb):
        return None
    verb, words = Verb(found[1].lower()), (found[2] or "").split()
    if verb in NAMED and (len(words) != 1 or len(words[0]) > NAME_MOST):
        return ChatOrder(verb, problem=f"Write /{verb} and the NAME of one service.")
    if verb in {Verb.SERVICES} and words:
        return ChatOrder(verb, problem=f"Write /{verb} alone.")
    return ChatOrder(verb, words[0] if words else "")


def is_order(person: str, text: str, operators: Sequence[str]) -> bool:
    """Return whether a message is an order of one who may give them."""
    return bool(person) and person in operators and parse(text) is not None


class Question(msgspec.Struct):
    """One order that waits for its confirmation."""

    code: str
    person: str
    channel: str
    verb: Verb
    name: str
    at: Clocks
    answered_by: str = ""  # id of the message that confirmed it


class Questions(msgspec.Struct):
    """The orders that wait for a confirmation."""

    waiting: list[Question] = []

    def ask(self, message: str, person: str, channel: str, order: ChatOrder, now: Clocks) -> str:
        """Note a question; return its code. A message that is received again asks the same.

        Args:
            message: Id of the order's message.
            person: Whose it is.
            channel: Where.
            order: What is to be confirmed.
            now: The clocks.
        """
        code = code_of(message)
        if all(one.code != code for one in self.waiting):
            made = Question(code, person, channel, order.verb, order.name, now)
            kept = [one for one in self.waiting if elapsed_since(*one.at, now) < KEPT_S]
            self.waiting = [*kept, made][-WAITING_MOST:]
        return code

    def confirm(
        self, message: str, person: str, channel: str, code: str, now: Clocks
    ) -> Question | None:
        """Return the order that a message confirms: the person's last one of the channel, or that
        of the code. None: there is none, or it is too old, or answered.

        A message that is received again confirms the same.
        """
        for one in self.waiting:
            if one.answered_by == message:
                return one
        found = self._of(person, channel, code)
        if found is None or found.answered_by or elapsed_since(*found.at, now) > CONFIRM_S:
            return None
        found.answered_by = message
        return found

    def drop(self, message: str, person: str, channel: str, code: str) -> bool:
        """Have an order not be carried out; return whether there was one."""
        found = self._of(person, channel, code)
        if found is None or found.answered_by not in {"", message}:
            return False
        self.waiting = [one for one in self.waiting if one is not found]
        return True

    def _of(self, person: str, channel: str, code: str) -> Question | None:
        for one in reversed(self.waiting):
            if (one.person, one.channel) == (person, channel) and code in {"", one.code}:
                return one
        return None


def code_of(message: str) -> str:
    """Return the code of the question that an order's message leads to."""
    digest = hashlib.sha256(message.encode("utf-8", "surrogatepass")).digest()
    return base64.b32encode(digest).decode("ascii").lower()[:CODE_LENGTH]

"""Fill in the placeholders of character files: `{{agentName}}`, `{{user1}}`, a template's. Pure."""

import re
from collections.abc import Mapping

USER_NAMES = ("Alex", "Robin", "Sam", "Kim", "Noa")  # in example conversations
AGENT = frozenset({"agentname", "agent", "char", "name"})
USER = frozenset({"user", "username", "sendername"})
SOMEONE = "the user"  # where a sender's name is unknown

_NAME = re.compile(r"\{\{\s*([A-Za-z]+)(\d*)\s*\}\}")
_VALUE = re.compile(r"\{\{\{?\s*([\w.]+)\s*\}?\}\}")
_BLOCK = re.compile(r"\{\{[#/^!][^{}]*\}\}")


def fill_names(text: str, agent: str, user: str = "") -> str:
    """Replace the placeholders of names; others stay as they are.

    Args:
        text: A text of the character.
        agent: The character's name.
        user: The sender's name; empty where it is unknown.
    """

    def name(found: re.Match[str]) -> str:
        word, number = found[1].casefold(), found[2]
        if number and word in {"user", "name"}:
            return user_name(int(number[:9]), agent)
        if not number and word in AGENT:
            return agent
        if not number and word in USER:
            return user or SOMEONE
        return found[0]

    return _NAME.sub(name, text) if "{{" in text else text


def user_name(number: int, agent: str) -> str:
    """Return the name of the user of that number, from 1, in example conversations."""
    names = [name for name in USER_NAMES if name.casefold() != agent.casefold()]
    return names[(number - 1) % len(names)]


def fill_template(template: str, values: Mapping[str, str], agent: str, user: str = "") -> str:
    """Return a template with its values; a placeholder without a value becomes nothing.

    Args:
        template: A template of the character, in elizaOS's form.
        values: What its placeholders stand for, by their names in lower case.
        agent: The character's name.
        user: The sender's name.
    """
    named = fill_names(_BLOCK.sub("", template), agent, user)
    return _VALUE.sub(lambda found: values.get(found[1].casefold(), ""), named)

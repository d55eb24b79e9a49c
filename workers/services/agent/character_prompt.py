"""Build the character's part of the system prompt, within a bound. Pure; sizes are characters.

The stable texts come first, so that a provider's prompt cache stays valid; what depends on the
message comes last.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec

from garrison.workers import Character, MessageExample

from .placeholders import fill_names, fill_template, user_name

PROMPT_MOST = 24_000  # of the character in the prompt, by default
POST_CHANNELS = frozenset({"FEED", "THREAD", "POST"})  # of Content.channel_type

# What is left out where a character is too long: of the first section the last lines, then of the
# second, and so on. Its system text, name, style and template are never shortened.
LEFT_OUT_FIRST = ("examples", "knowledge", "lore", "topics", "adjectives", "bio")


class Situation(msgspec.Struct, frozen=True):
    """What a prompt depends on besides the character."""

    is_post: bool = False
    source: str = ""  # NAME of the platform
    user: str = ""  # the sender's name; empty where it is unknown
    knowledge: Sequence[str] = ()  # the part of the character's knowledge to show
    provided: str = ""  # the providers' texts
    values: Mapping[str, str] = {}  # of a template's placeholders, by names in lower case
    most: int = PROMPT_MOST
    with_template: bool = True


@dataclass
class Section:
    """Lines under a title; the bound leaves out the last ones."""

    name: str
    title: str
    lines: list[str]
    joint: str = "\n- "  # between the lines, and before the first
    end: str = ""
    left_out: int = field(default=0, init=False)

    @property
    def text(self) -> str:
        """Return the section; empty without lines."""
        if not self.lines:
            return ""
        first = self.joint if self.joint.startswith("\n") else " "
        return f"{self.title}:{first}{self.joint.join(self.lines)}{self.end}"


class Composed(NamedTuple):
    """A system prompt, and how many lines of which sections are left out of it."""

    text: str
    left_out: dict[str, int]


def is_post(channel_type: str) -> bool:
    """Return whether an answer in a channel of this type is a post."""
    return channel_type.upper() in POST_CHANNELS


def compose(character: Character, situation: Situation) -> Composed:
    """Return the system prompt of an answer."""
    own = _own(character, situation)
    sections = _sections(character, situation)
    between = 2 * len(sections)  # empty lines
    bound = situation.most - len(own) - len(sections["style"].text) - between
    _shorten(sections, bound)
    texts = {name: section.text for name, section in sections.items()}
    template = _template(character, situation, own, texts)
    parts = [own, *texts.values(), template, situation.provided.strip()]
    left_out = {name: one.left_out for name, one in sections.items() if one.left_out}
    return Composed("\n\n".join(part for part in parts if part), left_out)


def _own(character: Character, situation: Situation) -> str:
    own = character.system.strip() or f"You are {character.name}."
    own = fill_names(own, character.name, situation.user)
    names = []
    if character.name not in own:
        names.append(f"Your name is {character.name}.")
    if character.username and character.username not in own:
        names.append(f"Your user name is {character.username}.")
    return "\n".join([own, *names])


def _sections(character: Character, situation: Situation) -> dict[str, Section]:
    """Return the sections in the order in which they are shown."""
    style = character.style.post if situation.is_post else character.style.chat
    examples = _examples(character)
    if situation.is_post:
        posts = [post for post in character.post_examples if post.strip()]
        examples = Section("examples", "Posts of yours as an example", posts)
    sections = [
        Section("bio", "About you", character.bio),
        Section("lore", "Your background", character.lore),
        Section("adjectives", "You are", character.adjectives, ", ", "."),
        Section("topics", "You know about", character.topics, ", ", "."),
        Section("style", "How you write", [*character.style.all, *style]),
        examples,
        Section("knowledge", "What you know", list(situation.knowledge)),
    ]
    for section in sections:
        lines = (fill_names(line, character.name, situation.user) for line in section.lines)
        section.lines = [line for line in lines if line.strip()]
    return {section.name: section for section in sections}


def _examples(character: Character) -> Section:
    found = [_conversation(one, character.name) for one in character.message_examples]
    return Section("examples", "Conversations as an example", [*filter(None, found)], "\n\n")


def _conversation(example: Sequence[MessageExample], agent: str) -> str:
    """Return an example conversation; a line without a text has only actions."""
    lines = [line for line in example if line.text.strip()]
    return "\n".join(f"{_speaker(line.name, agent)}: {_line_text(line, agent)}" for line in lines)


def _line_text(line: MessageExample, agent: str) -> str:
    return fill_names(line.text, agent, user_name(1, agent))


def _speaker(speaker: str, agent: str) -> str:
    """Return the speaker of an example's line; any placeholder but the agent's is a user."""
    name = fill_names(speaker, agent, user_name(1, agent))
    return user_name(1, agent) if "{{" in name else name


def _shorten(sections: Mapping[str, Section], bound: int) -> None:
    """Remove lines until the sections that may be shortened fit the bound together."""
    excess = sum(len(sections[name].text) for name in LEFT_OUT_FIRST) - bound
    for name in LEFT_OUT_FIRST:
        section = sections[name]
        while excess > 0 and section.lines:
            before = len(section.text)
            section.lines.pop()
            section.left_out += 1
            excess -= before - len(section.text)


def _template(
    character: Character, situation: Situation, own: str, texts: Mapping[str, str]
) -> str:
    template = character.template(situation.is_post, situation.source)
    if not template or not situation.with_template:
        return ""
    directions, examples = texts["style"], texts["examples"]
    values = {
        **situation.values,
        "system": own,
        "bio": texts["bio"],
        "lore": texts["lore"],
        "adjective": texts["adjectives"],
        "adjectives": texts["adjectives"],
        "topic": texts["topics"],
        "topics": texts["topics"],
        "knowledge": texts["knowledge"],
        "directions": directions,
        "messagedirections": directions,
        "postdirections": directions,
        "messageexamples": examples,
        "charactermessageexamples": examples,
        "postexamples": examples,
        "characterpostexamples": examples,
        "providers": situation.provided.strip(),
    }
    return fill_template(template, values, character.name, situation.user).strip()

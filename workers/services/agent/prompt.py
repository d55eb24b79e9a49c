"""What a model is asked: who the agent is, what was said in the room, how long it may be. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from garrison.workers import (
    Character,
    ChatMessage,
    Content,
    GenerateTextParams,
    Memory,
    MessageExample,
)

EXAMPLES = 3  # conversations of the character's that are shown
NAMED = ("entity_name", "entityName", "user_name", "userName", "username", "name")
STRANGER = "Someone"  # in example conversations


class Sampling(NamedTuple):
    """How text is to be generated; None is the provider's own way."""

    temperature: float | None = None
    max_tokens: int | None = None
    stop: Sequence[str] = ()


def recent_messages(newest_first: Sequence[Memory], length: int, began: str = "") -> list[Memory]:
    """Return the latest messages, the oldest first: at most `length`, at least about half of it.

    Where the conversation is longer, its beginning stays while it can and then moves by half of
    the length: what a provider has cached of it remains of use for so many messages.

    Args:
        newest_first: More than `length` messages, if there are so many.
        length: 1 or more.
        began: The id of the message that it began with last time.
    """
    latest = list(reversed(newest_first[:length]))
    if len(newest_first) <= length:
        return latest  # all that there is
    places = [place for place, memory in enumerate(latest) if memory.id == began]
    return latest[places[0] if places else length // 2 :]


def messages(memories: Iterable[Memory], agent_id: str) -> list[ChatMessage]:
    """Return a conversation as models take it; it begins with somebody else than the agent.

    Where several people speak, each line begins with the name of who says it.
    """
    kept = [memory for memory in memories if line(memory.content)]
    people = {memory.entity_id or name_of(memory) for memory in kept if not _own(memory, agent_id)}
    made: list[ChatMessage] = []
    for memory in kept:
        if _own(memory, agent_id):
            if made:
                made.append({"role": "assistant", "content": line(memory.content)})
            continue
        name = name_of(memory) if len(people) > 1 else ""
        text = f"{name}: {line(memory.content)}" if name else line(memory.content)
        made.append({"role": "user", "content": text})
    return made


def line(content: Content) -> str:
    """Return what a message says, to a model that sees text alone."""
    shown = [
        one.description or one.title or one.content_type or one.url or "something"
        for one in content.attachments
    ]
    return "\n".join(
        [*([content.text] if content.text else []), *(f"[attached: {one}]" for one in shown)]
    )


def _own(memory: Memory, agent_id: str) -> bool:
    return bool(agent_id) and memory.entity_id == agent_id


def name_of(memory: Memory) -> str:
    """Return what a platform calls who said something, else an empty text."""
    for key in NAMED:
        name = memory.metadata.get(key)
        if isinstance(name, str) and name:
            return name
    return ""


def system(character: Character, known: str = "") -> str:
    """Return what a model is told first: who it is, how it speaks, and what providers told."""
    own = character.system.strip() or f"You are {character.name}."
    parts = [
        named(own, character.name),
        *(_about(character) if not character.system.strip() else []),
        *_manner(character),
        known.strip(),
    ]
    return "\n\n".join(part for part in parts if part)


def _about(character: Character) -> list[str]:
    return [
        _section("About you", [named(line, character.name) for line in character.bio]),
        _listed("You are", character.adjectives),
        _listed("You know about", character.topics),
    ]


def _manner(character: Character) -> list[str]:
    style = [*character.style.all, *character.style.chat]
    shown = [_shown(example, character.name) for example in character.message_examples[:EXAMPLES]]
    return [
        _section("How you write", [named(line, character.name) for line in style]),
        "\n\n".join(["Conversations as an example:", *shown]) if any(shown) else "",
    ]


def _section(title: str, lines: Sequence[str]) -> str:
    return "\n".join([f"{title}:", *(f"- {line}" for line in lines)]) if lines else ""


def _listed(title: str, words: Sequence[str]) -> str:
    return f"{title}: {', '.join(words)}." if words else ""


def _shown(example: Sequence[MessageExample], name: str) -> str:
    lines = [(_speaker(line.name, name), line.text) for line in example if line.text]
    return "\n".join(f"{who}: {named(text, name)}" for who, text in lines)


def _speaker(who: str, name: str) -> str:
    """Return who says a line of an example; placeholders are the agent, or anybody."""
    if "{{" not in who:
        return who
    return name if who.strip("{} ").casefold() in {"agentname", "agent", "char"} else STRANGER


def named(text: str, name: str) -> str:
    """Return a text with the agent's name where its placeholders stand."""
    for placeholder in ("{{agentName}}", "{{agent}}", "{{char}}"):
        text = text.replace(placeholder, name)
    return text


def sampling(configured: Sampling, settings: Mapping[str, Any]) -> Sampling:
    """Return how to generate: as the config says, else as the character's settings do."""
    nested = settings.get("modelConfig")
    said = {**(nested if isinstance(nested, Mapping) else {}), **settings}
    temperature = _number(said, "temperature")
    most = _number(said, "max_tokens", "maxTokens", "maxOutputTokens")
    stop = said.get("stop")
    return Sampling(
        temperature if configured.temperature is None else configured.temperature,
        (int(most) if most is not None and most >= 1 else None)
        if configured.max_tokens is None
        else configured.max_tokens,
        configured.stop or (list(filter(_is_text, stop)) if isinstance(stop, list) else ()),
    )


def _number(said: Mapping[str, Any], *keys: str) -> float | None:
    for key in keys:
        value = said.get(key)
        if isinstance(value, int | float) and not isinstance(value, bool) and value >= 0:
            return value
    return None


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value)


def params(
    character: Character,
    conversation: Iterable[Memory],
    agent_id: str,
    known: str,
    configured: Sampling,
) -> GenerateTextParams:
    """Return what a model is asked for, in the character's voice.

    Args:
        character: Who speaks.
        conversation: The oldest message first, the one to be answered last.
        agent_id: By whom the agent's own messages are known.
        known: What the providers told.
        configured: How text is to be generated.
    """
    how = sampling(configured, character.settings)
    return GenerateTextParams(
        messages=messages(conversation, agent_id),
        system=system(character, known),
        temperature=how.temperature,
        max_tokens=how.max_tokens,
        stop=list(how.stop),
    )

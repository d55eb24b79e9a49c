"""Build the model's prompt: the character, the conversation, sampling parameters. Pure."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from garrison.workers import (
    Character,
    ChatMessage,
    Content,
    GenerateTextParams,
    Memory,
    MessageExample,
)

MAX_EXAMPLES = 3  # example conversations of the character
NAME_KEYS = (
    "entity_name",
    "entityName",
    "user_name",
    "userName",
    "username",
    "name",
)  # in metadata
USER_NAME = "Someone"  # in example conversations


class Sampling(NamedTuple):
    """Sampling parameters; None is the provider's default."""

    temperature: float | None = None
    max_tokens: int | None = None
    stop: Sequence[str] = ()


def recent_messages(
    newest_first: Sequence[Memory], length: int, first_id: str = ""
) -> list[Memory]:
    """Return the latest messages, the oldest first: at most `length`, at least about half of it.

    In a longer conversation the first message stays the same as long as possible and then moves by
    half the length. So a provider's prompt cache stays valid for many messages.

    Args:
        newest_first: More than `length` messages, if there are that many.
        length: 1 or more.
        first_id: The id of the first message of the last call.
    """
    latest = list(reversed(newest_first[:length]))
    if len(newest_first) <= length:
        return latest
    starts = [index for index, memory in enumerate(latest) if memory.id == first_id]
    return latest[starts[0] if starts else length // 2 :]


def messages(memories: Iterable[Memory], agent_id: str) -> list[ChatMessage]:
    """Return a conversation in the model's format; it starts with a user's message.

    If there are several users, each message starts with its user's name.
    """
    with_text = [memory for memory in memories if message_text(memory.content)]
    users = {
        memory.entity_id or name_of(memory) for memory in with_text if not _is_own(memory, agent_id)
    }
    conversation: list[ChatMessage] = []
    for memory in with_text:
        text = message_text(memory.content)
        if _is_own(memory, agent_id):
            if conversation:
                conversation.append({"role": "assistant", "content": text})
            continue
        name = name_of(memory) if len(users) > 1 else ""
        conversation.append({"role": "user", "content": f"{name}: {text}" if name else text})
    return conversation


def message_text(content: Content) -> str:
    """Return a message's text, with a line for each attachment."""
    attachments = [
        media.description or media.title or media.content_type or media.url or "something"
        for media in content.attachments
    ]
    lines = [content.text] if content.text else []
    return "\n".join([*lines, *(f"[attached: {attachment}]" for attachment in attachments)])


def _is_own(memory: Memory, agent_id: str) -> bool:
    return bool(agent_id) and memory.entity_id == agent_id


def name_of(memory: Memory) -> str:
    """Return the sender's name on the platform; "" if it is unknown."""
    for key in NAME_KEYS:
        name = memory.metadata.get(key)
        if isinstance(name, str) and name:
            return name
    return ""


def system(character: Character, provided: str = "") -> str:
    """Return the system prompt: the character, its style, and the providers' texts."""
    own = character.system.strip() or f"You are {character.name}."
    parts = [
        fill_name(own, character.name),
        *(_description(character) if not character.system.strip() else []),
        *_style(character),
        provided.strip(),
    ]
    return "\n\n".join(part for part in parts if part)


def _description(character: Character) -> list[str]:
    return [
        _section("About you", [fill_name(line, character.name) for line in character.bio]),
        _word_list("You are", character.adjectives),
        _word_list("You know about", character.topics),
    ]


def _style(character: Character) -> list[str]:
    style = [*character.style.all, *character.style.chat]
    examples = [
        _example(example, character.name) for example in character.message_examples[:MAX_EXAMPLES]
    ]
    return [
        _section("How you write", [fill_name(line, character.name) for line in style]),
        "\n\n".join(["Conversations as an example:", *examples]) if any(examples) else "",
    ]


def _section(title: str, lines: Sequence[str]) -> str:
    return "\n".join([f"{title}:", *(f"- {line}" for line in lines)]) if lines else ""


def _word_list(title: str, words: Sequence[str]) -> str:
    return f"{title}: {', '.join(words)}." if words else ""


def _example(example: Sequence[MessageExample], name: str) -> str:
    lines = [(_speaker(line.name, name), line.text) for line in example if line.text]
    return "\n".join(f"{speaker}: {fill_name(text, name)}" for speaker, text in lines)


def _speaker(speaker: str, name: str) -> str:
    """Return the speaker of an example's line; a placeholder is the agent or any user."""
    if "{{" not in speaker:
        return speaker
    return name if speaker.strip("{} ").casefold() in {"agentname", "agent", "char"} else USER_NAME


def fill_name(text: str, name: str) -> str:
    """Replace the placeholders of the agent's name."""
    for placeholder in ("{{agentName}}", "{{agent}}", "{{char}}"):
        text = text.replace(placeholder, name)
    return text


def sampling(configured: Sampling, settings: Mapping[str, Any]) -> Sampling:
    """Return the config's parameters; the character's settings where the config has none."""
    nested = settings.get("modelConfig")
    merged = {**(nested if isinstance(nested, Mapping) else {}), **settings}
    temperature = _number(merged, "temperature")
    max_tokens = _number(merged, "max_tokens", "maxTokens", "maxOutputTokens")
    stop = merged.get("stop")
    return Sampling(
        temperature if configured.temperature is None else configured.temperature,
        (int(max_tokens) if max_tokens is not None and max_tokens >= 1 else None)
        if configured.max_tokens is None
        else configured.max_tokens,
        configured.stop or (list(filter(_is_text, stop)) if isinstance(stop, list) else ()),
    )


def _number(settings: Mapping[str, Any], *keys: str) -> float | None:
    for key in keys:
        value = settings.get(key)
        if isinstance(value, int | float) and not isinstance(value, bool) and value >= 0:
            return value
    return None


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value)


def params(
    character: Character,
    conversation: Iterable[Memory],
    agent_id: str,
    provided: str,
    configured: Sampling,
) -> GenerateTextParams:
    """Return the params of a model call that generates the character's answer.

    Args:
        character: The agent's character.
        conversation: The oldest message first, the message to answer last.
        agent_id: The `entity_id` of the agent's own messages.
        provided: The providers' texts.
        configured: The config's sampling parameters.
    """
    parameters = sampling(configured, character.settings)
    return GenerateTextParams(
        messages=messages(conversation, agent_id),
        system=system(character, provided),
        temperature=parameters.temperature,
        max_tokens=parameters.max_tokens,
        stop=list(parameters.stop),
    )


RECORDED_MOST = 64 * 1024  # characters of a prompt in the record


def recorded(params: GenerateTextParams, redact: Callable[[str], str]) -> str:
    """Return what a model is asked as one text, without secrets; of a long one both ends."""
    parts = [f"[{one['role']}]\n{one['content']}" for one in params.as_messages()]
    text = redact("\n\n".join(parts))
    if len(text) <= RECORDED_MOST:
        return text
    half = RECORDED_MOST // 2 - 20
    left_out = len(text) - 2 * half
    return f"{text[:half]}\n… ({left_out:,} characters) …\n{text[-half:]}"

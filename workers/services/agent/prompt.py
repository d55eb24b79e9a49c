"""Build the model's prompt: the character, the conversation, sampling parameters. Pure."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec

from garrison.workers import Character, ChatMessage, Content, GenerateTextParams, Memory

from .character_prompt import PROMPT_MOST, Situation, compose, is_post
from .knowledge import is_long, pieces, recall_by_words
from .placeholders import SOMEONE

NAME_KEYS = (
    "entity_name",
    "entityName",
    "user_name",
    "userName",
    "username",
    "name",
)  # in metadata

_XML = re.compile(r"<text>(.*?)</text>", re.DOTALL)
_FENCE = re.compile(r"```\w*\s*(.*?)\s*```", re.DOTALL)


class Sampling(msgspec.Struct, frozen=True):
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


def situation(
    character: Character,
    conversation: Sequence[Memory],
    agent_id: str,
    provided: str,
    knowledge: Sequence[str] | None = None,
    most: int = PROMPT_MOST,
    with_template: bool = True,
) -> Situation:
    """Return what the system prompt of an answer depends on; arguments as of `params`."""
    if not conversation:
        return Situation(provided=provided, most=most, with_template=with_template)
    last = conversation[-1]
    if knowledge is None:
        knowledge = character.knowledge_texts
        if is_long(knowledge):
            knowledge = recall_by_words(pieces(knowledge), message_text(last.content))
    spoken = [
        f"{character.name if _is_own(one, agent_id) else name_of(one) or SOMEONE}: {text}"
        for one in conversation
        if (text := message_text(one.content))
    ]
    text = message_text(last.content)
    values = {
        "recentmessages": "\n".join(spoken),
        "currentmessage": text,
        "receivedmessage": text,
        "message": text,
    }
    content, user = last.content, name_of(last)
    post = is_post(content.channel_type)
    return Situation(post, content.source, user, knowledge, provided, values, most, with_template)


def reply_text(text: str) -> str:
    """Return the answer in a model's output, where a template had it write XML or JSON around it.

    elizaOS's templates request `<response>` with a `<text>`, or for JSON with a `text`.
    """
    if (found := _XML.search(text)) is not None:
        return found[1].removeprefix("<![CDATA[").removesuffix("]]>").strip()
    fenced = _FENCE.fullmatch(text.strip())
    bare = fenced[1] if fenced else text.strip()
    if bare.startswith("{"):
        try:
            value = msgspec.json.decode(bare)
        except (msgspec.DecodeError, RecursionError):
            return text
        if isinstance(value, dict) and isinstance(value.get("text"), str):
            return str(value["text"]).strip()
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
    knowledge: Sequence[str] | None = None,
    most: int = PROMPT_MOST,
    with_template: bool = True,
) -> tuple[GenerateTextParams, dict[str, int]]:
    """Return the params of a model call that generates the character's answer, and how many lines
    of which sections of the character are left out.

    Args:
        character: The agent's character.
        conversation: The oldest message first, the message to answer last.
        agent_id: The `entity_id` of the agent's own messages.
        provided: The providers' texts.
        configured: The config's sampling parameters.
        knowledge: What of the character's knowledge is shown; None: all, or where that is long
            what shares words with the message.
        most: Characters of the character in the prompt.
        with_template: Whether the character's template for an answer is shown.
    """
    conversation = list(conversation)
    about = situation(character, conversation, agent_id, provided, knowledge, most, with_template)
    composed = compose(character, about)
    parameters = sampling(configured, character.settings)
    generate = GenerateTextParams(
        messages=messages(conversation, agent_id),
        system=composed.text,
        temperature=parameters.temperature,
        max_tokens=parameters.max_tokens,
        stop=list(parameters.stop),
    )
    return generate, composed.left_out


RECORDED_MOST = 64 * 1024  # characters of a prompt in the record


def recorded(params: GenerateTextParams, redact: Callable[[str], str]) -> str:
    """Return a prompt as one text, without secrets; of a long one both ends."""
    parts = [f"[{one['role']}]\n{one['content']}" for one in params.as_messages()]
    text = redact("\n\n".join(parts))
    if len(text) <= RECORDED_MOST:
        return text
    half = RECORDED_MOST // 2 - 20
    left_out = len(text) - 2 * half
    return f"{text[:half]}\n… ({left_out:,} characters) …\n{text[-half:]}"

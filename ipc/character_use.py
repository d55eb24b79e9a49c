"""Which parts of a character file the bundled agent uses, and which it does not. Pure."""

from collections.abc import Iterator, Mapping
from typing import Any

# Keys of a file that are the agent's id, or that services read with `get_setting`.
READ_ELSEWHERE = frozenset({"id", "settings", "secrets"})
IN_THE_PROMPT = frozenset(
    {"name", "username", "bio", "system", "topics", "adjectives", "lore"}
    | {"postExamples", "post_examples"}
)
TEXT_KEYS = ("text", "content")  # of an entry of `knowledge`
CHAT_TEMPLATE = "MessageHandlerTemplate"  # after a platform: discordMessageHandlerTemplate
POST_TEMPLATE = "PostTemplate"  # likewise: twitterPostTemplate
CHAT_TEMPLATES = ("replyTemplate", "messageHandlerTemplate")  # the first that there is
POST_TEMPLATES = ("postCreationTemplate",)


def lore_of(extra: Mapping[str, Any]) -> list[str]:
    """Return the lore of a character: texts of the key `lore`, which files of 0.x have."""
    lore = extra.get("lore")
    found = [lore] if isinstance(lore, str) else lore if isinstance(lore, list) else []
    return [text for text in found if isinstance(text, str) and text.strip()]


def knowledge_of(knowledge: list[Any]) -> list[str]:
    """Return the texts of a character's knowledge; entries that name files have none."""
    texts = [one if isinstance(one, str) else _entry_text(one)[1] for one in knowledge]
    return [text for text in texts if text.strip()]


def _entry_text(entry: Any) -> tuple[str, str]:
    """Return the key and the text of an entry that is an object; both empty where it has none."""
    for key in TEXT_KEYS:
        if isinstance(entry, dict) and isinstance(entry.get(key), str):
            return key, entry[key]
    return "", ""


def template_of(templates: Mapping[str, Any], is_post: bool, source: str) -> str:
    """Return the template for an answer; empty where there is none.

    Args:
        templates: The character's.
        is_post: Whether the answer is a post.
        source: The platform's NAME; a template for it comes first.
    """
    ending = POST_TEMPLATE if is_post else CHAT_TEMPLATE
    platform = source.rpartition(".")[2].partition("-")[0].casefold()
    for key, template in templates.items():
        own = key.casefold() == f"{platform}{ending}".casefold()
        if platform and own and isinstance(template, str):
            return template
    for key in POST_TEMPLATES if is_post else CHAT_TEMPLATES:
        if isinstance(template := templates.get(key), str):
            return template
    return ""


def unused_fields(table: Mapping[str, Any]) -> list[str]:
    """Return what a valid character file has that the agent does not use, each place once.

    Args:
        table: One character, as its file has it.
    """
    readers = {
        "style": _unused_style,
        "templates": _unused_templates,
        "knowledge": _unused_knowledge,
        "messageExamples": _unused_examples,
        "message_examples": _unused_examples,
    }
    found = list[str]()
    for key, value in table.items():
        if key in READ_ELSEWHERE or value is None or value in ("", [], {}):
            continue
        if key in readers:
            found += [f"{key}{place}" for place in readers[key](value)]
        elif key not in IN_THE_PROMPT or (key == "lore" and not _are_texts(value)):
            found.append(key)
    return list(dict.fromkeys(found))


def _are_texts(value: Any) -> bool:
    return isinstance(value, str) or (
        isinstance(value, list) and all(isinstance(one, str) for one in value)
    )


def _unused_style(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        yield from (f".{key}" for key in value if key not in {"all", "chat", "post"})


def _unused_templates(value: Any) -> Iterator[str]:
    for key, template in value.items() if isinstance(value, dict) else ():
        platforms = key.endswith((CHAT_TEMPLATE, POST_TEMPLATE))
        general = key in {*CHAT_TEMPLATES, *POST_TEMPLATES}
        hidden = key == CHAT_TEMPLATES[1] and isinstance(value.get(CHAT_TEMPLATES[0]), str)
        if not isinstance(template, str) or hidden or not (platforms or general):
            yield f".{key}"


def _unused_knowledge(value: Any) -> Iterator[str]:
    for entry in value if isinstance(value, list) else [value]:
        if isinstance(entry, dict):
            used = _entry_text(entry)[0]
            yield from (f"[].{key}" for key in entry if key != used)
        elif not isinstance(entry, str):
            yield "[]"


def _unused_examples(value: Any) -> Iterator[str]:
    for conversation in value if isinstance(value, list) else ():
        lines = conversation
        if isinstance(conversation, dict):
            yield from (f"[].{key}" for key in conversation if key != "examples")
            lines = conversation.get("examples")
        for line in lines if isinstance(lines, list) else ():
            if isinstance(line, dict):
                yield from _unused_line(line)


def _unused_line(line: Mapping[str, Any]) -> Iterator[str]:
    speaker = "name" if "name" in line else "user"
    yield from (f"[].{key}" for key in line if key not in {speaker, "content"})
    content = line.get("content")
    text = content.get("text") if isinstance(content, dict) else content
    if isinstance(content, dict):
        yield from (f"[].content.{key}" for key in content if key != "text")
        if "text" in content and not isinstance(text, str):
            yield "[].content.text"
    if not isinstance(text, str) or not text.strip():
        yield f"[].{speaker} without a text"

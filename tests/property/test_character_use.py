"""Each text of a character file is in the prompt, or `check` names the place that it is in."""

from collections.abc import Iterator
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from garrison.ipc.character import as_character
from garrison.ipc.character_use import READ_ELSEWHERE, unused_fields
from garrison.workers.services.agent.character_prompt import Situation, compose

texts = st.text("abcdefgh \n", min_size=1, max_size=8).filter(str.strip)
lists = st.lists(texts, max_size=3)
odd: Any = st.recursive(
    texts | st.integers() | st.booleans() | st.none(),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(texts, inner, max_size=2),
    max_leaves=4,
)
contents = texts | st.fixed_dictionaries(
    {},
    optional={
        "text": texts,
        "action": texts,
        "actions": lists,
        "attachments": odd,
        "url": texts,
    },
)
lines = st.fixed_dictionaries(
    {"content": contents}, optional={"user": texts, "name": texts, "id": odd}
).filter(lambda line: "user" in line or "name" in line)
conversations = st.lists(lines, max_size=2) | st.fixed_dictionaries(
    {"examples": st.lists(lines, max_size=2)}, optional={"title": texts}
)
knowledge = st.lists(
    texts
    | st.fixed_dictionaries(
        {}, optional={"path": texts, "directory": texts, "shared": st.booleans(), "text": texts}
    )
    | st.fixed_dictionaries({"item": odd})
    | st.integers(),
    max_size=3,
)
names = [
    "replyTemplate",
    "messageHandlerTemplate",
    "discordMessageHandlerTemplate",
    "postCreationTemplate",
    "twitterPostTemplate",
    "shouldRespondTemplate",
    "greeting",
]
templates = st.dictionaries(
    st.sampled_from(names), texts | st.fixed_dictionaries({"case": texts}), max_size=4
)
styles = lists | texts | st.dictionaries(st.sampled_from(["all", "chat", "post"]), lists | texts)
styles |= st.fixed_dictionaries({"all": lists}, optional={"other": odd})
characters = st.fixed_dictionaries(
    {"name": texts},
    optional={
        "id": texts,
        "username": texts,
        "system": texts,
        "bio": lists | texts,
        "lore": lists | texts | odd,
        "topics": lists,
        "adjectives": lists,
        "knowledge": knowledge | texts,
        "messageExamples": st.lists(conversations, max_size=2),
        "postExamples": lists,
        "style": styles,
        "templates": templates,
        "plugins": lists,
        "clients": lists,
        "people": lists,
        "modelProvider": texts,
        "twitterProfile": odd,
        "settings": st.fixed_dictionaries({"voice": odd}),
        "secrets": st.dictionaries(texts, texts, max_size=1),
    },
)


def leaves(value: Any, place: str) -> Iterator[tuple[str, str]]:
    """Yield each text in a value, with its place as `check` writes it."""
    if isinstance(value, str):
        yield place, value
    elif isinstance(value, list):
        for part in value:
            yield from leaves(part, f"{place}[]")
    elif isinstance(value, dict):
        for key, part in value.items():
            yield from leaves(part, f"{place}.{key}")


@given(characters)
def test_each_text_is_used_or_named(table: dict[str, Any]) -> None:
    """The prompts are those of a message and of a post, also on platforms with templates."""
    character = as_character(table)
    shown = "\0".join(
        compose(character, Situation(post, source, knowledge=character.knowledge_texts)).text
        for post in (False, True)
        for source in ("", "discord", "twitter")
    )
    named = [place.split(" ")[0] for place in unused_fields(table)]
    for key, value in table.items():
        for place, text in leaves(value, key) if key not in READ_ELSEWHERE else ():
            where = place.replace(".examples[]", "[]").replace("[][]", "[]")
            is_named = any(f"{where}.".startswith((f"{one}.", f"{one}[")) for one in named)
            assert text.strip() in shown or is_named, (place, named)

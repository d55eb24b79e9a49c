"""Characters of agents: reads character files of elizaOS 0.x, 1.x and 2.x unchanged. Pure.

The fields are elizaOS's, in snake_case; other keys of a file are kept in `extra`. No error shows a
value, because such files hold secrets.
"""

import uuid
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import msgspec

from .character_use import knowledge_of, lore_of, template_of, unused_fields

MOST_BYTES = 1 << 20  # of a character file
MOST = 100  # characters in one file
DEEPEST = 64  # levels of objects and lists
LARGEST, LEAST = 2**64 - 1, -(2**63)  # range of integers on the wire
ALIKE = uuid.UUID(
    "3f1c64c2-2f0e-5d5c-9a51-6c1c8a1f7b5e"
)  # namespace of ids that are made from names


class CharacterError(ValueError):
    """A file has no valid character; `key` is the place, as "style.all", or empty."""

    def __init__(self, problem: str, key: str = "") -> None:
        self.problem, self.key = problem, key
        super().__init__(f"{key}: {problem}" if key else problem)


class MessageExample(msgspec.Struct, omit_defaults=True):
    """One line of an example conversation."""

    name: str  # the speaker; "{{user1}}" and the like stand for any user
    content: dict[str, Any] = {}

    @property
    def text(self) -> str:
        """Return the text of the line."""
        text = self.content.get("text")
        return text if isinstance(text, str) else ""


class Style(msgspec.Struct, omit_defaults=True):
    """How an agent writes: everywhere, in conversations, in posts."""

    all: list[str] = []
    chat: list[str] = []
    post: list[str] = []


class Character(msgspec.Struct, kw_only=True, omit_defaults=True):
    """An agent's personality and settings."""

    name: str
    bio: list[str] = []
    id: str = ""
    username: str = ""
    system: str = ""
    templates: dict[str, Any] = {}
    message_examples: list[list[MessageExample]] = []
    post_examples: list[str] = []
    topics: list[str] = []
    adjectives: list[str] = []
    knowledge: list[Any] = []
    plugins: list[str] = []
    settings: dict[str, Any] = {}
    secrets: dict[str, Any] = {}
    style: Style = msgspec.field(default_factory=Style)
    extra: dict[str, Any] = {}  # all other keys of the file, unchanged

    @property
    def agent_id(self) -> str:
        """Return its id; if the file has none, one made from its name."""
        return self.id or str(uuid.uuid5(ALIKE, self.name))

    @property
    def lore(self) -> list[str]:
        """Return what the key `lore` of the file has, as texts."""
        return lore_of(self.extra)

    @property
    def knowledge_texts(self) -> list[str]:
        """Return the texts among the knowledge; entries that name files have none."""
        return knowledge_of(self.knowledge)

    def template(self, is_post: bool = False, source: str = "") -> str:
        """Return the file's template for an answer through a service; empty where it has none."""
        return template_of(self.templates, is_post, source)


def default_character() -> Character:
    """Return the character of an agent without a file."""
    return Character(
        name="Eliza",
        bio=[
            "Eliza listens, and asks about what she hears.",
            "She gives advice only when it is wanted, and claims no more than she knows.",
        ],
        system="You are Eliza. Listen, ask back, and answer in a sentence or two.",
        topics=["what is on a person's mind"],
        adjectives=["attentive", "calm", "brief"],
        style=Style(all=["Plain words.", "Short sentences."], chat=["One question at a time."]),
    )


def parse(data: bytes) -> Character:
    """Return the only character of a file.

    Raises:
        CharacterError: The file has none, several, or invalid content; the text names the place.
    """
    found = parse_all(data)
    if len(found) > 1:
        raise CharacterError(f"it holds several characters: {names(found)}")
    return found[0]


def parse_all(data: bytes) -> list[Character]:
    """Return the characters of a file, which has one or a list of them.

    Raises:
        CharacterError: The file has none, or invalid content; the text names the place.
    """
    document = _wired(_decoded(data))
    if not isinstance(document, list):
        return [as_character(document)]
    if not 0 < len(document) <= MOST:
        raise CharacterError(f"a list of characters holds 1 to {MOST}, not {len(document):,}")
    found = list[Character]()
    for place, part in enumerate(document):
        with _under(place):
            found.append(as_character(part))
    return found


def choose(characters: list[Character], wanted: str = "", agent: str = "") -> Character:
    """Return one of a file's characters: the named one, else the only one, else the agent's.

    Args:
        characters: The file's, at least one.
        wanted: The name after the "#" of a path, in any case; empty for none.
        agent: The NAME of the agent; if no name is wanted, a character of that name is chosen.

    Raises:
        CharacterError: No character fits, or several do.
    """
    called = wanted or (agent if len(characters) > 1 else "")
    fits = [one for one in characters if one.name.casefold() == called.casefold()]
    if not called and len(characters) == 1:
        return characters[0]
    if len(fits) == 1:
        return fits[0]
    if wanted:
        how_many = "several characters" if fits else "no character"
        raise CharacterError(f"it holds {how_many} of the name {wanted}, but {names(characters)}")
    raise CharacterError(
        f"it holds several characters: {names(characters)}; pick one by its name after a #, "
        f'as in "FILE#{characters[0].name}"'
    )


def names(characters: Iterable[Character]) -> str:
    """Return the names of characters, for a sentence."""
    return ", ".join(one.name for one in characters)


def as_character(value: object) -> Character:
    """Return a character from a file's value, in elizaOS's camelCase or in snake_case.

    Raises:
        CharacterError: Something does not fit; the text names the place.
    """
    table = _table(value, "a character, which is an object in { }")
    if table.get("name") is None:
        raise CharacterError("name is missing")
    fields, extra = dict[str, Any](), dict[str, Any]()
    for key, part in table.items():
        field = FIELDS.get(key, key)
        if field not in READERS:
            extra[key] = part
        elif part is not None:  # null means absent
            with _under(key):
                fields[field] = READERS[field](part)
    more = fields.pop("extra", {})
    return Character(**fields, extra={**more, **extra})


def unused_in(data: bytes, name: str) -> list[str]:
    """Return what a file has for the character of a name that the agent does not use.

    Raises:
        CharacterError: The file cannot be read.
    """
    document = _decoded(data)
    for table in document if isinstance(document, list) else [document]:
        if isinstance(table, dict) and str(table.get("name", "")).strip() == name:
            return unused_fields(table)
    return []


# --- secrets and settings -----------------------------------------------------------------


def setting_of(character: Character, key: str) -> Any:
    """Return a setting of a character, in elizaOS's order; None if it has none.

    False, 0 and "" are values like any other.
    """
    for table in (character.secrets, character.settings, _nested(character)):
        if table.get(key) is not None:
            return table[key]
    return None


def secrets_of(character: Character) -> dict[str, str]:
    """Return a character's secrets by name, each as text; empty ones are left out."""
    found = {**_nested(character), **_without_null(character.secrets)}
    texts = {name: _as_text(value) for name, value in found.items()}
    return {name: text for name, text in texts.items() if text}


def text_without_secrets(data: bytes) -> str:
    """Return a character file's text as JSON without any secret; other values are unchanged."""

    def bare(value: Any) -> Any:
        if isinstance(value, list):
            return [bare(one) for one in value]
        if not isinstance(value, dict):
            return value
        kept = {key: part for key, part in value.items() if key != "secrets"}
        if isinstance(settings := kept.get("settings"), dict):
            kept["settings"] = {key: part for key, part in settings.items() if key != "secrets"}
        return kept

    return msgspec.json.encode(bare(_wired(_decoded(data)))).decode()


def with_secrets_of(character: Character, data: bytes) -> Character:
    """Return a character with the secrets that a file has for it now.

    The file may be no valid character any more: of it, no other value is used.
    """
    try:
        document = _wired(_decoded(data))
    except CharacterError:
        return character
    of_name = [
        one
        for one in (document if isinstance(document, list) else [document])
        if isinstance(one, dict) and str(one.get("name", "")).strip() == character.name
    ]
    found = of_name[0] if of_name else document
    if not isinstance(found, dict):
        return character
    own, settings = found.get("secrets"), found.get("settings")
    nested = settings.get("secrets") if isinstance(settings, dict) else None
    with_nested = {**character.settings, "secrets": nested} if isinstance(nested, dict) else {}
    return msgspec.structs.replace(
        character,
        secrets=own if isinstance(own, dict) else {},
        settings=with_nested or character.settings,
    )


def without_foreign_secrets(
    character: Character, own: Collection[str], given: Collection[str]
) -> Character:
    """Return a character for one service, without the secrets of other services.

    Args:
        character: The character, as its file has it.
        own: Names of the character's secrets that the service has.
        given: Names of all secrets that the service has; an empty value here must not hide them.
    """
    known = secrets_of(character)

    def kept(table: dict[str, Any], hidden: Collection[str] = ()) -> dict[str, Any]:
        return {
            name: value
            for name, value in table.items()
            if name not in hidden and (name in own if name in known else name not in given)
        }

    secrets = kept(character.secrets)
    settings = dict(character.settings)
    if "secrets" in settings:
        settings["secrets"] = kept(_nested(character), _without_null(character.secrets))
    return msgspec.structs.replace(character, secrets=secrets, settings=settings)


def _nested(character: Character) -> dict[str, Any]:
    nested = character.settings.get("secrets")
    return nested if isinstance(nested, dict) else {}


def _without_null(table: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in table.items() if value is not None}


def _as_text(value: Any) -> str:
    """Return a secret as the value of an environment variable."""
    if value is None:
        return ""
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


# --- reading ------------------------------------------------------------------------------


def _decoded(data: bytes) -> Any:
    if len(data) > MOST_BYTES:
        raise CharacterError(f"it is larger than {MOST_BYTES:,} bytes")
    data = data.removeprefix(b"\xef\xbb\xbf")  # a byte order mark, as editors on Windows write it
    try:
        return msgspec.json.decode(data.decode())
    except msgspec.DecodeError as error:
        raise CharacterError(f"it is not JSON: {_placed(data, str(error))}") from None
    except UnicodeDecodeError as error:
        raise CharacterError(f"it is not UTF-8 text (byte {error.start:,})") from None
    except RecursionError:
        raise CharacterError("it is nested too deeply") from None


def _placed(data: bytes, message: str) -> str:
    """Return a decoder's message with a line number in place of the byte's."""
    problem, _, place = message.removeprefix("JSON is malformed: ").partition(" (byte ")
    if not (digits := place.removesuffix(")")).isdecimal():
        return f"{problem}; it is cut off" if "truncated" in problem else problem
    line = data[: int(digits)].count(b"\n") + 1
    return f"{problem} in line {line}"


def _wired(value: Any, depth: int = 0) -> Any:
    """Return a value that can be encoded: a number beyond 64 bits becomes its digits."""
    if depth > DEEPEST:
        raise CharacterError("it is nested too deeply")
    match value:
        case dict():
            return {key: _wired(part, depth + 1) for key, part in value.items()}
        case list():
            return [_wired(part, depth + 1) for part in value]
        case int() if not LEAST <= value <= LARGEST:
            return str(value)
    return value


@contextmanager
def _under(key: str | int) -> Iterator[None]:
    """Put a key in front of that of an error raised inside."""
    try:
        yield
    except CharacterError as error:
        rest = error.key if error.key.startswith("[") or not error.key else f".{error.key}"
        raise CharacterError(
            error.problem, (f"[{key}]" if isinstance(key, int) else key) + rest
        ) from None


def _unlike(expected: str, value: object) -> CharacterError:
    kinds = {
        bool: "true or false",
        int: "a number",
        float: "a number",
        str: "a text",
        list: "a list",
        dict: "an object",
    }
    return CharacterError(f"expected {expected}, got {kinds.get(type(value), 'null')}")


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise _unlike("a text", value)
    return value


def _name(value: object) -> str:
    name = _text(value).strip()
    if not name:
        raise CharacterError("expected a name, got an empty text")
    return name


def _texts(value: object) -> list[str]:
    """Read a list of texts; one text is a list of one."""
    if isinstance(value, str):
        return [value] if value else []
    if not isinstance(value, list):
        raise _unlike("a text or a list of texts", value)
    texts = list[str]()
    for place, part in enumerate(value):
        with _under(place):
            texts.append(_text(part))
    return texts


def _table(value: object, expected: str = "an object") -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _unlike(expected, value)
    return value


def _knowledge(value: object) -> list[Any]:
    """Read an agent's knowledge: texts, files and folders, in several forms."""
    return value if isinstance(value, list) else [value]


def _settings(value: object) -> dict[str, Any]:
    settings = _table(value)
    with _under("secrets"):
        nested = settings.get("secrets")
        return {**settings, "secrets": _table(nested)} if nested is not None else settings


def _style(value: object) -> Style:
    """Read a style; a text, or a list of texts, applies everywhere."""
    if not isinstance(value, dict):
        return Style(all=_texts(value))
    lists = dict[str, list[str]]()
    for key in ("all", "chat", "post"):
        if value.get(key) is not None:
            with _under(key):
                lists[key] = _texts(value[key])
    return Style(**lists)


def _conversations(value: object) -> list[list[MessageExample]]:
    """Read conversations: lists of lines (0.x, 1.x) or objects with such a list (2.x)."""
    if not isinstance(value, list):
        raise _unlike("a list of conversations", value)
    read = list[list[MessageExample]]()
    for place, part in enumerate(value):
        with _under(place):
            lines = part.get("examples") if isinstance(part, dict) else part
            if not isinstance(lines, list):
                raise _unlike("a conversation, which is a list of messages", part)
            read.append(_lines(lines))
    return read


def _lines(lines: list[Any]) -> list[MessageExample]:
    read = list[MessageExample]()
    for place, part in enumerate(lines):
        with _under(place):
            line = _table(part, "a message, which is an object")
            speaker = line.get("name", line.get("user"))
            if speaker is None:
                raise CharacterError("it has neither name nor user")
            with _under("name" if "name" in line else "user"):
                speaker = _text(speaker)
            read.append(MessageExample(speaker, _content(line.get("content"))))
    return read


def _content(value: object) -> dict[str, Any]:
    if isinstance(value, str):
        return {"text": value}
    with _under("content"):
        return {} if value is None else _table(value)


FIELDS = {  # elizaOS's names that differ from ours; both are accepted
    "messageExamples": "message_examples",
    "postExamples": "post_examples",
}
READERS: Mapping[str, Any] = {
    "name": _name,
    "bio": _texts,
    "id": _text,
    "username": _text,
    "system": _text,
    "templates": _table,
    "message_examples": _conversations,
    "post_examples": _texts,
    "topics": _texts,
    "adjectives": _texts,
    "knowledge": _knowledge,
    "plugins": _texts,
    "settings": _settings,
    "secrets": _table,
    "style": _style,
    "extra": _table,
}

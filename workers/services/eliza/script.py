"""Parse the text of a script into a `Script`, with precise errors. Pure.

The format is described at the top of `eliza.toml`.
"""

import re
from collections.abc import Container, Iterable, Mapping
from typing import Any, NoReturn, TypeVar

import msgspec

T = TypeVar("T")
Words = tuple[str, ...]

END = "."  # in a phrase to reflect: end of the part; no word consists of it

KEYS = (
    *("greeting", "none", "silence", "goodbye", "farewells", "recall_every"),
    *("substitute", "reflect", "groups", "keywords", "memory"),
)
_PART = re.compile(r"\((\d+)\)")


class ScriptError(ValueError):
    """A script is invalid: change the value at `key` to what is `expected`."""

    def __init__(self, key: str, expected: str) -> None:
        self.key, self.expected = key, expected
        super().__init__(f"{key}: expected {expected}")


class Pattern(msgspec.Struct, frozen=True):
    """A decomposition: the words that match each element, and which elements are parts."""

    elements: tuple[frozenset[str] | None, ...]  # None matches any number of words
    parts: tuple[int, ...]  # indexes of elements, in the order of their numbers


class Sentence(msgspec.Struct, frozen=True):
    """A reassembly that gives an answer: text, and numbers of parts from 0."""

    pieces: tuple[str | int, ...]


class Link(msgspec.Struct, frozen=True):
    """A reassembly that continues with another keyword's rules."""

    keyword: str


class NewKey(msgspec.Struct, frozen=True):
    """A reassembly that continues with the next keyword of the clause."""


Reassembly = Sentence | Link | NewKey


class Rule(msgspec.Struct, frozen=True):
    """One decomposition and its reassemblies, which take turns."""

    name: str  # of its counter in a conversation
    pattern: Pattern
    reassemblies: tuple[Reassembly, ...]


class Keyword(msgspec.Struct, frozen=True):
    """The rules for a clause that contains one of certain words."""

    name: str
    rank: int
    rules: tuple[Rule, ...]
    memory: tuple[Rule, ...]  # rules whose sentences are remembered


class Script(msgspec.Struct, frozen=True, kw_only=True):
    """A complete script."""

    greeting: str
    none: Rule  # no keyword, and nothing to recall
    silence: Rule  # an empty line
    goodbye: Rule
    farewells: frozenset[Words]
    recall_every: int  # of this many answers without a keyword, at most one is a recall
    substitutions: Mapping[str, Words]
    reflections: Mapping[Words, Words]
    keywords: Mapping[str, Keyword]  # by name
    triggers: Mapping[str, Keyword]  # by each word that selects it
    counters: Mapping[str, int]  # by rule name: number of reassemblies


def parse(text: str) -> Script:
    """Parse a script's TOML text.

    Raises:
        ScriptError: The text is invalid; the error has the key and what was expected.
    """
    import tomllib  # a host with the bundled script alone does without

    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ScriptError("the script", f"TOML: {error}") from error
    return parse_values(raw)


def parse_values(raw: dict[str, Any]) -> Script:
    """Parse a script's values, as its TOML has them.

    Raises:
        ScriptError: They are invalid; the error has the key and what was expected.
    """
    return _Parser(raw).script()


class _Parser:
    """Parses one script. Groups and substitutions are parsed before the rules that use them."""

    def __init__(self, raw: dict[str, Any]) -> None:
        for key in raw:
            if key not in KEYS:
                raise ScriptError(key, f"one of {', '.join(KEYS)}")
        self.raw = raw
        self.substitutions = {
            word.lower(): tuple(_text(phrase, f"substitute.{word}").lower().split())
            for word, phrase in self._table("substitute").items()
        }
        self.groups = {
            name: frozenset(
                self._word(word, f"groups.{name}") for word in _lines(words, f"groups.{name}")
            )
            for name, words in self._table("groups").items()
        }

    def script(self) -> Script:
        keywords, triggers = self._keywords()
        none, silence, goodbye = (self._sentences(key) for key in ("none", "silence", "goodbye"))
        rules = [none, silence, goodbye]
        for keyword in keywords.values():
            rules += keyword.rules + keyword.memory
        return Script(
            greeting=_text(self.raw.get("greeting"), "greeting"),
            none=none,
            silence=silence,
            goodbye=goodbye,
            farewells=frozenset(
                tuple(self._word(word, "farewells") for word in phrase.split())
                for phrase in _lines(self.raw.get("farewells"), "farewells")
            ),
            recall_every=_integer(self.raw.get("recall_every", 1), "recall_every", least=1),
            substitutions=self.substitutions,
            reflections={
                tuple(phrase.lower().split()): tuple(_text(other, f"reflect.{phrase}").split())
                for phrase, other in self._table("reflect").items()
            },
            keywords=keywords,
            triggers=triggers,
            counters={rule.name: len(rule.reassemblies) for rule in rules},
        )

    def _keywords(self) -> tuple[dict[str, Keyword], dict[str, Keyword]]:
        tables = self._table("keywords")
        memories = self._table("memory")
        for name in memories:
            if name not in tables:
                raise ScriptError(f"memory.{name}", "the name of one of the keywords")
        keywords: dict[str, Keyword] = {}
        triggers: dict[str, Keyword] = {}
        for name, table in tables.items():
            key = f"keywords.{name}"
            rules = dict(_expect(table, dict, key, "a table of rules"))
            rank = _integer(rules.pop("rank", 0), f"{key}.rank")
            also = rules.pop("also", None)
            keywords[name] = keyword = Keyword(
                name,
                rank,
                self._rules(rules, key, links=tables),
                self._rules(memories[name], f"memory.{name}", links=()) if name in memories else (),
            )
            for word in self._triggers(name, also, key):
                if word in triggers:
                    raise ScriptError(key, f"a word that is not {triggers[word].name}'s: {word}")
                triggers[word] = keyword
        return keywords, triggers

    def _triggers(self, name: str, also: object, key: str) -> Iterable[str]:
        words = {self._word(name, key)}
        for word in [] if also is None else _lines(also, f"{key}.also"):
            words |= self._element(word, f"{key}.also")
        return sorted(words)

    def _rules(self, value: object, key: str, links: Container[str]) -> tuple[Rule, ...]:
        table = _expect(value, dict, key, "a table of rules")
        if not table:
            raise ScriptError(key, 'at least one rule, such as "* i am *" = ["Why?"]')
        rules = []
        for number, (text, value) in enumerate(table.items()):
            where = f'{key}."{text}"'
            pattern = self._pattern(text, where)
            lines = _lines(value, where)
            reassemblies = tuple(
                _reassembly(line, where, len(pattern.parts), links) for line in lines
            )
            rules.append(Rule(f"{key.removeprefix('keywords.')}.{number}", pattern, reassemblies))
        return tuple(rules)

    def _sentences(self, key: str) -> Rule:
        """Return a list of sentences that need no keyword, as a rule."""
        lines = _lines(self.raw.get(key), key)
        reassemblies = tuple(_reassembly(line, key, 0, ()) for line in lines)
        return Rule(f".{key}", Pattern((), ()), reassemblies)

    def _pattern(self, text: str, key: str) -> Pattern:
        tokens = text.lower().split()
        if not tokens:
            raise ScriptError(key, "words, @groups or * as the pattern")
        return Pattern(
            tuple(None if token == "*" else self._element(token, key) for token in tokens),
            tuple(at for at, token in enumerate(tokens) if token == "*" or token.startswith("@")),
        )

    def _element(self, token: str, key: str) -> frozenset[str]:
        if not token.startswith("@"):
            return frozenset({self._word(token, key)})
        if token[1:] not in self.groups:
            raise ScriptError(key, f"{token} to be one of [groups]: {', '.join(self.groups)}")
        return self.groups[token[1:]]

    def _word(self, text: str, key: str) -> str:
        """Return a word that can occur in a clause; a substituted word cannot."""
        word = text.lower()
        if len(word.split()) != 1 or "*" in word or "@" in word:
            raise ScriptError(key, f"a single word, found {text!r}")
        if (instead := self.substitutions.get(word, (word,))) != (word,):
            raise ScriptError(key, f"'{' '.join(instead)}', which [substitute] makes of '{word}'")
        return word

    def _table(self, key: str) -> dict[str, Any]:
        return _expect(self.raw.get(key, {}), dict, key, "a table")


def _reassembly(text: str, key: str, parts: int, links: Container[str]) -> Reassembly:
    if text == "newkey" and links:
        return NewKey()
    if text.startswith("="):
        if text[1:] not in links:
            raise ScriptError(key, f"{text!r} to name one of the keywords")
        return Link(text[1:])
    pieces: list[str | int] = []
    for at, piece in enumerate(_PART.split(text)):
        if at % 2 == 0:
            pieces.append(piece)
        elif 1 <= int(piece) <= parts:
            pieces.append(int(piece) - 1)
        else:
            raise ScriptError(key, f"parts from 1 to {parts}, found ({piece}) in {text!r}")
    return Sentence(tuple(piece for piece in pieces if piece != ""))


def _lines(value: object, key: str) -> list[str]:
    lines = _expect(value, list, key, "a list of strings")
    if not lines:
        raise ScriptError(key, "at least one string in the list")
    return [_text(line, key) for line in lines]


def _text(value: object, key: str) -> str:
    if not isinstance(value, str) or not value.strip():
        _reject(value, key, "a string that is not blank")
    return value.strip()


def _integer(value: object, key: str, least: int | None = None) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        _reject(value, key, "a whole number")
    if least is not None and value < least:
        _reject(value, key, f"a whole number from {least}")
    return value


def _expect(value: object, kind: type[T], key: str, expected: str) -> T:
    if not isinstance(value, kind):
        _reject(value, key, expected)
    return value


def _reject(value: object, key: str, expected: str) -> NoReturn:
    found = "nothing" if value is None else f"{value!r:.60}"
    raise ScriptError(key, f"{expected}, found {found}")

"""Weizenbaum's method: the answer as a function of script, line and conversation. Pure.

J. Weizenbaum, "ELIZA", CACM 9 (1966) 36. The words of a line are looked up as keywords. The rules
of the keyword with the highest rank decompose the clause; a reassembly joins its parts, with
pronouns reflected. Sentences about certain keywords are remembered, and recalled when no keyword
matches. Nothing is random: reassemblies take turns, counted in the conversation. Lengths are
characters.
"""

from collections.abc import Mapping, Sequence
from typing import assert_never

import msgspec

from .script import (
    END,
    Keyword,
    Link,
    NewKey,
    Pattern,
    Reassembly,
    Rule,
    Script,
    Sentence,
    Words,
)

MAX_LINE = 2_000  # the rest of a line is ignored
MAX_PART = 160  # of the user's words, repeated in an answer
MAX_ANSWER = 600  # of an answer, and of a remembered sentence
MAX_MEMORIES = 16  # remembered sentences; the oldest are dropped

Parts = tuple[Words, ...]  # of a decomposed clause

_CLAUSE = ","  # replaces every punctuation mark between clauses
_CHARACTERS = {ord(mark): "'" for mark in "’‘ʼ´`′"} | {
    ord(mark): f" {_CLAUSE} " for mark in "\n\r,;!?()[]{}…—–¿¡。，！？；"
}
_EDGES = ".:'\"“”„«»*_~<>-/\\|"


class Conversation(msgspec.Struct, frozen=True):
    """The state of one conversation; `Conversation()` is a new one.

    It is passed in with each line and returned with the answer, so the service keeps no state.
    """

    cycles: dict[str, int] = {}  # by rule name: index of the next reassembly, if not 0
    memory: tuple[str, ...] = ()  # sentences, oldest first
    rest: int = 0  # answers without a keyword before the next recall


def respond(script: Script, text: str, conversation: Conversation) -> tuple[str, Conversation]:
    """Return the answer to one line, never empty, and the new state of the conversation."""
    cycles, memory, rest = _validated(script, conversation)
    clauses = tokenise(script, text)
    clause, keywords = _select_clause(script, clauses)
    if not clauses:
        answer = _next_sentence(script, script.silence, cycles)
    elif any(_lower(clause) in script.farewells for clause in clauses):
        answer = _next_sentence(script, script.goodbye, cycles)
    elif found := _answer_by_keyword(script, clause, keywords, cycles):
        answer = found
    elif memory and not rest:
        answer, memory, rest = memory[0], memory[1:], script.recall_every - 1
    else:
        answer, rest = _next_sentence(script, script.none, cycles), max(0, rest - 1)
    remembered = _sentence_to_remember(script, clause, keywords, cycles)
    if remembered and remembered not in memory:
        memory = (*memory, remembered)[-MAX_MEMORIES:]
    return answer, Conversation(_without_zeros(cycles), memory, rest)


def tokenise(script: Script, text: str) -> list[Words]:
    """Return a line's clauses as words, with the script's substitutions applied."""
    text = text[:MAX_LINE].translate(_CHARACTERS)
    text = "".join(
        c if c.isprintable() else " " for c in text
    )  # escape sequences must not reach a terminal
    if text.isupper():
        text = text.lower()
    clauses: list[list[str]] = [[]]
    for token in text.split():
        if word := token.strip(_EDGES + _CLAUSE):
            if not clauses[-1] and word[1:].islower():
                word = word.lower()  # capitalized only as the first word of its clause
            clauses[-1] += script.substitutions.get(word.lower(), (word,))
        if token.endswith((_CLAUSE, ".", ":")):
            clauses.append([])
    return [tuple(clause) for clause in clauses if clause]


def decompose(pattern: Pattern, words: Words) -> Parts | None:
    """Return the pattern's parts, or None if it does not match; each * matches as few as possible.

    Only the last * is ever extended, which suffices. The time is at most words times elements.
    """
    elements, lower = pattern.elements, _lower(words)
    starts: list[int] = []  # of each element that matches so far
    at = 0
    star, widest = -1, len(words)  # the last *, and its end
    while len(starts) < len(elements) or at < len(words):
        element = elements[len(starts)] if len(starts) < len(elements) else frozenset[str]()
        if element is None:
            star, widest = len(starts), at
            starts.append(at)
        elif at < len(words) and lower[at] in element:
            starts.append(at)
            at += 1
        elif widest < len(words):
            at = widest = widest + 1
            del starts[star + 1 :]
        else:
            return None
    ends = [*starts[1:], at]
    return tuple(words[starts[part] : ends[part]] for part in pattern.parts)


def reflect(script: Script, words: Words) -> Words:
    """Return words from the other speaker's view: "my" is "your"; longer phrases match first."""
    lower = (*_lower(words), END)
    longest = max(map(len, script.reflections), default=0)
    reflected: list[str] = []
    at = 0
    while at < len(words):
        for length in range(longest, 0, -1):
            if replacement := script.reflections.get(lower[at : at + length]):
                reflected += replacement
                at += length
                break
        else:
            reflected.append(words[at])
            at += 1
    return tuple(reflected)


def _select_clause(script: Script, clauses: Sequence[Words]) -> tuple[Words, list[Keyword]]:
    """Return the clause to answer and its keywords: highest rank first, then in their order.

    It is the clause with the keyword of the highest rank: in "Hello, I am sad", the second.
    """
    chosen: Words = ()
    best: list[Keyword] = []
    for clause in clauses:
        triggered = (script.triggers.get(word) for word in _lower(clause))
        found = {keyword.name: keyword for keyword in triggered if keyword}
        keywords = sorted(found.values(), key=lambda keyword: -keyword.rank)
        if keywords and (not best or keywords[0].rank > best[0].rank):
            chosen, best = clause, keywords
    return chosen, best


def _answer_by_keyword(
    script: Script, clause: Words, keywords: Sequence[Keyword], cycles: dict[str, int]
) -> str:
    """Return the answer of the first keyword that has one, or ""."""
    for keyword in keywords:
        seen: set[str] = set()
        current = keyword
        while current.name not in seen:  # links may form a circle
            seen.add(current.name)
            match _matching_reassembly(current.rules, clause, cycles):
                case Sentence(pieces), parts:
                    return _assemble(script, pieces, parts)
                case Link(name), _:
                    current = script.keywords[name]
                case (NewKey(), _) | None:
                    break
                case never:
                    assert_never(never)
    return ""


def _sentence_to_remember(
    script: Script, clause: Words, keywords: Sequence[Keyword], cycles: dict[str, int]
) -> str:
    """Return the sentence to remember from a clause, or ""."""
    for keyword in keywords:
        match _matching_reassembly(keyword.memory, clause, cycles):
            case Sentence(pieces), parts:
                return _assemble(script, pieces, parts)
    return ""


def _next_sentence(script: Script, rule: Rule, cycles: dict[str, int]) -> str:
    """Return the next sentence of a rule without keywords."""
    match _next_reassembly(rule, (), cycles):
        case Sentence(pieces):
            return _assemble(script, pieces, ())
        case other:  # `parse` rejects anything else in these rules
            raise AssertionError(other)


def _matching_reassembly(
    rules: Sequence[Rule], clause: Words, cycles: dict[str, int]
) -> tuple[Reassembly, Parts] | None:
    """Return the next reassembly of the first rule that matches the clause, with the parts."""
    for rule in rules:
        parts = decompose(rule.pattern, clause)
        if parts is not None and (reassembly := _next_reassembly(rule, parts, cycles)):
            return reassembly, parts
    return None


def _next_reassembly(rule: Rule, parts: Parts, cycles: dict[str, int]) -> Reassembly | None:
    """Return the rule's next reassembly and advance its counter.

    A sentence that uses an empty part is skipped.
    """
    for offset in range(len(rule.reassemblies)):
        at = (cycles.get(rule.name, 0) + offset) % len(rule.reassemblies)
        reassembly = rule.reassemblies[at]
        if not isinstance(reassembly, Sentence) or all(
            isinstance(piece, str) or parts[piece] for piece in reassembly.pieces
        ):
            cycles[rule.name] = (at + 1) % len(rule.reassemblies)
            return reassembly
    return None


def _assemble(script: Script, pieces: Sequence[str | int], parts: Parts) -> str:
    text = "".join(
        piece if isinstance(piece, str) else _shorten(" ".join(reflect(script, parts[piece])))
        for piece in pieces
    )
    return (text[0].upper() + text[1:])[:MAX_ANSWER]


def _shorten(text: str) -> str:
    return text if len(text) <= MAX_PART else text[: MAX_PART - 1].rstrip() + "…"


def _lower(words: Words) -> Words:
    return tuple(word.lower() for word in words)


def _validated(
    script: Script, conversation: Conversation
) -> tuple[dict[str, int], tuple[str, ...], int]:
    """Return a conversation's fields within the script's bounds: a caller may pass anything."""
    cycles = {
        name: at % script.counters[name]
        for name, at in conversation.cycles.items()
        if name in script.counters
    }
    lines = (line[:MAX_ANSWER] for line in conversation.memory[-MAX_MEMORIES:])
    rest = min(max(0, conversation.rest), script.recall_every - 1)
    return cycles, tuple(line for line in lines if line.strip()), rest


def _without_zeros(cycles: Mapping[str, int]) -> dict[str, int]:
    return {name: at for name, at in cycles.items() if at}

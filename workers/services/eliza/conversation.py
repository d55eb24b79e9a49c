"""Weizenbaum's method: what is said to a line, as a pure function of script, line and conversation.

J. Weizenbaum, "ELIZA", CACM 9 (1966) 36: the words heard are looked up as keywords; the rules of
the one that ranks highest take the clause apart; a reassembly puts the parts, with their pronouns
turned round, together again; what was said of certain things is remembered for when nothing is
recognized. Nothing is random: reassemblies take turns, counted in the conversation. Lengths are
characters.
"""

from collections.abc import Mapping, Sequence

import msgspec

from .script import (
    END,
    Keyword,
    Link,
    Pattern,
    Reassembly,
    Rule,
    Script,
    Sentence,
    Words,
)

READ = 2_000  # so much of a line is read
PART = 160  # so much of what was heard is said back at once
ANSWER = 600  # the longest answer, and the longest memory
MEMORIES = 16  # so many wait to be recalled; the oldest make room

Parts = tuple[Words, ...]  # what a clause was taken apart into

_CLAUSE = ","  # what every mark between clauses becomes
_CHARACTERS = {ord(mark): "'" for mark in "’‘ʼ´`′"} | {
    ord(mark): f" {_CLAUSE} " for mark in "\n\r,;!?()[]{}…—–¿¡。，！？；"
}
_EDGES = ".:'\"“”„«»*_~<>-/\\|"


class Conversation(msgspec.Struct, frozen=True):
    """All that one conversation has come to; `Conversation()` is a new one.

    It goes in with a line and comes out with the answer, so whoever answers needs no memory.
    """

    cycles: dict[str, int] = {}  # by a rule's name: which reassembly is next, where not the first
    memory: tuple[str, ...] = ()  # sentences, oldest first
    rest: int = 0  # replies without a keyword before the next memory may be recalled


def respond(script: Script, text: str, conversation: Conversation) -> tuple[str, Conversation]:
    """Return the answer to one line, never empty, and the conversation that goes on from it."""
    cycles, memory, rest = _within_bounds(script, conversation)
    clauses = tokenise(script, text)
    clause, keywords = _heard(script, clauses)
    if not clauses:
        answer = _plain(script, script.silence, cycles)
    elif any(_lower(clause) in script.farewells for clause in clauses):
        answer = _plain(script, script.goodbye, cycles)
    elif found := _answer(script, clause, keywords, cycles):
        answer = found
    elif memory and not rest:
        answer, memory, rest = memory[0], memory[1:], script.recall_every - 1
    else:
        answer, rest = _plain(script, script.none, cycles), max(0, rest - 1)
    remembered = _memory(script, clause, keywords, cycles)
    if remembered and remembered not in memory:
        memory = (*memory, remembered)[-MEMORIES:]
    return answer, Conversation(_counted(cycles), memory, rest)


def tokenise(script: Script, text: str) -> list[Words]:
    """Return a line's clauses as words, with the script's substitutions made."""
    text = text[:READ].translate(_CHARACTERS)
    text = "".join(c if c.isprintable() else " " for c in text)  # no escape reaches a terminal
    if text.isupper():
        text = text.lower()
    clauses: list[list[str]] = [[]]
    for token in text.split():
        if word := token.strip(_EDGES + _CLAUSE):
            if not clauses[-1] and word[1:].islower():
                word = word.lower()  # it was a capital for its place alone
            clauses[-1] += script.substitutions.get(word.lower(), (word,))
        if token.endswith((_CLAUSE, ".", ":")):
            clauses.append([])
    return [tuple(clause) for clause in clauses if clause]


def decompose(pattern: Pattern, words: Words) -> Parts | None:
    """Return the pattern's parts, or None where it does not fit; each * takes as little as it can.

    Only the last * is ever widened, which suffices: the time is at most words times elements.
    """
    elements, heard = pattern.elements, _lower(words)
    starts: list[int] = []  # where each element that fits so far begins
    at = 0
    star, widest = -1, len(words)  # the last *, and where it ends
    while len(starts) < len(elements) or at < len(words):
        element = elements[len(starts)] if len(starts) < len(elements) else frozenset[str]()
        if element is None:
            star, widest = len(starts), at
            starts.append(at)
        elif at < len(words) and heard[at] in element:
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
    """Return words as the other speaker says them: "my" is "your"; longer phrases go first."""
    heard = (*_lower(words), END)
    longest = max(map(len, script.reflections), default=0)
    said: list[str] = []
    at = 0
    while at < len(words):
        for length in range(longest, 0, -1):
            if turned := script.reflections.get(heard[at : at + length]):
                said += turned
                at += length
                break
        else:
            said.append(words[at])
            at += 1
    return tuple(said)


def _heard(script: Script, clauses: Sequence[Words]) -> tuple[Words, list[Keyword]]:
    """Return the clause to answer and its keywords: best rank first, then as they were heard.

    It is the clause with the keyword of the highest rank, so that "Hello, I am sad" is heard out.
    """
    chosen: Words = ()
    best: list[Keyword] = []
    for clause in clauses:
        calls = (script.triggers.get(word) for word in _lower(clause))
        heard = {keyword.name: keyword for keyword in calls if keyword}
        keywords = sorted(heard.values(), key=lambda keyword: -keyword.rank)
        if keywords and (not best or keywords[0].rank > best[0].rank):
            chosen, best = clause, keywords
    return chosen, best


def _answer(
    script: Script, clause: Words, keywords: Sequence[Keyword], cycles: dict[str, int]
) -> str:
    """Return what the first keyword that has something to say says, or nothing."""
    for keyword in keywords:
        seen: set[str] = set()
        speaker = keyword
        while speaker.name not in seen:  # links may lead round in a circle
            seen.add(speaker.name)
            match _fitting(speaker.rules, clause, cycles):
                case Sentence(pieces), parts:
                    return _said(script, pieces, parts)
                case Link(name), _:
                    speaker = script.keywords[name]
                case _:
                    break
    return ""


def _memory(
    script: Script, clause: Words, keywords: Sequence[Keyword], cycles: dict[str, int]
) -> str:
    """Return the sentence to put by from a clause, or nothing."""
    for keyword in keywords:
        match _fitting(keyword.memory, clause, cycles):
            case Sentence(pieces), parts:
                return _said(script, pieces, parts)
    return ""


def _plain(script: Script, rule: Rule, cycles: dict[str, int]) -> str:
    """Return the next of the sentences that need no keyword."""
    match _turn(rule, (), cycles):
        case Sentence(pieces):
            return _said(script, pieces, ())
        case other:  # `parse` lets nothing else into these
            raise AssertionError(other)


def _fitting(
    rules: Sequence[Rule], clause: Words, cycles: dict[str, int]
) -> tuple[Reassembly, Parts] | None:
    """Return the turn of the first rule that takes the clause apart, with the parts."""
    for rule in rules:
        parts = decompose(rule.pattern, clause)
        if parts is not None and (reassembly := _turn(rule, parts, cycles)):
            return reassembly, parts
    return None


def _turn(rule: Rule, parts: Parts, cycles: dict[str, int]) -> Reassembly | None:
    """Return the reassembly whose turn it is, and count it.

    A sentence that would have a hole, its part being empty, is passed over.
    """
    for offset in range(len(rule.say)):
        at = (cycles.get(rule.name, 0) + offset) % len(rule.say)
        reassembly = rule.say[at]
        if not isinstance(reassembly, Sentence) or all(
            isinstance(piece, str) or parts[piece] for piece in reassembly.pieces
        ):
            cycles[rule.name] = (at + 1) % len(rule.say)
            return reassembly
    return None


def _said(script: Script, pieces: Sequence[str | int], parts: Parts) -> str:
    text = "".join(
        piece if isinstance(piece, str) else _shortened(" ".join(reflect(script, parts[piece])))
        for piece in pieces
    )
    return (text[0].upper() + text[1:])[:ANSWER]


def _shortened(text: str) -> str:
    return text if len(text) <= PART else text[: PART - 1].rstrip() + "…"


def _lower(words: Words) -> Words:
    return tuple(word.lower() for word in words)


def _within_bounds(
    script: Script, conversation: Conversation
) -> tuple[dict[str, int], tuple[str, ...], int]:
    """Return a conversation's fields as this script can have them: it came from elsewhere."""
    cycles = {
        name: at % script.counters[name]
        for name, at in conversation.cycles.items()
        if name in script.counters
    }
    lines = (line[:ANSWER] for line in conversation.memory[-MEMORIES:])
    rest = min(max(0, conversation.rest), script.recall_every - 1)
    return cycles, tuple(line for line in lines if line.strip()), rest


def _counted(cycles: Mapping[str, int]) -> dict[str, int]:
    return {name: at for name, at in cycles.items() if at}

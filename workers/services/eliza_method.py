"""Weizenbaum's method: what is said to a line, as a pure function of script, line and conversation.

J. Weizenbaum, "ELIZA", CACM 9 (1966) 36: the words heard are looked up as keywords; the rules of
the one that ranks highest take the clause apart; a reassembly puts the parts, with their pronouns
turned round, together again; what was said of certain things is remembered for when nothing is
recognized. Nothing is random: reassemblies take turns, counted in the conversation. Lengths are
characters.
"""

from collections.abc import Mapping, Sequence

import msgspec

from garrison.workers.services.eliza_script import (
    ANYTHING,
    END,
    Keyword,
    Link,
    Pattern,
    Rule,
    Script,
    Sentence,
    Words,
)

READ = 2_000  # so much of a line is read
PART = 160  # so much of what was heard is said back at once
ANSWER = 600  # the longest answer, and the longest memory
MEMORIES = 16  # so many wait to be recalled; the oldest make room

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
    clauses = read(script, text)
    clause, keywords = _heard(script, clauses)
    if not clauses:
        answer = _say(script, script.silence, (), cycles)
    elif any(_lower(clause) in script.farewells for clause in clauses):
        answer = _say(script, script.goodbye, (), cycles)
    elif found := _answer(script, clause, keywords, cycles):
        answer = found
    elif memory and not rest:
        answer, memory, rest = memory[0], memory[1:], script.recall_every - 1
    else:
        answer, rest = _say(script, script.none, (), cycles), max(0, rest - 1)
    remembered = _memory(script, clause, keywords, cycles)
    if remembered and remembered not in memory:
        memory = (*memory, remembered)[-MEMORIES:]
    return answer, Conversation(_counted(cycles), memory, rest)


def read(script: Script, text: str) -> list[Words]:
    """Return a line's clauses as words, with the script's substitutions made."""
    text = text[:READ].translate(_CHARACTERS)
    text = "".join(c if c.isprintable() else " " for c in text)  # no escape reaches a terminal
    if text.isupper():
        text = text.lower()
    clauses: list[list[str]] = [[]]
    for token in text.split():
        if word := token.strip(_EDGES + _CLAUSE):
            if not clauses[-1]:
                word = word[0].lower() + word[1:]
            clauses[-1] += script.substitutions.get(word.lower(), (word,))
        if token.endswith((_CLAUSE, ".", ":")):
            clauses.append([])
    return [tuple(clause) for clause in clauses if clause]


def decompose(pattern: Pattern, words: Words) -> tuple[Words, ...] | None:
    """Return the pattern's parts, or None where it does not fit; each * takes as little as it can.

    Only the last * is ever widened, which suffices: the time is at most words times elements.
    """
    elements, heard = pattern.elements, _lower(words)
    starts: list[int] = []  # where each element that fits so far begins
    at = 0
    star, width_end = -1, len(words)  # the last *, and where it ends
    while len(starts) < len(elements) or at < len(words):
        element = elements[len(starts)] if len(starts) < len(elements) else frozenset[str]()
        if element is ANYTHING:
            star, width_end = len(starts), at
            starts.append(at)
        elif at < len(words) and heard[at] in element:
            starts.append(at)
            at += 1
        elif width_end < len(words):
            at = width_end = width_end + 1
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
        heard = dict.fromkeys(script.triggers[w].name for w in _lower(clause) if w in script.triggers)
        keywords = sorted((script.keywords[name] for name in heard), key=lambda k: -k.rank)
        if keywords and (not best or keywords[0].rank > best[0].rank):
            chosen, best = clause, keywords
    return chosen, best


def _answer(
    script: Script, clause: Words, keywords: Sequence[Keyword], cycles: dict[str, int]
) -> str:
    """Return what the first keyword that has something to say says, or nothing."""
    for keyword in keywords:
        linked: Keyword | None = keyword
        seen: set[str] = set()
        while linked is not None and linked.name not in seen:
            seen.add(linked.name)
            said = _apply(script, linked.rules, clause, cycles)
            if isinstance(said, str) and said:
                return said
            linked = script.keywords[said.keyword] if isinstance(said, Link) else None
    return ""


def _memory(
    script: Script, clause: Words, keywords: Sequence[Keyword], cycles: dict[str, int]
) -> str:
    """Return the sentence to put by from a clause, or nothing."""
    for keyword in keywords:
        said = _apply(script, keyword.memory, clause, cycles)
        if isinstance(said, str) and said:
            return said
    return ""


def _apply(
    script: Script, rules: Sequence[Rule], clause: Words, cycles: dict[str, int]
) -> str | Link:
    """Return what the first rule that fits says; nothing where none fits or it passes on."""
    for rule in rules:
        parts = decompose(rule.pattern, clause)
        if parts is not None and (said := _next(script, rule, parts, cycles)) is not None:
            return said
    return ""


def _say(script: Script, rule: Rule, parts: tuple[Words, ...], cycles: dict[str, int]) -> str:
    said = _next(script, rule, parts, cycles)
    return said if isinstance(said, str) else ""


def _next(
    script: Script, rule: Rule, parts: tuple[Words, ...], cycles: dict[str, int]
) -> str | Link | None:
    """Return what the rule's next reassembly says, and count it; "" is `newkey`.

    A sentence that would have a hole, its part being empty, is passed over; None is nothing left.
    """
    for turn in range(len(rule.say)):
        at = (cycles.get(rule.name, 0) + turn) % len(rule.say)
        reassembly = rule.say[at]
        if isinstance(reassembly, Sentence) and any(
            isinstance(piece, int) and not parts[piece] for piece in reassembly.pieces
        ):
            continue
        cycles[rule.name] = (at + 1) % len(rule.say)
        match reassembly:
            case Sentence(pieces):
                return _sentence(script, pieces, parts)
            case Link():
                return reassembly
            case _:
                return ""
    return None


def _sentence(script: Script, pieces: Sequence[str | int], parts: tuple[Words, ...]) -> str:
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

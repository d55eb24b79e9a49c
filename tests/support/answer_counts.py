"""What a platform's record says of questions and their answers. Pure.

A question's text begins with a word that is its own, such as `q17`. Its answer consists of pieces,
each marked `[q17.1/3]`: question, number, of how many. A message of a bot that has no mark belongs
to the question that it replies to, and is a whole answer: that an action was interrupted, that
there is none just now. Positions count within a channel.
"""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

QUESTION = re.compile(r"q\d+\b")
UNMARKED = 1_000_000  # number of a message without a mark: it may follow any piece
PIECE = re.compile(r"\[(q\d+)\.(\d+)/(\d+)\]")


@dataclass(frozen=True)
class Said:
    """One message of the record, of a person or of a bot."""

    id: str
    channel: str
    position: int
    text: str
    at: float = 0.0
    bot: bool = False
    nonce: str = ""
    reply_to: str = ""
    files: list[str] = field(default_factory=list)  # names
    is_response: bool = False  # to a command
    choices: list[str] = field(default_factory=list)  # labels of buttons that can be pressed


@dataclass
class Counts:
    """Questions, by their words, and what became of them."""

    questions: list[str] = field(default_factory=list)
    unanswered: list[str] = field(default_factory=list)  # a piece is missing
    twice: list[str] = field(default_factory=list)  # a piece is there more than once
    disordered: list[str] = field(default_factory=list)  # after a later question's, or a later part
    stray: list[str] = field(default_factory=list)  # texts that belong to no question
    unmarked: list[str] = field(default_factory=list)  # texts without a mark, in place of an answer

    @property
    def faults(self) -> dict[str, list[str]]:
        """Return what must not be, where there is any."""
        wrong = {
            "unanswered": self.unanswered,
            "twice": self.twice,
            "disordered": self.disordered,
            "stray": self.stray,
        }
        return {name: words for name, words in wrong.items() if words}


@dataclass(frozen=True, order=True)
class Piece:
    """One piece of an answer, in the order of its channel."""

    question: int  # position of the question
    number: int
    of: int = field(compare=False)
    word: str = field(compare=False)


def count(messages: Iterable[Said]) -> Counts:
    """Count a record."""
    counts = Counts()
    ids: dict[str, tuple[str, int]] = {}  # of questions → word, position
    words: dict[str, int] = {}
    pieces: dict[str, list[Piece]] = {}  # of a channel, in order
    for message in messages:
        if not message.bot:
            if found := QUESTION.match(message.text):
                word = found[0]
                counts.questions.append(word)
                ids[message.id] = (word, message.position)
                words[word] = message.position
            continue
        these = _pieces(message, ids, words)
        if these is None:
            counts.stray.append(message.text)
        else:
            if these[0].number == UNMARKED:
                counts.unmarked.append(message.text)
            pieces.setdefault(message.channel, []).extend(these)
    _assess(counts, pieces.values())
    return counts


def _pieces(
    message: Said, ids: dict[str, tuple[str, int]], words: dict[str, int]
) -> list[Piece] | None:
    """Return the pieces in a bot's message; None if it belongs to no question."""
    found = PIECE.findall(message.text)
    if found and all(word in words for word, _, _ in found):
        return [Piece(words[word], int(number), int(of), word) for word, number, of in found]
    if message.reply_to not in ids:
        return None
    word, position = ids[message.reply_to]
    return [Piece(position, UNMARKED, 0, word)]


def _assess(counts: Counts, channels: Iterable[list[Piece]]) -> None:
    seen: Counter[tuple[str, int]] = Counter()
    whole: dict[str, int] = {}
    for channel in channels:
        last = Piece(0, 0, 0, "")
        for piece in channel:
            seen[piece.word, piece.number] += 1
            whole[piece.word] = max(whole.get(piece.word, 0), piece.of)
            if piece < last and seen[piece.word, piece.number] == 1:
                counts.disordered.append(piece.word)
            last = max(last, piece)
    for word in counts.questions:
        numbers = range(1, (whole.get(word) or 1) + 1)
        if not (seen[word, UNMARKED] or all(seen[word, number] for number in numbers)):
            counts.unanswered.append(word)
        if any(seen[word, number] > 1 for number in (*numbers, UNMARKED)):
            counts.twice.append(word)

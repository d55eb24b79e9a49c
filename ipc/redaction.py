"""Secrets taken out of text and bytes, by value. Pure.

Looked for is a value as it is and as it stands in a repr, in JSON, in a URL and in base64; of one
with several lines, each line as well. What a program made of it otherwise is not found.
"""

import base64
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from urllib.parse import quote, quote_plus

SHORTEST = 4  # characters: marks in place of every `1` or `on` would tell it, and spoil the log
SHORTEST_PART = 8  # of a line, or of base64 within base64: what is shorter may stand for anything

# How the streams, the supervisor and others spell what is no UTF-8.
SPELLINGS = ("surrogatepass", "surrogateescape", "backslashreplace")


class Redactor:
    """Puts `[NAME]` in the place of secrets.

    Args:
        secrets: Name → value; a value of less than `SHORTEST` characters is not looked for.
    """

    def __init__(self, secrets: Mapping[str, str]) -> None:
        self._marks: dict[bytes, bytes] = {}
        for name, value in secrets.items():
            for form in _forms(value):
                self._marks.setdefault(form, f"[{name}]".encode())
        longest_first = sorted(self._marks, key=len, reverse=True)
        self._pattern = re.compile(b"|".join(map(re.escape, longest_first)))

    def __bool__(self) -> bool:
        return bool(self._marks)

    def text(self, text: str) -> str:
        """Return a text without the secrets."""
        data = text.encode("utf-8", "surrogatepass")
        done = self.data(data)
        return text if done is data else done.decode("utf-8", "surrogatepass")

    def data(self, data: bytes) -> bytes:
        """Return bytes without the secrets; the same object where there is none."""
        if not any(form in data for form in self._marks):  # much faster than the pattern
            return data
        return self._pattern.sub(lambda found: self._marks[found[0]], data)

    def split(self, data: bytes) -> tuple[bytes, bytes]:
        """Return what of a stream can be written, without secrets, and what is to be held back.

        Held back is the end where it may be the beginning of a secret, and nothing that ends a
        line: a line that was written is there, whatever becomes of the process.
        """
        held = len(data) - self._unfinished(data)
        if held < len(data) and (last := self._across(data, held)) is not None:
            held = last
        return self.data(data[:held]), data[held:]

    def _unfinished(self, data: bytes) -> int:
        """Return the length of the longest end of the data that begins a secret."""
        line = data.rfind(b"\n") + 1
        first = len(data)
        for form in self._marks:
            at = data.find(form[:1], max(line, len(data) - len(form) + 1))
            while 0 <= at < first:
                if form.startswith(data[at:]):
                    first = at
                    break
                at = data.find(form[:1], at + 1)
        return len(data) - first

    def _across(self, data: bytes, held: int) -> int | None:
        """Return the end of a whole secret that reaches into what would be held back."""
        for found in self._pattern.finditer(data):
            if found.start() < held < found.end():
                return found.end()
        return None


def _forms(value: str) -> Iterator[bytes]:
    """Yield every form of a value, some of them more than once."""
    values = [value, value.strip()]
    if len(lines := value.split("\n")) > 1:
        values += [line for line in map(str.strip, lines) if len(line) >= SHORTEST_PART]
    for one in dict.fromkeys(values):
        if len(one) < SHORTEST:
            continue
        raw = _raw(one)
        yield from _spelled([one, *_escaped(one)])
        yield from (repr(raw)[2:-1].encode(), quote(raw, safe="").encode(), quote(raw).encode())
        yield quote_plus(raw).encode()
        yield from _base64(raw)


def _raw(value: str) -> bytes:
    try:
        return value.encode("utf-8", "surrogateescape")  # as an environment has it
    except UnicodeEncodeError:
        return value.encode("utf-8", "surrogatepass")


def _escaped(value: str) -> Iterable[str]:
    encoded = (json.dumps(value), json.dumps(value, ensure_ascii=False))
    return (shown[1:-1] for shown in (repr(value), ascii(value), *encoded))


def _spelled(texts: Iterable[str]) -> Iterator[bytes]:
    for text in texts:
        for spelling in SPELLINGS:
            try:
                yield text.encode("utf-8", spelling)
            except UnicodeEncodeError:  # another spelling can
                continue


def _base64(raw: bytes) -> Iterator[bytes]:
    """Yield what is seen of it in base64, wherever in something longer it begins."""
    for before in range(3):
        encode = base64.b64encode(bytes(before) + raw)
        whole = (before + len(raw)) * 8 // 6  # characters that nothing after it changes
        part = encode[(before * 8 + 5) // 6 : whole]  # nor anything before it
        if len(part) >= SHORTEST_PART:
            yield part
            yield part.translate(bytes.maketrans(b"+/", b"-_"))

"""Removes secrets from text and bytes, by value. Pure.

A value is found as it is, and as it appears in a repr, in JSON, in a URL and in base64; if it has
several lines, each line is found as well. Other encodings are not found.
"""

import base64
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from urllib.parse import quote, quote_plus

SHORTEST = 4  # characters: a mark for every `1` or `on` would reveal it, and clutter the log
SHORTEST_PART = 8  # of a line, or of a part in base64: a shorter one occurs by chance

# How streams and the supervisor write bytes that are not UTF-8
SPELLINGS = ("surrogatepass", "surrogateescape", "backslashreplace")


class Redactor:
    """Replaces secrets by `[NAME]`.

    Args:
        secrets: Name → value; a value shorter than `SHORTEST` characters is ignored.
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
        """Return bytes without the secrets; the same object if there is none."""
        if not any(form in data for form in self._marks):  # much faster than the pattern
            return data
        return self._pattern.sub(lambda found: self._marks[found[0]], data)

    def split(self, data: bytes) -> tuple[bytes, bytes]:
        """Return the part of a stream that can be written, without secrets, and the rest.

        The rest is an end that may be the beginning of a secret. It never includes the end of a
        line, so a line that was written is in the log even if the process is killed.
        """
        held = len(data) - self._unfinished(data)
        if held < len(data) and (last := self._across(data, held)) is not None:
            held = last
        return self.data(data[:held]), data[held:]

    def _unfinished(self, data: bytes) -> int:
        """Return the length of the longest end of the data that is the beginning of a secret."""
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
        """Return the end of a whole secret that overlaps the rest."""
        for found in self._pattern.finditer(data):
            if found.start() < held < found.end():
                return found.end()
        return None


def _forms(value: str) -> Iterator[bytes]:
    """Yield every form of a value; some are repeated."""
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
        return value.encode("utf-8", "surrogateescape")  # as in an environment
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
            except UnicodeEncodeError:  # another one can
                continue


def _base64(raw: bytes) -> Iterator[bytes]:
    """Yield the parts that appear in base64, wherever in the encoded bytes the value begins."""
    for before in range(3):
        encode = base64.b64encode(bytes(before) + raw)
        whole = (before + len(raw)) * 8 // 6  # characters that do not depend on what follows
        part = encode[(before * 8 + 5) // 6 : whole]  # nor on what precedes
        if len(part) >= SHORTEST_PART:
            yield part
            yield part.translate(bytes.maketrans(b"+/", b"-_"))

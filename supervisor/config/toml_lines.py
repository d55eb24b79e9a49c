"""Finds the line of each key of a TOML text, which `tomllib` does not report (pure).

`tomllib` has parsed the text before, so it is valid TOML and is not checked here. Lines count from
1. A path has keys as `str` and indexes of arrays as `int`.
"""

import contextlib
import functools
import json
import re
import tomllib
from collections.abc import Sequence
from typing import Any

KeyPath = tuple[str | int, ...]

BLANK = r"(?:\s|#[^\n]*)*"
FILLER = r"(?:[\s,]|#[^\n]*)*"  # between the items of an array or table
WORD = r"""(?:"(?:[^"\\\n]|\\.)*"|'[^'\n]*'|[A-Za-z0-9_-]+)"""
KEYS = rf"{WORD}(?:[ \t]*\.[ \t]*{WORD})*"
STRING = (
    r"(?s:"
    r'"""(?:[^\\]|\\.)*?"{3,5}'  # up to two quotes may come before the closing three
    r"|'''.*?'{3,5}"
    r'|"(?:[^"\\\n]|\\.)*"'
    r"|'[^'\n]*'"
    r")"
)
PLAIN = r"[^,\]}#\n]+"  # numbers, dates, true and false
BARE = r"[A-Za-z0-9_-]+"
BARE_KEYS = rf"{BARE}(?:\.{BARE})*"

compiled = functools.cache(re.compile)  # when first used: most commands read no TOML


class Lines:
    """The lines of every key, table and array item of one text.

    The text is read when a line is wanted first: most readings of a config want none, and this
    takes longer than parsing it.
    """

    def __init__(self, text: str) -> None:
        self._text, self._at = text, 0
        self._named: dict[KeyPath, int] = {}
        self._implied: dict[KeyPath, int] = {}  # `a` in `[a.b]`; its own header may come later
        self._lengths: dict[KeyPath, int] = {}  # of the arrays of tables
        self._counted_to, self._line = 0, 1
        self._is_read = False

    def find(self, path: Sequence[str | int]) -> int | None:
        """Return the line of a path, or of its longest beginning that the text has."""
        self._read()
        for end in range(len(path), 0, -1):
            head = tuple(path[:end])
            line = self._named.get(head, self._implied.get(head))
            if line is not None:
                return line
        return None

    def depth(self, path: Sequence[str | int]) -> int:
        """Return how many keys of a path the text has."""
        self._read()
        for end in range(len(path), 0, -1):
            head = tuple(path[:end])
            if head in self._named or head in self._implied:
                return end
        return 0

    def _read(self) -> None:
        if not self._is_read:
            self._is_read = True
            with contextlib.suppress(RecursionError):  # nested deeply: the lines up to there
                self._document()

    def _document(self) -> None:
        table: KeyPath = ()
        while self._skip(BLANK) < len(self._text):
            if self._text.startswith("[[", self._at):
                table = self._header(2)
            elif self._text[self._at] == "[":
                table = self._header(1)
            else:
                self._pair(table)

    def _header(self, brackets: int) -> KeyPath:
        self._at += brackets
        self._skip(BLANK)
        line, keys = self._here(), self._keys()
        self._skip(BLANK)
        self._at += brackets
        path: KeyPath = ()
        for key in keys[:-1]:
            path = (*path, key)
            self._implied.setdefault(path, line)
            if path in self._lengths:
                path = (*path, self._lengths[path] - 1)
        path = (*path, keys[-1])
        self._named.setdefault(path, line)
        if brackets == 2:
            self._lengths[path] = self._lengths.get(path, 0) + 1
            path = (*path, self._lengths[path] - 1)
            self._named[path] = line
        return path

    def _pair(self, table: KeyPath) -> None:
        line, keys = self._here(), self._keys()
        for end in range(1, len(keys)):
            self._implied.setdefault((*table, *keys[:end]), line)
        path = (*table, *keys)
        self._named.setdefault(path, line)
        self._skip(BLANK)
        self._at += 1  # =
        self._value(path)

    def _value(self, path: KeyPath) -> None:
        self._skip(BLANK)
        if self._text[self._at] == "{":
            self._at += 1
            while self._text[self._skip(FILLER)] != "}":
                self._pair(path)
            self._at += 1
        elif self._text[self._at] == "[":
            self._array(path)
        elif self._text[self._at] in "\"'":
            self._skip(STRING)
        else:
            self._skip(PLAIN)

    def _array(self, path: KeyPath) -> None:
        self._at += 1
        index = 0
        while self._text[self._skip(FILLER)] != "]":
            self._named[(*path, index)] = self._here()
            self._value((*path, index))
            index += 1
        self._at += 1

    def _keys(self) -> list[str]:
        """Read one dotted key and return its parts; tomllib removes the quotes."""
        start = self._at
        self._skip(KEYS)
        return list(key_path(self._text[start : self._at]) or ())

    def _skip(self, pattern: str) -> int:
        if found := compiled(pattern).match(self._text, self._at):
            self._at = found.end()
        return self._at

    def _here(self) -> int:
        # Counting from the start each time would take quadratic time.
        self._line += self._text.count("\n", self._counted_to, self._at)
        self._counted_to = self._at
        return self._line


def key_path(text: str) -> tuple[str, ...] | None:
    """Return the path of a dotted key, as TOML writes it; None if it is none."""
    if compiled(BARE_KEYS).fullmatch(text):
        return tuple(text.split("."))
    if not compiled(KEYS).fullmatch(text):
        return None
    table: Any = tomllib.loads(f"{text} = 0")
    keys = list[str]()
    while isinstance(table, dict):
        ((key, table),) = table.items()
        keys.append(key)
    return tuple(keys)


def dotted(path: Sequence[str | int]) -> str:
    """Return a path as text: `services."a.b".depends_on[0]`."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += "." * bool(text) + (
                part if compiled(BARE).fullmatch(part) else json.dumps(part, ensure_ascii=False)
            )
    return text

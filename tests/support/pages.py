"""Reads the documentation: fenced blocks with their marks, links, headings.

A mark is a comment on the line before a fenced block: `<!-- example: my_clock.py -->`,
`<!-- transcript -->`, `<!-- diagram -->`.
"""

import re
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

MARK = re.compile(r"<!-- (\w+)(?:: (\S+))? -->")
FENCE = re.compile(r"```(\w*)")
LINK = re.compile(r"\[[^\[\]]*\]\(([^()\s]+)\)")
HEADING = re.compile(r"#{1,6} (.+)")


@dataclass(frozen=True)
class Block:
    """One fenced block of a page."""

    page: str  # path of the page, from the root
    line: int
    mark: str  # "example", "transcript", "diagram", or empty
    name: str  # what the mark names, such as a file
    language: str
    text: str

    @property
    def where(self) -> str:
        """Return its place, as a test's id."""
        return f"{self.page}:{self.line}"


class Page:
    """One page of the documentation."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = str(path.relative_to(ROOT))
        self.text = path.read_text()

    @cached_property
    def blocks(self) -> list[Block]:
        """Return its fenced blocks, in order."""
        found = list[Block]()
        lines = self.text.splitlines()
        at = 0
        while at < len(lines):
            fence = FENCE.fullmatch(lines[at])
            if fence is None:
                at += 1
                continue
            end = lines.index("```", at + 1)
            mark = MARK.fullmatch(lines[at - 1]) if at else None
            word, name = (mark[1], mark[2] or "") if mark else ("", "")
            text = "".join(f"{line}\n" for line in lines[at + 1 : end])
            found.append(Block(self.name, at + 1, word, name, fence[1], text))
            at = end + 1
        return found

    @cached_property
    def prose(self) -> str:
        """Return its text without the fenced blocks."""
        return re.sub(r"^```.*?^```$", "", self.text, flags=re.MULTILINE | re.DOTALL)

    @cached_property
    def files(self) -> dict[str, str]:
        """Return its example files; `config.toml` is the config that they run by."""
        return {block.name: block.text for block in self.blocks if block.mark == "example"}

    @cached_property
    def links(self) -> list[str]:
        """Return the targets of its links."""
        return LINK.findall(re.sub(r"`[^`\n]*`", "``", self.prose))

    @cached_property
    def anchors(self) -> set[str]:
        """Return the anchors of its headings, as GitHub makes them."""
        seen = Counter[str]()
        found = set[str]()
        for line in self.prose.splitlines():
            if heading := HEADING.fullmatch(line):
                anchor = slug(heading[1])
                found.add(f"{anchor}-{seen[anchor]}" if seen[anchor] else anchor)
                seen[anchor] += 1
        return found


def slug(heading: str) -> str:
    """Return the anchor of a heading: lower case, no punctuation, hyphens for spaces."""
    plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
    return re.sub(r"[^\w\- ]", "", plain.lower()).replace(" ", "-")


README = Page(ROOT / "README.md")
PAGES = {
    page.name: page
    for page in [README, *(Page(path) for path in sorted((ROOT / "docs").rglob("*.md")))]
}

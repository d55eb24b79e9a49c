"""How long a text is for X, and how it is found again in what X returns. Pure.

The length is weighted: most scripts of Europe, Africa and the Middle East count 1 for a character,
everything else 2, and an address 23, however long it is. Where X's own rule depends on tables that
change (top-level domains, emoji that are one character), the length here is the larger one: such a
text is split a little sooner, and never refused.
"""

import html
import re
import unicodedata
from collections.abc import Mapping
from typing import Any

POST_MOST = 280  # weight of a post
URL_WEIGHT = 23

# Characters that count 2; source: X, "Counting characters", configuration v3. X takes the first two
# for emoji, although its ranges have them among those that count 1.
HEAVY = re.compile("[\u00a9\u00ae\u1100-\u1fff\u200e\u200f\u2020-\u2031\u2038-\U0010ffff]")

# Of an address, what X surely takes as part of it
IN_PATH = r"[A-Za-z0-9!$%&'*+,./:;=?@\[\]_~#|-]"
PATH = rf"(?:[/?](?:{IN_PATH}*\({IN_PATH}+\))*(?:{IN_PATH}*[A-Za-z0-9/=_#&+-])?)?"
LABELS = r"(?:[A-Za-z0-9](?:[A-Za-z0-9_-]*[A-Za-z0-9])?\.)+"
WITH_SCHEME = re.compile(
    rf"(?<![\w@$#])https?://{LABELS}(?P<domain>[A-Za-z]{{2,24}})(?![\w.@-])(?::\d+)?{PATH}", re.I
)
# Without its scheme it may be an address if it ends like a domain, as `README.md` does
BARE = re.compile(r"(?<![\w-])(?:[\w-]+\.)+[^\W\d_]{2,}")
FOREIGN = re.compile(r"[^!-~]+")  # X ends a domain at a letter of another script
DOMAIN_LEAST = 4  # characters: `t.co`
OF_X = re.compile(r"https?://t\.co/[A-Za-z0-9]+", re.I)  # ends sooner than others do
PRIVATE = frozenset(
    {"corp", "example", "home", "internal", "invalid", "lan", "local", "localhost", "test"}
)

MENTIONS = re.compile(r"^(?:@\w{1,15}\s+)+")
SHORTENED = re.compile(r"https://t\.co/\w+")


def weight(text: str) -> int:
    """Return the length of a text by X's rule, or a little more."""
    text = unicodedata.normalize("NFC", text)
    total, end = 0, 0
    for found in WITH_SCHEME.finditer(text):
        if found["domain"].lower() in PRIVATE:
            continue
        total += _weight_without_schemes(text[end : found.start()]) + URL_WEIGHT
        short = OF_X.match(found[0])
        end = found.start() + short.end() if short else found.end()
    return total + _weight_without_schemes(text[end:])


def _weight_without_schemes(text: str) -> int:
    """Return the length of a text; each address without its scheme counts at least as X has it."""
    domains = sum(_domains(found[0]) for found in BARE.finditer(text))
    return _characters(text) + domains * (URL_WEIGHT - DOMAIN_LEAST)


def _domains(text: str) -> int:
    """Return how many domains a text without spaces may have, at most."""
    return max(sum("." in part for part in FOREIGN.split(text)), 1)


def _characters(text: str) -> int:
    return len(text) + len(HEAVY.findall(text))


def comparable(text: str) -> str:
    """Return a text as it is compared: what X changes in a text is the same on both sides."""
    text = unicodedata.normalize("NFC", html.unescape(text))
    return " ".join(without_addressees(text.strip()).split())


def full_text(post: Mapping[str, Any]) -> str:
    """Return the text of a post as a reader sees it: whole, with the addresses that X shortened.

    Args:
        post: As X returns it, with `entities`.
    """
    long = post.get("note_post") or post.get("note_tweet") or post
    text = str(long.get("text") or post.get("text") or "")
    for one in (long.get("entities") or {}).get("urls") or ():
        short = one.get("url")
        if short:  # X appends one for each file
            is_file = bool(one.get("media_key")) or "/photo/" in str(one.get("expanded_url"))
            text = text.replace(short, "" if is_file else str(one.get("expanded_url") or short))
    return html.unescape(text).strip()


def without_addressees(text: str) -> str:
    """Return a text without the names that X puts in front of a reply."""
    return MENTIONS.sub("", text) or text


def is_same(sent: str, found: str) -> bool:
    """Return whether a text that was read back is the one that was sent; both are comparable.

    An address that X did not expand matches any.
    """
    if sent == found:
        return True
    if not SHORTENED.search(found):
        return False
    pattern = r"\S+".join(map(re.escape, SHORTENED.split(found)))
    return re.fullmatch(pattern, sent) is not None

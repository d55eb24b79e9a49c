"""A program that reads web pages as text: the service runs it as a child, and kills it if it hangs.

Run by its path, so that it imports nothing of garrison. Each request on the standard input is two
lengths of 4 bytes, a head in JSON and a page; each answer on the standard output is one length and
JSON. It ends with its input, with its parent, and by the limits below.
"""

import ctypes
import importlib
import json
import resource
import signal
import struct
import sys
from typing import Any, BinaryIO

MEMORY_MOST = 1 << 30  # bytes of address space
PR_SET_PDEATHSIG = 1
LENGTHS, LENGTH = struct.Struct("!II"), struct.Struct("!I")


def main() -> None:
    """Answer requests until the input ends."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_MOST, MEMORY_MOST))
    import trafilatura  # its import is most of the time until the first page

    sys.setrecursionlimit(2000)
    source, target = sys.stdin.buffer, sys.stdout.buffer
    while (lengths := source.read(LENGTHS.size)) and len(lengths) == LENGTHS.size:
        head_length, page_length = LENGTHS.unpack(lengths)
        head = json.loads(source.read(head_length))
        page = source.read(page_length)
        _limit_processor(head["seconds"])
        try:
            found = read_page(trafilatura, page, head["url"], head["charset"])
        except MemoryError:
            found = {"problem": "reading it takes too much memory"}
        except Exception as error:  # noqa: BLE001 (any page may raise anything)
            found = {"problem": f"{type(error).__name__}: {error}"[:200]}
        _send(target, found, head["most"])


def _limit_processor(seconds: float) -> None:
    """End this process if a page takes more: its parent may be gone."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    most = int(usage.ru_utime + usage.ru_stime + seconds) + 2
    resource.setrlimit(resource.RLIMIT_CPU, (most, resource.getrlimit(resource.RLIMIT_CPU)[1]))


def read_page(library: Any, page: bytes, url: str, charset: str) -> dict[str, Any]:
    """Return the title, the text and the date of a page.

    Args:
        library: trafilatura.
        page: HTML.
        url: Where it was.
        charset: As the server says; "" is found out from the page.
    """
    source: str | bytes = page
    if charset:
        try:
            source = page.decode(charset, "replace")
        except LookupError:
            source = page
    document = library.bare_extraction(
        source, url=url, with_metadata=True, include_comments=False, include_tables=True
    )
    text = getattr(document, "text", None) or ""
    title = getattr(document, "title", None) or ""
    if not text:  # little is on it, or it is no article
        plain_title, text = _all_text(source)
        title = title or plain_title
    return {"title": title, "text": text, "published": getattr(document, "date", None) or ""}


def _all_text(source: str | bytes) -> tuple[str, str]:
    """Return the title and all text of a page, a line for each part."""
    html = importlib.import_module("lxml.html")
    tree = html.fromstring(source, parser=html.HTMLParser(remove_comments=True, remove_pis=True))
    title = tree.findtext(".//title") or ""
    for hidden in list(tree.iter("script", "style", "noscript", "template", "head")):
        hidden.drop_tree()
    lines = (" ".join(part.split()) for part in tree.itertext())
    return " ".join(title.split()), "\n".join(line for line in lines if line)


def _send(target: BinaryIO, found: dict[str, Any], most: int) -> None:
    text = found.get("text", "")
    found |= {"text": text[:most], "is_cut": len(text) > most}
    data = json.dumps(found).encode("ascii")
    target.write(LENGTH.pack(len(data)) + data)
    target.flush()


if __name__ == "__main__":
    main()

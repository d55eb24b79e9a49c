"""Compares the packages of a node with those of this machine, for what the plugins need. Pure."""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
EXTRA = re.compile(r"""extra\s*==\s*["']([^"']+)["']""")
OWN = "garrison"
SHOWN = 10  # differences of one node


def canonical(name: str) -> str:
    """Return a package's name as it is compared (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def needed(
    roots: Iterable[str], requires: Mapping[str, Iterable[str]], extras: Collection[str]
) -> set[str]:
    """Return packages with all that they require.

    Args:
        roots: Packages of plugins.
        requires: Package → its requirements, as its metadata has them.
        extras: Of garrison, those of bundled plugins.
    """
    known = {canonical(name): lines for name, lines in requires.items()}
    found, pending = set[str](), [canonical(name) for name in (OWN, *roots)]
    while pending:
        name = pending.pop()
        if name in found or name not in known:
            continue
        found.add(name)
        wanted = extras if name == OWN else ()
        pending += [one for line in known[name] if (one := _required(line, wanted))]
    return found


def _required(line: str, extras: Collection[str]) -> str:
    """Return the package of a requirement; empty: it is one of an extra that is not used."""
    match, extra = NAME.match(line.strip()), EXTRA.search(line)
    if match is None or (extra is not None and extra[1] not in extras):
        return ""
    return canonical(match[0])


def differences(
    node: str,
    here: Mapping[str, str],
    there: Mapping[str, str],
    names: Collection[str],
    pythons: tuple[str, str],
) -> Iterator[str]:
    """Yield what differs on a node, in words.

    Args:
        node: Its NAME.
        here: Package → version on this machine.
        there: Likewise on the node.
        names: The packages that count.
        pythons: The versions of Python here and there.
    """
    own, other = (".".join(one.split(".")[:2]) for one in pythons)
    if other and own != other:
        yield f"node {node} runs Python {pythons[1]}, and this machine {pythons[0]}"
    has = {canonical(name): version for name, version in there.items()}
    found = list[str]()
    for name, version in sorted((canonical(key), value) for key, value in here.items()):
        if name not in names or has.get(name) == version:
            continue
        if name in has:
            found.append(f"node {node} has {name} {has[name]}, and this machine {version}")
        else:
            found.append(f"node {node} lacks {name} {version}")
    yield from found[:SHOWN]
    if (more := len(found) - SHOWN) > 0:
        yield f"node {node} differs in {more} more packages"

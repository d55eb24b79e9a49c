"""Which service depends on which, and which calls which: as edges, trees and Graphviz. Pure."""

import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

import msgspec

DEPTH_MOST = 32  # of a tree


class Edge(msgspec.Struct, rename={"source": "from", "target": "to"}):
    """What one service has to do with another.

    Attributes:
        source: NAME of the one that depends on the other, or calls it.
        target: NAME of the other.
        depends_on: It is in `depends_on`.
        bind_to: It is in `bind_to`.
        calls: How many calls have ended since the supervisor's start; None: not known.
        calls_s: How many end in a second, now.
        in_flight: How many have not ended.
        direct: They go directly, and not through the supervisor.
    """

    source: str
    target: str
    depends_on: bool = False
    bind_to: bool = False
    calls: int | None = None
    calls_s: float | None = None
    in_flight: int | None = None
    direct: bool = False


class Node(msgspec.Struct):
    """A service in a tree.

    Attributes:
        name: Its NAME.
        edge: What leads to it; None: it is the tree's root.
        below: Those below it.
        is_above: It is shown elsewhere in the tree, with what is below it.
    """

    name: str
    edge: Edge | None = None
    below: list["Node"] = []
    is_above: bool = False


class Live(msgspec.Struct, frozen=True):
    """Calls by caller and service."""

    ended: Mapping[tuple[str, str], int]
    each_second: Mapping[tuple[str, str], float]
    awaited: Mapping[tuple[str, str], int]
    direct: Collection[tuple[str, str]] = ()


def of_team(row: dict[str, Any], known: Collection[str]) -> dict[str, Any]:
    """Return a row without the services that an operator of a team is not shown.

    Args:
        row: As `status NAME` has it.
        known: The services that are shown.
    """
    keys = ("depends_on", "bind_to")
    return row | {key: [one for one in row.get(key) or () if one in known] for key in keys}


def edges_of(rows: Iterable[dict[str, Any]], live: Live | None) -> list[Edge]:
    """Return all edges, in the order of the services.

    Args:
        rows: As `status NAME` has them.
        live: Calls; None: not known.
    """
    rows = list(rows)
    known = {row["name"] for row in rows}
    found: dict[tuple[str, str], Edge] = {}

    def edge(source: str, target: str) -> Edge:
        return found.setdefault((source, target), Edge(source, target))

    for row in rows:
        for target in row.get("depends_on") or ():
            edge(row["name"], target).depends_on = True
        for target in row.get("bind_to") or ():
            edge(row["name"], target).bind_to = True
    pairs = set[tuple[str, str]]()
    if live is not None:  # a direct pair may have no call yet that has been counted
        pairs = {*live.ended, *live.each_second, *live.awaited, *live.direct}
    for pair in sorted(pairs):
        if pair[1] in known:
            edge(*pair)
    for pair, one in found.items():
        if live is not None:
            one.calls = live.ended.get(pair, 0)
            one.calls_s = live.each_second.get(pair, 0.0)
            one.in_flight = live.awaited.get(pair, 0)
            one.direct = pair in live.direct
    return list(found.values())


def trees(names: Iterable[str], edges: Iterable[Edge], *, up: bool = False) -> list[Node]:
    """Return trees that have every service; each is expanded once.

    Args:
        names: The services, in their order.
        edges: Between them.
        up: From a service to those that depend on it and call it.
    """
    table = _table(edges, up)
    names = list(dict.fromkeys([*names, *table]))
    has_parent = {edge.source if up else edge.target for one in table.values() for edge in one}
    done, roots = set[str](), list[Node]()
    for name in sorted(names, key=lambda name: name in has_parent):  # then those of a circle
        if name not in has_parent or name not in done:
            roots.append(_tree(name, None, table, done, up))
    return roots


def tree(name: str, edges: Iterable[Edge], *, up: bool = False) -> Node:
    """Return the tree below one service; with `up`, above it."""
    return _tree(name, None, _table(edges, up), set(), up)


def _table(edges: Iterable[Edge], up: bool) -> dict[str, list[Edge]]:
    table: dict[str, list[Edge]] = {}
    for edge in edges:
        table.setdefault(edge.target if up else edge.source, []).append(edge)
    return table


def _tree(
    name: str,
    edge: Edge | None,
    table: Mapping[str, list[Edge]],
    done: set[str],
    up: bool,
    depth: int = 0,
) -> Node:
    node = Node(name, edge, [])
    if name in done or depth >= DEPTH_MOST:
        node.is_above = bool(table.get(name))
        return node
    done.add(name)
    for one in table.get(name, ()):
        other = one.source if up else one.target
        node.below.append(_tree(other, one, table, done, up, depth + 1))
    return node


def words(edge: Edge, up: bool = False) -> str:
    """Return what an edge is: "depends on, 12.3 calls/s, 2 in flight".

    Args:
        edge: The edge.
        up: It stands beside the service that depends on the other.
    """
    it = " it" if up else ""
    parts = [f"depends on{it}"] if edge.depends_on else []
    parts += [f"bound to{it}"] if edge.bind_to else []
    if edge.calls_s:
        parts.append(f"{edge.calls_s:.3g} calls/s")
    elif edge.calls:
        parts.append(f"{edge.calls:,} call{'' if edge.calls == 1 else 's'} so far")
    if edge.in_flight:
        parts.append(f"{edge.in_flight:,} in flight")
    if edge.direct:
        parts.append("direct")
    return ", ".join(parts)


def dot(states: Mapping[str, str], edges: Iterable[Edge]) -> Iterator[str]:
    """Yield the lines of a graph for Graphviz.

    Args:
        states: NAME → state.
        edges: Between them. One that is only called is dashed.
    """
    yield "digraph garrison {"
    yield "  rankdir=LR; node [shape=box, fontname=monospace];"
    for name, state in states.items():
        colour = "" if state == "running" else ", color=red"
        label = _quoted(f"{name}\n{state}")
        yield f"  {_quoted(name)} [label={label}{colour}];"
    for edge in edges:
        style = "solid" if edge.depends_on or edge.bind_to else "dashed"
        label = words(edge)
        ends = f"{_quoted(edge.source)} -> {_quoted(edge.target)}"
        yield f"  {ends} [style={style}, label={_quoted(label)}];"
    yield "}"


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)

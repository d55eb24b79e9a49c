"""The graph of services: what depends on what, what calls what, as edges, trees and Graphviz."""

from typing import Any

from garrison.supervisor.cli.edges import (
    DEPTH_MOST,
    Edge,
    Live,
    Node,
    dot,
    edges_of,
    tree,
    trees,
    words,
)

LIVE = Live({("bot", "db"): 1200, ("bot", "gone"): 3}, {("bot", "db"): 12.345}, {("bot", "db"): 2})


def row(name: str, *depends_on: str, bind_to: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return what is read of a row of `status NAME`."""
    return {"name": name, "depends_on": depends_on, "bind_to": bind_to}


def drawn(node: Node) -> Any:
    """Return a tree as names; one that is shown above has a `^`."""
    name = f"{node.name}^" if node.is_above else node.name
    return {name: [drawn(one) for one in node.below]} if node.below else name


def test_edges_are_dependencies_and_calls() -> None:
    """Calls to what is no service any more are left out; without counters they are not known."""
    rows = [row("bot", "db", bind_to=("db",)), row("db")]
    (edge,) = edges_of(rows, LIVE)
    assert edge == Edge("bot", "db", True, True, 1200, 12.345, 2)
    assert words(edge) == "depends on, bound to, 12.3 calls/s, 2 in flight"
    assert words(edge, up=True).startswith("depends on it, bound to it")
    (edge,) = edges_of(rows, None)
    assert (edge.calls, edge.calls_s, edge.in_flight) == (None, None, None)
    assert words(Edge("a", "b", calls=1, calls_s=0.0)) == "1 call so far"


def test_trees_have_every_service_and_expand_each_once() -> None:
    """Also those of a circle, and what the config does not have."""
    rows = [row("db"), row("bot", "agent", "db"), row("agent", "db", "absent"), row("alone")]
    rows += [row("x", "y"), row("y", "x")]
    edges = edges_of(rows, None)
    names = [one["name"] for one in rows]
    assert [drawn(one) for one in trees(names, edges)] == [
        {"bot": [{"agent": ["db", "absent"]}, "db"]},
        "alone",
        {"x": [{"y": ["x^"]}]},
    ]
    assert drawn(tree("db", edges, up=True)) == {"db": ["bot", {"agent": ["bot"]}]}


def test_depth_is_bounded() -> None:
    """A chain of any length is drawn."""
    edges = [Edge(f"s{n}", f"s{n + 1}") for n in range(DEPTH_MOST + 9)]
    node, depth = tree("s0", edges), 0
    while node.below:
        node, depth = node.below[0], depth + 1
    assert (depth, node.is_above) == (DEPTH_MOST, True)


def test_graphviz_quotes_names() -> None:
    """One that is only called is dashed; one that does not run is red."""
    lines = list(dot({'a"b': "failed"}, [Edge('a"b', "c", calls_s=2.0)]))
    assert lines[2] == r'  "a\"b" [label="a\"b\nfailed", color=red];'
    assert lines[3] == r'  "a\"b" -> "c" [style=dashed, label="2 calls/s"];'

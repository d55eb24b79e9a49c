"""How the graph of services is shown to people: as trees."""

from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import RenderableType
from rich.text import Text
from rich.tree import Tree

from garrison.supervisor.cli.edges import Edge, Node, tree, trees, words

from .status_table import STYLES
from .text import sanitize


def graph(
    rows: Iterable[dict[str, Any]], edges: Sequence[Edge], chosen: Sequence[str]
) -> Iterable[RenderableType]:
    """Return one tree for all services, or what each chosen one needs and what needs it.

    Args:
        rows: As `status NAME` has them.
        edges: Between them.
        chosen: NAMEs; none is all.
    """
    states = {row["name"]: row["state"] for row in rows}
    if not states:
        yield Text("no services: config.toml names the plugins")
    if not chosen:
        yield from (_drawn(root, states) for root in trees(states, edges))
        return
    for name in chosen:
        yield _drawn(tree(name, edges), states)
        above = tree(name, edges, up=True)
        title = "is needed by" if above.below else "is needed by no other service"
        drawn = Tree(Text.assemble((sanitize(name), "bold"), f" {title}"), guide_style="dim")
        drawn.children = [_drawn(one, states, up=True) for one in above.below]
        yield drawn


def _drawn(node: Node, states: dict[str, str], up: bool = False) -> Tree:
    drawn = Tree(_label(node, states, up), guide_style="dim")
    drawn.children = [_drawn(below, states, up) for below in node.below]
    return drawn


def _label(node: Node, states: dict[str, str], up: bool) -> Text:
    state = states.get(node.name, "not in the config")
    label = Text.assemble((sanitize(node.name), "bold"), overflow="fold")
    if state != "running":
        label.append(f" {state}", STYLES.get(state, "red"))
    if node.edge is not None and (what := words(node.edge, up)):
        label.append(f"  {what}")
    if node.is_above:
        label.append("  (see above)", "dim")
    return label

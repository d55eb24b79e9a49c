"""Any history of nodes and services: no node is overbooked, and none waits in vain."""

from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from garrison.supervisor.placing.decision import Demand, NodeOffer, Placed, lacking, taken
from garrison.supervisor.placing.list_placer import ListPlacer

NAMES = st.sampled_from(["a", "b", "c", "d", "e", "f"])
NODES = st.sampled_from(["supervisor", "n1", "n2", "n3"])
AMOUNTS = st.sampled_from([0.1, 0.25, 0.5, 1.0, 2.0])
RESOURCES = st.dictionaries(st.sampled_from(["GPU", "CPU", "x"]), AMOUNTS, max_size=2)


class Placing(RuleBasedStateMachine):
    """A placer whose nodes come and go."""

    def __init__(self) -> None:
        super().__init__()
        self.placer = ListPlacer()
        self.offers = {
            name: NodeOffer(name, {"CPU": 2.0, "GPU": gpus, "x": 1.0})
            for name, gpus in (("supervisor", 0.0), ("n1", 1.0), ("n2", 2.0), ("n3", 0.5))
        }
        self.demands: dict[str, Demand] = {}
        self.places: dict[str, str] = {}

    def turn(self) -> None:
        for answer in self.placer.turn(list(self.offers.values()), ()):
            if isinstance(answer, Placed):
                offer, demand = self.offers[answer.node], self.demands[answer.service]
                assert not offer.problem
                assert not offer.avoided or demand.only == answer.node
                assert demand.only in {"", answer.node}
                self.places[answer.service] = answer.node

    @rule(name=NAMES, pin=st.none() | NODES, wants=RESOURCES, has_data=st.booleans())
    def ask(self, name: str, pin: str | None, wants: dict[str, float], has_data: bool) -> None:
        """A service is to start, or to leave its node."""
        last = self.places.pop(name, "")
        self.demands[name] = Demand(name, pin or "", wants, last, has_data and bool(last))
        self.placer.place(self.demands[name])
        self.turn()

    @rule(name=NAMES)
    def stop(self, name: str) -> None:
        """A service has ended."""
        self.placer.withdraw(name)
        self.demands.pop(name, None)
        self.places.pop(name, None)
        self.turn()

    @rule(node=NODES, problem=st.sampled_from(["", "has no contact"]), drained=st.booleans())
    def change(self, node: str, problem: str, drained: bool) -> None:
        """A node comes, goes, or is drained."""
        former = self.offers[node]
        avoided = "is drained" if drained else ""
        problem = "" if node == "supervisor" else problem
        self.offers[node] = NodeOffer(node, former.resources, problem, avoided)
        self.turn()

    @invariant()
    def no_node_is_overbooked(self) -> None:
        """What is taken of a resource is never more than there is."""
        held: Any = self.placer.held
        assert {name: node for name, (node, _) in held.items()} == self.places
        for offer in self.offers.values():
            for key, amount in taken(offer.name, held).items():
                assert amount <= offer.resources.get(key, 0.0) + 1e-6

    @invariant()
    def none_waits_in_vain(self) -> None:
        """A service that waits has no node that would take it."""
        for name in self.demands.keys() - self.places.keys():
            demand = self.demands[name]
            for offer in self.offers.values():
                if demand.only and demand.only != offer.name:
                    continue
                if offer.problem or (offer.avoided and not demand.only):
                    continue
                assert lacking(demand.resources, offer, self.placer.held)


TestPlacing = Placing.TestCase

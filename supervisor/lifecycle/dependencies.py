"""Dependencies between services: the order of starts and stops, bound restarts, cycles. Pure."""

from collections.abc import Iterable, Mapping

from garrison.ipc.messages import State
from garrison.supervisor.config.spec import ServiceSpec, service_spec

from .policy import Child, has_process


def placed(spec: ServiceSpec, new: ServiceSpec) -> ServiceSpec:
    """Return a spec with the dependencies and the placement of another."""
    return service_spec(
        spec,
        depends_on=new.supervision.depends_on,
        bind_to=new.supervision.bind_to,
        with_parts=new.with_parts,
    )


def find_cycle(specs: Iterable[ServiceSpec]) -> list[str] | None:
    """Return the NAMEs along a cycle of `depends_on`, closed by the first one, or None."""
    needs = {spec.name: spec.supervision.depends_on for spec in specs}
    done: set[str] = set()
    for root in needs:
        path: list[str] = []
        todo = [(root, iter(needs[root]))] if root not in done else []
        on_path = {root} if todo else set()
        while todo:
            name, rest = todo[-1]
            if len(path) < len(todo):
                path.append(name)
            following = next(rest, None)
            if following is None:
                todo.pop()
                on_path.discard(path.pop())
                done.add(name)
            elif following in on_path:
                return [*path[path.index(following) :], following]
            elif following in needs and following not in done:
                on_path.add(following)
                todo.append((following, iter(needs[following])))
    return None


def longest_stop(specs: Iterable[ServiceSpec]) -> tuple[float, list[str]]:
    """Return how long an ordered stop may take, in seconds, and which services make it so long.

    Dependents are stopped first, so the longest chain of `depends_on` counts, each with its grace.

    Args:
        specs: All services, without a cycle.
    """
    known = {spec.name: spec for spec in specs}
    found: dict[str, tuple[float, list[str]]] = {}
    for name in in_start_order(known, known):
        spec = known[name].supervision
        below = [found[one] for one in spec.depends_on if one in found]
        longest, chain = max(below, key=lambda one: one[0], default=(0.0, []))
        found[name] = longest + spec.grace, [name, *chain]
    return max(found.values(), key=lambda one: one[0], default=(0.0, []))


def blocking_dependencies(child: Child, children: Mapping[str, Child]) -> list[str]:
    """Return the NAMEs of the dependencies that do not run, so that a queued service waits."""
    return [
        name
        for name in child.spec.supervision.depends_on
        if name not in children or children[name].state is not State.RUNNING
    ]


def can_stop(name: str, children: Mapping[str, Child]) -> bool:
    """Return True if no dependent of a service has a process, so that it can be stopped."""
    return not any(
        name in child.spec.supervision.depends_on and has_process(child.state)
        for child in children.values()
    )


def bound_services(name: str, children: Mapping[str, Child]) -> list[str]:
    """Return the NAMEs that are bound to a service, directly or through others."""
    found = {name: None}
    for bound_to in iter_growing(found):
        for child in children.values():
            if bound_to in child.spec.supervision.bind_to:
                found[child.spec.name] = None
    return list(found)[1:]


def iter_growing(names: dict[str, None]) -> Iterable[str]:
    """Yield the keys of a mapping in order, including those that are added meanwhile."""
    position = 0
    while position < len(names):
        yield list(names)[position]
        position += 1


def in_start_order(names: Iterable[str], specs: Mapping[str, ServiceSpec]) -> list[str]:
    """Return these NAMEs in an order in which each comes after its dependencies."""
    wanted = list(dict.fromkeys(names))
    ordered: dict[str, None] = {}
    visited: set[str] = set()

    def visit(name: str) -> None:
        if name in visited or name not in specs:
            return
        visited.add(name)
        for needed in specs[name].supervision.depends_on:
            visit(needed)
        ordered[name] = None

    for name in wanted:
        visit(name)
    return [name for name in ordered if name in set(wanted)]

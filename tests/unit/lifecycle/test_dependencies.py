"""Dependencies: cycles by their path, the order of starts and stops, bound restarts."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from tests.support.examples import examples

from garrison.ipc.messages import State
from garrison.supervisor.config.spec import ServiceSpec, service_spec
from garrison.supervisor.lifecycle.dependencies import (
    blocking_dependencies,
    bound_services,
    can_stop,
    find_cycle,
    in_start_order,
    longest_stop,
)
from garrison.supervisor.lifecycle.policy import Child


def spec(name: str, needs: str = "", bound: str = "") -> ServiceSpec:
    """Return a service that depends on, and is bound to, others of one letter each."""
    return service_spec(
        name=name,
        plugin="p",
        service_type="t",
        depends_on=tuple(needs),
        bind_to=tuple(bound),
    )


def graph(**needs: str) -> dict[str, ServiceSpec]:
    """Return services by what each depends on."""
    return {name: spec(name, needed) for name, needed in needs.items()}


def children(specs: dict[str, ServiceSpec], **states: State) -> dict[str, Child]:
    """Return services, RUNNING where no other state is given."""
    return {
        name: Child(one, states.get(name, State.RUNNING), wanted=True)
        for name, one in specs.items()
    }


# --- cycles -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("needs", "path"),
    [
        ({}, None),
        ({"a": ""}, None),
        ({"a": "b", "b": "c", "c": ""}, None),
        ({"a": "bc", "b": "d", "c": "d", "d": ""}, None),  # a diamond is no circle
        ({"a": "xyz"}, None),  # what is not there can be in no circle
        ({"a": "bb", "b": ""}, None),
        ({"a": "a"}, ["a", "a"]),
        ({"a": "b", "b": "a"}, ["a", "b", "a"]),
        ({"a": "b", "b": "c", "c": "a"}, ["a", "b", "c", "a"]),
        ({"a": "b", "b": "c", "c": "b"}, ["b", "c", "b"]),  # the way there is no part of it
        ({"x": "", "a": "xb", "b": "xc", "c": "xa"}, ["a", "b", "c", "a"]),
        ({"a": "bd", "b": "c", "c": "", "d": "ba"}, ["a", "d", "a"]),
    ],
)
def test_a_cycle_is_named_by_its_path(needs: dict[str, str], path: list[str] | None) -> None:
    """Its first NAME stands again at the end."""
    assert find_cycle(graph(**needs).values()) == path


def test_a_long_chain_is_no_trouble() -> None:
    """Neither a chain of thousands nor a circle of as many exhausts a stack."""
    size = 5000
    chain = [
        service_spec(name=str(n), plugin="p", service_type="t", depends_on=(str((n + 1) % size),))
        for n in range(size)
    ]

    found = find_cycle(chain)
    assert found is not None
    assert len(found) == size + 1
    assert find_cycle(chain[:-1]) is None


NAMES = "abcdefg"
GRAPHS = st.dictionaries(
    st.sampled_from(NAMES), st.lists(st.sampled_from(NAMES), max_size=3).map("".join)
)


@given(needs=GRAPHS)
@settings(max_examples=examples(300))
def test_any_graph_has_a_cycle_or_an_order(needs: dict[str, str]) -> None:
    """A path that is named is one; where none is, each comes after what it depends on."""
    specs = graph(**needs)
    path = find_cycle(specs.values())

    if path is not None:
        assert path[0] == path[-1]
        assert len(set(path)) == len(path) - 1
        for name, needed in pairwise(path):
            assert needed in specs[name].supervision.depends_on
        return
    ordered = in_start_order(specs, specs)
    assert sorted(ordered) == sorted(specs)
    for name in specs:
        for needed in specs[name].supervision.depends_on:
            if needed in specs:
                assert ordered.index(needed) < ordered.index(name)


# --- starting -----------------------------------------------------------------------------


@pytest.mark.parametrize("state", list(State))
def test_only_a_running_dependency_lets_a_start_begin(state: State) -> None:
    """In every other state it is waited for."""
    services = children(graph(a="b", b=""), a=State.QUEUED, b=state)

    assert blocking_dependencies(services["a"], services) == (
        [] if state is State.RUNNING else ["b"]
    )


def test_it_waits_for_each_that_does_not_run_or_is_not_there() -> None:
    """They are named in the config's order."""
    services = children(graph(a="bcd", b="", c=""), a=State.QUEUED, b=State.BACKOFF)

    assert blocking_dependencies(services["a"], services) == ["b", "d"]


def test_only_direct_dependencies_are_waited_for() -> None:
    """What a running dependency needs is that one's affair."""
    services = children(graph(a="b", b="c", c=""), a=State.QUEUED, c=State.FAILED)

    assert blocking_dependencies(services["a"], services) == []


def test_in_start_order_returns_only_named_services() -> None:
    """Each once, after what it depends on, also through one that was not named."""
    specs = graph(a="b", b="c", c="", d="")

    assert in_start_order(["a", "d", "c", "a"], specs) == ["c", "a", "d"]
    assert in_start_order([], specs) == []
    assert in_start_order(["x"], specs) == []


def test_in_start_order_keeps_the_order_of_the_independent() -> None:
    """Where no dependency says otherwise, it is as it was given."""
    specs = graph(a="", b="", c="")

    assert in_start_order("cab", specs) == ["c", "a", "b"]


# --- stopping -----------------------------------------------------------------------------


@pytest.mark.parametrize("state", list(State))
def test_a_dependency_stops_once_its_dependents_have_no_process(state: State) -> None:
    """A dependent that is still ending keeps it, one that waits for its start does not."""
    services = children(graph(a="b", b=""), a=state)
    process = {State.INITIALIZING, State.STARTING, State.RUNNING, State.STOPPING}

    assert can_stop("b", services) is (state not in process)


@given(needs=GRAPHS)
@settings(max_examples=examples(200))
def test_everything_stops_in_the_reverse_of_its_start(needs: dict[str, str]) -> None:
    """Starts in waves as waits_for lets them, stops in waves as may_stop does: in reverse, each."""
    specs = graph(**needs)
    known = {
        name: "".join(n for n in one.supervision.depends_on if n in specs)
        for name, one in specs.items()
    }
    specs = graph(**known)
    if find_cycle(specs.values()) is not None:
        return
    services = {name: replace(one, state=State.QUEUED) for name, one in children(specs).items()}
    begun: list[str] = []
    while len(begun) < len(specs):
        wave = [
            n for n in specs if n not in begun and not blocking_dependencies(services[n], services)
        ]
        assert wave
        for name in wave:
            services[name] = replace(services[name], state=State.RUNNING)
        begun += wave

    ended: list[str] = []
    while len(ended) < len(specs):
        wave = [n for n in specs if n not in ended and can_stop(n, services)]
        assert wave
        for name in wave:
            services[name] = replace(services[name], state=State.STOPPED)
        ended += wave

    for name, one in specs.items():
        for needed in one.supervision.depends_on:
            assert begun.index(needed) < begun.index(name)
            assert ended.index(name) < ended.index(needed)


# --- restarting along ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bound", "along"),
    [
        ({"a": "", "b": ""}, ""),
        ({"a": "", "b": "a"}, "b"),
        ({"a": "b", "b": ""}, ""),  # the other way round binds nothing
        ({"a": "", "b": "a", "c": "b", "d": "c", "e": ""}, "bcd"),
        ({"a": "b", "b": "a"}, "b"),
        ({"a": "c", "b": "a", "c": "b"}, "bc"),
        ({"a": "a", "b": "a"}, "b"),
        ({"a": "", "b": "ax", "c": "ab"}, "bc"),
        ({"d": "b", "c": "b", "b": "a", "a": ""}, "bdc"),  # the nearer first
    ],
)
def test_who_is_bound_restarts_along(bound: dict[str, str], along: str) -> None:
    """Directly or through others, each once, itself excepted."""
    services = children({name: spec(name, bound=to) for name, to in bound.items()})

    assert bound_services("a", services) == list(along)


def test_depending_binds_nothing() -> None:
    """`depends_on` orders starts and stops; a crash concerns those of `bind_to` alone."""
    services = children(graph(a="", b="a"))

    assert bound_services("a", services) == []


def test_the_longest_stop_is_a_chain() -> None:
    """Each service of it has its grace, dependents first; what does not depend stops beside it."""
    graces = {"a": 4.0, "b": 1.0, "c": 2.0, "d": 6.0}
    needs = {"b": ("a",), "c": ("b", "nowhere")}
    specs = [
        service_spec(spec(name), grace=grace, depends_on=needs.get(name, ()))
        for name, grace in graces.items()
    ]

    assert longest_stop(specs) == (7.0, ["c", "b", "a"])
    assert longest_stop(specs[3:]) == (6.0, ["d"])
    assert longest_stop([]) == (0.0, [])

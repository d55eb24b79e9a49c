"""Which services are renamed."""

import pytest

from garrison.supervisor.lifecycle.renames import (
    RENAMES_MOST,
    Left,
    Renaming,
    after_rename,
    former_names,
    plan_renames,
)

A, B, C = "a", "b", "c"


@pytest.mark.parametrize(
    ("services", "traces", "data", "is_renamed", "has_problem"),
    [
        ({A}, {}, {}, True, False),
        ({A}, {A}, {A}, True, False),
        ({}, {A}, {}, True, False),
        ({}, {}, {A}, True, False),
        ({}, {}, {}, False, False),  # nothing is left of it: the key means nothing any more
        ({B}, {A}, {B}, False, False),
        ({B}, {}, {A, B}, False, True),  # both have run
        ({A, B}, {}, {A}, False, True),
        ({A}, {}, {A, B}, True, True),  # it is pending, and cannot be done
    ],
)
def test_a_service_is_renamed_while_something_is_left_of_the_former(
    services: set[str], traces: set[str], data: set[str], is_renamed: bool, has_problem: bool
) -> None:
    """What is left: a service, an order, a folder with files. Files of both are a problem."""
    plan = plan_renames({B: A}, Left(services, traces, data))
    assert plan.renamed == ({B: A} if is_renamed else {})
    assert plan.problems.keys() == ({B} if has_problem else set())


def test_the_former_names_of_a_chain() -> None:
    """All that led to a NAME; one that is in use again has no successor. They are bounded."""
    done = after_rename([Renaming(A, B)], Renaming(B, C))
    assert former_names(done, C) == (B, A)
    assert former_names(done, B) == (A,)
    back = after_rename(done, Renaming(C, A))
    assert former_names(back, A) == (C, B)
    assert former_names(back, C) == (B,)
    many = [Renaming(f"s{n}", f"s{n + 1}") for n in range(RENAMES_MOST)]
    assert len(after_rename(many, Renaming(A, B))) == RENAMES_MOST

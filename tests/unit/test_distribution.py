"""How tests are spread over processes."""

import pytest

SEEN: list[int] = []  # in this process


@pytest.mark.parametrize("number", range(6))
def test_tests_of_a_group_run_in_one_process(number: int) -> None:
    """In their order: a file of unit tests is a group, as is what shares a host."""
    SEEN.append(number)
    assert list(range(SEEN[0], number + 1)) == SEEN

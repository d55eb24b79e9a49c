"""Choices that a message offers."""

from typing import Any

import pytest

from garrison.workers import Choice
from garrison.workers.platform.choices import choices_of


@pytest.mark.parametrize(
    ("given", "choices", "problem"),
    [
        (None, [], ""),
        (["Yes", "No"], [Choice("Yes"), Choice("No")], ""),
        ([{"label": "Yes", "value": "y"}], [Choice("Yes", "y")], ""),
        ([Choice("No", "n")], [Choice("No", "n")], ""),
        ("Yes", [], "choices is a str"),
        (["Yes", 7], [Choice("Yes")], "has a label and a value"),
        (["Yes", {"value": "n"}], [Choice("Yes")], "label"),
        (["Yes", " "], [Choice("Yes")], "no label"),
        (["Yes", "n" * 81], [Choice("Yes")], "too long"),
        (["Yes", {"label": "n", "value": "v" * 101}], [Choice("Yes")], "too long"),
        ([str(n) for n in range(26)], [Choice(str(n)) for n in range(25)], "at most 25"),
    ],
)  # fmt: skip
def test_usable_choices_are_taken_and_others_are_named(
    given: Any, choices: list[Choice], problem: str
) -> None:
    """A wrong one does not keep the others from being offered."""
    found = choices_of({} if given is None else {"choices": given})

    assert found.choices == choices
    assert problem in found.problem
    assert bool(problem) == bool(found.problem)


def test_a_choice_without_a_value_is_its_label() -> None:
    """That is what is received when it is taken."""
    assert [Choice("Yes").text, Choice("Yes", "y").text] == ["Yes", "y"]

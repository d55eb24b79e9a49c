"""Numbers of seconds, on the command line and in programs, have bounds."""

import click
import pytest

from garrison.ipc.caller import bounded_seconds
from garrison.ipc.messages import LONGEST_TIMEOUT
from garrison.supervisor.cli.app import LazyGroup, verbs
from garrison.supervisor.cli.durations import LONGEST_S, Seconds, Whole


@pytest.mark.parametrize("text", ["nan", "-nan", "inf", "-inf", "0", "-1", "1e99", "x", ""])
def test_what_is_no_number_of_seconds_is_rejected(text: str) -> None:
    """No comparison rejects nan."""
    with pytest.raises(click.BadParameter):
        Seconds().convert(text, None, None)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "'' is no number of seconds; write it as 5 or 0.5"),
        ("abc", "'abc' is no number of seconds; write it as 5 or 0.5"),
        ("5s", "'5s' is no number of seconds; write 5"),
        ("2m", "'2m' is no number of seconds; write 120"),
    ],
)
def test_a_text_is_answered_with_what_to_write(text: str, says: str) -> None:
    """Not with the name of a type."""
    with pytest.raises(click.BadParameter) as caught:
        Seconds().convert(text, None, None)
    assert caught.value.message == says
    with pytest.raises(click.BadParameter, match=f"{text!r} is no whole number; write it as 20"):
        Whole(1, 30).convert(text, None, None)


def test_a_number_of_seconds_is_accepted() -> None:
    """From more than 0 to the longest."""
    assert [Seconds().convert(text, None, None) for text in ("0.001", "1e7")] == [0.001, LONGEST_S]


def test_every_number_with_a_fraction_on_the_command_line_has_bounds() -> None:
    """A verb that is added uses the same type."""
    group = LazyGroup()
    context = click.Context(group)
    commands = [group.get_command(context, verb) for verb in verbs()]
    assert not [
        param
        for command in commands
        if command is not None
        for param in command.params
        if isinstance(param.type, click.types.IntParamType) and not isinstance(param.type, Whole)
    ]
    floats = [
        param.type
        for command in commands
        if command is not None
        for param in command.params
        if isinstance(param.type, click.types.FloatParamType)
    ]

    assert len(floats) > 4
    assert all(isinstance(one, Seconds) for one in floats)


def test_a_program_s_timeout_has_bounds() -> None:
    """0 is at once; more than the longest is the longest."""
    assert [bounded_seconds(one) for one in (0.0, 2.5, 1e99)] == [0.0, 2.5, LONGEST_TIMEOUT]
    for wrong in (float("nan"), -1.0, float("-inf")):
        with pytest.raises(ValueError, match="a timeout is a number of seconds"):
            bounded_seconds(wrong)

"""What a platform's record says of questions and answers: none missing, none twice, in order."""

import pytest
from tests.support.answer_counts import Said, count

A, B = Said("m1", "a", 1, "q1 short"), Said("m2", "a", 2, "q2 long")


def bot(text: str, reply_to: str = "", channel: str = "a") -> Said:
    """Return a bot's message."""
    return Said("m9", channel, 9, text, bot=True, reply_to=reply_to)


@pytest.mark.parametrize(
    ("answers", "faults"),
    [
        ([bot("[q1.1/1]"), bot("[q2.1/2] x"), bot("[q2.2/2]")], {}),
        ([bot("[q1.1/1]"), bot("[q2.1/2] x [q2.2/2]")], {}),
        ([bot("interrupted", "m1"), bot("[q2.1/1]")], {}),
        ([bot("[q1.1/1]"), bot("interrupted", "m1"), bot("[q2.1/1]")], {}),
        ([bot("[q1.1/2]"), bot("cut short", "m1"), bot("[q2.1/1]")], {}),
        ([], {"unanswered": ["q1", "q2"]}),
        ([bot("[q1.1/1]"), bot("[q2.2/2]")], {"unanswered": ["q2"]}),
        ([bot("[q1.1/1]"), bot("[q1.1/1]"), bot("[q2.1/1]")], {"twice": ["q1"]}),
        ([bot("[q1.1/1]"), bot("[q2.1/1]"), bot("[q1.1/1]")], {"twice": ["q1"]}),
        ([bot("no", "m1"), bot("no", "m1"), bot("[q2.1/1]")], {"twice": ["q1"]}),
        ([bot("[q2.1/1]"), bot("[q1.1/1]")], {"disordered": ["q1"]}),
        ([bot("[q1.1/1]"), bot("[q2.2/2]"), bot("[q2.1/2]")], {"disordered": ["q2"]}),
        ([bot("[q2.1/1]", channel="b"), bot("[q1.1/1]")], {}),
        ([bot("[q1.1/1]"), bot("[q2.1/1]"), bot("what?")], {"stray": ["what?"]}),
        ([bot("[q1.1/1]"), bot("[q2.1/1]"), bot("[q3.1/1]")], {"stray": ["[q3.1/1]"]}),
    ],
)
def test_a_record_is_counted(answers: list[Said], faults: dict[str, list[str]]) -> None:
    """Missing pieces, repeated ones, later ones before earlier ones, and what belongs to none."""
    assert count([A, B, *answers]).faults == faults


def test_what_a_person_says_otherwise_is_no_question() -> None:
    """It may stay without an answer."""
    assert count([Said("m1", "a", 1, "thanks")]).questions == []

"""The stages of a direct route: what follows from each event."""

import itertools

import pytest

from garrison.ipc.direct_state import LONGEST_S, TRANSITIONS, Act, Happened, Rule, Stage, step

HOLDING = {Act.ENTER, Act.LEAVE, Act.HOLD}  # afterwards new calls wait
RELEASING = {Act.USE, Act.STAY, Act.EMPTY, Act.SETTLE, Act.CLOSE}
HELD = {Stage.ENTERING, Stage.LEAVING, Stage.ENDING, Stage.LOST}


@pytest.mark.parametrize(("stage", "event"), [*itertools.product(Stage, Happened)])
def test_calls_are_held_only_where_something_ends_that(stage: Stage, event: Happened) -> None:
    """Each stage that holds calls has a deadline, and each way out of it lets them go."""
    rule = step(stage, event)
    if rule is None:
        return
    after = rule.stage
    if after in HELD:
        assert rule.act in HOLDING
        assert after in LONGEST_S
    elif stage in HELD:
        assert rule.act in RELEASING
    elif after is not Stage.CLOSED:
        assert rule.act not in HOLDING


@pytest.mark.parametrize("stage", Stage)
def test_each_stage_but_two_ends_by_itself(stage: Stage) -> None:
    """A route in use may last, and a closed one does."""
    lasting = {Stage.DIRECT, Stage.CLOSED}
    assert (stage in LONGEST_S) is (stage not in lasting)
    assert (step(stage, Happened.LATE) is not None) is (stage not in lasting)


@pytest.mark.parametrize(
    "stage", [Stage.DIRECT, Stage.LEAVING, Stage.STAYING, Stage.EMPTYING], ids=lambda s: s.value
)
def test_calls_in_flight_are_settled_after_all_was_read(stage: Stage) -> None:
    """Whichever comes first: the notice of the end, or the end of the connection."""
    for first, second in [
        (Happened.ENDED, Happened.DISCONNECTED),
        (Happened.DISCONNECTED, Happened.ENDED),
        (Happened.ENDED, Happened.LATE),
        (Happened.DISCONNECTED, Happened.LATE),
    ]:
        between = step(stage, first)
        assert between is not None
        assert between.act is Act.HOLD
        assert step(between.stage, second) == Rule(Stage.CLOSED, Act.SETTLE)


def test_a_route_is_used_after_both_barriers() -> None:
    """The first shows that it works, the second that nothing is on the other way."""
    stage = Stage.CONNECTING
    acts = []
    for event in (Happened.PASSED, Happened.PASSED, Happened.REVOKED, Happened.PASSED):
        rule = step(stage, event)
        assert rule is not None
        stage = rule.stage
        acts.append(rule.act)
    assert acts == [Act.ENTER, Act.USE, Act.LEAVE, Act.EMPTY]
    assert step(stage, Happened.EMPTY) == Rule(Stage.CLOSED, Act.CLOSE)


def test_a_callee_that_does_not_answer_keeps_the_way() -> None:
    """Calls on the other way could overtake those that it has not read."""
    late = step(Stage.LEAVING, Happened.LATE)
    assert late == Rule(Stage.STAYING, Act.STAY)
    assert step(Stage.STAYING, Happened.LATE) == Rule(Stage.LEAVING, Act.LEAVE)


def test_every_stage_has_a_row() -> None:
    """Each can be reached, too."""
    assert set(TRANSITIONS) == set(Stage)
    reached = {rule.stage for row in TRANSITIONS.values() for rule in row.values()}
    assert reached | {Stage.CONNECTING} == set(Stage)

"""Whether another service answers in place of one whose key is refused."""

import pytest

from garrison.ipc.messages import Entry, Manifest, ModelInfo, State
from garrison.workers.services.model_support.key_check import answers_elsewhere

TEXT = (ModelInfo("TEXT_LARGE", "p", 0, False),)
SOUND = (ModelInfo("TRANSCRIPTION", "p", 0, False),)
OWN = Entry("openai", "openai", 0, Manifest("openai", models=(*TEXT, *SOUND)), State.STARTING, True)


def entry(models: tuple[ModelInfo, ...], state: State, wanted: bool = True) -> Entry:
    """Return another service."""
    return Entry("other", "other", 1, Manifest("other", models=models), state, wanted)


@pytest.mark.parametrize(
    ("entries", "found"),
    [
        ([OWN], False),
        ([OWN, entry(TEXT, State.RUNNING)], True),
        ([OWN, entry(SOUND, State.QUEUED)], True),  # it is about to start
        ([OWN, entry(TEXT, State.BACKOFF)], True),
        ([OWN, entry((), State.RUNNING)], False),
        ([OWN, entry(TEXT, State.FAILED)], False),
        ([OWN, entry(TEXT, State.STOPPED, False)], False),
        ([OWN, entry((ModelInfo("RESEARCH", "p", 0, False),), State.RUNNING)], False),
        ([], False),
    ],
)
def test_another_one_answers(entries: list[Entry], found: bool) -> None:
    """One that runs or will run, and offers one of its types."""
    assert answers_elsewhere("openai", entries) is found

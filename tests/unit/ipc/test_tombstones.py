"""Who was forgotten, as hashes."""

import msgspec
import pytest

from garrison.ipc import tombstones
from garrison.ipc.tombstones import Tombstones

NONE = Tombstones(b"salt")
ADA = NONE.adding(("discord", "discord2"), "42", at=100.0)


@pytest.mark.parametrize(
    ("source", "person", "stored_at", "expected"),
    [
        ("discord", "42", 0.0, True),
        ("discord2", "42", 99.0, True),
        ("discord", "42", 100.0, True),
        ("discord", "42", 100.1, False),  # they came back
        ("", "42", 50.0, True),  # a row that states no source
        ("telegram", "42", 50.0, False),  # another person
        ("discord", "43", 50.0, False),
        ("discord4", "2", 50.0, False),
        ("discord", "", 50.0, False),
    ],
)
def test_what_was_stored_before_is_forgotten(
    source: str, person: str, stored_at: float, expected: bool
) -> None:
    """Of this person on this platform alone."""
    assert ADA.was_forgotten(source, person, stored_at) is expected


def test_ids_cannot_be_read_from_it() -> None:
    """Each home has a salt of its own."""
    assert b"discord" not in msgspec.json.encode(ADA)
    assert b"42" not in "".join(ADA.forgotten).encode() or len(ADA.forgotten) == 3
    other = Tombstones(b"other").adding(("discord",), "42", at=100.0)
    assert not other.forgotten.keys() & ADA.forgotten.keys()


def test_the_mark_changes_with_the_list() -> None:
    """A store that has another mark is looked through."""
    again = ADA.adding(("discord",), "42", at=101.0)

    assert NONE.mark == 0
    assert len({NONE.mark, ADA.mark, again.mark}) == 3
    assert again.was_forgotten("discord", "42", 100.5)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(ADA), type=Tombstones).mark == ADA.mark


def test_it_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest are dropped."""
    monkeypatch.setattr(tombstones, "MOST", 4)
    full = NONE
    for number in range(3):
        full = full.adding(("discord",), str(number), at=float(number))

    assert [full.was_forgotten("discord", str(number)) for number in range(3)] == [
        False,
        True,
        True,
    ]

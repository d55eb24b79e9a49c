"""`garrison status NAME` shows a service's config, but no password in it."""

from typing import Any

import pytest

from garrison.supervisor.control.status import without_passwords


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("postgresql://ada:s3cret@db/x", "postgresql://ada:***@db/x"),
        ("postgresql://ada:s@c@ret@db/x", "postgresql://ada:***@db/x"),
        ("redis://:pw@host:6379", "redis://:***@host:6379"),
        ("https://host/path?a=b@c", "https://host/path?a=b@c"),
        ("http://host:8080/v1", "http://host:8080/v1"),
        ({"a": ["x://u:p@h", 1], "b": {"c": None}}, {"a": ["x://u:***@h", 1], "b": {"c": None}}),
        (3.5, 3.5),
    ],
)
def test_a_password_in_an_address_is_not_shown(value: Any, shown: Any) -> None:
    """Wherever in the config it is; all else is as it was written."""
    assert without_passwords(value) == shown

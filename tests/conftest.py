"""Fixtures of all tests."""

import contextlib
from collections.abc import Iterator

import pytest
from tests.support.host import Hosting, hosting
from tests.support.waiting import LONGEST, ending_within


@pytest.fixture(autouse=True)
def bounded() -> Iterator[None]:
    """Fail a test that does not end: every call has one outcome, so waiting for ever is one too."""
    with ending_within(LONGEST):
        yield


@pytest.fixture
def host() -> Iterator[Hosting]:
    """Return what makes a host for one test: `host(config, plugins=["echo"])`, see `Host`."""
    with contextlib.ExitStack() as stack:
        yield lambda *args, **kwargs: stack.enter_context(hosting(*args, **kwargs))

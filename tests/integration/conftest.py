"""Fixtures that several modules share."""

from collections.abc import Iterator

import pytest
from tests.support.browser import Browser, browsing
from tests.support.platform_client import FakePlatform, fake_platform


@pytest.fixture(scope="module")
def fake() -> Iterator[FakePlatform]:
    """Run one chat platform for the tests of a module; each has channels of its own."""
    with fake_platform() as platform:
        yield platform


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Run one browser for all tests of a run; each visit has a page of its own."""
    with browsing() as running:
        yield running

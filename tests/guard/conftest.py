"""What the tests of the guard with memory share: the single images' guard and a whitener."""

import pytest

from tests.guard.streamed import make_guard, make_whitener


@pytest.fixture(scope="module")
def whitener():
    return make_whitener()


@pytest.fixture(scope="module")
def single():
    return make_guard()

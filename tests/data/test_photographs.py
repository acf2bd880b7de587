"""The split that keeps test images unseen, and copies on one side."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from uap_lightning.core.errors import UapError
from uap_lightning.data.photographs import Photograph, random_split


@settings(max_examples=50, deadline=None)
@given(st.integers(2, 200), st.floats(0.05, 0.9), st.integers(0, 1000), st.integers(0, 200))
def test_a_split_is_disjoint_and_tests_labelled_photographs(count, share, seed, labelled):

    photographs = [Photograph(Path(str(i)), i if i < labelled else None) for i in range(count)]
    wanted = round(share * count)
    if not 0 < wanted < count:
        with pytest.raises(UapError, match="test_share"):
            random_split(photographs, share, seed)
        return
    split = random_split(photographs, share, seed)
    assert len(split.test) == wanted
    assert not set(split.train) & set(split.test)
    assert set(split.train) | set(split.test) == set(photographs)
    assert split == random_split(photographs, share, seed)
    if min(labelled, count) >= wanted:
        assert all(photograph.label is not None for photograph in split.test)

"""The split that keeps test images unseen, and copies on one side."""

import math
import os
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from uap_lightning.core.errors import UapError
from uap_lightning.data.photographs import Photograph, random_split, with_copies


@settings(max_examples=50, deadline=None)
@given(st.integers(2, 200), st.floats(0.05, 0.9), st.integers(0, 1000), st.integers(0, 200))
def test_a_split_is_disjoint_and_tests_labelled_photographs(count, share, seed, labelled):

    photographs = [Photograph(str(i), i if i < labelled else None) for i in range(count)]
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


@settings(max_examples=50, deadline=None)
@given(st.integers(20, 200), st.floats(0.2, 0.8), st.integers(0, 1000))
def test_another_seed_tests_on_other_photographs(count, share, seed):
    photographs = [Photograph(str(i), None) for i in range(count)]
    # Two of many draws can be the same by chance; three are not.
    draws = {random_split(photographs, share, seed + more).test for more in range(3)}
    assert len(draws) > 1


def test_every_photograph_is_tested_on_as_often_as_its_share():
    photographs = [Photograph(str(i), None) for i in range(20)]
    tested = Counter(p for seed in range(400) for p in random_split(photographs, 0.25, seed).test)
    # A binomial of 400 draws: mean 100, deviation 8.7.
    assert set(tested) == set(photographs)
    assert all(abs(times - 100) < 5 * 8.7 for times in tested.values())


@pytest.mark.parametrize("share", [0.0, 1.0, -0.5, math.nan, math.inf])
def test_a_share_that_is_none_is_told(share):
    photographs = [Photograph(str(i), None) for i in range(20)]
    with pytest.raises(UapError, match=r"data\.source\.test_share is"):
        random_split(photographs, share, 0)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=30), st.data())
def test_copies_follow_the_first_by_name(contents, drawn):
    names = drawn.draw(st.permutations([f"{n:02d}" for n in range(len(contents))]))
    photographs = [Photograph(name, None) for name in names]
    chosen = drawn.draw(st.sets(st.sampled_from(range(len(contents)))))
    found = with_copies(chosen, photographs, contents)
    assert found == sorted(found)
    others = set(range(len(contents))) - set(found)
    assert not {contents[n] for n in found} & {contents[n] for n in others}
    for content in set(contents):
        group = [n for n in range(len(contents)) if contents[n] == content]
        assert (min(group, key=lambda n: names[n]) in chosen) == (group[0] in found)
    if len(set(contents)) == len(contents):
        assert set(found) == chosen


def test_only_a_file_is_read(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(OSError, match="not a file"):
        Photograph(str(tmp_path / "pipe.jpg"), None).read()

"""The split of photographs, against its definition."""

import math
import tarfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from uap_lightning.core.errors import UapError
from uap_lightning.data.photographs import Photograph, Split, random_split, share_of


def photographs(count, unlabelled=()):
    return [Photograph(f"{i}.png", None if i in unlabelled else i % 5) for i in range(count)]


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 80), st.floats(0.05, 0.95), st.integers(0, 1000))
def test_a_split_is_a_partition_of_the_share_asked_for(count, share, seed):
    every = photographs(count)
    if not 0 < round(share * count) < count:
        with pytest.raises(UapError, match=r"^data\.source\.test_share is "):
            random_split(every, share, seed)
        return
    split = random_split(every, share, seed)
    assert len(split.test) == round(share * count)
    assert set(split.train) | set(split.test) == set(every)
    assert not set(split.train) & set(split.test)
    for side in (split.train, split.test):  # in the order of the files
        assert list(side) == sorted(side, key=lambda p: int(p.path.stem))
    assert split.classes is None
    assert random_split(every, share, seed) == split


def test_the_seed_decides_and_every_photograph_has_its_chance():
    every = photographs(20)
    tested = [set(random_split(every, 0.25, seed).test) for seed in range(200)]
    assert len({frozenset(side) for side in tested}) > 150
    counts = [sum(p in side for side in tested) for p in every]
    # 200 draws of 5 of 20: 50 each, with a deviation of 6.1
    assert all(abs(count - 50) < 4.5 * 6.2 for count in counts)


def test_labelled_photographs_are_tested_first():
    some = photographs(20, unlabelled=range(5, 20))
    for seed in range(10):
        assert {p.label for p in random_split(some, 0.25, seed).test} == {0, 1, 2, 3, 4}
        # too few labels for the share: all are drawn from
        assert len(random_split(some, 0.3, seed).test) == 6
    assert any(None in {p.label for p in random_split(some, 0.3, s).test} for s in range(10))


@pytest.mark.parametrize(("count", "share", "tested"), [(10, 0.0, 0), (10, 1.0, 0), (3, 0.1, 0)])
def test_a_side_without_a_photograph_is_refused(count, share, tested):
    with pytest.raises(UapError) as error:
        random_split(photographs(count), share, 0)
    assert str(error.value) == (
        f"data.source.test_share is {share}, which puts {tested} of {count} photographs on the "
        "test side: expected at least one on each side."
    )


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 60), st.floats(0.01, 1), st.integers(0, 1000))
def test_a_share_is_as_large_as_said_and_in_order(count, share, seed):
    chosen = share_of(photographs(count), share, seed)
    assert len(chosen) == len(set(chosen)) == math.ceil(share * count)
    assert chosen == sorted(chosen)
    assert set(chosen) <= set(range(count))
    assert share_of(photographs(count), share, seed) == chosen


def test_a_share_depends_on_the_seed_and_has_bounds():
    every = photographs(40)
    assert len({tuple(share_of(every, 0.5, seed)) for seed in range(20)}) == 20
    assert share_of(every, 1, 3) == list(range(40))
    for share in (0, -0.5, 1.01):
        with pytest.raises(UapError) as error:
            share_of(every, share, 0)
        assert str(error.value) == (
            f"data.craft_share is {share}: expected a share above 0 and at most 1."
        )


def test_a_member_of_a_tar_file_is_read_where_it_lies():
    Path("a.png").write_bytes(b"first photograph")
    Path("b.png").write_bytes(b"the second")
    with tarfile.open("all.tar", "w") as archive:
        archive.add("a.png")
        archive.add("b.png")
    with tarfile.open("all.tar") as archive:
        (first, second) = archive.getmembers()
    for member, content in ((first, b"first photograph"), (second, b"the second")):
        inside = Photograph("all.tar", 3, member.name, member.offset_data, member.size)
        assert inside.read() == content
        assert inside.name == f"all.tar:{member.name}"
    alone = Photograph("b.png", None)
    assert alone.read() == b"the second"
    assert alone.name == "b.png"
    assert alone.labelled(7) == Photograph("b.png", 7)
    assert Split((alone,), (), 4).classes == 4

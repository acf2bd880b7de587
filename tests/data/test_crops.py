"""Places of crops, and batches by step."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision import transforms

from uap_lightning.data.crops import StepBatches, crop_origins


@settings(max_examples=50, deadline=None)
@given(
    st.integers(8, 60),
    st.integers(0, 40),
    st.integers(0, 40),
    st.integers(1, 30),
    st.integers(0, 1000),
)
def test_crops_lie_inside_and_begin_with_centre_and_corners(size, more_y, more_x, count, seed):
    height, width = size + more_y, size + more_x
    origins = crop_origins(height, width, size, count, seed)
    assert len(origins) == count
    assert all(0 <= top <= more_y and 0 <= left <= more_x for top, left in origins)
    assert origins[0] == (more_y // 2, more_x // 2)
    if count >= 5:
        image = torch.arange(height * width).reshape(1, height, width)
        five = transforms.functional.five_crop(image, [size, size])
        ours = {tuple(image[0, t : t + size, x : x + size][0].tolist()) for t, x in origins[1:5]}
        assert ours == {tuple(crop[0, 0].tolist()) for crop in five[:4]}


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 40), st.integers(1, 12), st.integers(0, 100), st.integers(0, 60))
def test_batches_by_step_are_a_shuffle_that_can_begin_anywhere(count, size, seed, start):
    whole = StepBatches(count, size, seed, step=lambda: 0)
    assert sorted(i for batch in whole for i in batch) == list(range(count))
    later = StepBatches(count, size, seed, step=lambda: start)
    assert list(later) == [whole.batch(step) for step in range(start, start + len(whole))]

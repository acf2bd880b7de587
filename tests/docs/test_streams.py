"""The Python example of the page on streams runs as it is printed, behind a real training."""

import re
from pathlib import Path

import torch

from tests.tiny import QUICK_TRAIN, composed
from uap_lightning.guard.defense_folder import load_defense
from uap_lightning.jobs import train as job
from uap_lightning.jobs.config import typed
from uap_lightning.jobs.schema import TrainConfig
from uap_lightning.jobs.stages import load_data_and_network
from uap_lightning.streams.whitening import Whitener

ROOT = Path(__file__).resolve().parent.parent.parent


def test_the_example_runs_on_what_training_leaves():
    example = re.search(r"```python\n(.*?)```", (ROOT / "docs" / "streams.md").read_text(), re.S)[1]
    small = example.replace("128", "64")
    larger = ("data.source.size=72", "data.crop=64", "data.train_crops=2")
    cfg = composed("train", *QUICK_TRAIN, *larger, output=Path("outputs/quickstart"))
    job.train(cfg)
    names: dict[str, object] = {}
    exec(small, names)  # the text of our own page
    assert names["seen"].pattern == [None] * 4
    assert torch.equal(names["seen"].logits, names["single"](names["images"]))
    assert names["guard"].discovery.seen == 4

    # Fitted on the first crop of each training photograph, which is the centre.
    loaded = load_defense("outputs/quickstart/defense").whitener
    data = load_data_and_network(typed(cfg, TrainConfig))[0]
    assert len(data.train) == 2 * 48
    expected = Whitener(64).fit(data.train.take(range(0, 96, 2)))
    for name, tensor in expected.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name

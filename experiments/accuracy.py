"""Top-1 accuracy of a network on clean photographs: what every rate of a defence is relative to.

Takes the settings of ``craft`` and counts the centre crop of each labelled photograph: those of
``data.test_root``, or of all of ``data.root`` without it.

python -m experiments.accuracy network=googlenet_bvlc network.weights=FILE data=imagenet_sample \
    data.root=FOLDER
"""

import logging
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from omegaconf import DictConfig
from scipy.stats import binomtest

from uap_lightning.core.errors import UapError
from uap_lightning.core.storage import write_json
from uap_lightning.data import Collection
from uap_lightning.jobs.config import build, typed
from uap_lightning.jobs.launch import launch
from uap_lightning.jobs.schema import CraftConfig
from uap_lightning.jobs.stages import check_labels, load_network, predicted

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Accuracy:
    """How often a network is right.

    Attributes:
        network: its name.
        weights: digest of its weights.
        photographs: counted.
        correct: of these.
        percent: the share that is correct.
        ci95: its interval over photographs, percent (Wilson).
    """

    network: str
    weights: str
    photographs: int
    correct: int
    percent: float
    ci95: tuple[float, float]


def accuracy_of(cfg: CraftConfig) -> Accuracy:
    """Measure a network on the photographs of a config.

    Raises:
        UapError: photographs or weights are missing or do not fit, or no photograph has a label.
    """
    cfg.data.update(train_crops=1, test_crops=1)
    data = build(cfg.data, Collection)
    network = load_network(cfg.network, cfg.accelerator)
    check_labels(data, network)
    sides = [data.test] if cfg.data.get("test_root") else [data.train, data.test]
    label = torch.cat([side.label for side in sides])
    answer = torch.cat([predicted(network, side, data.cache_dir).prediction for side in sides])
    counted = int((label >= 0).sum())
    if not counted:
        raise UapError(
            "no photograph has a label to count answers against: name files or class folders by "
            "ImageNet's WordNet ids, or give a folder for each class."
        )
    correct = int((answer == label).sum())
    low, high = binomtest(correct, counted).proportion_ci(method="wilson")
    percent, ci95 = 100 * correct / counted, (100 * low, 100 * high)
    return Accuracy(network.name, network.digest, counted, correct, percent, ci95)


def measure(composed: DictConfig) -> None:
    """Measure, say it, and keep it in ``accuracy.json`` of the output folder."""
    cfg = typed(composed, CraftConfig)
    found = accuracy_of(cfg)
    write_json(Path(composed.paths.output_dir) / "accuracy.json", asdict(found))
    log.info(
        "%s is right on %d of %d photographs: %.1f %% (95 %% interval %.1f to %.1f)",
        *(found.network, found.correct, found.photographs, found.percent, *found.ci95),
    )


if __name__ == "__main__":
    sys.argv.append("hydra.run.dir=outputs/experiments/accuracy/${name}")
    launch(measure, "craft")

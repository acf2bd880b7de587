"""How much faster a hand-written loop trains than the LightningModule: one ratio.

The same rectifier, crops, perturbations, optimizer, schedule and number of steps, on the same
device, in turns, so that a machine whose speed drifts slows both. Run it from anywhere:

    python benchmarks/training_overhead.py --steps 60 --rounds 5
"""

import argparse
import statistics
import tempfile
import time
from functools import partial
from pathlib import Path

import torch
from hydra import compose, initialize_config_dir
from pytorch_lightning import seed_everything
from torch import nn

from uap_lightning.core.device import pick_device, pick_precision
from uap_lightning.data import TrainingDataModule
from uap_lightning.jobs.building import build_module, build_parts
from uap_lightning.jobs.config import build, find_conf, register_schemas, typed
from uap_lightning.jobs.schema import TrainConfig
from uap_lightning.jobs.stages import build_trainer, load_data_and_network
from uap_lightning.jobs.training_groups import TrainingConfig
from uap_lightning.networks import TargetNetwork
from uap_lightning.perturbations.sampling import PerturbationSampler
from uap_lightning.training.losses import charbonnier


def config(steps: int, folder: str) -> TrainConfig:
    """The quickstart's training without detector, metrics and pictures."""
    register_schemas()
    with initialize_config_dir(find_conf(), version_base="1.3"):
        composed = compose(
            "train",
            [
                "experiment=quickstart",
                f"rectifier.training.steps={steps}",
                "callbacks=[checkpoint,progress]",
                f"paths.output_dir={folder}",
                f"paths.cache_dir={folder}/cache",
            ],
        )
    return typed(composed, TrainConfig)


def sampler_of(cfg: TrainConfig, preset: TrainingConfig) -> PerturbationSampler:
    """Random signs instead of crafted perturbations: they cost the same to add."""
    generator = torch.Generator().manual_seed(0)
    shape = (cfg.bank.extended, 3, cfg.data["crop"], cfg.data["crop"])
    rho = torch.randn(shape, generator=generator).sign() * cfg.ball().eps
    return PerturbationSampler(rho, preset.perturbed_share, preset.vary, cfg.ball(), cfg.seed)


def with_lightning(
    cfg: TrainConfig, training: TrainingConfig, crops: TrainingDataModule, network: TargetNetwork
) -> float:
    """Seconds of ``trainer.fit``."""
    seed_everything(cfg.seed, workers=True, verbose=False)
    module = build_module(
        cfg, network, build_parts(cfg, crops.crops.size), {"train_network": network.name}
    )
    trainer = build_trainer(cfg, training=training, crops=len(crops.crops))
    started = time.perf_counter()
    trainer.fit(module, datamodule=crops)
    return time.perf_counter() - started


def by_hand(cfg: TrainConfig, training: TrainingConfig, crops: TrainingDataModule) -> float:
    """Seconds of the same steps in a plain loop."""
    seed_everything(cfg.seed, workers=True, verbose=False)
    device = pick_device(cfg.accelerator)
    rectifier: nn.Module = build(cfg.rectifier.model).to(device)
    optimizer = build(training.optimizer, partial)(rectifier.parameters())
    schedule = build(training.scheduler or {}, partial)(optimizer, total_steps=training.steps)
    half = pick_precision(training.precision, device) == "bf16-mixed"
    loader = torch.utils.data.DataLoader(crops.crops, batch_size=training.batch_size, shuffle=True)
    started = time.perf_counter()
    step = 0
    while step < training.steps:
        for batch in loader:
            images = batch["image"].to(device).float()
            perturbed, _ = crops.perturb(images, step)
            with torch.autocast(device.type, torch.bfloat16, enabled=half):
                loss = charbonnier(rectifier(perturbed), images)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(rectifier.parameters(), training.gradient_clip or 0.0)
            optimizer.step()
            schedule.step()
            step += 1
            if step == training.steps:
                break
    return time.perf_counter() - started


def main() -> None:
    """Print the median ratio of seconds by hand to seconds with Lightning."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        cfg = config(arguments.steps, folder)
        data, network = load_data_and_network(cfg)
        training = cfg.rectifier.training
        assert training is not None
        sampler = sampler_of(cfg, training)
        crops = TrainingDataModule(data.train, sampler, training.batch_size, cfg.seed)
        ratios = []
        for number in range(arguments.rounds + 1):
            Path(folder, "checkpoints", "last.ckpt").unlink(missing_ok=True)
            lightning = with_lightning(cfg, training, crops, network)
            hand = by_hand(cfg, training, crops)
            if number:  # the first round warms up
                ratios.append(hand / lightning)
                print(f"Lightning {lightning:.2f} s, by hand {hand:.2f} s: {ratios[-1]:.3f}")
    print(f"by hand / Lightning, median of {len(ratios)}: {statistics.median(ratios):.3f}")


if __name__ == "__main__":
    main()

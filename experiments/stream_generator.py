"""An attacker with a network that turns noise into perturbations: a fresh one for each image."""

import torch
from torch import Tensor
from torch.nn import functional

from experiments.stream_attackers import Vary
from uap_lightning.attacks.descent import draw_batches
from uap_lightning.attacks.generator import residual_generator
from uap_lightning.core.errors import UapError
from uap_lightning.core.terminal import track
from uap_lightning.data.crops import Images
from uap_lightning.networks import TargetNetwork
from uap_lightning.perturbations.ball import Ball

_BATCH = 8
_WIDTH = 16
_RATE = 2e-3


def train_sampler(
    network: TargetNetwork,
    images: Images,
    norm: Ball,
    seed: int,
    *,
    steps: int = 300,
    diversity: float = 1.0,
) -> Vary:
    """Learn to make perturbations that fool and differ from each other.

    As a network for adversary generation (NAG, Mopuri et al., CVPR 2018) it is trained on fresh
    noise in each step, and what two noises give is pushed apart: the loss is minus the logarithm of
    the cross-entropy to the clean predictions, and the squared cosine of the two perturbations.

    Args:
        network: the target.
        images: to train on.
        norm: the ball that the perturbations live in.
        seed: of weights, noise and batches.
        steps: of Adam, each with two perturbations of half a batch.
        diversity: weight of the squared cosine.

    Returns:
        what gives a fresh perturbation for each image.
    """
    chance = torch.Generator().manual_seed(seed)
    size = images.take([0]).shape[1:]
    device = network.mean.device
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        model = residual_generator(_WIDTH).to(device)
    optimizer = torch.optim.Adam(model.parameters(), _RATE, betas=(0.5, 0.999))

    def sample(count: int, generator: torch.Generator) -> Tensor:
        noise = torch.rand(count, *size, generator=generator).to(device)
        made = functional.interpolate(norm.eps * model(noise), size[1:])
        return torch.stack([norm.project(rho) for rho in made])

    for numbers in track(draw_batches(len(images), steps, _BATCH, chance), "Training a sampler"):
        batch = images.take(numbers).to(device).float()
        with torch.no_grad():
            clean = network(batch).argmax(1)
        two = sample(2, chance)
        each = two.repeat_interleave((len(batch) + 1) // 2, 0)[: len(batch)]
        entropy = functional.cross_entropy(network((batch + each).clamp(0, 255)), clean)
        alike = functional.cosine_similarity(two[:1].flatten(1), two[1:].flatten(1))[0]
        if not bool(entropy.isfinite()):
            raise UapError(
                f"the network {network.name} gives no finite answers: check its weights."
            )
        loss = diversity * alike.square() - entropy.clamp_min(1e-6).log()
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()

    @torch.no_grad()
    def fresh(
        rho: Tensor, image: Tensor, others: list[Tensor], generator: torch.Generator
    ) -> Tensor:
        return sample(1, generator)[0].cpu()

    return fresh

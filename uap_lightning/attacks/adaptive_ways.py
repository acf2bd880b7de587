"""The ways in which a perturbation is crafted through rectifier and detector."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional

from uap_lightning.attacks.descent import gradient_of
from uap_lightning.guard.guard import Guard

# A score that the attacker aims below: the decision is at 0, and rounding moves it.
_MARGIN = 0.5


@dataclass(frozen=True)
class Step:
    """What a way of attacking is given in a step.

    Attributes:
        guard: whose parts are attacked.
        perturbed: images, N x 3 x H x W, 0-255, differentiable in the perturbation.
        loss: of logits N x K, a scalar; what is minimised fools.
        progress: share of the steps that is done, 0 to 1.
        price: weight of the detector's score.
    """

    guard: Guard
    perturbed: Tensor
    loss: Callable[[Tensor], Tensor]
    progress: float
    price: float


def evade(step: Step) -> Tensor:
    """The network alone, with a price on what the detector would find."""
    _, score = step.guard.rectify(step.perturbed)
    found = functional.relu(score + _MARGIN).mean()
    return step.loss(step.guard.network(step.perturbed)) + step.price * found


def rectified(step: Step) -> Tensor:
    """Through the rectifier, as if the detector always fired."""
    return step.loss(step.guard.network(step.guard.rectify(step.perturbed)[0]))


def annealed(step: Step) -> Tensor:
    """Through a soft gate that becomes hard: a mixture of image and rectified image."""
    through, score = step.guard.rectify(step.perturbed)
    temperature = 2.0 * 0.05**step.progress
    share = (score / temperature).sigmoid()[:, None, None, None]
    return step.loss(step.guard.network(share * through + (1 - share) * step.perturbed))


def straight_through(step: Step) -> Tensor:
    """Through the hard gate, with the gradient of a soft one."""
    parts = step.guard.network, step.guard.rectifier, step.guard.detector
    guard = Guard(*parts, soft_gate=True, bf16=step.guard.bf16)
    return step.loss(guard.judge(step.perturbed).logits)


def orthogonal(step: Step) -> Tensor:
    """Classifier and detector in turn, each along what does not undo the other.

    Orthogonal projected gradient descent (Bryniarski et al., ICLR 2022), averaged over the batch:
    while the detector fires on most images the step lowers its score, otherwise it fools the
    network; of either gradient the part along the other one is taken away. The value returned is
    linear in the perturbed images and has that gradient.
    """
    perturbed = step.perturbed
    _, score = step.guard.rectify(perturbed)
    of_score = gradient_of(score.mean(), perturbed, retain=True).mean(0)
    loss = step.loss(step.guard.network(perturbed))
    of_loss = gradient_of(loss, perturbed, retain=True).mean(0)
    firing = float((score > -_MARGIN).double().mean()) > 0.5
    wanted, other = (of_score, of_loss) if firing else (of_loss, of_score)
    along = (wanted * other).sum() / other.square().sum().clamp_min(1e-20)
    direction = (wanted - along * other).detach()
    return (perturbed * direction).sum()


STEPS: dict[str, Callable[[Step], Tensor]] = {
    "evade": evade,
    "rectified": rectified,
    "annealed": annealed,
    "straight_through": straight_through,
    "orthogonal": orthogonal,
}

WAYS = tuple(STEPS)

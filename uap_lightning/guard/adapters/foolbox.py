"""The guard as a foolbox model."""

from foolbox.models.pytorch import PyTorchModel
from torch import Tensor, nn

from uap_lightning.guard.guard import Guard


class GateAndNetwork(nn.Module):
    """The guard without the checks of its door: an attack may step out of 0-255 as it searches."""

    def __init__(self, guard: Guard) -> None:
        super().__init__()
        self.guard = guard

    def forward(self, images: Tensor) -> Tensor:
        """Logits of images, through the defence: float N x 3 x H x W, 0-255, to N x K."""
        return self.guard.judge(images).logits


def foolbox_model(guard: Guard, *, soft_gate: bool = False) -> PyTorchModel:
    """The guard as a foolbox model with the bounds 0 and 255; epsilons are in pixel units.

    ``foolbox_model(guard).transform_bounds((0, 1))`` takes images from 0 to 1.

    Args:
        guard: the defence; it stays on its device.
        soft_gate: let gradients through the decision; see :mod:`uap_lightning.guard.adapters`.
    """
    attacked = Guard(
        guard.network, guard.rectifier, guard.detector, soft_gate=soft_gate, bf16=guard.bf16
    )
    model = GateAndNetwork(attacked).eval()
    return PyTorchModel(model, bounds=(0, 255), device=guard.network.mean.device)

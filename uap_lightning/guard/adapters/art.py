"""The guard for the Adversarial Robustness Toolbox: a preprocessor and an estimator."""

from typing import Any

from art.defences.preprocessor.preprocessor import PreprocessorPyTorch
from art.estimators.classification import PyTorchClassifier
from torch import Tensor, nn

from uap_lightning.guard.guard import Guard


class GuardPreprocessor(PreprocessorPyTorch):  # type: ignore[misc]
    """Rectifies the images on which the detector fires, before an ART estimator sees them.

    Args:
        guard: the defence; the estimator's model must be its network.
        soft_gate: let gradients through the decision; see :mod:`uap_lightning.guard.adapters`.
    """

    def __init__(self, guard: Guard, *, soft_gate: bool = False) -> None:
        super().__init__(device_type=_device_type(guard), is_fitted=True, apply_fit=False)
        self.guard = Guard(
            guard.network, guard.rectifier, guard.detector, soft_gate=soft_gate, bf16=guard.bf16
        )

    def forward(self, x: Tensor, y: Any = None) -> tuple[Tensor, Any]:
        """What the network is given of images x (N x 3 x H x W, 0-255), and y as it is."""
        return self.guard.gate(x.float())[0], y


def art_classifier(guard: Guard, *, soft_gate: bool = False) -> PyTorchClassifier:
    """The guard as an ART estimator that takes pixels 0-255 and returns logits.

    An attack's ``eps`` and ``eps_step`` are in pixel units then, such as 10 and 1.

    Args:
        guard: loaded from a folder.
        soft_gate: let gradients through the decision; see :mod:`uap_lightning.guard.adapters`.

    Raises:
        UapError: the guard is not from a folder.
    """
    size = guard.defense.size
    return PyTorchClassifier(
        model=guard.network,
        loss=nn.CrossEntropyLoss(),
        input_shape=(3, size, size),
        nb_classes=guard.network.classes(size),
        clip_values=(0.0, 255.0),
        preprocessing_defences=GuardPreprocessor(guard, soft_gate=soft_gate),
        device_type=_device_type(guard),
    )


def _device_type(guard: Guard) -> str:
    return "cpu" if guard.network.mean.device.type == "cpu" else "gpu"

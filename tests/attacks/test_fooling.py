"""The fooling ratio, image by image."""

import pytest
import torch

from uap_lightning.attacks.fooling import fooling_ratio


def test_the_fooling_ratio_counts_changed_predictions_of_clamped_images(network, images, labels):
    rho = torch.full((3, 32, 32), 10.0)
    rho[:, ::2] = -10
    changed = 0
    for i in range(len(images)):
        image = images.take([i]).float()
        perturbed = torch.minimum(
            torch.maximum(image + rho, torch.tensor(0.0)), torch.tensor(255.0)
        )
        changed += int(network(perturbed).argmax()) != int(network(image).argmax())
    assert fooling_ratio(network, images, labels, rho, 7) == pytest.approx(changed / len(images))

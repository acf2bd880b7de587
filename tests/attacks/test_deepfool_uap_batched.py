"""The batched DeepFool UAP."""

import torch

from uap_lightning.attacks.deepfool import deepfool
from uap_lightning.attacks.deepfool_uap_batched import deepfool_uap_batched, lengthened
from uap_lightning.attacks.fooling import clean_predictions, fooling_ratio
from uap_lightning.data.crops import TensorImages
from uap_lightning.data.generated import generated_image
from uap_lightning.networks.tiny import CLASSES


def test_a_step_is_doubled_while_no_fewer_images_are_fooled(network, images, labels, linf):
    batch, said = images.images[:16].float(), labels[:16]
    rho = torch.zeros(3, 32, 32)
    step = deepfool(network, batch, candidates=8, max_iterations=2).step.mean(0)
    found = lengthened(network, batch, said, rho, step, linf)
    lengths = [linf.project(2**k * step) for k in range(10)]
    fooled = [int((network.predict(batch + length) != said).sum()) for length in lengths]
    stop = next(k for k in range(10) if k == 9 or fooled[k] == 16 or fooled[k + 1] < fooled[k])
    assert stop > 0
    assert torch.equal(found, lengths[stop])


def test_batches_of_many_reach_the_goal_on_unseen_images_too(network, images, labels, linf):
    many = deepfool_uap_batched(network, images, labels, linf, 0, batch_size=16)
    assert float(linf.size(many.rho)) <= linf.eps * (1 + 1e-5)
    assert many.passes < 10
    assert fooling_ratio(network, images, labels, many.rho) >= 0.8
    generator = torch.Generator().manual_seed(6)
    unseen = TensorImages(
        torch.stack([generated_image(k % CLASSES, 32, generator) for k in range(80)])
    )
    predicted = clean_predictions(network, unseen)
    assert fooling_ratio(network, unseen, predicted, many.rho) > 0.65

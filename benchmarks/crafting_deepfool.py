"""One DeepFool step on a batch against foolbox's L2DeepFoolAttack: seconds and median l_2.

Both consider ten classes, overshoot by 0.02 and take at most 50 linearisations:

    python benchmarks/crafting_deepfool.py --network efficientnet_lite0 --count 64 --unseen 1
"""

import statistics
import time

import torch
from crafting_setup import options, setup
from foolbox.attacks.deepfool import L2DeepFoolAttack
from foolbox.models.pytorch import PyTorchModel

from uap_lightning.attacks.deepfool import deepfool


def main() -> None:
    """Print seconds, shares of images fooled and median sizes of both, and the two ratios."""
    parser = options(__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    network, craft, _ = setup(arguments)
    device = network.mean.device
    images = craft.take(range(len(craft))).to(device).float()
    predictions = craft.prediction.to(device)
    attack = L2DeepFoolAttack(steps=50, candidates=10, overshoot=0.02)
    target = PyTorchModel(network, bounds=(0, 255), device=device)
    ratios = []
    for _ in range(arguments.rounds):
        started = time.perf_counter()
        ours = deepfool(network, images, candidates=10, overshoot=0.02, max_iterations=50).step
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds = time.perf_counter() - started
        started = time.perf_counter()
        theirs = attack.run(target, images, predictions) - images
        if device.type == "cuda":
            torch.cuda.synchronize()
        ratios.append((time.perf_counter() - started) / seconds)
        print(f"ours {seconds:.1f} s, foolbox / ours {ratios[-1]:.2f}", flush=True)
    medians = []
    for name, step in (("ours", ours), ("foolbox", theirs)):
        fooled = float((network.predict(images + step) != predictions).float().mean())
        medians.append(float(step.flatten(1).norm(dim=1).median()))
        print(f"{name}: fools {fooled:.3f}, median l_2 {medians[-1]:.2f}")
    print(f"foolbox / ours: seconds {statistics.median(ratios):.2f} (median)")
    print(f"ours / foolbox: median l_2 {medians[0] / medians[1]:.3f}")


if __name__ == "__main__":
    main()

"""Banks that nothing was crafted for."""

import torch

from uap_lightning.core.storage import write_json
from uap_lightning.perturbations.record import Record, save_perturbation


def write_bank(folder, size=32, part="train", network="another", photographs=(), seed=9):
    """One perturbation of random signs as a file of a bank; returns it."""
    rho = 10 * torch.randn(3, size, size, generator=torch.Generator().manual_seed(seed)).sign()
    record = Record(
        network=network,
        weights="",
        p="inf",
        eps=10.0,
        size=size,
        attack={"name": "signs"},
        seed=0,
        attempt=0,
        data="",
        passes=0.0,
        seconds=0.0,
        fooling_ratio=None,
        fooling_ratio_unseen=None,
        cosine=0.0,
        l2=float(rho.norm()),
        linf=10.0,
        version="0",
    )
    described = {"network": network, "p": "inf", "eps": 10.0, "size": size}
    write_json(folder / "bank.json", {**described, "photographs": list(photographs)})
    save_perturbation(folder / f"{part}-0000.safetensors", rho, record)
    return rho

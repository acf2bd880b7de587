"""A bank as a table, and its perturbations as plain arrays."""

import io
from pathlib import Path

import numpy as np
import torch

from uap_lightning.core.errors import UapError
from uap_lightning.core.storage import write_atomically
from uap_lightning.perturbations.ball import Ball
from uap_lightning.perturbations.bank import perturbations_of
from uap_lightning.perturbations.record import ratio_text
from uap_lightning.perturbations.synthetic import nearest, synthesise

MOST_LISTED = 10_000  # synthetic perturbations; of 224 pixels they take 6 GB


def table_of(folder: Path, extended: int | None = None, seed: int = 0) -> list[dict[str, str]]:
    """A row for each perturbation of a bank, and for each synthetic one that training would add.

    Args:
        folder: of the bank.
        extended: size of the extended set, as bank.extended; None for crafted ones only.
        seed: of the run that would train.

    Raises:
        UapError: the folder holds no perturbations, a file cannot be read, or ``extended`` is
            out of its range.
    """
    if extended is not None and extended > MOST_LISTED:
        raise UapError(
            f"--extended is {extended}: expected at most {MOST_LISTED}; training may use more."
        )
    bank = perturbations_of(folder)
    if not bank:
        raise UapError(f"{folder} holds no perturbations: give the folder of a bank.")
    names, rhos = list(bank), torch.stack([rho for rho, _ in bank.values()])
    rows = []
    for number, (name, (rho, record)) in enumerate(bank.items()):
        others = [i for i in range(len(names)) if i != number]
        near, cosine = nearest(rho[None], rhos[others]) if others else (None, None)
        rows.append(
            {
                "name": name,
                "network": record.network,
                "norm": f"l{record.p} {record.eps:g}",
                "family": str(record.attack.get("source") or record.attack.get("name")),
                "seen": ratio_text(record.fooling_ratio),
                "unseen": ratio_text(record.fooling_ratio_unseen),
                "l2": f"{record.l2:.0f}",
                "linf": f"{record.linf:.1f}",
                "nearest": "" if near is None else names[others[int(near[0])]],
                "cosine": "" if cosine is None else f"{float(cosine[0]):.3f}",
                "seconds": f"{record.seconds:.1f}",
            }
        )
    train = rhos[: sum(name.startswith("train") for name in names)]
    if extended is not None:
        if not len(train) or extended < len(train):
            raise UapError(
                f"--extended is {extended} and {folder} holds {len(train)} training perturbations: "
                "expected at least one of them, and an extended set that holds them all."
            )
        record = bank[names[0]][1]
        norm = Ball(float(record.p), record.eps)
        made = synthesise(train, norm, extended - len(train), seed)
        for number, (near, cosine) in enumerate(zip(*nearest(made, train), strict=True)):
            rows.append(
                dict.fromkeys(rows[0], "")
                | {
                    "name": f"synthetic-{number:04d}",
                    "family": "synthetic",
                    "l2": f"{float(made[number].norm()):.0f}",
                    "linf": f"{float(made[number].abs().max()):.1f}",
                    "nearest": names[int(near)],
                    "cosine": f"{float(cosine):.3f}",
                }
            )
    return rows


def export_arrays(folder: Path, target: Path) -> list[Path]:
    """Write each perturbation of a bank as ``NAME.npy``: float32, 3 x H x W, RGB, pixel units.

    Raises:
        UapError: the folder holds no perturbations, or a file cannot be written.
    """
    bank = perturbations_of(folder)
    if not bank:
        raise UapError(f"{folder} holds no perturbations: give the folder of a bank.")
    written = []
    for name, (rho, _) in bank.items():
        content = io.BytesIO()
        np.save(content, rho.numpy())
        write_atomically(target / f"{name}.npy", content.getvalue())
        written.append(target / f"{name}.npy")
    return written

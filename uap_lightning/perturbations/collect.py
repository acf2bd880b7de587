"""Banks of published perturbations, banks as tables, and perturbations as plain arrays."""

import io
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from uap_lightning import __version__
from uap_lightning.errors import UapError
from uap_lightning.norms import LpNorm
from uap_lightning.perturbations.bank import largest_cosine, norm_name
from uap_lightning.perturbations.importers import Layout, read_published
from uap_lightning.perturbations.record import (
    Record,
    load_perturbation,
    ratio_text,
    save_perturbation,
)
from uap_lightning.perturbations.synthetic import nearest, synthesise
from uap_lightning.storage import digest_of_file, locked, read_json, write_atomically, write_json


def import_perturbations(
    folder: Path,
    files: list[Path],
    layout: Layout,
    source: str,
    network: str,
    norm: LpNorm,
    part: str,
    max_cosine: float,
) -> list[str]:
    """Add published perturbations to a bank of imports; the folder is made when missing.

    Args:
        folder: of the bank. It holds imports of one network, norm, eps and size only: a crafted
            bank is decided by its recipe, so nothing can be added to it.
        files: what to import.
        layout: how they hold their perturbations.
        source: name of the layout, for records.
        network: the network that they were crafted on.
        norm: the ball that they were made for.
        part: ``train`` or ``test``.
        max_cosine: largest absolute cosine to any other of the bank.

    Returns:
        the names they have in the bank.

    Raises:
        UapError: a file is not what was stated, is too like another, the bound is none, or the
            folder holds another kind of bank; nothing of ``files`` is added then.
    """
    if not max_cosine >= 0:  # also false for NaN
        raise UapError(f"--max-cosine is {max_cosine}: expected a number of 0 or more.")
    read = [(file, read_published(file, layout, norm)) for file in files]
    sizes = {int(rho.shape[-1]) for _, rho in read}
    with locked(folder / ".lock", wait=True):
        others = perturbations_of(folder)
        sizes |= {int(rho.shape[-1]) for rho, _ in others.values()}
        if len(sizes) != 1:
            raise UapError(
                f"the perturbations have sides of {', '.join(map(str, sorted(sizes)))} pixels: "
                "expected one size in a bank; import the others into a folder of their own."
            )
        fixed: dict[str, object] = {
            "network": network,
            "p": norm_name(norm),
            "eps": norm.eps,
            "size": sizes.pop(),
            "attack": {"name": "imported"},
        }
        _check_description(folder, fixed)
        known = [rho for rho, _ in others.values()]
        for file, rho in read:
            cosine = largest_cosine(rho, known)
            if cosine > max_cosine:
                raise UapError(
                    f"{file} has a cosine of {cosine:.3f} to another perturbation of {folder}: "
                    f"expected at most {max_cosine}; leave it out or allow it with --max-cosine."
                )
            known.append(rho)
        numbers = [int(name.rpartition("-")[2]) for name in others if name.startswith(part)]
        first = max(numbers, default=-1) + 1
        names = [f"{part}-{first + number:04d}" for number in range(len(read))]
        digests = {name: digest_of_file(file) for name, (file, _) in zip(names, read, strict=True)}
        # What is in a bank of imports is what makes it, so its identity grows with it. It is
        # written first: a folder with perturbations always says what they are.
        files_of = {name: record.attack["sha256"] for name, (_, record) in others.items()}
        write_json(folder / "bank.json", {**fixed, "files": {**files_of, **digests}})
        for position, (name, (file, rho)) in enumerate(zip(names, read, strict=True)):
            settings = {"name": "imported", "source": source, "file": file.name}
            settings["sha256"] = digests[name]
            record = Record(
                network=network,
                weights="",
                p=norm_name(norm),
                eps=norm.eps,
                size=int(rho.shape[-1]),
                attack={**settings, **asdict(layout)},
                seed=0,
                attempt=0,
                data="",
                passes=0.0,
                seconds=0.0,
                fooling_ratio=None,
                fooling_ratio_unseen=None,
                cosine=largest_cosine(rho, known[: len(others) + position]),
                l2=float(rho.norm()),
                linf=float(rho.abs().max()),
                version=__version__,
            )
            save_perturbation(folder / f"{name}.safetensors", rho, record)
    return names


def perturbations_of(folder: Path) -> dict[str, tuple[Tensor, Record]]:
    """All perturbations of a bank by name, training ones first."""
    files = [
        *sorted(folder.glob("train-*.safetensors")),
        *sorted(folder.glob("test-*.safetensors")),
    ]
    return {file.stem: load_perturbation(file) for file in files}


def table_of(folder: Path, extended: int | None = None, seed: int = 0) -> list[dict[str, str]]:
    """A row for each perturbation of a bank, and for each synthetic one that training would add.

    Args:
        folder: of the bank.
        extended: size of the extended set, as bank.extended; None for crafted ones only.
        seed: of the run that would train.

    Raises:
        UapError: the folder holds no perturbations, or a file cannot be read.
    """
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
        norm = LpNorm(float(record.p), record.eps)
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


def _check_description(folder: Path, fixed: dict[str, object]) -> None:
    """That the folder is new or holds imports with this description."""
    if not (folder / "bank.json").exists():
        return
    found = read_json(folder / "bank.json", "the description of a bank")
    for key, value in fixed.items():
        if found.get(key) != value:
            raise UapError(
                f"{folder} is a bank with {key} {found.get(key)}: expected {value}; import into "
                "a folder of its own."
            )

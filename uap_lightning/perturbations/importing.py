"""Banks of published perturbations."""

from dataclasses import asdict
from pathlib import Path

from uap_lightning.core.errors import UapError
from uap_lightning.core.storage import digest_of_file, locked, read_json, write_json
from uap_lightning.core.version import __version__
from uap_lightning.perturbations.ball import Ball
from uap_lightning.perturbations.bank import (
    largest_cosine,
    norm_name,
    perturbations_of,
    shown,
)
from uap_lightning.perturbations.published import ArrayLayout, read_published
from uap_lightning.perturbations.record import Record, save_perturbation


def import_perturbations(
    folder: Path,
    files: list[Path],
    layout: ArrayLayout,
    source: str,
    network: str,
    norm: Ball,
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
        taken = [name.rpartition("-")[2] for name in others if name.startswith(part)]
        first = max((int(number) for number in taken if number.isdecimal()), default=-1) + 1
        names = [f"{part}-{first + number:04d}" for number in range(len(read))]
        digests = {name: digest_of_file(file) for name, (file, _) in zip(names, read, strict=True)}
        # What is in a bank of imports is what makes it, so its identity grows with it. It is
        # written first: a folder with perturbations always says what they are.
        files_of = {name: record.attack.get("sha256") for name, (_, record) in others.items()}
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


def _check_description(folder: Path, fixed: dict[str, object]) -> None:
    """That the folder is new or holds imports with this description."""
    if not (folder / "bank.json").exists():
        return
    found = read_json(folder / "bank.json", "the description of a bank")
    for key, value in fixed.items():
        if found.get(key) != value:
            raise UapError(
                f"{folder} is a bank with {key} {shown(found.get(key))}: expected {value}; "
                "import into a folder of its own."
            )

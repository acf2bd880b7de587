"""What is done to each batch of files, wherever it is done."""

from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from uap_lightning.jobs.classify import Files
from uap_lightning.jobs.part import name_of
from uap_lightning.jobs.scanning.aligned import stacked
from uap_lightning.streams.search import Filters, Looked, Pattern


def images_of(files: Files) -> Tensor:
    """The images among files: uint8 N x 3 x H x W, or nothing at all."""
    crops = [found for _, found in files if not isinstance(found, str)]
    return stacked(crops) if crops else torch.empty(0)


@dataclass(frozen=True)
class Look:
    """Whitens images and compares them with what is known."""

    filters: Filters

    def __call__(self, files: Files) -> Looked:
        """What is seen of the images among files."""
        images = images_of(files)
        if not len(images):
            return Looked(images, images, [], [])
        return self.filters.look(images)


@dataclass(frozen=True)
class Carriers:
    """Picks images that carry a pattern, each with the number of its filter."""

    filters: Filters

    def __call__(self, files: Files) -> list[tuple[Tensor, int]]:
        """Images, uint8 3 x H x W, each with the number of the filter that it matches."""
        seen = Look(self.filters)(files)
        pairs = zip(seen.images, seen.found, strict=True)
        return [(image.cpu(), which) for image, which in pairs if which >= 0]


@dataclass(frozen=True)
class Judged:
    """What is said of one file.

    Attributes:
        name: below the folder.
        error: why it could not be compared; empty where it could.
        which: number of the pattern that it carries; -1 for none.
        score: with the pattern that comes nearest.
        before, after: with the pattern and without it, uint8 3 x H x W; None where there is none.
    """

    name: str
    error: str
    which: int = -1
    score: float = 0.0
    before: Tensor | None = None
    after: Tensor | None = None


@dataclass(frozen=True)
class Judge:
    """Says which pattern each file carries, and writes the image without it.

    Attributes:
        filters: of the patterns.
        patterns: that may be carried.
        left_alone: numbers of patterns that stay in the images that are written.
        parent: that names of files start from.
        cleaned: folder to write images to; None for none.
    """

    filters: Filters
    patterns: list[Pattern]
    left_alone: frozenset[int]
    parent: Path
    cleaned: Path | None

    def __call__(self, files: Files) -> list[Judged]:
        """What is said of each file, in their order."""
        seen = Look(self.filters)(files)
        answers = zip(seen.images, seen.found, seen.scores, strict=True)
        judged = []
        for path, content in files:
            name = name_of(path, self.parent)
            if isinstance(content, str):
                judged.append(Judged(name, content))
                continue
            image, which, score = next(answers)
            if which < 0:
                judged.append(Judged(name, "", which, score))
                continue
            after = subtracted(image, self.patterns[which])
            judged.append(Judged(name, "", which, score, image.cpu(), after.cpu()))
            if self.cleaned is not None and which not in self.left_alone:
                target = self.cleaned / f"{name}.png"
                target.parent.mkdir(parents=True, exist_ok=True)
                picture(after).save(target, "PNG")
        return judged


def subtracted(image: Tensor, pattern: Pattern) -> Tensor:
    """An image (3 x H x W) without a pattern, rounded and clipped: uint8."""
    return (image.float() - pattern.rho).round().clamp(0, 255).to(torch.uint8)


def picture(image: Tensor) -> Image.Image:
    """An image (uint8 3 x H x W) for Pillow."""
    return Image.fromarray(image.permute(1, 2, 0).cpu().numpy())

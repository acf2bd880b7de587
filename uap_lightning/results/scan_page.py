"""What a scan found as one HTML page that needs nothing else."""

from dataclasses import dataclass, field

from uap_lightning.core.terminal import plain
from uap_lightning.results.pictures import template


@dataclass(frozen=True)
class Example:
    """An image that carries a pattern.

    Attributes:
        name: of its file.
        before: as it is, a data URI.
        after: without the pattern, a data URI.
    """

    name: str
    before: str
    after: str


@dataclass
class CarriedPattern:
    """A pattern that images of a folder carry.

    Attributes:
        name: of its files, such as ``001``.
        source: name of the known pattern; None where it was found.
        kind: ``adversarial``, or what it looks like.
        harmful: whether it changes a network's predictions; None without a network.
        changed: share of the predictions that it changes, 0-1.
        control: likewise of the same pattern with its phases scrambled.
        estimated: from how many images; 0 where it was known.
        linf: largest value, pixel units.
        l2: length, pixel units.
        picture: amplified, a data URI.
        images: that carry it.
        examples: of them.
    """

    name: str
    source: str | None
    kind: str
    harmful: bool | None
    changed: float | None
    control: float | None
    estimated: int
    linf: float
    l2: float
    picture: str
    images: int = 0
    examples: list[Example] = field(default_factory=list)


@dataclass(frozen=True)
class ScanSummary:
    """What a scan did.

    Attributes:
        folder: that was scanned.
        files: in it.
        failed: of them that could not be compared.
        known: patterns that were searched for first.
        power: what would have been found, in one sentence.
        notes: what else is to be said, sentences.
        cleaned: images written without their pattern; None where that was not asked for.
        settings: of the search, by name.
    """

    folder: str
    files: int
    failed: int
    known: int
    power: str
    notes: list[str]
    cleaned: int | None
    settings: dict[str, object]


def render_scan(summary: ScanSummary, patterns: list[CarriedPattern]) -> str:
    """The page."""
    return template("scan.html.j2").render(
        summary=summary,
        patterns=patterns,
        carried=sum(pattern.images for pattern in patterns),
        plain=plain,
    )

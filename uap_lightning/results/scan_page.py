"""What a scan found: sentences for the terminal, and one HTML page that needs nothing else."""

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
        power: what would have been found, in one sentence.
        notes: what else is to be said, sentences.
        cleaned: images written without their pattern; None where that was not asked for.
        settings: of the search, by name.
    """

    folder: str
    files: int
    failed: int
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


def sentences(summary: ScanSummary, patterns: list[CarriedPattern]) -> list[str]:
    """What the terminal tells at the end."""
    compared = summary.files - summary.failed
    failed = f" ({summary.failed} more could not be compared)" if summary.failed else ""
    if not patterns:
        return [f"None found: no pattern in {compared} images{failed}.", summary.power]
    carried = sum(pattern.images for pattern in patterns)
    said = [f"Found {_counted(len(patterns))} in {carried} of {compared} images{failed}."]
    for one in patterns:
        source = (
            f"estimated from {one.estimated}"
            if one.source is None
            else f"known: {plain(one.source)}"
        )
        effect = "" if one.changed is None else f", changes {one.changed:.0%} of predictions"
        said.append(f"Pattern {one.name} in {one.images} images ({source}): {one.kind}{effect}.")
    return said


def _counted(count: int) -> str:
    return "1 pattern" if count == 1 else f"{count} patterns"

"""What a guard with memory has learned, as two files: tensors, and JSON that describes them."""

from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from uap_lightning.core.errors import UapError
from uap_lightning.core.storage import (
    FirstSchema,
    digest_of,
    digest_of_file,
    locked,
    make_folder,
    read_as,
    read_tensors,
    write_json,
    write_tensors,
)
from uap_lightning.guard.known import Found
from uap_lightning.streams.discovery import SUSPECTS, Discovery
from uap_lightning.streams.fitted import whitener_of
from uap_lightning.streams.memory import SMALL, Memory
from uap_lightning.streams.sketches import BITS, DESCRIBED
from uap_lightning.streams.suspects import RESERVOIR, Suspect
from uap_lightning.streams.verification import Verdict
from uap_lightning.streams.whitening import description_pairs

STATE = "stream.json"
_LARGEST_MEMORY = 10_000_000


@dataclass(frozen=True)
class SavedSuspect:
    """A suspect but for its tensors, with its name and verdict."""

    count: int
    latest: int
    estimated: int
    harmful: bool | None
    name: str
    verified: int
    verdict: Verdict | None


@dataclass(frozen=True)
class Content:
    """What the guard was set to and where it was in the stream.

    Attributes:
        defense: digest of the guard's defence; None where it was put together by hand.
        size: side of the images in pixels.
        rate: false alarms an image.
        least: as :class:`~uap_lightning.streams.discovery.Discovery` has it.
        memory: images whose sketches are kept.
        pixels: images that are kept whole.
        seen: images that discovery has seen.
        remembered: of these, images that went to memory.
        suspects: in discovery's order.
    """

    defense: str | None
    size: int
    rate: float
    least: float
    memory: int
    pixels: int
    seen: int
    remembered: int
    suspects: list[SavedSuspect]


@dataclass(frozen=True)
class State:
    """``stream.json``.

    Attributes:
        schema: of this file.
        content: see there.
        content_sha256: of it.
        tensors_sha256: of the file of tensors, whose name has its first 16 digits.
    """

    schema: FirstSchema
    content: Content
    content_sha256: str
    tensors_sha256: str


def save_state(folder: Path, defense: str | None, discovery: Discovery, found: list[Found]) -> None:
    """Write a state, so that a reader sees the old one or the whole new one.

    Raises:
        UapError: the folder cannot be written.
    """
    named = {id(one.suspect): one for one in found}
    suspects = [
        SavedSuspect(s.count, s.latest, s.estimated, s.harmful, f.name, f.verified, f.verdict)
        for s in discovery.suspects
        for f in [named[id(s)]]
    ]
    memory = discovery.memory
    content = Content(
        defense, discovery.whitener.size, discovery.rate, discovery.least, memory.most,
        memory.pixels, discovery.seen, memory.seen, suspects,
    )  # fmt: skip
    make_folder(folder)
    with locked(folder / ".lock", wait=True):
        draft = folder / ".stream.safetensors"
        write_tensors(draft, _tensors_of(discovery), {})
        digest = digest_of_file(draft)
        # Under a name of its own, so that the old state stays whole until the new one is.
        draft.replace(folder / _name(digest))
        state = State(1, content, digest_of(asdict(content)), digest)
        write_json(folder / STATE, asdict(state))
        for old in folder.glob("stream-*.safetensors"):
            if old.name != _name(digest):
                with suppress(OSError):
                    old.unlink()


def load_state(
    folder: Path, defense: str | None, device: torch.device
) -> tuple[Discovery, list[Found]]:
    """Read a state that :func:`save_state` wrote.

    Args:
        folder: with the state.
        defense: digest of the defence that the guard was loaded with.
        device: of the guard.

    Raises:
        UapError: it is not whole, was altered, or is of another defence.
    """
    path = folder / STATE
    state = read_as(path, State, "the state of a guard with memory, written by this version")
    content = state.content
    if state.content_sha256 != digest_of(asdict(content)):
        raise UapError(
            f"{path} was altered (the SHA-256 of its content differs): put the original back, or "
            "start anew without it."
        )
    if content.defense != defense:
        raise UapError(
            f"{path} is the state of a guard with the defence {_short(content.defense)}, and this "
            f"guard has {_short(defense)}: load it with the defence that it was saved with, or "
            "start anew without it."
        )
    file = folder / _name(state.tensors_sha256)
    if digest_of_file(file) != state.tensors_sha256:
        raise UapError(
            f"{file} is not the file that {path} describes (its SHA-256 differs): put the original "
            "back, or start anew without it."
        )
    tensors = read_tensors(file)[0]
    if not _fits(content, tensors):
        raise UapError(
            f"{file} does not fit {path}: expected the files that one guard saved; put the "
            "originals back, or start anew without them."
        )
    whitener = whitener_of(_below("whitener", tensors), content.size, file).to(device)
    discovery = Discovery(whitener, content.rate, content.memory, content.pixels, content.least)
    discovery.seen = content.seen
    _restore_memory(discovery.memory, content, _below("memory", tensors))
    found = []
    for number, saved in enumerate(content.suspects):
        own = _below(f"suspect {number}", tensors)
        pattern = own["pattern"].to(device) if "pattern" in own else None
        suspect = Suspect(
            own["images"], own["template"].to(device), own["description"].to(device), saved.count,
            saved.latest, pattern, saved.estimated, saved.harmful,
        )  # fmt: skip
        discovery.suspects.append(suspect)
        found.append(Found(suspect, saved.name, saved.verdict, saved.verified))
    return discovery, found


def _name(digest: str) -> str:
    return f"stream-{digest[:16]}.safetensors"


def _short(digest: str | None) -> str:
    return "none (put together by hand)" if digest is None else digest[:12]


def _below(name: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    start = f"{name}."
    return {key[len(start) :]: t for key, t in tensors.items() if key.startswith(start)}


def _tensors_of(discovery: Discovery) -> dict[str, Tensor]:
    """All that a state consists of, by name."""
    memory = discovery.memory
    filled = min(memory.seen, memory.most)
    size = discovery.whitener.size
    whole = [torch.zeros(0, 3, size, size, dtype=torch.uint8)]
    tensors = {
        "memory.numbers": torch.from_numpy(memory.numbers[:filled]),
        "memory.sketches": torch.from_numpy(memory.sketches[:filled].view(np.int64)),
        "memory.described": torch.from_numpy(memory.described[:filled].view(np.int64)),
        "memory.lengths": torch.from_numpy(memory.lengths[:filled]),
        "memory.thumbnails": memory.thumbnails[:filled],
        "memory.whole": torch.cat([*whole, *(image[None] for image in memory.whole.values())]),
        "memory.whole_numbers": torch.tensor(list(memory.whole), dtype=torch.int64),
    }
    tensors |= {f"whitener.{k}": t for k, t in discovery.whitener.state_dict().items()}
    for number, suspect in enumerate(discovery.suspects):
        tensors[f"suspect {number}.images"] = suspect.images
        tensors[f"suspect {number}.template"] = suspect.template
        tensors[f"suspect {number}.description"] = suspect.description
        if suspect.pattern is not None:
            tensors[f"suspect {number}.pattern"] = suspect.pattern
    return tensors


def _restore_memory(memory: Memory, content: Content, tensors: dict[str, Tensor]) -> None:
    filled = len(tensors["numbers"])
    memory.numbers[:filled] = tensors["numbers"].numpy()
    memory.sketches[:filled] = tensors["sketches"].numpy().view(np.uint64)
    memory.described[:filled] = tensors["described"].numpy().view(np.uint64)
    memory.lengths[:filled] = tensors["lengths"].numpy()
    memory.thumbnails[:filled] = tensors["thumbnails"]
    memory.seen = content.remembered
    for number, image in zip(tensors["whole_numbers"].tolist(), tensors["whole"], strict=True):
        memory.keep(number, image)


def _fits(content: Content, tensors: dict[str, Tensor]) -> bool:
    """Whether the tensors have the types and shapes that the content says."""
    if not (
        64 <= content.size <= 1024
        and 0 < content.rate < 0.1
        and 1 <= content.pixels <= content.memory <= _LARGEST_MEMORY
        and content.remembered >= 0
        and len(content.suspects) <= SUSPECTS
    ):
        return False
    image = (3, content.size, content.size)
    filled = min(content.remembered, content.memory)
    kept = _count("memory.whole_numbers", tensors, content.pixels)
    expected = {
        "memory.numbers": ((filled,), torch.int64),
        "memory.sketches": ((filled, BITS // 64), torch.int64),
        "memory.described": ((filled, DESCRIBED // 64), torch.int64),
        "memory.lengths": ((filled,), torch.float32),
        "memory.thumbnails": ((filled, SMALL), torch.float16),
        "memory.whole": ((kept, *image), torch.uint8),
        "memory.whole_numbers": ((kept,), torch.int64),
    }
    for number, saved in enumerate(content.suspects):
        name = f"suspect {number}"
        held = max(1, _count(f"{name}.images", tensors, RESERVOIR))
        expected[f"{name}.images"] = ((held, *image), torch.uint8)
        expected[f"{name}.template"] = ((3 * content.size**2,), torch.float32)
        described = 3 * content.size * description_pairs(content.size)
        expected[f"{name}.description"] = ((described,), torch.float32)
        if saved.estimated:
            expected[f"{name}.pattern"] = (image, torch.float32)
    given = {k: (tuple(t.shape), t.dtype) for k, t in tensors.items() if "whitener." not in k}
    return given == expected and all(bool(t.isfinite().all()) for t in tensors.values())


def _count(name: str, tensors: dict[str, Tensor], most: int) -> int:
    """Rows of a tensor, as far as they are allowed."""
    tensor = tensors.get(name)
    return min(most, len(tensor)) if tensor is not None and tensor.ndim else 0

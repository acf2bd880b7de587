"""The paper's Figure 4: what the network says of an image on each step of the way."""

from collections.abc import Sequence

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from uap_lightning.guard.guard import Guard

COLUMNS = ("clean", "perturbation x 10", "perturbed", "rectified", "removed x 10")
_MARGIN = 8
_TEXT = 34
_HEADER = 26
_SIDE = 192
_RIGHT, _WRONG, _INK = (0, 110, 60), (180, 30, 30), (40, 40, 40)


@torch.no_grad()
def draw_panel(guard: Guard, images: Tensor, rho: Tensor, names: Sequence[str]) -> Image.Image:
    """A picture with one row an image and the columns of :data:`COLUMNS`.

    Under clean, perturbed and rectified images stand the predicted class and its confidence:
    green where the class is that of the clean image. Under the removed pattern stands what the
    detector says of the perturbed image.

    Args:
        guard: the defence.
        images: clean, float N x 3 x H x W, 0-255.
        rho: the perturbation of each, N x 3 x H x W.
        names: of the classes.
    """
    perturbed = (images + rho).clamp(0, 255)
    seen = guard.inspect(perturbed)
    rectified = seen.rectified.clamp(0, 255)
    removed = perturbed - seen.rectified
    tiles = [images, 127.5 + 10 * rho, perturbed, rectified, 127.5 + 10 * removed]
    said = [guard.network(x).softmax(1).max(1) for x in (images, perturbed, rectified)]
    width = len(COLUMNS) * (_SIDE + _MARGIN) + _MARGIN
    height = _HEADER + len(images) * (_SIDE + _TEXT + _MARGIN) + _MARGIN
    canvas = Image.new("RGB", (width, height), "white")
    pen = ImageDraw.Draw(canvas)
    for column, title in enumerate(COLUMNS):
        _write(pen, column, _MARGIN, title, _INK, size=14)
    for row in range(len(images)):
        top = _HEADER + _MARGIN + row * (_SIDE + _TEXT + _MARGIN)
        for column, tile in enumerate(tiles):
            left = _MARGIN + column * (_SIDE + _MARGIN)
            canvas.paste(_picture(tile[row]), (left, top))
        below = top + _SIDE + 2
        original = int(said[0].indices[row])
        for column, answer in zip((0, 2, 3), said, strict=True):
            label = int(answer.indices[row])
            text = f"{names[label]}\n{100 * float(answer.values[row]):.0f} %"
            _write(pen, column, below, text, _RIGHT if label == original else _WRONG)
        size = float(rho[row].abs().max())
        _write(pen, 1, below, f"largest value {size:.0f} of 255", _INK)
        fired = bool(seen.perturbed[row])
        verdict = f"{'detected' if fired else 'not detected'}\nscore {float(seen.score[row]):+.1f}"
        _write(pen, 4, below, verdict, _RIGHT if fired else _WRONG)
    return canvas


def _picture(tile: Tensor) -> Image.Image:
    pixels = tile.clamp(0, 255).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy()
    return Image.fromarray(pixels).resize((_SIDE, _SIDE), Image.Resampling.LANCZOS)


def _write(
    pen: ImageDraw.ImageDraw,
    column: int,
    top: int,
    text: str,
    colour: tuple[int, int, int],
    size: int = 13,
) -> None:
    font = ImageFont.load_default(size)
    left = _MARGIN + column * (_SIDE + _MARGIN)
    lines = text.split("\n")
    while font.getlength(lines[0]) > _SIDE:
        lines[0] = lines[0].rstrip("…")[:-1] + "…"
    pen.multiline_text((left, top), "\n".join(lines), fill=colour, font=font, spacing=1)

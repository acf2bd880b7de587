"""The panel of Figure 4."""

import torch
from PIL import Image

from uap_lightning.data.imagenet_classes import class_names
from uap_lightning.detectors import DctSvm
from uap_lightning.guard.guard import Guard
from uap_lightning.rectifiers import ResidualPRN
from uap_lightning.training.panel import draw_panel


def test_the_panel_has_a_row_an_image(network, images, tmp_path):
    guard = Guard(network, ResidualPRN(8, 2), DctSvm(32))
    x = images.take(range(3)).float()
    rho = torch.full((3, 3, 32, 32), 10.0)
    panel = draw_panel(guard, x, rho, class_names(8))
    two = draw_panel(guard, x[:2], rho[:2], class_names(8))
    assert panel.width == two.width
    row = panel.height - two.height
    assert row > 192
    # the first tile is the clean image, enlarged
    tile = panel.crop((8, 34, 200, 226)).resize((32, 32), Image.Resampling.BOX)
    shown = torch.tensor(list(tile.get_flattened_data())).reshape(32, 32, 3).permute(2, 0, 1)
    assert float((shown.float() - x[0]).abs().mean()) < 6

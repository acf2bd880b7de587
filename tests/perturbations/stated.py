"""A norm and a layout, as they are stated of a published file."""

import math

from uap_lightning.perturbations.ball import Ball
from uap_lightning.perturbations.published import ArrayLayout

LINF = Ball(math.inf, 10.0)
HWC = ArrayLayout("hwc", "rgb")

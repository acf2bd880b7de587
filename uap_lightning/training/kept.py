"""What an interrupted test has found so far: the next run of it goes on from there."""

import hashlib
import time
from dataclasses import dataclass, field
from pathlib import Path

from uap_lightning.core.errors import UapError
from uap_lightning.core.storage import digest_of, read_tensors, write_tensors
from uap_lightning.data.module import EvaluationDataModule
from uap_lightning.results.metrics import Outcomes
from uap_lightning.training.module import RectifierModule

SECONDS = 10.0  # between two writes: what an interrupted test does again, at most


@dataclass
class KeptOutcomes:
    """Outcomes in a file, whole batches in order.

    Attributes:
        path: of the file.
        key: digest of all that the outcomes depend on; those under another one are not taken.
    """

    path: Path
    key: str
    _written: float = field(default_factory=time.monotonic)

    def read(self, most: int) -> Outcomes | None:
        """The first ``most`` of those kept; None where there are none of this test."""
        try:
            tensors, metadata = read_tensors(self.path)
            if metadata.get("key") == self.key:
                return Outcomes(**{name: values[:most] for name, values in tensors.items()})
        except (UapError, TypeError):
            pass  # missing, cut short or of another version: the test begins anew
        return None

    @property
    def due(self) -> bool:
        """Whether it is time to write again."""
        return time.monotonic() - self._written >= SECONDS

    def write(self, outcomes: Outcomes) -> None:
        """Replace what is kept."""
        write_tensors(self.path, dict(vars(outcomes)), {"key": self.key})
        self._written = time.monotonic()


def key_of(module: RectifierModule, data: EvaluationDataModule) -> str:
    """The digest of what the outcomes of a test depend on: network, defence, images and draw."""
    parts = {**module.rectifier.state_dict(), **module.detector.state_dict()}
    tensors = [*parts.values(), *vars(data.draw).values()]
    values = hashlib.sha256()
    for tensor in tensors:
        values.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    network = [module.network.name, str(module.network.model), module.network.digest]
    return digest_of([network, data.crops.description(), data.batch_size, values.hexdigest()])

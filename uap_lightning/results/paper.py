"""The paper's published numbers, to stand beside what was measured."""

from dataclasses import dataclass
from pathlib import Path

import yaml
from pydantic import FiniteFloat, TypeAdapter, ValidationError

from uap_lightning.core.errors import UapError

FILE = Path(__file__).with_name("paper.yaml")
_LARGEST = 10_000_000  # bytes


@dataclass(frozen=True, kw_only=True)
class PaperRow:
    """A published condition and its numbers in percent; None where none was published."""

    table: int
    train_network: str
    test_network: str
    perturbation_network: str
    train_norm: str
    test_norm: str
    protocol: str
    prn_gain: FiniteFloat | None = None
    prn_restoration: FiniteFloat | None = None
    detection_rate: FiniteFloat | None = None
    defense_rate: FiniteFloat | None = None


@dataclass(frozen=True)
class _File:
    rows: list[PaperRow]


def read_paper(path: str | None) -> list[PaperRow]:
    """The published rows: of the file given, or of the package.

    Raises:
        UapError: the file is missing, not YAML, or has other rows than these.
    """
    file = FILE if path is None else Path(path)
    if file.exists() and not (file.is_file() and file.stat().st_size <= _LARGEST):
        raise UapError(f"paper is {file}, which is no file of published numbers: give another.")
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
        return TypeAdapter(_File).validate_python(content).rows
    except OSError as error:
        raise UapError(
            f"paper is {file}, which cannot be read ({error.strerror}): give a file of published "
            "numbers, or leave paper=null."
        ) from error
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "content"
        raise UapError(
            f"{file} has a {place} that is not as it should be ({first['msg']}): expected rows: "
            "with one published condition each, as in the package's paper.yaml."
        ) from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        problem = " ".join(str(error).split())
        raise UapError(f"{file} is not valid YAML ({problem}): correct or restore it.") from error

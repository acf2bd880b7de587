"""``results.json``: what a run found, from which every table is rendered."""

import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from uap_lightning.errors import UapError
from uap_lightning.storage import read_json

SCHEMA = 1
FILE = "results.json"
PACKAGES = (
    "uap-lightning",
    "torch",
    "torchvision",
    "pytorch-lightning",
    "hydra-core",
    "scikit-learn",
    "timm",
)


def library_versions() -> dict[str, str]:
    """Installed versions of what a result depends on."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def git_commit() -> str | None:
    """The commit of the checkout that this package runs from; None outside of one."""
    checkout = Path(__file__).parent.parent
    if not (checkout / "pyproject.toml").is_file():
        return None
    try:
        done = subprocess.run(
            ["git", "rev-parse", "HEAD"],
            cwd=checkout,
            capture_output=True,
            text=True,
            check=False,
        )
    except OSError:
        return None
    return done.stdout.strip() or None


def read_results(path: Path) -> dict[str, object]:
    """Read and validate a ``results.json``.

    Raises:
        UapError: missing, not JSON, of another schema, or without rows.
    """
    content = read_json(path, "a results.json written by uap_lightning")
    if content.get("schema") != SCHEMA:
        raise UapError(
            f"{path} has schema {content.get('schema')}: expected {SCHEMA}; use the version of "
            "uap-lightning that wrote it."
        )
    if content.get("status") not in ("ok", "failed", "running"):
        raise UapError(
            f"{path} has status {content.get('status')}: expected ok, failed or running."
        )
    if not isinstance(content.get("rows"), list):
        raise UapError(f"{path} has no rows: expected a list of results.")
    return content

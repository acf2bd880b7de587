"""Fill a bank of perturbations: ``python -m uap_lightning.craft network=... norm=...``."""

from uap_lightning.jobs.craft import craft
from uap_lightning.jobs.launch import launch


def main() -> None:
    """Console script ``uap-craft``."""
    launch(craft, "craft")


if __name__ == "__main__":
    main()

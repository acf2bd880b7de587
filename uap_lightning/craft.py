"""Fill a bank of perturbations: ``python -m uap_lightning.craft network=... norm=...``."""

from uap_lightning.core.starting import starting


def main() -> None:
    """Console script ``uap-craft``."""
    with starting():
        from uap_lightning.jobs.craft import craft
        from uap_lightning.jobs.launch import launch

    launch(craft, "craft")


if __name__ == "__main__":
    main()

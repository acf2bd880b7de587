"""Results as a page and tables: ``python -m uap_lightning.report results=outputs``."""

from uap_lightning.core.starting import starting


def main() -> None:
    """Console script ``uap-report``."""
    with starting():
        from uap_lightning.jobs.launch import launch
        from uap_lightning.jobs.report import report

    launch(report, "report")


if __name__ == "__main__":
    main()

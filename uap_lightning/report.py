"""Results as a page and tables: ``python -m uap_lightning.report results=outputs``."""

from uap_lightning.core.interrupt import told_interrupt


def main() -> None:
    """Console script ``uap-report``."""
    with told_interrupt():
        from uap_lightning.jobs.launch import launch
        from uap_lightning.jobs.report import report

        launch(report, "report")


if __name__ == "__main__":
    main()

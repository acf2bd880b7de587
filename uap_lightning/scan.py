"""Is one pattern in many images of a folder? ``python -m uap_lightning.scan images=FOLDER``."""

from uap_lightning.core.starting import starting


def main() -> None:
    """Console script ``uap-scan``."""
    with starting():
        from uap_lightning.jobs.launch import launch
        from uap_lightning.jobs.scan import scan

    launch(scan, "scan", resumes=False)


if __name__ == "__main__":
    main()

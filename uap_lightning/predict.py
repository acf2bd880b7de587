"""Classify a folder through a defence: ``python -m uap_lightning.predict images=FOLDER``."""

from uap_lightning.core.starting import starting


def main() -> None:
    """Console script ``uap-predict``."""
    with starting():
        from uap_lightning.jobs.launch import launch
        from uap_lightning.jobs.predict import predict

    launch(predict, "predict")


if __name__ == "__main__":
    main()

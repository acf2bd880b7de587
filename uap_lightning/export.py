"""The guard as one file: ``python -m uap_lightning.export defense=FOLDER output=guard.onnx``."""

from uap_lightning.core.starting import starting


def main() -> None:
    """Console script ``uap-export``."""
    with starting():
        from uap_lightning.jobs.export import export
        from uap_lightning.jobs.launch import launch

    launch(export, "export", resumes=False)


if __name__ == "__main__":
    main()

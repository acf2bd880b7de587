"""Answer images over HTTP: ``python -m uap_lightning.serve defense=FOLDER network=NAME``."""

from uap_lightning.core.starting import starting


def main() -> None:
    """Console script ``uap-serve``."""
    with starting():
        from uap_lightning.jobs.launch import launch
        from uap_lightning.jobs.serve import serve

    launch(serve, "serve", resumes=False)


if __name__ == "__main__":
    main()

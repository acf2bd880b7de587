"""The whole way: ``python -m uap_lightning.train network=googlenet norm=linf``.

Craft the bank where it is missing, extend it, train the rectifier, fit the detector, test every
protocol, write the defence folder and ``results.json``.
"""

from uap_lightning.core.starting import starting


def main() -> None:
    """Console script ``uap-train``."""
    with starting():
        from uap_lightning.jobs.launch import launch
        from uap_lightning.jobs.train import train

    launch(train, "train")


if __name__ == "__main__":
    main()

"""Test a defence folder: ``python -m uap_lightning.evaluate defense=FOLDER norm=l2``.

The folder carries the training condition; the command line carries the test condition: the
network under test, and the network that the test perturbations are made on where it is another
(``network@perturbation_network=vggf``).
"""

from uap_lightning.core.starting import starting


def main() -> None:
    """Console script ``uap-evaluate``."""
    with starting():
        from uap_lightning.jobs.evaluate import evaluate
        from uap_lightning.jobs.launch import launch

    launch(evaluate, "evaluate")


if __name__ == "__main__":
    main()

"""``python -m uap_lightning`` lists the commands."""

from rich.console import Console

VERBS = {
    "craft": "fill a bank of universal perturbations",
    "train": "craft, train the rectifier, fit the detector, test: the whole way",
    "evaluate": "test a trained defence under another norm, network or protocol",
    "report": "render results.json files as a table",
    "predict": "classify a folder of images through a trained defence",
    "export": "write a defended network as one ONNX or torch.export file",
    "hub": "push a defence folder to the Hugging Face Hub, or pull one",
}


def main() -> None:
    """Print the commands and where to begin."""
    console = Console()
    console.print("Commands; all but hub have --help, --cfg job and Hydra's overrides:")
    for verb, purpose in VERBS.items():
        console.print(f"  python -m uap_lightning.{verb:<9} {purpose}", highlight=False)
    console.print("Begin with: python -m uap_lightning.train experiment=quickstart")


if __name__ == "__main__":
    main()

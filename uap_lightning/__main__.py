"""``python -m uap_lightning`` lists the commands."""

COMMANDS = {
    "craft": "fill a bank of universal perturbations",
    "train": "craft, train the rectifier, fit the detector, test: the whole way",
    "evaluate": "test a trained defence under another norm, network or protocol",
    "report": "render results.json files as a table",
    "predict": "classify a folder of images through a trained defence",
    "scan": "find a universal perturbation that many images of a folder carry",
    "serve": "answer images over HTTP through a trained defence",
    "export": "write a defended network as one ONNX or torch.export file",
    "hub": "push a defence folder to the Hugging Face Hub, or pull one",
    "workspace": "lay out a W&B project for runs of this package",
    "pretrained": "list the trained defences of the package and where they lie",
    "perturbations": "list a bank, import published perturbations, export them as arrays",
}


def main() -> None:
    """Print the commands and where to begin."""
    print("Commands, each with --help; train, craft and their like take Hydra's overrides:")
    for command, purpose in COMMANDS.items():
        print(f"  python -m uap_lightning.{command:<13} {purpose}")
    print("Begin with: python -m uap_lightning.train experiment=quickstart")


if __name__ == "__main__":
    main()

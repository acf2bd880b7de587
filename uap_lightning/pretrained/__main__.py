"""``python -m uap_lightning.pretrained`` lists the trained defences and where they lie."""

from uap_lightning.pretrained import folder, names


def main() -> None:
    """Print a line for each: its name, and the folder that ``defense=`` takes."""
    for name in names():
        print(f"{name}  defense={folder(name)}")


if __name__ == "__main__":
    main()

"""List, import and export perturbations: ``python -m uap_lightning.perturbations list BANK``.

list    a table of a bank: families, fooling ratios, norms, nearest others, seconds
import  published perturbations into a bank of imports
export  every perturbation of a bank to .npy (float32, 3 x H x W, RGB, pixel units)
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from uap_lightning.core.errors import UapError
from uap_lightning.core.terminal import console, fail, plain
from uap_lightning.perturbations.ball import Ball
from uap_lightning.perturbations.importing import import_perturbations
from uap_lightning.perturbations.listing import export_arrays, table_of
from uap_lightning.perturbations.published import ORDERS, ORIENTATIONS, SOURCES, ArrayLayout


def parser() -> argparse.ArgumentParser:
    """The options of the three verbs."""
    root = argparse.ArgumentParser(
        prog="python -m uap_lightning.perturbations",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verbs = root.add_subparsers(dest="verb", required=True)
    listing = verbs.add_parser("list", help="a table of a bank")
    listing.add_argument("bank", type=Path)
    listing.add_argument(
        "--extended", type=int, help="also the synthetic ones of an extended set of this size"
    )
    listing.add_argument("--seed", type=int, default=0, help="of the run that extends it")
    importing = verbs.add_parser("import", help="published perturbations into a bank")
    importing.add_argument("bank", type=Path, help="folder of the bank; made when missing")
    importing.add_argument("files", type=Path, nargs="+")
    importing.add_argument("--format", choices=SOURCES, help="a published layout, by its source")
    importing.add_argument("--orientation", choices=ORIENTATIONS)
    importing.add_argument("--order", choices=ORDERS, help="of the channels")
    importing.add_argument("--scale", type=float, help="factor to pixel units, 0-255")
    importing.add_argument("--key", help="of the array in the file; dots for nested ones")
    importing.add_argument("--offset", type=int, help="first row and column used")
    importing.add_argument("--size", type=int, help="side of the part used, in pixels")
    importing.add_argument("--network", required=True, help="that they were crafted on")
    importing.add_argument("--norm", choices=("linf", "l2"), required=True)
    importing.add_argument("--eps", type=float, required=True, help="radius in pixel units")
    importing.add_argument("--part", choices=("train", "test"), required=True)
    importing.add_argument("--max-cosine", type=float, default=0.15)
    exporting = verbs.add_parser("export", help="a bank to .npy files")
    exporting.add_argument("bank", type=Path)
    exporting.add_argument("target", type=Path, help="folder of the files; made when missing")
    return root


def layout_of(options: argparse.Namespace) -> ArrayLayout:
    """The layout of a named format, with single options of its own, or of options alone.

    Raises:
        UapError: neither a format nor both orientation and order are given.
    """
    keys = ("orientation", "order", "scale", "key", "offset", "size")
    given = {key: getattr(options, key) for key in keys if getattr(options, key) is not None}
    if options.format is not None:
        return replace(SOURCES[options.format], **given)
    if not {"orientation", "order"} <= given.keys():
        raise UapError(
            "the layout of the files is not stated: give --format NAME for a published one, or "
            "--orientation and --order (and --scale, --key, --offset, --size where they differ)."
        )
    return ArrayLayout(**given)


def run(arguments: Sequence[str] | None = None) -> None:
    """Do what the command line says.

    Raises:
        UapError: it cannot be done.
    """
    options = parser().parse_args(arguments)
    if options.verb == "list":
        if not 0 <= options.seed < 2**32:
            raise UapError(
                f"--seed is {options.seed}: expected a whole number from 0 to 4294967295."
            )
        rows = table_of(options.bank, options.extended, options.seed)
        table = Table(*rows[0], box=None)
        for row in rows:
            table.add_row(*(Text(plain(cell)) for cell in row.values()))
        # Not wrapped where the output is a file: a row is a line there.
        Console(width=None if sys.stdout.isatty() else 200).print(table)
    elif options.verb == "import":
        norm = Ball(2.0 if options.norm == "l2" else float("inf"), options.eps)
        names = import_perturbations(
            options.bank,
            options.files,
            layout_of(options),
            options.format or "own layout",
            options.network,
            norm,
            options.part,
            options.max_cosine,
        )
        print(plain(f"{options.bank}: {', '.join(names)}"))
    else:
        written = export_arrays(options.bank, options.target)
        print(plain(f"{options.target}: {', '.join(path.name for path in written)}"))


def main() -> None:
    """Run, and end in one sentence what the user can mend."""
    try:
        run()
    except UapError as error:
        fail(str(error))
    except KeyboardInterrupt:
        console.print("interrupted: the same command does it anew.", markup=False)
        sys.exit(130)


if __name__ == "__main__":
    main()

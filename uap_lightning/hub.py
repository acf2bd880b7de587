"""A defence folder on the Hugging Face Hub: ``pip install 'uap-lightning[hub]'``.

``python -m uap_lightning.hub push outputs/quickstart/defense USER/NAME`` and
``python -m uap_lightning.hub pull USER/NAME defense``.
"""

import argparse
import sys
from pathlib import Path

from uap_lightning.core.starting import starting


def main(arguments: list[str] | None = None) -> None:
    """``push FOLDER USER/NAME`` or ``pull USER/NAME FOLDER``."""
    parser = argparse.ArgumentParser(prog="python -m uap_lightning.hub", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    pushed = verbs.add_parser("push", help="put a defence folder on the Hub")
    pushed.add_argument("folder", type=Path)
    pushed.add_argument("repo", help="USER/NAME")
    pushed.add_argument("--private", action="store_true")
    pulled = verbs.add_parser("pull", help="fetch a defence folder from the Hub")
    pulled.add_argument("repo", help="USER/NAME")
    pulled.add_argument("folder", type=Path)
    pulled.add_argument("--revision", help="branch, tag or commit")
    given = parser.parse_args(arguments)
    with starting():
        from uap_lightning.core.errors import UapError
        from uap_lightning.core.terminal import fail
        from uap_lightning.guard.hub import pull, push

    try:
        if given.verb == "push":
            push(given.folder, given.repo, private=given.private)
        else:
            pull(given.repo, given.folder, revision=given.revision)
    except UapError as error:
        fail(str(error))
    except KeyboardInterrupt:
        print("interrupted: the same command does it anew.", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()

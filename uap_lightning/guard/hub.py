"""Push a defence folder to the Hugging Face Hub, or pull one."""

import shutil
import tempfile
from pathlib import Path
from typing import Any

from uap_lightning.core.errors import UapError
from uap_lightning.core.storage import make_folder
from uap_lightning.guard.defense_folder import CARD, FILES, load_defense


def push(folder: Path, repo: str, *, private: bool = False, api: Any = None) -> None:
    """Put a defence folder on the Hub, in one commit; its model card becomes the page.

    Args:
        folder: a defence folder; nothing else that lies in it is sent.
        repo: ``USER/NAME``; it is created if need be.
        private: of a repository that is created.
        api: a ``huggingface_hub.HfApi``; one with the stored login when None.

    Raises:
        UapError: the folder is not whole, or the Hub refuses.
    """
    load_defense(folder)
    api = api or _api()
    from huggingface_hub import CommitOperationAdd

    paths = {name: folder / name for name in FILES}
    if (folder / CARD).is_file():
        paths |= {CARD: folder / CARD, "README.md": folder / CARD}
    try:
        operations = [
            CommitOperationAdd(path_in_repo=name, path_or_fileobj=path)
            for name, path in paths.items()
        ]
        api.create_repo(repo, private=private, exist_ok=True)
        api.create_commit(repo, operations=operations, commit_message="Add the defence")
    except Exception as error:  # the Hub's client raises its own and its transports' errors
        raise _told(f"{folder} could not be pushed to {repo}", error) from error


def pull(repo: str, folder: Path, *, revision: str | None = None, api: Any = None) -> None:
    """Fetch a defence folder from the Hub; it takes its place once every digest is right.

    Args:
        repo: ``USER/NAME``.
        folder: is created.
        revision: branch, tag or commit; the newest when None.
        api: a ``huggingface_hub.HfApi``; one with the stored login when None.

    Raises:
        UapError: the folder exists, the Hub refuses, or what it holds is not a whole defence.
    """
    if folder.exists():
        raise UapError(f"{folder} exists: give another folder, or remove it.")
    api = api or _api()
    make_folder(folder.parent)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as place:
        fetched = Path(place) / "fetched"
        try:
            api.snapshot_download(
                repo, revision=revision, allow_patterns=[*FILES, CARD], local_dir=fetched
            )
        except Exception as error:  # as in push
            raise _told(f"{repo} could not be pulled", error) from error
        whole = make_folder(Path(place) / "whole")
        # The client keeps notes of its own beside the files.
        for name in (*FILES, CARD):
            if (fetched / name).is_file():
                shutil.copyfile(fetched / name, whole / name)
        load_defense(whole)
        whole.rename(folder)


def _api() -> Any:
    try:
        from huggingface_hub import HfApi
    except ImportError as error:
        raise UapError(
            "the Hub needs huggingface_hub: pip install 'uap-lightning[hub]'."
        ) from error
    return HfApi()


def _told(what: str, error: Exception) -> UapError:
    reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
    return UapError(
        f"{what} ({reason.rstrip('.')}): check the name and the connection, and log in by "
        "hf auth login."
    )

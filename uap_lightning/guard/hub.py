"""Push a defence folder to the Hugging Face Hub, or pull one."""

import shutil
import tempfile
from pathlib import Path
from typing import Any

from uap_lightning.core.errors import UapError
from uap_lightning.core.storage import make_folder
from uap_lightning.guard.defense_folder import CARD, FILES, WHITENER, load_defense

_SENT = [*FILES, WHITENER, CARD]


def push(folder: Path, repo: str, *, private: bool = False, api: Any = None) -> None:
    """Put a defence folder on the Hub, in one commit; its model card becomes the page.

    Args:
        folder: a defence folder; nothing else that lies in it is sent.
        repo: ``USER/NAME``; it is created if need be.
        private: of a repository that is created.
        api: a ``huggingface_hub.HfApi``; one with the stored login when None.

    Raises:
        UapError: the folder is not whole, a file of it is a link, or the Hub refuses.
    """
    load_defense(folder)
    for name in _SENT:
        if (folder / name).is_symlink():
            raise UapError(
                f"{folder / name} is a link, and what it points to may not be meant for others: "
                "put a copy of the file in its place."
            )
    api = api or _api()
    try:
        api.create_repo(repo, private=private, exist_ok=True)
        api.upload_folder(
            repo_id=repo,
            folder_path=folder,
            allow_patterns=_SENT,
            commit_message="Add the defence",
        )
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
        UapError: the folder exists or cannot be made, the Hub refuses, or what it holds is not a
            whole defence.
    """
    api = api or _api()
    try:
        if folder.exists() or folder.is_symlink():
            raise UapError(f"{folder} exists: give another folder, or remove it.")
        make_folder(folder.parent)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".uap_lightning.") as place:
            fetched = Path(place) / "defense"
            _fetch(repo, revision, fetched, api)
            load_defense(fetched)
            fetched.rename(folder)
    except OSError as error:
        raise UapError(
            f"{folder} cannot be written ({error.strerror}): give a folder in a place that you may "
            "write to."
        ) from error


def _fetch(repo: str, revision: str | None, folder: Path, api: Any) -> None:
    try:
        api.snapshot_download(repo, revision=revision, allow_patterns=_SENT, local_dir=folder)
    except Exception as error:  # as in push
        raise _told(f"{repo} could not be pulled", error) from error
    # The client keeps notes of its own beside the files.
    shutil.rmtree(folder / ".cache", ignore_errors=True)


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

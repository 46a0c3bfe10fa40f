"""Fetch files of the Hugging Face hub into its cache, and say in plain words why that failed."""

import logging
import re
from collections.abc import Sequence
from pathlib import Path

from kjcm.errors import KjcmError, first_line, some

PART = r"[A-Za-z0-9][A-Za-z0-9_.-]*"
NAME = re.compile(rf"(?:{PART}/)?{PART}(?:@[^@\s]+)?")  # NAME, ORG/NAME or ORG/NAME@REVISION
OWNED = re.compile(rf"{PART}/{PART}")
REASONS = {  # class of huggingface_hub.errors -> words
    "GatedRepoError": "its owner must first grant access: ask on its page, then set HF_TOKEN",
    "RepositoryNotFoundError": "the hub has no such repository, or HF_TOKEN gives no access to it",
    "RevisionNotFoundError": "the repository has no such revision",
    "OfflineModeIsEnabled": "HF_HUB_OFFLINE is set, and the hub's cache has no complete copy",
    "IncompleteSnapshotError": "the hub cannot be reached, and its cache has no complete copy",
}

WRAPPERS = ("LocalEntryNotFoundError", "RuntimeError")  # errors of the hub's library whose cause says more


def fetched(name: str, patterns: Sequence[str], needed: Sequence[str] = ()) -> Path:
    """Return a folder of the hub's cache with a repository's files, all of one commit; fetch those that are missing.

    The folder's name is the commit. It may also contain files of the repository that were fetched before.

    Args:
        name: NAME, ORG/NAME or ORG/NAME@REVISION; a revision is a branch, a tag or a commit.
        patterns: of the files, `*` stands for any characters.
        needed: files that must be among them.

    Raises:
        KjcmError: they cannot be fetched, or a needed file is missing; the message has no name and no full stop.
    """
    from huggingface_hub import snapshot_download

    hide_requests()
    repository, _, revision = name.partition("@")
    try:
        folder = Path(snapshot_download(repository, revision=revision or None, allow_patterns=list(patterns)))
    except Exception as error:  # httpx, the hub's library and the system each have their own
        raise KjcmError(reason(error)) from None
    if missing := [file for file in needed if not (folder / file).is_file()]:
        raise KjcmError(f"the repository on the hub has no {some(missing)}")
    return folder


def folder_of(name: str | Path, patterns: Sequence[str]) -> Path:
    """Return the folder of this name if there is one, else what `fetched` returns.

    Raises:
        KjcmError: there is neither; the message is as in `fetched`.
    """
    folder = Path(name).expanduser()
    if folder.is_dir():
        return folder
    if not NAME.fullmatch(str(name)):
        raise KjcmError("no such folder")
    return fetched(str(name), patterns)


def hide_requests() -> None:
    """Hide the line that the hub's library logs for each request."""
    for name in ("httpx", "httpx2"):
        logging.getLogger(name).setLevel(logging.WARNING)


def reason(error: BaseException) -> str:
    """Return why the hub's library failed, in a line without a full stop."""
    for kind in type(error).__mro__:
        if kind.__name__ in REASONS:
            return REASONS[kind.__name__]
    if type(error).__name__ in WRAPPERS and error.__cause__:
        return reason(error.__cause__)
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status is None:
        return f"the transfer failed: {first_line(error)}; try again"
    if status in (401, 403):
        return f"the hub refuses access ({status}): set HF_TOKEN to a token that may do this"
    return f"the hub answered {status} ({getattr(error, 'server_message', None) or 'no message'})"

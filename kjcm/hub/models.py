"""The model folder that a user names: of a run, a copy of one, or one of the Hugging Face hub."""

from fnmatch import fnmatchcase
from pathlib import Path

from kjcm.errors import KjcmError
from kjcm.files import existing
from kjcm.hub_cache import OWNED, fetched
from kjcm.linear import ENCODER
from kjcm.run_folder.held_out import CALIBRATION, HELD
from kjcm.run_folder.model_card import CARD
from kjcm.run_folder.model_folder import FILES, finished_run, require_regular_files

OF_A_MODEL = [
    "kjcm.json", CALIBRATION, HELD, *FILES["encoder"], *FILES["linear"], *FILES["nearest"],
    *(f"{ENCODER}/{name}" for name in FILES["encoder"]),
]  # fmt: skip
PATTERNS = [*OF_A_MODEL, "ensemble.json", *(f"members/*/model/{name}" for name in OF_A_MODEL)]  # of files on the hub


def is_model_file(name: str) -> bool:
    """Return whether a file of a repository belongs to the model, if the repository has one of kjcm's."""
    return any(fnmatchcase(name, pattern) for pattern in (*PATTERNS, CARD))


def model_folder(run: str | Path) -> Path:
    """Return a model folder.

    Args:
        run: a finished run's folder, a copy of its folder `model`, or, as text, ORG/NAME or ORG/NAME@REVISION of the hub.

    Raises:
        KjcmError: there is none; also for ORG/NAME without a revision if ORG is a folder here, because that is more often
            a mistyped path than a model of the hub.
    """
    path = existing(run)
    if isinstance(run, str) and not path.exists() and OWNED.fullmatch(run.partition("@")[0]):
        if "@" not in run and path.parent.is_dir():
            raise KjcmError(
                f"run={run}: no such folder in {path.parent}. Give the folder that `kjcm train` printed, or {run}@main for "
                "the hub's model."
            )
        return _from_hub(run)
    if not (path / "kjcm.json").is_file():
        return finished_run(str(run)) / "model"
    require_regular_files(path)
    return path


def _from_hub(name: str) -> Path:
    try:
        commit = fetched(name, ["kjcm.json"], ["kjcm.json"]).name  # before gigabytes of a model that is not kjcm's
        pinned = f"{name.partition('@')[0]}@{commit}"
        fetched(pinned, PATTERNS)
        folder = fetched(pinned, [CARD], [CARD])  # last: without the hub, a cached card marks a complete copy
    except KjcmError as error:
        raise KjcmError(f"run={name}: no such folder here, and no model on the hub: {error}.") from None
    require_regular_files(folder)
    return folder

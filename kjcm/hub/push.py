"""`kjcm push`: upload a finished run's model, with its card and calibration, to the Hugging Face hub."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig
from yaml import YAMLError

from kjcm import __version__
from kjcm.errors import ConfigError, KjcmError, counted
from kjcm.hub.models import is_model_file
from kjcm.hub.texts import has_text_parts, kept_texts
from kjcm.hub_cache import OWNED, hide_requests, reason
from kjcm.keys.commands.sharing import PushConfig
from kjcm.keys.composition import typed
from kjcm.records import damaged, read_bytes
from kjcm.run_folder.contents import run_identity
from kjcm.run_folder.held_out import CALIBRATION, HELD
from kjcm.run_folder.model_card import CARD
from kjcm.run_folder.model_folder import Settings, finished_run, load_settings, require_intact

if TYPE_CHECKING:
    from huggingface_hub import HfApi, ModelInfo

EMPTY = {".gitattributes"}  # files of a new repository

log = logging.getLogger("kjcm")


def push(cfg: DictConfig) -> None:
    """Upload a run's model folder as one commit, and print what was sent.

    Raises:
        ConfigError: `repo` is no ORG/NAME.
        KjcmError: the run is not finished or damaged, the model contains texts, the repository has something else or is
            public, or the hub refuses.
    """
    config = typed(cfg, PushConfig)
    if not OWNED.fullmatch(config.repo):
        raise ConfigError(f"repo={config.repo}: give ORG/NAME, of letters, digits and `-`, `_`, `.`.")
    run = finished_run(config.run)
    settings = load_settings(run / "model")
    require_intact(run / "model", settings)
    _require_label(run / "model" / CARD, settings)
    if not (config.share_text or settings.synthetic):
        _require_no_texts(run, settings)
    files = files_of(run / "model", settings)
    if config.dry_run:
        _say_files(files)
        log.info("nothing was sent (dry_run=true)")
        return
    message = config.message or f"kjcm {__version__}: run {run_identity(run)['hash'][:12]}"
    try:
        _send(config, files, message)
    except KjcmError:
        raise
    except Exception as error:  # httpx, the hub's library and the system each have their own
        raise KjcmError(f"repo={config.repo}: not uploaded: {reason(error)}.") from None


def files_of(folder: Path, settings: Settings) -> dict[str, Path]:
    """Return name in the repository -> file, of the files that a model consists of."""
    found = {}
    for name in sorted({CARD, "kjcm.json", *settings.files, CALIBRATION, HELD}):
        whole = folder / name
        for file in sorted(whole.rglob("*")) if whole.is_dir() else [whole]:
            if file.is_file():
                found[file.relative_to(folder).as_posix()] = file
    return found


def _require_label(card: Path, settings: Settings) -> None:
    """Raise KjcmError if there is no card, or the card of a model trained on the twin does not say so."""
    from huggingface_hub import ModelCard

    try:
        tags = ModelCard(read_bytes(card).decode()).data.to_dict().get("tags") or []  # type: ignore[no-untyped-call]
    except (ValueError, YAMLError) as error:  # ValueError: no UTF-8, or no mapping
        raise damaged(card, error) from None
    if settings.synthetic and "synthetic" not in tags:
        raise KjcmError(
            f"{card}: its tags lack `synthetic`, but the model was trained on the synthetic twin. Restore the tag."
        )


def _require_no_texts(run: Path, settings: Settings) -> None:
    """Raise KjcmError if the model contains training texts, or parts of them."""
    kept = kept_texts(run / "model")
    if kept or has_text_parts(run, settings.kind):
        what = f"{counted(kept, 'training text')} unchanged" if kept else "a vocabulary of parts of its training texts"
        raise KjcmError(
            f"run={run}: the model contains {what}, so it is not uploaded. If respondents agreed to that, or the texts are "
            "public, add share_text=true."
        )


def _send(config: PushConfig, files: Mapping[str, Path], message: str) -> None:
    """Upload the files as one commit, which also removes the files of the model that was there."""
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

    hide_requests()
    api = HfApi(library_name="kjcm", library_version=__version__)
    there = _target(api, config)
    old = _names(there)
    stale = [name for name in old if is_model_file(name) and name not in files] if "kjcm.json" in old else []
    operations: list[Any] = [CommitOperationAdd(name, str(file)) for name, file in files.items()]
    operations += map(CommitOperationDelete, stale)
    made = api.create_commit(
        config.repo, operations, commit_message=message, revision=config.revision, parent_commit=there.sha
    )
    if made.oid == there.sha:
        log.info("nothing was sent: %s has these files already, commit %s", config.repo, made.oid)
        return
    _say_files(files)
    for name in stale:
        log.info("%14s  %s", "removed", name)
    log.info("sent to %s (%s)", made.commit_url, "private" if there.private else "public")
    log.info('load it with kjcm.load("%s@%s")', config.repo, made.oid)


def _target(api: "HfApi", config: PushConfig) -> "ModelInfo":
    """Return the state of the branch to commit to; make repository and branch if they are missing.

    Raises:
        KjcmError: the repository is public, or has something else than a model of kjcm.
    """
    from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

    try:
        found = api.model_info(config.repo)
    except RepositoryNotFoundError:
        api.create_repo(config.repo, private=config.private)
        found = api.model_info(config.repo)
    if config.private and not found.private:
        raise KjcmError(f"repo={config.repo}: the repository is public. To upload to it, add private=false.")
    try:
        own = api.model_info(config.repo, revision=config.revision)
    except RevisionNotFoundError:
        _require_own(found, config)
        api.create_branch(config.repo, branch=config.revision)
        own = api.model_info(config.repo, revision=config.revision)
    _require_own(own, config)
    return own


def _require_own(found: "ModelInfo", config: PushConfig) -> None:
    """Raise KjcmError if a repository has files, but no model of kjcm, and is not to be overwritten."""
    names = _names(found)
    if not (config.overwrite or "kjcm.json" in names or set(names) <= EMPTY):
        raise KjcmError(
            f"repo={config.repo}: the repository has files, but no model of kjcm. Choose another, or add overwrite=true to "
            "replace files of the same names."
        )


def _names(found: "ModelInfo") -> list[str]:
    return [one.rfilename for one in found.siblings or ()]


def _say_files(files: Mapping[str, Path]) -> None:
    """Log the files with their sizes."""
    sizes = {name: file.stat().st_size for name, file in files.items()}
    for name, size in sizes.items():
        log.info("%14s  %s", f"{size:,}", name)
    log.info("%s, %s bytes", counted(len(sizes), "file"), f"{sum(sizes.values()):,}")

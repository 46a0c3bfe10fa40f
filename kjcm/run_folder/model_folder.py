"""The model folder of a run: weights, tokenizer, and the ordered classes with their hash; no pickle."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kjcm.errors import KjcmError, some
from kjcm.files import digest, existing, new_folder, write_json
from kjcm.keys.identity import BY_VIEWS
from kjcm.linear import ENCODER
from kjcm.records import Count, damaged, read_json, require_regular
from kjcm.survey.cohort import hash_of
from kjcm.survey.covariates import Covariates

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

    from kjcm.linear.model import LinearModel
    from kjcm.linear.nearest import NearestModel
    from kjcm.model.encoder import FirstToken, MeanPooled


FILES = {  # kind of model -> files
    "encoder": ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"),
    "linear": ("linear.json", "linear.safetensors"),
    "nearest": ("nearest.json", "nearest.safetensors"),
    "ensemble": ("ensemble.json", "members"),  # members has each member's model folder
}
UNVALIDATED = "The model learnt from titles and is not validated on your answers: its error rate on them is unknown."
MOST_MODEL = 32 << 30  # bytes of a file in a model folder
SETTINGS = {  # kjcm.json
    "classes": [str], "classes_hash": str, "titles": {str: str}, "classification": str, "level": (int, None), "pooling": str,
    "prefix": str, "max_length": Count, "columns": {str: (str, None)}, "synthetic": bool, "ancestors": [[str]],
    "n_train": [Count], "manager_words": [str], "files": {str: str}, "wording?": (str, None), "kind?": str,
    "from_titles?": bool,
    "covariates?": {"levels": {str: [str]}, "scales": {str: [float]}},
}  # fmt: skip


@dataclass(frozen=True)
class Settings:
    """What a model needs beside its weights (kjcm.json).

    Attributes:
        classes: ordered codes; logit i is of classes[i].
        classes_hash: their hash.
        titles: code -> title.
        classification: the classification's name.
        level: digits of the codes, None as they stand.
        pooling: 'cls' or 'mean'; '' for a model of views, which has no head on tokens.
        prefix: text before every input of an encoder.
        max_length: most tokens of an encoder's input; 0 for a model without one.
        columns: role -> column name in the training files.
        synthetic: it was trained on the synthetic twin.
        ancestors: [classes], the codes above each, the top first; their titles are in `titles` too.
        n_train: [classes], training rows, augmentation not counted.
        manager_words: by which a text says that its author manages.
        files: name -> `kjcm.files.digest` of each of its kind's FILES.
        wording: data.wording; None for a model that is older than the key.
        kind: one of FILES.
        covariates: how a row's covariates become numbers.
        from_titles: trained with data=titles, so never tested on answers.
    """

    classes: tuple[str, ...]
    classes_hash: str
    titles: dict[str, str]
    classification: str
    level: int | None
    pooling: str
    prefix: str
    max_length: int
    columns: dict[str, str | None]
    synthetic: bool
    ancestors: tuple[tuple[str, ...], ...]
    n_train: tuple[int, ...]
    manager_words: tuple[str, ...]
    files: dict[str, str] = field(default_factory=dict)
    wording: str | None = None
    kind: str = "encoder"
    covariates: Covariates = field(default_factory=Covariates)
    from_titles: bool = False


def save_model(
    folder: Path, model: "MeanPooled | FirstToken", tokenizer: "PreTrainedTokenizerFast", settings: Settings
) -> None:
    """Write the folder of an encoder, whole or not at all."""
    from kjcm.model.encoder_files import save_encoder
    from kjcm.text.tokenizer import save_tokenizer

    def write(part: Path) -> None:
        model.config.id2label = dict(enumerate(settings.classes))
        model.config.label2id = {code: index for index, code in enumerate(settings.classes)}
        save_encoder(model, part)
        save_tokenizer(tokenizer, part, settings.max_length)

    save_folder(folder, settings, write)


def save_folder(folder: Path, settings: Settings, write: Callable[[Path], None]) -> None:
    """Write a model folder under another name first, so that it is there whole or not at all.

    Args:
        folder: the folder.
        settings: of the model.
        write: writes the files of the model's kind into a folder.
    """
    with new_folder(folder) as part:
        write(part)
        files = {name: digest(part / name) for name in _files(settings)}
        record = asdict(replace(settings, files=files))
        if not settings.covariates:
            del record["covariates"]
        if not settings.from_titles:
            del record["from_titles"]
        write_json(part / "kjcm.json", record)


def _files(settings: Settings) -> tuple[str, ...]:
    """Return the names of a model's files; a model with views of an encoder has that encoder's files too."""
    embeds = settings.kind in BY_VIEWS and settings.max_length > 0
    more = (f"{ENCODER}/{name}" for name in FILES["encoder"]) if embeds else ()
    return (*FILES.get(settings.kind, ()), *more)


def load_settings(folder: Path) -> Settings:
    """Read kjcm.json.

    Raises:
        KjcmError: it is missing or broken, or its classes do not have its hash.
    """
    file = folder / "kjcm.json"
    record: dict[str, Any] = read_json(file, SETTINGS)
    if unknown := set(record) - {name.removesuffix("?") for name in SETTINGS}:
        raise damaged(file, f"there is no such setting as {some(unknown)}")
    tuples = {name: tuple(record[name]) for name in ("classes", "n_train", "manager_words")}
    tuples["ancestors"] = tuple(map(tuple, record["ancestors"]))
    settings = Settings(**{**record, **tuples, "covariates": Covariates.read(record.get("covariates"))})
    _require_consistent(file, settings)
    if hash_of(settings.classes) != settings.classes_hash:
        raise KjcmError(
            f"{file}: the classes do not have the hash {settings.classes_hash[:12]} that is stored next to them: the list was "
            "changed after training, so its codes cannot be trusted. Use an unchanged copy of the run."
        )
    return settings


def _require_consistent(file: Path, settings: Settings) -> None:
    """Raise KjcmError if a value is none that `save_model` writes, though it has the right type."""
    fine = {
        "kind": settings.kind in FILES,
        "pooling": settings.pooling in (("cls", "mean") if settings.kind == "encoder" else ("",)),
        "max_length": settings.max_length > 0 or settings.kind != "encoder",
        "ancestors": len(settings.ancestors) == len(settings.classes),
        "n_train": len(settings.n_train) == len(settings.classes),
        "files": sorted(settings.files) == sorted(_files(settings)),
        "wording": settings.wording in (None, "korean", "plain"),
        "covariates": settings.covariates.is_consistent,
    }
    if wrong := [name for name, is_fine in fine.items() if not is_fine]:
        raise damaged(file, f"{some(wrong)} hold nothing that kjcm has written")


def load_model(folder: Path) -> "tuple[MeanPooled | FirstToken, PreTrainedTokenizerFast, Settings]":
    """Load encoder, tokenizer and settings; no code and no pickle of the folder is run.

    Raises:
        KjcmError: something is missing or damaged.
    """
    from kjcm.model.covariates import covariates_of
    from kjcm.model.encoder_files import load_encoder
    from kjcm.text.tokenizer import load_tokenizer

    settings = load_settings(folder)
    require_intact(folder, settings)
    encoder = load_encoder(folder, settings.pooling).eval()
    weight = covariates_of(encoder)
    if (weight.shape[1] if weight is not None else 0) != settings.covariates.width:
        raise damaged(folder / "model.safetensors", "the covariates are not those of kjcm.json")
    return encoder, load_tokenizer(folder), settings


def load_linear(folder: Path) -> "tuple[LinearModel | NearestModel, Settings]":
    """Load a model of one of the kinds BY_VIEWS, and its settings.

    Raises:
        KjcmError: something is missing or damaged.
    """
    from kjcm.linear.embedding import saved_embedder
    from kjcm.linear.files import read_linear, read_nearest

    settings = load_settings(folder)
    require_intact(folder, settings)
    encoder = tuple(sorted(value for name, value in settings.files.items() if name.startswith(f"{ENCODER}/")))
    embedder = saved_embedder(folder / ENCODER, encoder, settings.prefix, settings.max_length) if encoder else None
    read: Callable[..., LinearModel | NearestModel] = read_linear if settings.kind == "linear" else read_nearest
    return read(folder, len(settings.classes), embedder, settings.covariates), settings


def require_intact(folder: Path, settings: Settings) -> None:
    """Raise KjcmError if a file is missing, or another than the one that was written."""
    for name, wanted in settings.files.items():
        if not (folder / name).exists() or digest(folder / name) != wanted:
            raise KjcmError(
                f"{folder / name}: missing or damaged: it is not what kjcm.json was written with. Use an unchanged copy of "
                "the run."
            )


def finished_run(run: str) -> Path:
    """Return the path of a finished run.

    Raises:
        KjcmError: there is none, it did not finish, or it keeps no model.
    """
    path = existing(run)
    if not path.is_dir():
        raise KjcmError(f"run={run}: no such folder. Give the folder that `kjcm train` printed.")
    if not (path / "DONE").is_file():
        raise KjcmError(f"run={run}: not a finished run (no DONE). Start the same `kjcm train` again to finish it.")
    if not (path / "model").is_dir():
        raise KjcmError(
            f"run={run}: has no model. Give a run that keeps one; a baseline of an older kjcm needs overwrite=true."
        )
    require_regular_files(path / "model")
    return path


def require_regular_files(folder: Path) -> None:
    """Raise KjcmError if a file of a model folder is a pipe, a device or too large."""
    for file in folder.rglob("*"):
        if not file.is_dir():
            require_regular(file, MOST_MODEL)

"""The model folder of a run: weights, tokenizer, and the ordered classes with their hash; no pickle."""

import shutil
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kjcm.errors import KjcmError, some
from kjcm.files import digest, existing, read_json, write_json
from kjcm.survey.cohort import hash_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

    from kjcm.model.encoder import FirstToken, MeanPooled


FILES = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json")


@dataclass(frozen=True)
class Settings:
    """What a model needs beside its weights (kjcm.json).

    Attributes:
        classes: ordered codes; logit i is of classes[i].
        classes_hash: their hash.
        titles: code -> title.
        classification: the classification's name.
        level: digits of the codes, None as they stand.
        pooling: 'cls' or 'mean'.
        prefix: text before every input.
        max_length: most tokens of an input.
        columns: role -> column name in the training files.
        synthetic: it was trained on the synthetic twin.
        ancestors: [classes], the codes above each, the top first; their titles are in `titles` too.
        n_train: [classes], training rows, augmentation not counted.
        manager_words: by which a text says that its author manages.
        files: name -> SHA-256 of each of FILES.
        wording: data.wording; None for a model that is older than the key.
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


def save_model(
    folder: Path, model: "MeanPooled | FirstToken", tokenizer: "PreTrainedTokenizerFast", settings: Settings
) -> None:
    """Write the folder under another name first, so that it is there whole or not at all."""
    from kjcm.model.encoder import save_encoder

    part = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    model.config.id2label = dict(enumerate(settings.classes))
    model.config.label2id = {code: index for index, code in enumerate(settings.classes)}
    save_encoder(model, part)
    tokenizer.backend_tokenizer.no_truncation()  # else as this process last tokenised, or not where a cache served
    tokenizer.backend_tokenizer.no_padding()
    tokenizer.save_pretrained(part)
    write_json(part / "kjcm.json", asdict(replace(settings, files={name: digest(part / name) for name in FILES})))
    for file in part.iterdir():
        file.chmod(0o644)  # safetensors writes files that only their owner can read
    shutil.rmtree(folder, ignore_errors=True)
    part.rename(folder)


def load_settings(folder: Path) -> Settings:
    """Read kjcm.json.

    Raises:
        KjcmError: it is missing or broken, or its classes do not have its hash.
    """
    file = folder / "kjcm.json"
    try:
        record: dict[str, Any] = read_json(file)
        settings = Settings(
            **{**record, **{name: tuple(record[name]) for name in ("classes", "n_train", "manager_words")}}
        )
        _require_types(settings)
    except (KjcmError, ValueError, KeyError, TypeError) as error:
        raise KjcmError(f"{file}: missing or damaged ({error}). Give run=DIR of a finished run.") from None
    if hash_of(settings.classes) != settings.classes_hash:
        raise KjcmError(
            f"{file}: the classes do not have the hash {settings.classes_hash[:12]} that stands beside them: the list was "
            "changed after training, so its codes cannot be trusted. Use an unchanged copy of the run."
        )
    return settings


def _require_types(settings: Settings) -> None:
    """Raise ValueError if a value is none that `save_model` writes."""
    classes = len(settings.classes)

    def texts(values: object) -> bool:
        return isinstance(values, list | tuple) and all(isinstance(value, str) for value in values)

    fine = {
        "classes": texts(settings.classes) and len(set(settings.classes)) == classes > 0,
        "titles": isinstance(settings.titles, dict) and texts(list(settings.titles.values())),
        "level": settings.level is None or type(settings.level) is int,
        "pooling": settings.pooling in ("cls", "mean"),
        "prefix": texts([settings.prefix]),
        "max_length": type(settings.max_length) is int and settings.max_length > 0,
        "columns": isinstance(settings.columns, dict) and texts([name or "" for name in settings.columns.values()]),
        "ancestors": len(settings.ancestors) == classes and all(map(texts, settings.ancestors)),
        "n_train": len(settings.n_train) == classes and all(type(count) is int for count in settings.n_train),
        "manager_words": texts(settings.manager_words),
        "files": isinstance(settings.files, dict) and sorted(settings.files) == sorted(FILES),
        "classes_hash": texts([settings.classes_hash]),
        "classification": texts([settings.classification]),
        "wording": settings.wording in (None, "korean", "plain"),
        "synthetic": isinstance(settings.synthetic, bool),
    }
    if wrong := [name for name, is_fine in fine.items() if not is_fine]:
        raise ValueError(f"{some(wrong)} hold nothing that kjcm has written")


def load_model(folder: Path) -> "tuple[MeanPooled | FirstToken, PreTrainedTokenizerFast, Settings]":
    """Load model, tokenizer and settings; no code and no pickle of the folder is run.

    Raises:
        KjcmError: something is missing or damaged, or the model is of other classes.
    """
    from kjcm.model.encoder import load_encoder
    from kjcm.text.tokenizer import load_tokenizer

    settings = load_settings(folder)
    for name, wanted in settings.files.items():
        if not (folder / name).is_file() or digest(folder / name) != wanted:
            raise KjcmError(
                f"{folder / name}: missing or damaged: it is not what kjcm.json was written with. Use an unchanged copy of "
                "the run."
            )
    model = load_encoder(folder, settings.pooling)
    if model.config.num_labels != len(settings.classes):
        raise KjcmError(
            f"{folder}: the model has {model.config.num_labels} classes and kjcm.json {len(settings.classes)}: they are "
            "of different runs. Use an unchanged copy of the run."
        )
    tokenizer = load_tokenizer(folder)
    if len(tokenizer) > model.config.vocab_size:
        raise KjcmError(
            f"{folder}: the tokenizer has {len(tokenizer):,} pieces and the model {model.config.vocab_size:,}: they do not "
            "belong together. Use an unchanged copy of the run."
        )
    return model.eval(), tokenizer, settings


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
        raise KjcmError(f"run={run}: holds no model: a baseline is measured, not kept. Give a run of `kjcm train`.")
    return path

"""The models of experiments/models.yaml, and the command that makes a model's run."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from kjcm.errors import KjcmError
from kjcm.keys.overrides import quoted, word_key
from kjcm.keys.unread import is_read
from kjcm.shell import command_line

# Overrides that say which model a run is or where it is written, not how it is trained.
OWN_WORDS = (
    "experiment", "name", "seed", "runs", "run_dir", "overwrite", "cache", "logger", "evaluate", "svm_check", "kind",
    "ngrams", "C",
)  # fmt: skip
PLAIN = re.compile(r"[A-Za-z0-9_./-]+")  # needs no quotes in Hydra
FOR_BASELINES = ("data", "cutoff", "augment", "classification")


@dataclass(frozen=True)
class Model:
    """One row of experiments/models.yaml.

    Attributes:
        key: name of the model's runs.
        label: name in tables.
        words: overrides after `kjcm COMMAND`.
        command: 'train' or 'baseline'.
        check: what must equal the study's: 'split', 'cohort' or 'files'.
        sources: data sources that allow the model; () for all.
        without: keys (or nodes) that the model does not take from the study's other models.
        unless: the model is not needed if the study's other models set these keys.
    """

    key: str
    label: str
    words: tuple[str, ...]
    command: str = "train"
    check: str = "split"
    sources: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    unless: tuple[str, ...] = ()

    def applies(self, source: str, base: Sequence[str]) -> bool:
        """Return whether a study needs the model and its data allow the model.

        Args:
            source: the study's data source.
            base: overrides that all models of the study share.
        """
        return (not self.sources or source in self.sources) and not {*map(word_key, base)} & {*self.unless}

    @property
    def is_sweep(self) -> bool:
        """Whether the model's command trains many runs."""
        return "-m" in self.words


def load_models(file: Path) -> dict[str, Model]:
    """Read experiments/models.yaml.

    Raises:
        KjcmError: it is missing, or an entry has unknown keys.
    """
    try:
        entries: dict[str, dict[str, Any]] = yaml.safe_load(file.read_text(encoding="utf-8"))
        return {key: Model(key=key, **with_tuples(entry)) for key, entry in entries.items()}
    except (OSError, yaml.YAMLError, TypeError, AttributeError) as error:
        raise KjcmError(f"{file}: not readable as a list of models ({error}).") from None


def with_tuples(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return an entry of a YAML file with tuples instead of lists."""
    return {name: tuple(part) if isinstance(part, list) else part for name, part in entry.items()}


def base_words(words: Sequence[str], model: Model) -> tuple[str, ...]:
    """Return the words of a run's command that all models of its study share; `model` is the run's."""
    own = {*OWN_WORDS, *map(word_key, model.words)}
    return tuple(word for word in words if word_key(word) not in own)


def words_for(model: Model, base: Sequence[str], scale: float | None) -> list[str]:
    """Return the overrides of a model's run in a study, after `kjcm COMMAND`.

    Args:
        model: the model.
        base: overrides that all models of the study share.
        scale: preset.scale of the study, for commands without presets; None if the data are not the twin.
    """
    own = {word_key(word) for word in model.words}
    rest = [
        word
        for word in base
        if word_key(word) not in own and not any(f"{word_key(word)}.".startswith(f"{key}.") for key in model.without)
    ]
    if model.command == "baseline":
        keys = {word: word_key(word) for word in rest}
        rest = [word for word, key in keys.items() if key.split(".")[0] in FOR_BASELINES and is_read("baseline", key)]
        if scale is not None and "data.scale" not in keys.values():
            rest.append(f"preset.scale={scale}")
    return [*model.words, *rest]


def command_for(model: Model, base: Sequence[str], scale: float | None, runs: Path) -> str:
    """Return the command line of a model's run."""
    return command_line(["kjcm", model.command, *words_for(model, base, scale), f"runs={path_word(runs)}"])


def path_word(path: Path) -> str:
    """Return a path as the value of an override."""
    return str(path) if PLAIN.fullmatch(str(path)) else quoted(str(path))

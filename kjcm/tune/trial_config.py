"""From a study's command to the configs of its trials: composed as `kjcm train` would with the same words."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from hydra import compose
from omegaconf import DictConfig
from optuna.distributions import BaseDistribution

from kjcm.config.checks import check
from kjcm.config.commands import TrainConfig, TuneConfig
from kjcm.config.composition import known_keys, no_such_key, typed, without_hydra
from kjcm.config.overrides import group_names, is_open, opened, quoted, word_key
from kjcm.config.refusals import is_from_hydra, said
from kjcm.errors import ConfigError, some
from kjcm.runs.folder import default_path, identity_of
from kjcm.shell import command_line
from kjcm.training.parts import require_parts
from kjcm.tune.space import Value, ends, word

OWN = {"tune", "sweep"} | {field.name for field in fields(TuneConfig)} - {field.name for field in fields(TrainConfig)}
CHOSEN = ("name", "run_dir", "evaluate", "overwrite")  # what the search gives each trial itself


@dataclass(frozen=True)
class Composed:
    """A trial's config.

    Attributes:
        whole: with Hydra's node.
        cfg: without it.
        path: the trial's run folder.
    """

    whole: DictConfig
    cfg: DictConfig
    path: Path

    @property
    def config(self) -> TrainConfig:
        """The trial's config as an object."""
        return typed(self.cfg, TrainConfig)


def base_words(config: TuneConfig, words: Sequence[str]) -> list[str]:
    """Return the words of a `kjcm train` on the study's data, before anything is searched.

    Args:
        config: of `kjcm tune`, resolved.
        words: of its command line.

    Raises:
        ConfigError: one of them is a key that the search sets itself.
    """
    if own := [one for one in words if word_key(one) in CHOSEN]:
        raise ConfigError(f"{some(own)}: tune gives each trial these itself. Leave them out.")
    validation = f"data.validation={config.data.validation}"
    rest = [one for one in words if word_key(one).split(".")[0] not in OWN and word_key(one) != "data.validation"]
    return [*rest, validation]


def trial_words(base: Sequence[str], values: Mapping[str, Value]) -> list[str]:
    """Return the words of a `kjcm train` with a trial's values, sorted by key: groups before the keys within them."""
    return [*base, *(word(key, value) for key, value in sorted(values.items()))]


def train_command(base: Sequence[str], values: Mapping[str, Value]) -> str:
    """Return the command that trains with a trial's values and evaluates on the test rows."""
    return command_line(["kjcm", "train", *trial_words(base, values)])


def composed(words: Sequence[str], study: str) -> Composed:
    """Return the config of a trial of a study.

    Raises:
        ConfigError: the words do not make one.
    """
    own = ["evaluate=false", f"name={quoted(study)}"]
    try:
        whole = compose("train", [opened(one, "train") for one in (*words, *own)], return_hydra_config=True)
        cfg = without_hydra(whole)
        check(cfg)
        config = typed(cfg, TrainConfig)
    except Exception as error:
        if not is_from_hydra(error):
            raise
        raise ConfigError(said(error, "train", words)) from None
    return Composed(whole, cfg, default_path(config.runs, config.name, identity_of(asdict(config))))


def require_searchable(base: Sequence[str], distributions: Mapping[str, BaseDistribution]) -> TrainConfig:
    """Return the resolved config of the base words.

    Raises:
        ConfigError: a key is both given and searched, a value of the space makes no config, or a trial would need more
            than one process.
    """
    if both := [one for one in base if word_key(one) in distributions]:
        raise ConfigError(f"{some(both)}: given and searched too. Leave it out, or add ~space.KEY.")
    made = composed(base, "tune")
    known = known_keys(made.cfg)
    for key in distributions:
        if key not in (*known, *group_names("train")) and not is_open(key):
            raise ConfigError(f"space: {no_such_key(key, known)}")
    first = made.config
    trainer = first.trainer
    devices = trainer.devices
    if trainer.num_nodes != 1 or (len(devices) if isinstance(devices, list) else str(devices)) not in (1, "1"):
        raise ConfigError(
            f"trainer.devices={devices}, trainer.num_nodes={trainer.num_nodes}: a trial is trained on one device. Start "
            "kjcm tune once a device (CUDA_VISIBLE_DEVICES=0, 1, ...), with trainer=gpu; they share the study."
        )
    for key, distribution in distributions.items():
        for value in ends(distribution):
            try:
                require_parts(composed(trial_words(base, {key: value}), "tune").config)
            except ConfigError as error:
                begin = f"{word(key, value)}: "
                raise ConfigError(f"space, {begin}{str(error).removeprefix(begin)}") from None
    return first

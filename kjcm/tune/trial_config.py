"""Compose the configs of a study's trials, as `kjcm train` would with the same overrides."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from omegaconf import DictConfig
from optuna.distributions import BaseDistribution

from kjcm.errors import ConfigError, some
from kjcm.keys.commands.search import TuneConfig
from kjcm.keys.commands.train import TrainConfig
from kjcm.keys.composition import known_keys, no_such_key, typed
from kjcm.keys.overrides import group_names, is_open, override, quoted, word_key
from kjcm.keys.refusals import checked_config
from kjcm.run_folder.folder import default_path, identity_of
from kjcm.shell import command_line
from kjcm.training.parts import require_one_device, require_parts
from kjcm.tune.space import Value, ends

OWN = {"tune", "sweep"} | {field.name for field in fields(TuneConfig)} - {field.name for field in fields(TrainConfig)}
CHOSEN = ("name", "run_dir", "evaluate", "svm_check", "overwrite")  # keys that the search sets for each trial


@dataclass(frozen=True)
class TrialConfig:
    """A trial's config.

    Attributes:
        whole: the config including Hydra's node.
        cfg: the config without Hydra's node.
        path: the trial's run folder.
    """

    whole: DictConfig
    cfg: DictConfig
    path: Path

    @property
    def config(self) -> TrainConfig:
        """The trial's config as a typed object."""
        return typed(self.cfg, TrainConfig)


def base_overrides(config: TuneConfig, words: Sequence[str]) -> list[str]:
    """Return the overrides of `kjcm train` that all trials share.

    Args:
        config: the resolved config of `kjcm tune`.
        words: the overrides of the `kjcm tune` command.

    Raises:
        ConfigError: an override sets a key that the search sets for each trial.
    """
    if own := [one for one in words if word_key(one) in CHOSEN]:
        raise ConfigError(f"{some(own)}: `kjcm tune` sets these keys for each trial. Remove them from the command.")
    validation = f"data.validation={config.data.validation}"
    rest = [one for one in words if word_key(one).split(".")[0] not in OWN and word_key(one) != "data.validation"]
    return [*rest, validation]


def trial_overrides(base: Sequence[str], values: Mapping[str, Value], seed: int | None = None) -> list[str]:
    """Return the overrides of a trial, its values sorted by key: a group comes before the keys within the group.

    Args:
        base: the overrides that all trials share.
        values: the trial's key -> value.
        seed: the seed of one of the trial's trainings; None leaves the seed to the base.
    """
    words = [*base, *(override(key, value) for key, value in sorted(values.items()))]
    return words if seed is None else [*_without_seed(words), override("seed", seed)]


def train_command(base: Sequence[str], values: Mapping[str, Value], seeds: Sequence[int] = ()) -> str:
    """Return the command that trains with a trial's values, and all its seeds, and evaluates on the test rows."""
    words = trial_overrides(base, values)
    if not seeds:
        return command_line(["kjcm", "train", *words])
    return command_line(["kjcm", "train", "-m", *_without_seed(words), f"seed={','.join(map(str, seeds))}"])


def _without_seed(words: Sequence[str]) -> list[str]:
    return [word for word in words if word_key(word) != "seed"]


def compose_trial(words: Sequence[str], study: str) -> TrialConfig:
    """Return the config of a study's trial.

    Raises:
        ConfigError: the overrides make no valid config.
    """
    own = ["evaluate=false", "svm_check=0", f"name={quoted(study)}"]
    whole, cfg = checked_config("train", [*words, *own])
    config = typed(cfg, TrainConfig)
    return TrialConfig(whole, cfg, default_path(config.runs, config.name, identity_of(asdict(config))))


def require_searchable(base: Sequence[str], distributions: Mapping[str, BaseDistribution]) -> TrainConfig:
    """Return the resolved config of the base overrides, after checking that the space can be searched.

    Raises:
        ConfigError: a key is both set and searched, a value of the space makes no valid config, or a trial would need
            more than one process.
    """
    if both := [one for one in base if word_key(one) in distributions]:
        raise ConfigError(f"{some(both)}: both set and searched. Remove the override, or add ~space.KEY.")
    made = compose_trial(base, "tune")
    known = known_keys(made.cfg)
    for key in distributions:
        if key not in (*known, *group_names("train")) and not is_open(key):
            raise ConfigError(f"space: {no_such_key(key, known)}")
    first = made.config
    require_one_device(
        first.trainer,
        "a trial trains on one device. Start kjcm tune once per device (CUDA_VISIBLE_DEVICES=0, 1, ...) with trainer=gpu; "
        "the processes share the study.",
    )
    for key, distribution in distributions.items():
        for value in ends(distribution):
            try:
                require_parts(compose_trial(trial_overrides(base, {key: value}), "tune").config)
            except ConfigError as error:
                begin = f"{override(key, value)}: "  # some messages already begin with the override
                raise ConfigError(f"space, {begin}{str(error).removeprefix(begin)}") from None
    return first

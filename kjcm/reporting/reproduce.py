"""`kjcm reproduce`: train the paper's models that are not trained yet, then build the report."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path

from omegaconf import DictConfig

from kjcm.analysis.experiments import folder
from kjcm.analysis.models import Model, load_models, path_word, words_for
from kjcm.analysis.selection import study_hash
from kjcm.engine.device import global_rank
from kjcm.errors import ConfigError, KjcmError, some
from kjcm.keys.checks import check
from kjcm.keys.commands.reports import ReportConfig, Reporting, ReproduceConfig
from kjcm.keys.commands.train import RunConfig, TrainConfig
from kjcm.keys.composition import typed, without_hydra
from kjcm.keys.overrides import quoted, word_key
from kjcm.reporting.build import require_free
from kjcm.reporting.disagreements import read_verdicts
from kjcm.reporting.report import build_report
from kjcm.run_folder.failures import tell
from kjcm.run_folder.folder import default_path, identity_of
from kjcm.shell import command_line
from kjcm.survey.inputs import input_digests

OWN = {field.name for field in fields(ReproduceConfig)} - {field.name for field in fields(TrainConfig)}
CHOSEN = ("experiment", "name", "run_dir", "evaluate")  # keys that each model sets itself
GIVEN = ("seed", "runs", "overwrite")  # keys that `_composed` sets for each training

log = logging.getLogger("kjcm")


def reproduce(cfg: DictConfig) -> None:
    """Train every model of `models` that is not finished, with `repeats` seeds, and build the report of all runs.

    Raises:
        ConfigError: a model is unknown, or the command has a key that reproduce sets itself.
        KjcmError: a training failed (the other models are trained, and finished runs reported), or the report failed.
    """
    from hydra.core.hydra_config import HydraConfig

    config = typed(cfg, ReproduceConfig)
    words = list(HydraConfig.get().overrides.task)
    models = load_models(folder() / "models.yaml")
    base = _base_words(words)
    chosen = _chosen(config, models, base)
    # checked before the training, because the report would refuse it afterwards
    if config.review is not None:
        read_verdicts(Path(config.review).expanduser())
    plain = asdict(config)
    require_free(Path(config.out), study_hash(plain, input_digests(plain)), config.overwrite, config.only)
    failed: list[str] = []
    for model in chosen:
        if model.command == "baseline" and global_rank() != 0:  # a baseline runs in one process
            continue
        for seed in range(config.seed, config.seed + (config.repeats if model.command == "train" else 1)):
            try:
                _train(model, base, seed, config)
            except Exception as error:  # any error leaves the other models trainable
                tell(f"{model.label}, seed {seed}", error)
                failed.append(f"{model.label}, seed {seed}")
    if global_rank() != 0:  # other ranks of a distributed training
        return
    paths = (_composed(model, base, config.seed, config)[1] for model in _able(models, config.data.source, base))
    like = next((str(path) for path in paths if (path / "DONE").is_file()), None)
    if like or not failed:  # if all failed, `runs` contains at most other studies
        given = [word for word in words if word_key(word) != "like"]
        build_report(_report_of(config, like), [*given, *([f"like={path_word(Path(like))}"] if like else [])])
    if failed:
        raise KjcmError(
            f"{some(failed)} could not be trained; see the messages above. Correct the cause and repeat the command."
        )


def _report_of(config: ReproduceConfig, like: str | None) -> ReportConfig:
    """Return the config of the report on the trained models."""
    shared = {field.name: getattr(config, field.name) for field in fields(Reporting)}
    return ReportConfig(**shared, runs=config.runs, like=like, overwrite=config.overwrite)


def _chosen(config: ReproduceConfig, models: dict[str, Model], base: Sequence[str]) -> list[Model]:
    """Return the models to train, in the order of models.yaml; base: overrides that all of them share."""
    wanted, source = config.models, config.data.source
    if unknown := [key for key in wanted if key not in models and key != "all"]:
        raise ConfigError(f"models={some(unknown)}: no such model. Choose among {', '.join(models)}, or all.")
    if sweeps := [key for key in wanted if key in models and models[key].is_sweep]:
        raise ConfigError(
            f"models={some(sweeps)}: a sweep of its own. Start it with "
            f"`{command_line(['kjcm', 'train', *models[sweeps[0]].words])}`."
        )
    barred = [key for key in wanted if key in models and models[key].sources and source not in models[key].sources]
    if barred:
        raise ConfigError(f"models={some(barred)}: not possible with data={source}. Leave them out.")
    able = _able(models, source, base)
    return able if "all" in wanted else [model for model in able if model.key in wanted]


def _able(models: Mapping[str, Model], source: str, base: Sequence[str]) -> list[Model]:
    """Return the models without sweeps that apply to the study's data."""
    return [model for model in models.values() if not model.is_sweep and model.applies(source, base)]


def _base_words(words: Sequence[str]) -> list[str]:
    """Return the overrides of the command that apply to every training.

    Raises:
        ConfigError: an override sets a key that reproduce sets itself.
    """
    if own := [word for word in words if word_key(word) in CHOSEN]:
        raise ConfigError(
            f"{some(own)}: `kjcm reproduce` sets these keys for each training. Leave them out, or use `kjcm train`."
        )
    return [word for word in words if word_key(word) not in (*OWN, *GIVEN)]


def _composed(model: Model, base: Sequence[str], seed: int, config: ReproduceConfig) -> tuple[DictConfig, Path]:
    """Return the config of a model's training, including Hydra's node, and its run folder."""
    from hydra import compose

    scale = config.preset.scale if config.data.source == "synthetic" else None
    where = [f"seed={seed}", f"runs={quoted(config.runs)}", f"overwrite={str(config.overwrite).lower()}"]
    cfg = compose(model.command, [*words_for(model, base, scale), *where], return_hydra_config=True)
    own = typed(without_hydra(cfg), RunConfig)
    return cfg, default_path(own.runs, own.name, identity_of(asdict(own)))


def _train(model: Model, base: Sequence[str], seed: int, config: ReproduceConfig) -> None:
    """Train one model, or skip it if it is finished."""
    from hydra.core.hydra_config import HydraConfig

    from kjcm.training.baseline import baseline
    from kjcm.training.train import train

    composed, _ = _composed(model, base, seed, config)
    HydraConfig.instance().set_config(composed)  # the run folder records this node
    cfg = without_hydra(composed)
    check(cfg)
    log.info("%s, seed %d", model.label, seed)
    {"train": train, "baseline": baseline}[model.command](cfg)

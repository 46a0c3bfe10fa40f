"""Keys that are in a command's config, for its groups or its experiments have them, and that the command does not read."""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import cast

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from kjcm.errors import CUT, SHOWN, ConfigError, some
from kjcm.keys.checks import require_known, require_resolvable
from kjcm.keys.identity import BY_VIEWS, NOT_READ, OF_EMBEDDINGS, OF_ENCODERS
from kjcm.keys.key import own_keys
from kjcm.keys.overrides import word_key
from kjcm.keys.training import TrainerConfig

SWEEP = "KJCM_SWEEP"  # names the sweep of a job that is a command of its own; the sweep has checked its overrides


def _always(cfg: DictConfig) -> bool:
    return True


@dataclass(frozen=True)
class Unread:
    """Keys, or nodes of keys, that a command does not read.

    Attributes:
        keys: the keys.
        when: tells for a composed config whether they go unread.
        why: the end of the sentence that says so.
        groups: groups whose choice it does not read, although it reads some of their keys.
    """

    keys: tuple[str, ...]
    when: Callable[[DictConfig], bool] = _always
    why: str = ""
    groups: tuple[str, ...] = ()


def _is(key: str, *values: object) -> Callable[[DictConfig], bool]:
    return lambda cfg: OmegaConf.select(cfg, key) in values


def _is_not(key: str, *values: object) -> Callable[[DictConfig], bool]:
    return lambda cfg: OmegaConf.select(cfg, key) not in values


def _scale_is_given(cfg: DictConfig) -> bool:
    data = OmegaConf.to_container(cfg.data, resolve=False) if cfg.data is not None else {}
    return "preset.scale" not in str(dict(data).get("scale"))  # type: ignore[arg-type]


def _has_given_test(cfg: DictConfig) -> bool:
    return any(OmegaConf.select(cfg, key) is not None for key in ("data.test_path", "data.train_wave"))


def _cutoff_is_given(cfg: DictConfig) -> bool:
    if "models" in cfg or "cutoff" in (OmegaConf.select(cfg, "space") or ()):
        return False  # some of the models, or of the trials, have cutoff=higher
    return "higher_cutoff" not in str(cfg.data._get_node("cutoff"))


def _embeds_nothing(cfg: DictConfig) -> bool:
    views = OmegaConf.select(cfg, "model.views") or {}
    return OmegaConf.select(cfg, "model.kind") in BY_VIEWS and all(view.of != "encoder" for view in views.values())


def _has_no_titles(cfg: DictConfig) -> bool:
    if "augment" in (OmegaConf.select(cfg, "space") or ()):
        return False  # some of the trials have titles
    return not any(OmegaConf.select(cfg, f"augment.{name}") for name in ("titles", "descriptions", "index", "rows"))


def _learns_no_index(cfg: DictConfig) -> bool:
    return not OmegaConf.select(cfg, "augment.index") and OmegaConf.select(cfg, "data.source") != "titles"


def _has_no_covariates(cfg: DictConfig) -> bool:
    return not any((OmegaConf.select(cfg, "data.columns.covariates") or {}).values())


def _writes_no_text(cfg: DictConfig) -> bool:
    return Path(OmegaConf.select(cfg, "output") or ".csv").suffix.lower() not in (".csv", ".tsv")


def _draws_nothing(cfg: DictConfig) -> bool:
    return bool(not cfg.draws and cfg.compare is None)


def _exposes_wide(cfg: DictConfig) -> bool:
    return bool(cfg.shape == "wide" and cfg.compare is None)


def _has_certain_codes(cfg: DictConfig) -> bool:
    return cfg.columns.code is not None and (cfg.compare is None or cfg.columns.compare is not None)


def _waits_for_none(cfg: DictConfig) -> bool:
    return cfg.pruner == "none" or bool(cfg.pruner != "median" and cfg.seeds_per_trial == 1)


def _has_objectives(cfg: DictConfig) -> bool:
    return bool(cfg.objectives)


def _prunes_two(cfg: DictConfig) -> bool:
    return bool(cfg.objectives and cfg.pruner != "none")


def _judges_not_by(metric: str) -> Callable[[DictConfig], bool]:
    return lambda cfg: metric not in (*(cfg.objectives or [cfg.metric]), *(cfg.constraints or ()))


# keys of a training that an ensemble's members have; the ensemble sets the keys of its device
OF_MEMBERS = (
    *(node for node in NOT_READ["ensemble"] if node != "trainer"),
    *(f"trainer.{name}" for name, key in own_keys(TrainerConfig).items() if key.identity != "where"),
    "seeds", "data.batch_size",
)  # fmt: skip
OF_ANY = (
    Unread(("preset.scale",), _scale_is_given, ": it counts through data.scale of data=synthetic"),
    Unread(("data.higher_cutoff",), _cutoff_is_given, " without cutoff=higher"),
    Unread(("data.train_share",), _has_given_test, " where data.test_path or data.train_wave names the test rows"),
    Unread(
        ("data.folds", "data.fold"), _has_given_test, " where data.test_path or data.train_wave names the test rows"
    ),
    Unread(("data.train_share",), _is_not("data.folds", None), " with data.folds"),
    Unread(("data.fold",), _is("data.folds", None), " without data.folds"),
    Unread(("data.inner_fold",), _is("data.inner_folds", None), " without data.inner_folds"),
    Unread(("engine.block", "engine.compile"), _is("engine.name", "packed", "reference"), " without engine=captured"),
    Unread(("tokenizer.vocab_size",), _is_not("tokenizer.kind", "trained", None), " without tokenizer=trained"),
    *(
        Unread(
            (*OF_ENCODERS, "seeds.init", "seeds.dropout", "data.batch_size", "svm_check"),
            _is("model.kind", kind),
            f" with model={kind}",
        )
        for kind in BY_VIEWS
    ),
    Unread(("augment.weight",), _is("model.kind", "nearest"), " with model=nearest"),
    Unread(tuple(f"model.{name}" for name in OF_EMBEDDINGS), _embeds_nothing, " without a view of encoder"),
    Unread(("model.unseen",), _has_no_titles, " without titles (augment=titles)"),
    Unread(("model.covariates",), _has_no_covariates, " without data.columns.covariates"),
    Unread(("model.saturation",), _is("model.classifier", "logistic"), " with model.classifier=logistic"),
    Unread(("model.prior",), _is("model.combine", "average"), " with model.combine=average"),
    Unread(OF_MEMBERS, _is("model.kind", "ensemble"), " with model=ensemble. Set it in a member's overrides"),
    Unread(("svm_check",), _is("model.kind", "ensemble"), " with model=ensemble"),
    Unread(("model.shape",), _is_not("model.pretrained", None), ": model.pretrained has a shape of its own"),
)
OF_INDEX = Unread(("triage.index_file",), _is("triage.index", "off"), " without triage.index=accept or suggest")
OF_THE_PAGE = ("who", "language", "host", "port", "token", "open_browser", "decisions", "show", "id", "once")
OF_RULES = (
    OF_INDEX,
    Unread(("columns.manages",), _is_not("triage.managers", "column"), " without triage.managers=column"),
    Unread(
        ("triage.threshold",), _is_not("triage.target_error", None), " where triage.target_error sets the threshold"
    ),
)
OF_COMPARING = (
    "output", "sample", "columns", "half_width", "expected_error", "decisions", "exchanges", "seed", "chunk_rows",
    "accelerator", "precision",
)  # fmt: skip
OF_RECODE_RULES = tuple(f"triage.{name}" for name in ("target_error", "threshold", "confidence", "alpha", "k"))
WITH_SWEEPS = ("sweep.dry_run", "sweep.gpus", "sweep.sort")
OF_A_COMMAND: dict[str, tuple[Unread, ...]] = {
    "prepare": (
        Unread(("classification.index",), _learns_no_index, " without augment=index"),
        Unread(("name", "data.batch_size", "data.manager_words", "data.reviewed")),
    ),
    "baseline": (
        Unread(("data.batch_size", "data.columns.covariates", "data.manager_words")),
        Unread(("ngrams", "C", "seeds"), _is("kind", "majority"), " with kind=majority"),
    ),
    "evaluate": (
        Unread(("data.level",), why=": the level is the run's"),
        Unread(("data.columns.covariates",), why=": the covariates are the run's"),
        Unread(("unseen_levels",), _is("data", None), " without data"),
        Unread(("data.batch_size", "data.manager_words", "data.reviewed", "data.train_fraction", "data.validation")),
        Unread(("data.inner_folds", "data.inner_fold")),
        Unread(tuple(f"trainer.{name}" for name in ("max_epochs", "num_workers", "save_every", "keep_checkpoints", "flags"))),
    ),
    "audit": (
        Unread(("most", "rule", "score"), _is("output", None), " without output=FILE"),
        Unread(tuple(f"trainer.{name}" for name in ("max_epochs", "num_workers", "save_every", "keep_checkpoints", "flags"))),
    ),
    "predict": (
        *OF_RULES,
        Unread(("second.prefix", "second.columns"), _is("second.run", None), " without second.run=RUN_DIR"),
        Unread(("formulas",), _writes_no_text, " where output is no .csv or .tsv file"),
        Unread(("ray.address", "ray.workers", "ray.cpus"), _is("ray.engine", "local"), " without engine=ray"),
    ),
    "recode": (
        Unread(
            (
                "columns.workplace", "columns.position", "columns.task", "columns.manages", "triage", "accelerator",
                "precision",
            ),
            _is("run", None),
            " without run=RUN_DIR",
        ),
        Unread(("columns.manages",), _is_not("triage.managers", "column"), " without triage.managers=column"),
        Unread(OF_RECODE_RULES, _is("weights", True), " with weights=true"),
        Unread(("triage.confidence",), _is("triage.target_error", None), " without triage.target_error"),
        Unread(
            ("triage.threshold",), _is_not("triage.target_error", None), " where triage.target_error sets the threshold"
        ),
    ),
    "expose": (
        Unread(("columns.compare", "replicates"), _is("compare", None), " without compare=FILE"),
        Unread(("shape", "draws"), _is_not("compare", None), " with compare=FILE"),
        Unread(("seed",), _draws_nothing, " without draws or compare"),
        Unread(("columns.id",), _exposes_wide, " with shape=wide, whose rows keep all columns"),
        Unread(("settled",), _has_certain_codes, " with columns.code"),
    ),
    "drift": (
        Unread(OF_COMPARING, _is_not("audited", None), " with audited=FILE"),
        Unread(("half_width", "expected_error", "decisions"), _is("sample", None), " without sample=FILE"),
        Unread(
            ("triage.threshold",), _is_not("triage.target_error", None), " where triage.target_error sets the threshold"
        ),
    ),
    "tabulate": (Unread(("settled",), _is_not("columns.code", None), " with columns.code"),),
    "serve": OF_RULES,
    "triage": (OF_INDEX,),
    "search": (
        Unread(
            ("classification.name", "classification.path"),
            _is_not("run", None),
            " with run=RUN_DIR: the run's is searched",
            ("classification",),
        ),
    ),
    "review": (
        Unread(OF_THE_PAGE, _is_not("export", None), " with export=FILE"),
        Unread(("overwrite",), _is("export", None), " without export=FILE"),
    ),
    "export": (
        Unread(("tolerance",), _is_not("format", "onnx"), " without format=onnx"),
        Unread(("agreement", "narrow"), _is_not("format", "onnx-int8"), " without format=onnx-int8"),
    ),
    "reproduce": (Unread(("sweep",)),),
    "pretrain": (
        Unread(("augment", "callbacks", "engine", "evaluate", "loss", "metrics", "svm_check", "sweep")),
        Unread(("classification.index", "model.finer_weight", "model.head", "model.pooling")),
        Unread(("data.classes", "data.columns.covariates", "data.manager_words", "data.reviewed")),
        Unread(("param_groups.cache_frozen", "param_groups.head_factor")),
    ),
    "tune": (
        Unread(WITH_SWEEPS),
        Unread(("startup",), _is_not("sampler", "tpe"), " without sampler=tpe"),
        Unread(("prune_after",), _waits_for_none, " without pruner=median or several seeds_per_trial"),
        Unread(("prune_from", "prune_seeds"), _is("pruner", "none"), " with pruner=none"),
        Unread(("metric", "direction"), _has_objectives, ": objectives names the metrics"),
        Unread(("pruner", "prune_after", "prune_from", "prune_seeds"), _prunes_two, ": Optuna prunes for one metric only"),
        Unread(("over_seeds", "prune_seeds"), _is("seeds_per_trial", 1), " with seeds_per_trial=1"),
        Unread(("standard_errors",), _is("over_seeds", "mean"), " without over_seeds=bound"),
        Unread(("tail_share",), _judges_not_by("f1_tail"), " without f1_tail"),
        Unread(("speed",), _judges_not_by("seconds_per_1000_rows"), " without seconds_per_1000_rows"),
    ),
    "wandb_workspace": (Unread(("out",), _is("dry_run", False), " without dry_run=true"),),
    "wandb_report": (Unread(("out",), _is("dry_run", False), " without dry_run=true"),),
}  # fmt: skip


def require_keys(command: str, cfg: DictConfig, own: Sequence[Unread] = ()) -> None:
    """Check the keys of the config that Hydra runs a command with.

    Args:
        command: its name.
        cfg: its composed config.
        own: keys that a command outside kjcm does not read.

    Raises:
        ConfigError: a key is unknown, a reference has no value, or an override sets a key that the command does not read.
    """
    hydra = HydraConfig.get()
    require_known(cast(DictConfig, hydra), "hydra.", beside="hydra.env")  # Hydra's own file adds it
    if hydra.job.chdir:
        raise ConfigError("hydra.job.chdir=true: kjcm works in the folder in which it is started. Leave it out.")
    require_known(cfg)
    require_resolvable(cfg)
    if SWEEP not in os.environ:
        require_read(command, cfg, list(hydra.overrides.task), own)


def require_single() -> None:
    """Raise ConfigError if the single run that Hydra runs sets what only a multirun reads."""
    hydra = HydraConfig.get()
    words = hydra.overrides.task
    if of_sweep := [word for word in words if f"{word_key(word)}.".startswith("sweep.")]:
        raise ConfigError(f"{some(of_sweep)}: this is a setting of multiruns: add -m, or leave it out.")
    given = set(map(word_key, words))
    if swept := [str(key) for key in OmegaConf.select(hydra.sweeper, "params") or () if key not in given]:
        raise ConfigError(f"{', '.join(swept)}: the config sweeps over these keys. Add -m, or give each one value.")


def require_read(command: str, cfg: DictConfig, overrides: Sequence[str], own: Sequence[Unread] = ()) -> None:
    """Raise ConfigError if an override sets a key that the command does not read.

    Args:
        command: its name.
        cfg: its composed config.
        overrides: what the command line sets.
        own: keys that a command outside kjcm does not read.

    Raises:
        ConfigError: names the overrides and why their keys go unread.
    """
    require_none_unread(command, unread_overrides(command, cfg, overrides, own))


def unread_overrides(
    command: str, cfg: DictConfig, overrides: Sequence[str], own: Sequence[Unread] = ()
) -> dict[str, str]:
    """Return the overrides whose keys the command does not read, each with the reason; arguments as in `require_read`.

    A key that a group or an experiment file sets is no override: the file serves several commands.
    """
    found: dict[str, str] = {}
    for unread in (*OF_A_COMMAND.get(command, ()), *own, *OF_ANY):
        words = [
            word
            for word in overrides
            if word_key(word) in unread.groups or any(_is_below(key, unread.keys) for key in _set_by(word))
        ]
        if words and unread.when(cfg):
            found |= dict.fromkeys(words, unread.why)
    return found


def require_none_unread(command: str, unread: Mapping[str, str]) -> None:
    """Raise ConfigError if there are overrides, each with its reason, whose keys the command does not read."""
    if unread:
        shown = "; ".join(f"{word[:CUT]!r}{why}" for word, why in [*unread.items()][:SHOWN])
        raise ConfigError(
            f"{command.replace('_', ' ')} does not read {shown}. Remove {'it' if len(unread) == 1 else 'them'}."
        )


def require_read_by_some(command: str, jobs: Mapping[Sequence[str], Mapping[str, str]]) -> None:
    """Raise ConfigError if an override sets a key that no job of a sweep reads.

    Args:
        command: its name.
        jobs: the overrides of each job -> those of them that go unread, see `unread_overrides`.
    """
    read = {word_key(word) for words, unread in jobs.items() for word in words if word not in unread}
    found = {word: why for unread in jobs.values() for word, why in unread.items() if word_key(word) not in read}
    require_none_unread(command, found)


@lru_cache(maxsize=1000)  # asked once for each of the table's entries
def _set_by(override: str) -> tuple[str, ...]:
    """Return the keys to which an override gives a value, those within a mapping too; null takes a value away."""
    key, value = word_key(override), OverridesParser.create().parse_override(override).value()
    waiting = [(key, value)]
    for own, node in waiting:
        if isinstance(node, Mapping):
            waiting += [(f"{own}.{name}", part) for name, part in node.items()]
    return tuple(own for own, node in waiting if node is not None and not isinstance(node, Mapping))


def is_read(command: str, key: str) -> bool:
    """Return whether a command reads a key whatever the rest of its config."""
    always = (unread for unread in OF_A_COMMAND.get(command, ()) if unread.when is _always)
    return not any(_is_below(key, unread.keys) for unread in always)


def _is_below(key: str, nodes: Iterable[str]) -> bool:
    """Return whether a key is one of some keys, or within one of them."""
    return any(f"{key}.".startswith(f"{node}.") for node in nodes)

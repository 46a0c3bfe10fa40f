"""The members of an ensemble: each a config of `kjcm train`, from overrides or from a finished run's folder."""

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, is_dataclass, replace
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from kjcm.errors import CUT, ConfigError, KjcmError
from kjcm.keys.checks import check
from kjcm.keys.commands.index import GROUPS
from kjcm.keys.commands.train import TrainConfig
from kjcm.keys.composition import typed
from kjcm.keys.identity import LEGACY
from kjcm.keys.key import MISSING, own_keys
from kjcm.keys.models import EncoderConfig, EnsembleConfig
from kjcm.keys.overrides import for_hydra, word_key
from kjcm.keys.refusals import checked_config
from kjcm.keys.survey import AugmentConfig, DataConfig
from kjcm.keys.training import TrainerConfig
from kjcm.keys.unread import require_read
from kjcm.parts import TARGET, target_of
from kjcm.records import damaged
from kjcm.run_folder.contents import run_cohort, run_config, run_identity, run_overrides
from kjcm.run_folder.folder import experiment_of, run_of
from kjcm.run_folder.model_folder import finished_run
from kjcm.survey.cohort import Cohort
from kjcm.survey.covariates import kinds_of
from kjcm.survey.inputs import input_digests

KEY = "model.members"
# keys of a member that the ensemble sets
OF_THE_ENSEMBLE = (
    "data", "classification", "cutoff", "name", "run_dir", "runs", "cache", "evaluate", "svm_check", "overwrite", "logger",
    "sweep",
)  # fmt: skip
OF_A_MEMBER = (
    "tokenizer", "model", "loss", "optim", "param_groups", "schedule", "callbacks", "metrics", "engine", "trainer", "augment",
    "seeds", "seed",
)  # fmt: skip
OF_THE_DEVICE = tuple(name for name, key in own_keys(TrainerConfig).items() if key.identity == "where")
# modules whose classes a run folder's config may name
FROM = (
    "kjcm.model.losses.", "kjcm.engine.schedules.", "kjcm.training.callbacks.", "torch.optim.", "torch.nn.", "torchmetrics.",
    "lightning.pytorch.callbacks.",
)  # fmt: skip
# keys of data that choose rows
SAME = ("split_seed", "train_fraction", "validation", "group_similar", "stratify", "inner_folds", "cutoff")
NAME = re.compile(r"\d+-\w[\w.-]*")


@dataclass(frozen=True)
class Member:
    """A member of an ensemble.

    Attributes:
        name: its number, from 1, and the name of its experiment, run or model; a folder's name.
        config: how it is trained.
        run: a finished run that is the member itself; None: it is trained.
        whole: Hydra's config of its training.
    """

    name: str
    config: TrainConfig
    run: Path | None
    whole: DictConfig

    @property
    def is_costly(self) -> bool:
        """Whether its training takes long: it is an encoder."""
        return isinstance(self.config.model, EncoderConfig)

    @contextmanager
    def running(self, config: TrainConfig) -> Iterator[DictConfig]:
        """Yield a config of this member for `kjcm train`, with Hydra's config set to the member's meanwhile."""
        hydra = HydraConfig.instance()
        before = hydra.cfg
        hydra.set_config(self.whole)
        try:
            yield OmegaConf.structured(config)
        finally:
            hydra.cfg = before


def members_of(config: TrainConfig) -> list[Member]:
    """Return the members of an ensemble in its order.

    Raises:
        ConfigError: there is none, or one's overrides make no config.
        KjcmError: a run is not finished, or has no model.
    """
    assert isinstance(config.model, EnsembleConfig)
    if not config.model.members:
        raise ConfigError(f"{KEY}=[]: name the members, as 'model.members=[best_offline, \"best_offline seed=1\"]'.")
    found = []
    for number, text in enumerate(config.model.members, 1):
        try:
            run = run_of(text) or (text if "=" not in text and "/" in text else None)
            one = _from_run(str(run), config) if run else _from_overrides(text, config)
        except KjcmError as error:
            raise type(error)(f"{KEY}, {text!r}: {error}") from None
        if isinstance(one.config.model, EnsembleConfig):
            raise ConfigError(f"{KEY}, {text!r}: this is an ensemble. Name its members instead.")
        name = f"{number}-" + (re.sub(r"[^\w.-]+", "-", one.name).lstrip("-.") or "member")
        found.append(replace(one, name=name, config=replace(one.config, name=name)))
    return found


def _from_overrides(text: str, config: TrainConfig) -> Member:
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise ConfigError(f"{error}. Quote a value with spaces, as \"model.prefix='a b'\".") from None
    if not words:
        raise ConfigError("a member is a run folder, an experiment, or overrides. Name one.")
    if "=" not in words[0] and not words[0].startswith("~"):
        words[0] = f"experiment={words[0]}"
    keys = list(map(word_key, words))
    if taken := list(filter(_is_of_the_ensemble, keys)):
        raise ConfigError(f"the ensemble sets {taken[0]} for its members. Set it for the ensemble.")
    seed = [] if "seed" in keys else [f"seed={config.seed}"]
    given = config.model.pretrained  # type: ignore[attr-defined]

    def give_weights(cfg: DictConfig) -> None:
        if given is not None and "model.pretrained" not in keys and _starts_from_weights(cfg.model):
            cfg.model.pretrained = given

    overrides = for_hydra("train", [*words, *seed], swept=False)
    whole, cfg = checked_config("train", overrides, give_weights)
    require_read("train", cfg, overrides)
    own = typed(cfg, TrainConfig)
    _require_own_rows(own.data, config.data)
    return Member(experiment_of(" ".join(words)) or own.model.name, _of_ensemble(own, config), None, whole)


def _require_own_rows(own: DataConfig, data: DataConfig) -> None:
    """Raise ConfigError if a member's experiment chooses other rows or classes than the ensemble, whose rows it gets.

    Keys that the ensemble's own overrides set are meant to differ.
    """
    usual = dict(_keys_of(typed(checked_config("train", [])[1], TrainConfig).data))
    ours = dict(_keys_of(data))
    given = set(map(word_key, HydraConfig.get().overrides.task))
    for key, value in _keys_of(own):
        if key not in (*given, "data.batch_size") and value not in (usual.get(key), ours.get(key, value)):
            name = "data" if key == "data.source" else key
            raise ConfigError(
                f"it sets {name}={value}, and the ensemble has {ours[key]}. All members get the ensemble's rows: give the "
                f"ensemble {name}={value} or {name}={ours[key]}, or name the member by other overrides."
            )


def _keys_of(node: Any, lead: str = "data.") -> Iterator[tuple[str, Any]]:
    """Yield each key of a node and its value."""
    for name, value in vars(node).items():
        if is_dataclass(value):
            yield from _keys_of(value, f"{lead}{name}.")
        else:
            yield f"{lead}{name}", value


def _is_of_the_ensemble(key: str) -> bool:
    """Return whether the ensemble sets a key for its members."""
    node, _, name = key.partition(".")
    if node == "trainer":
        return not name or name in OF_THE_DEVICE
    return node in OF_THE_ENSEMBLE and key != "data.batch_size"


def _starts_from_weights(model: DictConfig) -> bool:
    """Return whether a model needs pretrained weights: its `pretrained` is set, or one of its views is an embedding."""
    if "pretrained" not in model:
        return False
    views = model.get("views") or {}
    return bool(model.pretrained is not None or any(view.of == "encoder" for view in views.values()))


def _of_ensemble(own: TrainConfig, config: TrainConfig) -> TrainConfig:
    """Return a member's config with the ensemble's rows, device and folders."""
    where = {name: getattr(config.trainer, name) for name in OF_THE_DEVICE}
    nothing: dict[str, Any] = {"logger": {}, "evaluate": False, "svm_check": 0, "overwrite": False}
    data = replace(config.data, batch_size=own.data.batch_size)
    nodes = {name: getattr(own, name) for name in OF_A_MEMBER}
    return replace(config, **{**nodes, **nothing, "data": data, "trainer": replace(own.trainer, **where)})


def _from_run(path: str, config: TrainConfig) -> Member:
    """Return the member that a finished run is; its config is read as data, so it may name only known classes."""
    run = finished_run(path)
    recorded = run_config(run)
    if "model" not in recorded:
        raise KjcmError(f"{run}: a baseline cannot be a member. Name the overrides of a linear model, as model=linear.")
    nodes = {name: recorded[name] for name in OF_A_MEMBER if name in recorded}
    if code := _code_of(nodes):
        raise KjcmError(
            f"{run}: its config names {code[:CUT]}, which kjcm does not run for a run folder. Give its overrides."
        )
    whole, cfg = checked_config("train", [])
    try:
        own = typed(_with_nodes(cfg, nodes), TrainConfig)
        check(cfg)
    except (OmegaConfBaseException, ConfigError) as error:
        raise damaged(run / "config.yaml", error) from None
    own = replace(own, data=replace(config.data, batch_size=recorded["data"].get("batch_size", config.data.batch_size)))
    with open_dict(whole):
        whole.hydra.overrides.task = list(run_overrides(run))
    return Member(str(recorded["name"]), _of_ensemble(own, config), run, whole)


def _with_nodes(cfg: DictConfig, nodes: Mapping[str, Any]) -> DictConfig:
    """Return a config of `kjcm train` after replacing nodes by those of a run's config; keys that it lacks are legacy."""
    kind = GROUPS["model"].get(nodes["model"].get("kind", "any"), EncoderConfig)
    cfg.model = OmegaConf.structured(kind)
    legacy = {name: key.legacy for name, key in own_keys(kind).items() if key.legacy != MISSING}
    for name, node in {**nodes, "model": {**legacy, **nodes["model"]}}.items():
        is_plain = OmegaConf.get_type(cfg, name) in (dict, int)
        OmegaConf.update(cfg, name, node, merge=not is_plain, force_add=True)
    return cfg


def _code_of(nodes: Mapping[str, Any]) -> str | None:
    """Return the first function, unknown class or reference in a run folder's config; None without one."""
    if nodes.get("augment", {}).get("rows"):
        return "augment.rows"
    if "${" in str(nodes):  # a reference could make a node that names a function; a run's config has none
        return "${...}"
    return next((target for target in _targets(nodes) if not _is_known_class(target)), None)


def _is_known_class(target: str) -> bool:
    """Return whether a dotted name is of a class that is defined in one of the modules of FROM."""
    if not target.startswith(FROM):
        return False
    found = target_of(KEY, {TARGET: target})  # the name may lead through a module's imports to other packages
    return isinstance(found, type) and f"{found.__module__}.".startswith(FROM)


def _targets(node: Any) -> Iterator[str]:
    """Yield the functions and classes that a config names."""
    for key, value in node.items() if isinstance(node, Mapping) else enumerate(node) if isinstance(node, list) else ():
        if key == TARGET:
            yield str(value)
        yield from _targets(value)


def augmentation_of(members: Sequence[Member]) -> AugmentConfig:
    """Return the augmentation of all members together; its weights do not count, because nothing learns from it."""
    own = [member.config.augment for member in members]
    return AugmentConfig(
        titles=any(one.titles for one in own),
        descriptions=any(one.descriptions for one in own),
        index=any(one.index for one in own),
        rows=next((one.rows for one in own if one.rows), {}),
        weight=1.0,
        positions=max(one.positions for one in own),
    )


def require_same(member: Member, cohort: Cohort, config: TrainConfig) -> None:
    """Raise ConfigError if a member that is a run has other rows or classes than the ensemble."""
    if member.run is None:
        return
    hashes, data = run_cohort(member.run)["hashes"], run_config(member.run)["data"]
    own = {"cohort": cohort.cohort_hash, "split": cohort.split_hash, "classes": cohort.classes_hash}
    pairs: dict[str, tuple[Any, Any]] = {
        f"{name} hash": (str(hashes.get(name))[:12], value[:12]) for name, value in own.items()
    }
    pairs |= {f"data.{name}": (data.get(name, LEGACY.get(f"data.{name}")), getattr(config.data, name)) for name in SAME}
    theirs, ours = data["columns"].get("covariates"), config.data.columns.covariates
    pairs["data.columns.covariates"] = (kinds_of(theirs), kinds_of(ours))
    reviewed = input_digests({"data": vars(config.data)}).get("data.reviewed")
    pairs["data.reviewed"] = (run_identity(member.run)["inputs"].get("data.reviewed"), reviewed)
    for name, (theirs, ours) in pairs.items():
        if theirs != ours:
            raise ConfigError(
                f"{KEY}: {member.run} has another {name} ({theirs}) than the ensemble ({ours}). Members must share data, split "
                "and classes: give the run's overrides instead, or its data keys to the ensemble."
            )

"""Checks of a config that its types cannot make, before anything is read."""

import re
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, cast

from omegaconf import MISSING, DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from kjcm.errors import ConfigError, first_line, some
from kjcm.keys.commands.index import LOGGERS
from kjcm.keys.composition import known_keys, no_such_key, no_such_keys, typed_nodes, unknown_keys
from kjcm.keys.identity import BY_VIEWS, PATHS
from kjcm.keys.key import list_types, own_keys


def check(cfg: DictConfig) -> None:
    """Check that every key is known and has a value, the values, and what needs what.

    Raises:
        ConfigError: a key is unknown, a value is not allowed, or a combination cannot work.
    """
    require_known(cfg)
    values, missing = require_resolvable(cfg), []
    nodes = [(lead, kind, _below(values, lead)) for lead, kind, _ in typed_nodes(cfg)]
    for lead, kind, node in nodes:
        _require_plain_lists(lead, kind, node)
        missing += [f"{lead}{one.name}" for one in fields(kind) if node.get(one.name, MISSING) == MISSING]
    if missing:
        raise ConfigError(f"Give {', '.join(f'{key}=...' for key in sorted(missing))}.")
    for lead, kind, node in nodes:
        check_values(kind, node, lead)
    _require_a_name(OmegaConf.select(cfg, "name"))
    _check_folds(cfg)
    if OmegaConf.select(cfg, "classification.name") == "ksco8" and not OmegaConf.select(cfg, "classification.path"):
        raise ConfigError("classification=ksco8 needs classification.path=FILE: kjcm classification import makes it.")
    _check_training(cfg)
    _check_lists(cfg)
    for name, node in (OmegaConf.select(cfg, "logger") or {}).items():
        _check_logger(name, node)
    if wandb := OmegaConf.select(cfg, "logger.wandb"):
        _require_names_for_wandb(wandb, cfg.name)


def check_values(kind: type, values: Mapping[str, Any], lead: str = "") -> None:
    """Check the values of a node, as composed or recorded, against its dataclass.

    Args:
        kind: the dataclass.
        values: plain values; keys may be missing.
        lead: the node's key with a dot behind it.

    Raises:
        ConfigError: a value is not allowed.
    """
    for name, key in own_keys(kind).items():
        value = values.get(name)
        if fault := key.fault(value):
            raise ConfigError(f"{lead}{name}={value}: {fault}.")
        if f"{lead}{name}" in PATHS:
            _require_home(f"{lead}{name}", value)


def require_known(cfg: DictConfig, lead: str = "", beside: str = "") -> None:
    """Compare a composed config with its types.

    Args:
        cfg: a composed config, or one of its nodes.
        lead: the node's key with a dot behind it.
        beside: a key that is known although the types do not have it.

    Raises:
        ConfigError: names the keys that the types do not have, and keys like them.
    """
    if unknown := [key for key in unknown_keys(cfg, lead) if key != beside]:
        raise ConfigError(no_such_keys(unknown, known_keys(cfg)))


def require_resolvable(cfg: DictConfig) -> dict[str, Any]:
    """Return a config as plain values.

    Raises:
        ConfigError: an interpolation has no value, or one of another type than its key's.
    """
    try:
        return cast(dict[str, Any], OmegaConf.to_container(cfg, resolve=True))
    except (OmegaConfBaseException, RecursionError) as error:
        key = getattr(error, "full_key", None)
        why = "it refers to itself" if isinstance(error, RecursionError) else first_line(error)
        raise ConfigError(f"{f'{key}: ' if key else ''}{why}. Give a value, or a key that is there.") from None


def _below(values: dict[str, Any], lead: str) -> dict[str, Any]:
    """Return the node of plain values whose key, with a dot behind it, is `lead`."""
    for name in lead.split(".")[:-1]:
        values = values[name]
    return values


def _require_plain_lists(lead: str, kind: type, values: Mapping[str, Any]) -> None:
    """Raise ConfigError if a list of texts or numbers has a list or mapping in it: OmegaConf takes any."""
    for name, part in list_types(kind).items():
        value = values.get(name)
        if part in (str, int, float) and isinstance(value, list) and any(isinstance(one, list | dict) for one in value):
            shown = "texts" if part is str else "numbers"
            raise ConfigError(f"{lead}{name}={value}: give one list of {shown}, without lists or mappings in it.")


def _require_home(key: str, value: str | None) -> None:
    """Raise ConfigError if a path begins with ~NAME and there is no such user."""
    try:
        Path(value or "").expanduser()
    except RuntimeError:
        raise ConfigError(f"{key}={value}: there is no user of this name. Write ./~NAME for a file so named.") from None


def _require_a_name(name: str | None) -> None:
    if name is not None and (not name.strip() or name.startswith(".") or {"/", "\\"} & set(name)):
        raise ConfigError(
            f"name={name}: it names a folder in `runs`; use a text without / and \\ that begins with no dot."
        )


def _check_folds(cfg: DictConfig) -> None:
    """Raise ConfigError if there is no fold of a chosen number, or an ensemble has other folds than its own."""
    if OmegaConf.select(cfg, "model.kind") == "ensemble" and OmegaConf.select(cfg, "data.inner_folds") is not None:
        raise ConfigError("data.inner_folds: an ensemble draws its own folds. Set model.folds.")
    for key in ("data.fold", "data.inner_fold"):
        folds, fold = OmegaConf.select(cfg, f"{key}s"), OmegaConf.select(cfg, key)
        if folds is not None and fold >= folds:
            raise ConfigError(f"{key}={fold}: the folds are 0 to {folds - 1} with {key}s={folds}.")


def _check_training(cfg: DictConfig) -> None:
    """Check what needs what in a training."""
    devices = OmegaConf.select(cfg, "trainer.devices")
    parts = devices if isinstance(devices, ListConfig) else [devices]
    if devices is not None and not all(type(part) in ((int,) if parts is devices else (int, str)) for part in parts):
        raise ConfigError(f"trainer.devices={devices}: give a number, a list as [0,1] or '0,1', or auto.")
    engine = OmegaConf.select(cfg, "engine")
    if engine is not None and engine.name == "reference" and engine.attention_dropout == "none":
        raise ConfigError("engine.attention_dropout=none is of packed batches: use engine=auto, or leave it exact.")
    if OmegaConf.select(cfg, "model.head") in ("label_text", "both") and cfg.model.pooling != "mean":
        raise ConfigError(
            f"model.head={cfg.model.head} compares mean vectors. Add model.pooling=mean, or leave it linear."
        )
    if OmegaConf.select(cfg, "model.finer_weight") and cfg.model.pooling != "mean":
        raise ConfigError(
            f"model.finer_weight={cfg.model.finer_weight} reads mean vectors. Add model.pooling=mean, or set it to 0."
        )
    if OmegaConf.select(cfg, "tokenizer.kind") == "trained" and OmegaConf.select(cfg, "tokenizer.path"):
        raise ConfigError("tokenizer=trained takes no tokenizer.path: it is trained on the training rows.")


def _check_lists(cfg: DictConfig) -> None:
    """Check the lengths and the order of lists of numbers."""
    levels = list(OmegaConf.select(cfg, "triage.back_off") or [])
    if levels != sorted(set(levels), reverse=True) or any(level < 1 for level in levels):
        raise ConfigError(f"triage.back_off={levels}: give levels above the codes', the finest first, as [2,1], or [].")
    above = list(OmegaConf.select(cfg, "levels") or [])
    if len(above) > len(set(above)):
        raise ConfigError(f"levels={above}: name each level once.")
    targets = OmegaConf.select(cfg, "targets")
    if targets is not None and not targets:
        raise ConfigError("targets=[]: give error rates, as [0.05,0.1].")
    views = OmegaConf.select(cfg, "model.views") or {}
    embedded = [name for name, view in views.items() if view.of == "encoder"]
    if with_ngrams := [name for name in embedded if views[name].ngrams]:
        raise ConfigError(f"model.views.{with_ngrams[0]}.ngrams: an embedding has no n-grams. Set it to [].")
    if embedded and OmegaConf.select(cfg, "model.pretrained") is None:
        raise ConfigError(
            f"model.views.{embedded[0]}.of=encoder: it needs model.pretrained=FOLDER, or the hub name of an encoder."
        )
    for key in ("ngrams", *(f"model.views.{name}.ngrams" for name in views if name not in embedded)):
        ngrams = OmegaConf.select(cfg, key)
        if ngrams is not None and not (len(ngrams) == 2 and ngrams[0] <= ngrams[1]):
            raise ConfigError(f"{key}={ngrams}: give the fewest and the most parts of an n-gram, as [1,4].")
    if OmegaConf.select(cfg, "model.kind") in BY_VIEWS and not views:
        raise ConfigError("model.views={}: the model needs a view. Leave one in.")


def _check_logger(name: str, node: Any) -> None:
    """Raise ConfigError if an entry of `logger` is no mapping, or one of kjcm's loggers without its type."""
    kind = LOGGERS.get(name)
    if not isinstance(node, DictConfig):
        raise ConfigError(no_such_key(f"logger.{name}", []))
    if kind is not None and OmegaConf.get_type(node) is not kind:
        raise ConfigError(f"logger.{name}: choose this logger by its name, as logger={name} or logger=[csv,{name}].")


def _require_names_for_wandb(node: DictConfig, name: str) -> None:
    """Raise ConfigError if W&B would refuse a name at the first step of a training, or its server at the upload."""
    require_wandb_project("logger.wandb.", node.project, node.entity)
    group = node.group
    if group is not None and not 0 < len(group.strip()) <= 128:
        raise ConfigError(f"logger.wandb.group={group}: use 1 to 128 characters, or null.")
    if wrong := [tag for tag in node.tags if tag is None or not 0 < len(tag.strip()) <= 64]:
        raise ConfigError(
            f"logger.wandb.tags={some(wrong)}: a tag has 1 to 64 characters. Shorten it, or leave it out."
        )
    if len(name) > 115:  # W&B's name of the run has a hyphen and 12 characters more
        raise ConfigError(f"name={name[:40]}...: with logger=wandb it has at most 115 characters.")


def require_wandb_project(lead: str, project: str | None, entity: str | None) -> None:
    """Raise ConfigError if W&B would refuse the name of a project or of its owner; `lead` stands before the keys' names."""
    if project is not None and (not 0 < len(project.strip()) <= 128 or set("/\\#?%:") & set(project)):
        raise ConfigError(f"{lead}project={project}: use 1 to 128 characters, none of them / \\ # ? % or :.")
    if entity is not None and not re.fullmatch(r"[A-Za-z0-9_-]{1,128}", entity):
        raise ConfigError(f"{lead}entity={entity}: use the name of a W&B user or team: letters, digits, - and _.")

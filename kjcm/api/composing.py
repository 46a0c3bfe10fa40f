"""Compose configs outside Hydra's main function, and write edited ones as overrides."""

import math
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.singleton import Singleton
from hydra.core.utils import JobRuntime
from hydra.version import VersionBase
from omegaconf import DictConfig, OmegaConf, open_dict

from kjcm.commands import COMMANDS, SWEPT
from kjcm.errors import ConfigError, some
from kjcm.keys.composition import register, without_hydra
from kjcm.keys.overrides import config_folder, for_hydra, is_flag, override, word_key
from kjcm.keys.refusals import checked_config
from kjcm.keys.unread import require_keys, require_single

COMMAND, OVERRIDES = "hydra.job.config_name", "hydra.overrides.task"  # entries of a config that `config` returned
OF_A_PROGRAM = (GlobalHydra, HydraConfig, JobRuntime, VersionBase)  # Hydra's singletons that a program may use itself

Configured = DictConfig | Sequence[str]  # what `config` returned, or the overrides of a command

_lock = threading.RLock()  # Hydra has one state a process


def config(command: str, overrides: Sequence[str] = ()) -> DictConfig:
    """Return the config that a command would run with, checked as the command checks it.

    It may be edited before it is given to `train` or `report`. Its entry `hydra` has the command and the overrides.

    Args:
        command: a command's name, as 'train'.
        overrides: as on the command line, without quotes for the shell: ["experiment=k_jcm", "model.lr=1e-4"].

    Raises:
        ConfigError: there is no such command or key, a value is not allowed, or the command does not read an override.
    """
    if command not in COMMANDS or command == "ensemble":
        known = ", ".join(name for name in COMMANDS if name != "ensemble")
        raise ConfigError(f"config: there is no command {command!r}. The commands are {known}.")
    given = require_overrides(overrides)
    with composed(command, given) as cfg, open_dict(cfg):
        OmegaConf.update(cfg, COMMAND, command, force_add=True)
        OmegaConf.update(cfg, OVERRIDES, given, force_add=True)
        return cfg


def require_overrides(given: Sequence[str]) -> list[str]:
    """Return overrides as a list.

    Raises:
        ConfigError: they are no list of texts, or an option of the command line is among them.
    """
    if isinstance(given, str | Mapping) or not isinstance(given, Sequence):
        raise ConfigError(
            f"overrides: {type(given).__name__}. Give a list of texts, one for each override, as ['seed=1']."
        )
    if wrong := [number for number, one in enumerate(given) if not isinstance(one, str)]:
        raise ConfigError(f"overrides[{wrong[0]}]: {type(given[wrong[0]]).__name__}. Give a text, as 'seed=1'.")
    if options := [one for one in given if is_flag(one)]:
        raise ConfigError(f"{some(options)}: give overrides as KEY=VALUE, and no options of the command line.")
    return list(given)


@contextmanager
def composed(command: str, overrides: Sequence[str]) -> Iterator[DictConfig]:
    """Yield a command's config, and let Hydra compose further ones while the context lasts, as within the command.

    Raises:
        ConfigError: the overrides make no config that the command accepts.
    """
    name = COMMANDS[command].config
    with hydra_apart():
        register()
        with initialize_config_dir(str(config_folder()), version_base="1.3"):
            whole, cfg = checked_config(name, for_hydra(name, overrides, swept=False))
            HydraConfig.instance().set_config(whole)  # a run folder records this node
            require_keys(name, cfg)
            if command in SWEPT:
                require_single()
            yield cfg


@contextmanager
def hydra_apart() -> Iterator[None]:
    """Give kjcm a Hydra of its own while the context lasts, whatever else a program uses Hydra for; one thread at a time."""
    with _lock:
        instances = Singleton._instances
        before: dict[type, Any] = {kind: instances.pop(kind) for kind in OF_A_PROGRAM if kind in instances}
        try:
            yield
        finally:
            for kind in OF_A_PROGRAM:
                instances.pop(kind, None)
            instances.update(before)


def overrides_of(command: str, configured: Configured) -> list[str]:
    """Return the overrides that compose a config, edited or not.

    Raises:
        ConfigError: overrides cannot express an edit, or `config` did not make the config for this command.
    """
    if not isinstance(configured, DictConfig):
        return require_overrides(configured)
    if OmegaConf.select(configured, COMMAND) != command:
        raise ConfigError(f"the config is not of {command!r}. Give one that kjcm.config({command!r}, ...) returned.")
    given = list(OmegaConf.select(configured, OVERRIDES))
    wanted, before = _leaves(without_hydra(configured)), _composed_leaves(command, given)
    edits = {key: value for key, value in wanted.items() if key not in before or not _same(before[key], value)}
    gone = [key for key in before if not any(f"{other}.".startswith(f"{key}.") for other in wanted)]
    if not edits and not gone:
        return given
    kept = [one for one in given if word_key(one) not in edits and word_key(one) not in gone]
    whole = [*kept, *overrides_for(edits), *(f"~{key}" for key in gone)]
    found = _composed_leaves(command, whole)
    keys = sorted({*wanted, *found})
    if other := [key for key in keys if key not in found or key not in wanted or not _same(wanted[key], found[key])]:
        raise ConfigError(
            f"{some(other)}: cannot be changed in a composed config. Give kjcm.config an override instead, as {other[0]}=VALUE."
        )
    return whole


def overrides_for(values: Mapping[str, Any], lead: str = "") -> list[str]:
    """Return the overrides that set keys, those of mappings too.

    Raises:
        ConfigError: a value cannot be written as an override.
    """
    found = []
    for key, value in values.items():
        if isinstance(value, Mapping) and value and all(map(_is_plain, value)):
            found += overrides_for(value, f"{lead}{key}.")
        else:
            found.append(override(f"{lead}{key}", value))
    return found


def _composed_leaves(command: str, overrides: Sequence[str]) -> dict[str, Any]:
    with composed(command, overrides) as cfg:
        return _leaves(cfg)


def _leaves(cfg: DictConfig) -> dict[str, Any]:
    """Return dotted key -> value of a config, references not resolved; empty mappings and mappings with odd keys are values."""
    found: dict[str, Any] = {}

    def add(node: Mapping[str, Any], lead: str) -> None:
        for key, value in node.items():
            if isinstance(value, Mapping) and value and all(map(_is_plain, value)):
                add(value, f"{lead}{key}.")
            else:
                found[f"{lead}{key}"] = value

    add(OmegaConf.to_container(cfg), "")  # type: ignore[arg-type]
    return found


def _is_plain(key: object) -> bool:
    """Return whether a mapping's key can be part of a dotted key."""
    return isinstance(key, str) and bool(key) and not set(key) & set(".[]=~+ ")


def _same(one: Any, other: Any) -> bool:
    """Return whether two values are equal and of one type: 1, 1.0 and True are different, and nan is nan."""
    if type(one) is not type(other):
        return False
    if isinstance(one, list):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, dict):
        return list(map(repr, one)) == list(map(repr, other)) and all(map(_same, one.values(), other.values()))
    return bool(one == other) or (isinstance(one, float) and math.isnan(one) and math.isnan(other))

"""Compose configs outside Hydra's main function, and write edited ones as overrides."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf, open_dict

from kjcm.cli import COMMANDS
from kjcm.errors import ConfigError, some
from kjcm.keys.composition import register, without_hydra
from kjcm.keys.overrides import config_folder, for_hydra, is_flag, override
from kjcm.keys.refusals import checked_config

WORDS = "hydra.overrides.task"  # of a config: the overrides that it was composed from

Configured = DictConfig | Sequence[str]  # what `config` returned, or the overrides of a command


def config(command: str, overrides: Sequence[str] = ()) -> DictConfig:
    """Return the config that a command would run with, checked as the command checks it.

    It may be edited before it is given to `train` or `report`. Its entry `hydra.overrides.task` lists the overrides.

    Args:
        command: a command's name, as 'train'.
        overrides: as on the command line, without its quotes: ["experiment=k_jcm", "model.lr=1e-4"].

    Raises:
        ConfigError: no such command or key, or a value is not allowed.
    """
    if command not in COMMANDS or command == "ensemble":
        known = ", ".join(name for name in COMMANDS if name != "ensemble")
        raise ConfigError(f"config: there is no command {command!r}. The commands are {known}.")
    words = require_overrides(overrides)
    _, cfg = composed(command, words)
    with open_dict(cfg):
        OmegaConf.update(cfg, WORDS, words, force_add=True)
    return cfg


def require_overrides(words: Sequence[str]) -> list[str]:
    """Return overrides as a list.

    Raises:
        ConfigError: they are one text, or there is an option of the command line among them.
    """
    if isinstance(words, str):
        raise ConfigError(f"{words!r}: give the overrides as a list, one text for each.")
    if flags := [word for word in words if is_flag(word)]:
        raise ConfigError(f"{some(flags)}: give overrides as KEY=VALUE, and no options of the command line.")
    return list(words)


def composed(command: str, words: Sequence[str]) -> tuple[DictConfig, DictConfig]:
    """Return the config of overrides as they are typed, with and without Hydra's own node.

    Raises:
        ConfigError: they make no valid config.
    """
    with hydra_running():
        return checked_config(command, for_hydra(command, words, swept=False))


@contextmanager
def hydra_running() -> Iterator[None]:
    """Have Hydra compose kjcm's configs while the context lasts, whatever else a program uses Hydra for."""
    register()
    running, node = GlobalHydra.instance().hydra, HydraConfig.instance().cfg
    GlobalHydra.instance().hydra = None
    try:
        with initialize_config_dir(str(config_folder()), version_base="1.3"):
            yield
    finally:
        GlobalHydra.instance().hydra, HydraConfig.instance().cfg = running, node


def overrides_of(command: str, configured: Configured) -> list[str]:
    """Return the overrides that compose a config, edited or not.

    Raises:
        ConfigError: overrides cannot express an edit, or `config` did not make the config.
    """
    if not isinstance(configured, DictConfig):
        return require_overrides(configured)
    words = OmegaConf.select(configured, WORDS)
    if words is None:
        raise ConfigError(f"the config lacks its entry {WORDS}. Give one that kjcm.config({command!r}, ...) returned.")
    wanted = _leaves(without_hydra(configured))
    before = _leaves(composed(command, words)[1])
    edits = {key: value for key, value in wanted.items() if key not in before or before[key] != value}
    gone = [key for key in before if not any(f"{other}.".startswith(f"{key}.") for other in wanted)]
    whole = [*words, *words_of(edits), *(f"~{key}" for key in gone)]
    found = _leaves(composed(command, whole)[1]) if len(whole) > len(words) else before
    if other := sorted(key for key in {*wanted, *found} if wanted.get(key) != found.get(key)):
        raise ConfigError(
            f"{some(other)}: cannot be changed in a composed config. Give kjcm.config an override instead, as {other[0]}=VALUE."
        )
    return whole


def words_of(values: Mapping[str, Any], lead: str = "") -> list[str]:
    """Return the overrides that set keys, those of mappings too."""
    found = []
    for key, value in values.items():
        if isinstance(value, Mapping):
            found += words_of(value, f"{lead}{key}.")
        else:
            found.append(override(f"{lead}{key}", value))
    return found


def _leaves(cfg: DictConfig) -> dict[str, Any]:
    """Return dotted key -> value of a config, references not resolved; empty mappings are values."""
    found: dict[str, Any] = {}

    def add(node: Mapping[str, Any], lead: str) -> None:
        for key, value in node.items():
            if isinstance(value, Mapping) and value:
                add(value, f"{lead}{key}.")
            else:
                found[f"{lead}{key}"] = value

    add(OmegaConf.to_container(cfg), "")  # type: ignore[arg-type]
    return found

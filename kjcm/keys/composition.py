"""The keys as Hydra knows them: their types registered, and the keys of a composed config."""

import copy
from collections.abc import Collection, Iterator, Sequence
from dataclasses import fields, is_dataclass
from difflib import get_close_matches
from functools import cache
from typing import Any, TypeVar

from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf, open_dict

from kjcm.errors import SHOWN, some
from kjcm.keys.commands.index import COMMANDS, GROUPS, lead_of
from kjcm.keys.training import WandbConfig

Keys = TypeVar("Keys")
MOVED = {  # keys of earlier versions -> what to use now
    "optim.name": "optim=adam, adamw or sgd, or optim._target_",
    "optim.schedule": "schedule=auto, constant, linear or cosine",
    "optim.warmup": "schedule.warmup",
    "optim.clip": "trainer.flags.gradient_clip_val",
    "sweep.cards": "sweep.gpus",
    "trainer.patience": "callbacks=early_stopping callbacks.early_stopping.patience=N",
    "logger.kind": "logger=NAME",
    **{f"logger.{one.name}": f"logger.wandb.{one.name}" for one in fields(WandbConfig)},
}


@cache
def register() -> None:
    """Make the types (as `schema/...`) and the resolvers known to Hydra, once a process."""
    store = ConfigStore.instance()
    for group, nodes in {"": COMMANDS, **GROUPS}.items():
        for name, node in nodes.items():
            store.store(name=name, node=node, group=f"schema/{group}".rstrip("/"), provider="kjcm")
    OmegaConf.register_new_resolver("scaled_cutoff", scaled_cutoff, replace=True)
    OmegaConf.register_new_resolver("random_start", random_start, replace=True)
    OmegaConf.register_new_resolver("times", lambda factor, value: factor * value, replace=True)


def scaled_cutoff(cutoff: int, scale: float, least: int = 11) -> int:
    """Return the cutoff that removes at `scale` about the groups that `cutoff` removes at scale 1.

    The twin's groups shrink to no less than 11 rows, so a cutoff for them is no less than that.
    """
    return max(least, round(cutoff * scale))


def random_start(for_random: Any, for_pretrained: Any, *, _root_: DictConfig) -> Any:
    """Return the first value if the config's encoder starts from random weights, else the second."""
    return for_random if OmegaConf.select(_root_, "model.pretrained") is None else for_pretrained


def without_hydra(cfg: DictConfig) -> DictConfig:
    """Return a composed config without Hydra's own node."""
    own = copy.deepcopy(cfg)  # a masked copy would lose its types
    with open_dict(own):
        del own["hydra"]
    return own


def typed(cfg: DictConfig, kind: type[Keys]) -> Keys:
    """Return a composed config, or a node of it, as an object of its dataclass."""
    found = OmegaConf.to_object(cfg)
    assert isinstance(found, kind)
    return found


def typed_nodes(node: DictConfig, lead: str = "") -> Iterator[tuple[str, type, DictConfig]]:
    """Yield a config's nodes of a dataclass: the dotted key with a dot behind it, the dataclass, and the node.

    Nodes of another type (`logger`, `model.shape`, `space`, `where`) may hold any key.
    """
    kind = OmegaConf.get_type(node)
    if kind is not None and is_dataclass(kind):
        yield lead, kind, node
    for name in node:
        child = node._get_node(name, validate_access=False)
        if isinstance(child, DictConfig) and not (child._is_none() or child._is_missing() or child._is_interpolation()):
            yield from typed_nodes(child, f"{lead}{name!s}.")


def known_keys(cfg: DictConfig) -> list[str]:
    """Return the dotted keys of a composed config that its types have."""
    return [f"{lead}{one.name}" for lead, kind, _ in typed_nodes(cfg) for one in fields(kind)]


def unknown_keys(cfg: DictConfig, lead: str = "") -> list[str]:
    """Return the dotted keys of a composed config, or of its node with this `lead`, that its types do not have."""
    return [
        f"{found}{name!s}"
        for found, kind, node in typed_nodes(cfg, lead)
        for name in node
        if name not in {one.name for one in fields(kind)}
    ]


def no_such_keys(keys: Sequence[str], known: Collection[str]) -> str:
    """Return the message for keys that a command does not have; it names at most five."""
    if len(keys) == 1:
        return no_such_key(keys[0], known)
    near = {key: get_close_matches(key, known, n=1) for key in keys[:SHOWN]}
    shown = ", ".join(key + "".join(f" (near it is {one})" for one in close) for key, close in near.items())
    more = f" and {len(keys) - SHOWN} more" if len(keys) > SHOWN else ""
    return f"there are no keys {shown}{more}. --help lists all."


def no_such_key(key: str, known: Collection[str]) -> str:
    """Return the message for a key that a command does not have."""
    group, _, name = key.partition(".")
    having: dict[str, list[str]] = {}
    for choice, node in GROUPS.get(group, {}).items():
        for one in fields(node) if choice != "any" else ():
            having.setdefault(f"{lead_of(group, choice)}{one.name}", []).append(f"{group}={choice}")
    if key in having:
        return f"there is no key {key} here: add {' or '.join(having[key])}, which has it."
    if key in MOVED:
        return f"there is no key {key}: use {MOVED[key]}."
    if group == "trainer" and name and not get_close_matches(key, known, n=1, cutoff=0.85):
        return f"there is no key {key}. An argument of Lightning's Trainer is set as trainer.flags.{name}=VALUE."
    near = get_close_matches(key, {*known, *having}, n=3)
    return f"there is no key {key}. {f'Near it are {some(near)}. ' if near else ''}--help lists all."

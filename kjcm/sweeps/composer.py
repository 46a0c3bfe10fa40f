"""Compose the jobs of a multirun: Hydra composes each set of group choices once, and sets each job's values in a copy."""

import pickle
from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from unittest.mock import patch

from hydra._internal import config_loader_impl
from hydra._internal.config_repository import CachingConfigRepository
from hydra._internal.defaults_list import DefaultsList, create_defaults_list
from hydra.core.default_element import ResultDefault
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.types import HydraContext
from omegaconf import DictConfig, open_dict

from kjcm.keys.overrides import word_key

SEARCH_PATH = "hydra.searchpath"


class Composer:
    """Compose each job's config once, for Hydra's sweeper and for the list of jobs.

    Args:
        context: whose loader composes.
        config: of the sweep.
    """

    def __init__(self, context: HydraContext, config: DictConfig) -> None:
        self._loader: Any = context.config_loader
        self._config = config
        self._defaults: dict[tuple[str, ...], DefaultsList] = {}
        self._nodes: dict[int, bytes] = {}  # id of a list in _defaults -> what Hydra composes from the list, pickled
        self._kept: dict[tuple[str, ...], DictConfig] = {}
        self._repositories: dict[tuple[str, ...], CachingConfigRepository] = {}  # by search path
        self.keep()

    def keep(self) -> None:
        """Keep what is composed from now on."""
        self._loader.load_sweep_config = self._load

    def forget(self) -> None:
        """Keep nothing any more: a launcher changes what it composes, and sends the loader to other processes."""
        vars(self._loader).pop("load_sweep_config")
        self._kept.clear()

    def __call__(self, words: Sequence[str]) -> DictConfig:
        """Return the config of a job's overrides, without Hydra's own node."""
        cfg = self._load(self._config, list(words))
        with open_dict(cfg):
            cfg.pop("hydra", None)  # a masked copy would lose its types
        return cfg

    def _load(self, master_config: DictConfig, sweep_overrides: list[str]) -> DictConfig:
        key = tuple(sweep_overrides)
        if key not in self._kept:
            with (
                patch.object(config_loader_impl, "create_defaults_list", self._defaults_list),
                patch.object(self._loader, "_parse_overrides_and_create_caching_repo", self._parsed),
                patch.object(self._loader, "_compose_config_from_defaults_list", self._composed),
            ):
                self._kept[key] = type(self._loader).load_sweep_config(self._loader, master_config, sweep_overrides)
        return self._kept[key]

    def _parsed(self, config_name: str | None, overrides: list[str]) -> tuple[list[Override], CachingConfigRepository]:
        """Stand in for the loader's method of this name, which copies the whole repository for each job."""
        path = tuple(one for one in overrides if word_key(one) == SEARCH_PATH)
        if path not in self._repositories:
            create = type(self._loader)._parse_overrides_and_create_caching_repo
            self._repositories[path] = create(self._loader, config_name, overrides)[1]
        return OverridesParser.create().parse_overrides(overrides), self._repositories[path]

    def _defaults_list(
        self, repo: CachingConfigRepository, config_name: str | None, overrides_list: list[Override], **kwargs: Any
    ) -> DefaultsList:
        """Stand in for Hydra's function of this name: only overrides that choose a group's config change the list."""
        values = [one for one in overrides_list if _sets_a_value(one, repo)]
        choices = tuple(str(one.input_line) for one in overrides_list if one not in values)
        if choices not in self._defaults:
            repo.cache.clear()  # composing changes what was loaded
            self._defaults[choices] = create_defaults_list(repo, config_name, overrides_list, **kwargs)
        found = self._defaults[choices]
        return replace(found, config_overrides=values)

    def _composed(self, defaults: list[ResultDefault], repo: CachingConfigRepository) -> DictConfig:
        """Stand in for the loader's method of this name: return a copy of what it composes from a list of defaults."""
        if id(defaults) not in self._nodes:
            repo.cache.clear()
            compose = type(self._loader)._compose_config_from_defaults_list
            self._nodes[id(defaults)] = pickle.dumps(compose(self._loader, defaults, repo))
        copy: DictConfig = pickle.loads(self._nodes[id(defaults)])  # in a fifth of the time that deepcopy takes
        return copy


def _sets_a_value(override: Override, repo: CachingConfigRepository) -> bool:
    """Return whether Hydra's list of defaults leaves an override aside: it is no choice, and no search path."""
    key = override.key_or_group
    return key != SEARCH_PATH and (isinstance(override.value(), dict) or not repo.group_exists(key))

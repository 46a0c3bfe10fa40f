"""Composer: the same configs and errors as Hydra's own loader, with one composition for each set of group choices."""

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any
from unittest.mock import patch

import pytest
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path
from hydra.core.global_hydra import GlobalHydra
from hydra.types import HydraContext, RunMode
from omegaconf import DictConfig, OmegaConf

from kjcm.keys.checks import check
from kjcm.keys.commands.train import RunConfig
from kjcm.keys.composition import register, typed, without_hydra
from kjcm.run_folder.folder import identity_of
from kjcm.sweeps.composer import Composer
from tests.conftest import ROOT

WORDS = [
    ["seed=1", "optim.lr=0.003"],
    ["seed=2", "optim=sgd", "optim.lr=1e-1"],
    ["seed=3", "optim=sgd"],
    ["seed=4"],
    ["seed=1", "run_dir=null", "name='가나 다'"],
    ["experiment=search", "model=tiny", "seed=${trainer.max_epochs}"],
    ["experiment=search", "model=tiny", "seed=7"],
    ["loss=label_smoothing", "callbacks=[early_stopping]", "+trainer.flags.accumulate_grad_batches=4"],
    ["loss=label_smoothing", "callbacks=[early_stopping]", "++trainer.flags.accumulate_grad_batches=2"],
    ["+trainer.flags={limit_train_batches:3}", "trainer.devices=[0,1]", "optim={lr:0.5}"],
    ["logger=[csv,wandb]", "logger.wandb.tags=[a,'b c']"],
    ["~logger", "seed=5"],
    ["hydra.job.name=mine", "seed=5"],
    ["seed=6"],
]
INVALID = [
    ["seed=many"],
    ["data.validation=null"],
    ["seed=1", "sed=1"],
    ["optim=none_such"],
    ["~none_such"],
    ["optim@x=sgd"],
    ["seed=1", "trainer.max_epochs=a"],
]


@pytest.fixture
def loader() -> Iterator[Any]:
    register()
    hydra = Hydra.create_main_hydra2("kjcm", create_config_search_path(str(ROOT / "conf")))
    yield hydra.config_loader
    GlobalHydra.instance().clear()


def master(loader: Any) -> DictConfig:
    cfg: DictConfig = loader.load_configuration("train", [], RunMode.MULTIRUN)
    return cfg


def composer(loader: Any) -> Composer:
    return Composer(HydraContext(config_loader=loader, callbacks=None), master(loader))  # type: ignore[arg-type]


def described(cfg: DictConfig) -> tuple[Any, ...]:
    """Return a config's values unresolved, its values resolved and its types."""
    types = {key: OmegaConf.get_type(cfg, key) for key in map(str, cfg)}
    return OmegaConf.to_container(cfg, resolve=False), types


def test_a_job_has_the_config_that_hydra_composes(loader: Any) -> None:
    whole = master(loader)
    expected = [loader.load_sweep_config(whole, words) for words in WORDS]
    compose = composer(loader)
    for own, words in zip(expected, WORDS, strict=True):
        found = loader.load_sweep_config(whole, words)
        assert described(found) == described(own), words  # with Hydra's own node: override_dirname, choices
        plain = without_hydra(own)
        assert described(compose(words)) == described(plain)
        if "~logger" not in words:
            config, hydras = (typed(cfg, RunConfig) for cfg in (compose(words), plain))
            assert config == hydras and identity_of(asdict(config)) == identity_of(asdict(hydras))


def test_an_invalid_job_has_the_error_of_hydra(loader: Any) -> None:
    def errors(load: Any) -> list[tuple[type, str, str]]:
        found = []
        for words in INVALID * 2:
            try:
                check(without_hydra(load(whole, words)))
            except Exception as error:
                found.append((type(error), str(error), str(error.__cause__)))
        return found

    whole = master(loader)
    expected = errors(loader.load_sweep_config)
    composer(loader)([*WORDS[0]])
    assert len(expected) == 2 * len(INVALID)
    assert errors(loader.load_sweep_config) == expected


def test_each_set_of_choices_is_composed_once(loader: Any) -> None:
    compose = composer(loader)
    original = ConfigLoaderImpl._compose_config_from_defaults_list
    with patch.object(
        ConfigLoaderImpl, "_compose_config_from_defaults_list", autospec=True, side_effect=original
    ) as made:
        seeds = {compose([f"optim={name}", f"seed={n}"]).seed for n in range(50) for name in ("adam", "sgd")}
    assert len(seeds) == 50 and made.call_count == 2
    compose.forget()
    assert "load_sweep_config" not in vars(loader) and "_parse_overrides_and_create_caching_repo" not in vars(loader)

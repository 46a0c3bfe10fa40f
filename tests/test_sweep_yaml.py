"""sweep.yaml: every combination that W&B can draw from it is a config of the search, and it leaves the test rows alone."""

from itertools import product
from typing import Any

import pytest
import yaml
from hydra import compose, initialize_config_dir
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from kjcm.keys.checks import check
from kjcm.keys.commands.train import TrainConfig
from kjcm.keys.composition import register, typed
from kjcm.training.run import folder_of
from tests.conftest import ROOT

SWEEP: dict[str, Any] = yaml.safe_load((ROOT / "sweep.yaml").read_text(encoding="utf-8"))


def combinations() -> list[list[str]]:
    """Return the words of each, as `${args_no_hyphens}` gives them to the command."""
    choices = {key: entry.get("values", [entry.get("value")]) for key, entry in SWEEP["parameters"].items()}
    return [
        [f"{key}={value}" for key, value in zip(choices, values, strict=True)] for values in product(*choices.values())
    ]


@pytest.fixture(scope="module")
def composed() -> list[TrainConfig]:
    register()
    found = []
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        for words in combinations():
            cfg = compose("train", words)
            check(cfg)
            found.append(typed(cfg, TrainConfig))
    return found


def test_every_combination_is_a_run_of_its_own_that_is_judged_by_validation_rows(
    composed: list[TrainConfig],
) -> None:
    assert len(composed) == 18
    assert len({folder_of(config).identity.hash for config in composed}) == 18
    for config in composed:
        assert config.data.validation > 0 and not config.evaluate and list(config.logger) == ["wandb"]
    assert SWEEP["metric"]["name"].removeprefix("val_") == "f1_weighted"


def test_it_is_the_search_of_the_experiment(composed: list[TrainConfig]) -> None:
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        cfg = compose("train", ["experiment=search"], return_hydra_config=True)
        params: Any = OmegaConf.to_container(cfg.hydra.sweeper.params, resolve=True)
        words = OverridesParser.create().parse_overrides([f"{key}={values}" for key, values in params.items()])
        (jobs,) = BasicSweeper.split_arguments(words, None)
        search = [typed(compose("train", ["experiment=search", *job]), TrainConfig) for job in jobs]

    def values(config: TrainConfig) -> tuple[Any, ...]:
        return config.data.batch_size, config.optim["lr"], config.trainer.max_epochs

    assert sorted(map(values, composed)) == sorted(map(values, search))
    assert {config.data.validation for config in composed} == {config.data.validation for config in search}


def test_the_command_is_kjcm_train() -> None:
    assert SWEEP["command"] == ["${env}", "${interpreter}", "-m", "kjcm", "train", "${args_no_hyphens}"]

"""The words of trials: every space of conf/tune makes configs that can be checked before anything is trained."""

from collections.abc import Iterator

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from kjcm.keys.commands.search import TuneConfig
from kjcm.keys.composition import register, typed
from kjcm.tune.space import distributions_of, ends
from kjcm.tune.trial_config import base_overrides, compose_trial, require_searchable, train_command, trial_overrides
from tests.conftest import ROOT

SPACES = sorted(file.stem for file in (ROOT / "conf" / "tune").glob("*.yaml") if file.stem != "none")


@pytest.fixture
def hydra() -> Iterator[None]:
    register()
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        yield


def config_of(*words: str) -> TuneConfig:
    return typed(compose("tune", list(words)), TuneConfig)


@pytest.mark.usefixtures("hydra")
@pytest.mark.parametrize("space", SPACES)
def test_every_space_can_be_searched(space: str) -> None:
    words = [f"tune={space}", "experiment=k_jcm"]
    config = config_of(*words)
    distributions = distributions_of(config.space)
    base = base_overrides(config, words)
    first = require_searchable(base, distributions)
    assert first.data.validation == 0.1 and first.evaluate is False and first.svm_check == 0
    made = set()
    for place in (0, -1):
        values = {key: ends(one)[place] for key, one in distributions.items()}
        trial = compose_trial(trial_overrides(base, values), "s")
        made.add(trial.path)
        for key, value in values.items():
            if "." in key and not str(value).startswith("$"):
                assert OmegaConf.select(trial.cfg, key) == value
    assert len(made) == 2 and {path.parent.name for path in made} == {"s"}


@pytest.mark.usefixtures("hydra")
def test_a_choice_may_refer_to_what_the_trial_has() -> None:
    config = config_of("tune=encoders")
    base = base_overrides(config, ["tune=encoders"])
    rates = {}
    for encoder in ("klue_bert", "e5_small"):
        values = {"model": encoder, "optim.lr": "${times:0.5,${model.lr}}"}
        assert values["optim.lr"] in config.space["optim"]["lr"]
        rates[encoder] = compose_trial(trial_overrides(base, values), "s").config.optim["lr"]
    assert rates == {"klue_bert": 2.5e-5, "e5_small": 1.5e-4}


@pytest.mark.usefixtures("hydra")
def test_base_words_are_those_of_a_training() -> None:
    words = [
        "experiment=k_jcm", "tune=adamw", "trials=3", "sampler_seed=1", "space.optim.lr.low=1e-5", "~space.data", "seed=4",
        "storage=x.log", "study=a", "data.validation=0.3", "trainer.max_epochs=2",
    ]  # fmt: skip
    config = config_of(*words)
    base = base_overrides(config, words)
    assert base == ["experiment=k_jcm", "seed=4", "trainer.max_epochs=2", "data.validation=0.3"]
    assert train_command(base, {"optim.lr": 1e-05, "augment": "none", "optim.clip": None}) == (
        "kjcm train experiment=k_jcm seed=4 trainer.max_epochs=2 data.validation=0.3 augment=none optim.clip=null optim.lr=1e-05"
    )

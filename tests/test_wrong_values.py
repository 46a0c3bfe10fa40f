"""Whatever an override says, the answer is one message: never a traceback, never a fault of kjcm."""

import random
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from benchmarks import command as benchmarks
from kjcm.keys.composition import register
from kjcm.keys.overrides import command_keys
from tests.conftest import SMALL, command

VALUES = (
    "null", "true", "''", "' '", "abc", "-1", "0", "1.5", "1e308", "1e400", "nan", "-inf", "99999999999999999999", "[]", "[null]",
    "['']",
    "[0.9,0.98]", "[[1]]", "{}", "{a: {b: 1}}", "[{a: 1}]", "${nothing}", "${oc.env:NOPE}", "${seed}", "${.x}", "${",
    "a/b",
    "..", "/dev/null", "~nobody/x", "a" * 300, "가나", "\\", "'", '"', "a b", "a,b", "a=b", "(x)", "???", "${oc.decode:'['}",
    "${name}",
)  # fmt: skip
COMMANDS = ("train", "tune", "predict", "baseline", "evaluate", "runs", "report", "benchmarks.train")
GIVEN = {"predict": ("run=r", "input=i", "output=o"), "evaluate": ("run=r",)}


@pytest.mark.parametrize("seed", range(4))
def test_no_override_reaches_a_fault(
    seed: int, here: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    register()
    benchmarks.register()
    monkeypatch.setattr("kjcm.cli._load", lambda target: lambda cfg: OmegaConf.to_container(cfg, resolve=True))
    draw = random.Random(seed)
    for name in COMMANDS:
        key = draw.choice(command_keys(name))
        word = f"{draw.choice(['', '', '+', '++'])}{key}={draw.choice(VALUES)}" if draw.random() < 0.9 else f"~{key}"
        code = command(name, *GIVEN.get(name, ()), word)
        error = capfd.readouterr().err
        assert (code, bool(error)) in ((0, False), (2, True)), f"{name} {word}: {code} {error}"
        assert "a fault of" not in error and "Traceback" not in error and len(error.splitlines()) <= 2, error


@pytest.mark.parametrize(
    "word",
    [
        "+optim.betas=[0.9]", "optim.lr=nan", "optim.lr=${nothing}",
        "run_dir=${run_dir}", "name=${oc.env:NOPE}",
        "seed=${name}", "data=${x}", "trainer.devices={a: 1}", "trainer.devices=[[1]]", "model.shape=[]", "~trainer", "~seed",
        "trainer.strategy=abc", "experiment=[0.9]", "data.columns.task=''", "name=/", "data.level=0",
    ],
)  # fmt: skip
def test_a_training_with_a_wrong_value_ends_in_a_line(word: str, here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert command("train", *SMALL, "trainer.max_epochs=1", word) in (1, 2)
    error = capfd.readouterr().err
    assert len(error.splitlines()) == 1 and "a fault of" not in error, error


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("runs ++columns.x=1", "++columns.x=1"),
        ("evaluate run=r +data.x=1", "data.x"),
        ("train seed=3 data.manager_words.a=1", "'data.manager_words.a=1': no config"),
        ("train -m seed=0,1 data.manager_words.a=1", "'data.manager_words.a=1': no config"),
        ("prepare data=${oc.create:{a:1}}", "data=${oc.create:{a:1}}"),
        ("train hydra=null", "'hydra=null'"),
        ("train hydra/launcher=null", "'hydra/launcher=null'"),
        ("train hydra/job_logging=x", "hydra/job_logging=x: there is no such choice"),
        ("train hydra/launcher=${", "${"),
        ("train --resolve", "--resolve"),
        ("train --cfg=x", "--cfg"),
        ("triage run=r triage.back_off=[[],{}]", "triage.back_off="),
        ("baseline ngrams=[[1],2]", "ngrams="),
        ("train data.folds=5 data.fold=5", "data.fold=5"),
        ("train data.inner_folds=2 data.inner_fold=2", "data.inner_fold=2"),
        ("train data.group_similar=1", "data.group_similar=1"),
        ("train data.manager_words=[[a]]", "data.manager_words="),
    ],
)
def test_what_hydra_has_no_exception_for_ends_in_a_line(
    line: str, said: str, here: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert command(*line.split()) == 2
    error = capfd.readouterr().err
    assert said in error and len(error.splitlines()) == 1 and "a fault of" not in error, error

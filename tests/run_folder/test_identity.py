"""A run's identity: the same command has the same hash as before, and each key says its own part in it."""

import shlex
from dataclasses import asdict
from pathlib import Path

import pytest

from kjcm.keys.identity import INPUTS, LEGACY, WHERE_AND_HOW
from kjcm.run_folder.folder import RESULTS_VERSION, identity_of
from tests.conftest import config_of

HASHES = {
    "train": "b16251e5c9fe",
    "train experiment=model_4 seed=3 data.validation=0.1 optim=adamw": "ece7fcc8e23b",
    "train preset=full trainer.devices=2 callbacks=early_stopping data.validation=0.1": "ac014df814a9",
    "train data=table data.path=a.csv data.encoding=cp949 model.prefix=x logger=wandb": "4b9d5446f83e",
    "train data=kwcs data.wave6=w.sav data.train_wave=6 engine=packed seeds.init=4": "d4d26c49de50",
    "baseline data.wording=plain augment=titles": "112c76a9b493",
    "train model=linear model.C=2": "5eb8953547d4",
    "train model=ensemble model.members=[encoder_cpu]": "151db1d70651",
    "baseline kind=majority data=table data.path=b.csv data.test_path=a.csv classification=from_data": "a80dd0426c03",
}  # of RESULTS_VERSION 8


@pytest.mark.parametrize("line", HASHES)
def test_a_command_has_its_hash(line: str, here: Path) -> None:
    (here / "a.csv").write_text("id,workplace,position,task,code\n1,a,b,c,111\n")
    command, *overrides = line.split()
    found = identity_of(asdict(config_of(command, *overrides)))
    assert (RESULTS_VERSION, found.hash[:12]) == (8, HASHES[line])


def test_words_in_place_of_morphemes_are_another_run(monkeypatch: pytest.MonkeyPatch) -> None:
    of_morphemes = (
        "model=linear model.views.text.of=morpheme", "experiment=best_nearest", "model=ensemble model.members=[best_offline]",
        "model=ensemble 'model.members=[\"model=linear model.views.text.of=morpheme\"]'",
    )  # fmt: skip
    lines = (*of_morphemes, "model=linear", "model=ensemble 'model.members=[\"model=linear\"]'", "model=tiny")
    found: dict[str, set[str]] = {line: set() for line in lines}
    for spec in ("kiwipiepy", None):
        monkeypatch.setattr("kjcm.linear.views.find_spec", lambda name, spec=spec: spec)
        for line in lines:
            found[line].add(identity_of(asdict(config_of("train", *shlex.split(line)))).hash)
    assert [line for line in lines if len(found[line]) == 2] == list(of_morphemes)


def test_each_key_has_its_part_in_the_identity() -> None:
    assert {"logger", "sweep", "name", "trainer.devices", "model.lr"} <= set(WHERE_AND_HOW)
    assert {"data.path", "data.wave5", "model.pretrained", "classification.path"} <= set(INPUTS)
    assert not {"optim.lr", "seeds.init", "trainer.precision", "data.level", "kind"} & {*WHERE_AND_HOW, *INPUTS}
    assert LEGACY["data.wording"] == "korean" and LEGACY["data.encoding"] is None


@pytest.mark.parametrize(
    ("words", "schedule", "rate"),
    [
        ("model=tiny", "Linear", 1e-3),
        ("preset=full model.pretrained=null", "Linear", 3e-4),
        ("preset=full experiment=k_jcm", "Constant", 2e-5),
        ("model=klue_bert", "Constant", 5e-5),
        ("schedule=constant", "Constant", 1e-3),
    ],
)
def test_only_a_random_start_warms_up_and_decays(words: str, schedule: str, rate: float) -> None:
    config = config_of("train", *words.split())
    assert config.schedule["_target_"] == f"kjcm.engine.schedules.{schedule}"
    assert (config.schedule["warmup"] > 0) is (schedule == "Linear")
    assert config.optim["_target_"] == "torch.optim.Adam" and config.optim["lr"] == rate


def test_an_index_counts_only_where_rows_are_learnt_from_it(here: Path) -> None:
    def hash_of(*words: str) -> str:
        return identity_of(asdict(config_of("train", *words))).hash

    (here / "a.csv").write_text("title,code\na,111\n")
    (here / "b.csv").write_text("title,code\nb,111\n")
    plain, learnt = hash_of(), hash_of("augment=index", "classification.index=a.csv")
    assert hash_of("classification.index=a.csv") == plain != learnt
    assert hash_of("augment=index", "classification.index=b.csv") != learnt
    (here / "c.csv").write_text("title,code\na,111\n")
    assert hash_of("augment=index", "classification.index=c.csv") == learnt
    for more in (("data.validation=0.3",), ("data.inner_folds=3",), ("model=ensemble",)):
        of_b = hash_of(*more, "classification.index=b.csv")
        assert hash_of(*more, "classification.index=a.csv") not in {hash_of(*more), of_b}, more
    assert hash_of("from=titles", "classification.index=a.csv") != hash_of("from=titles", "classification.index=b.csv")

"""`kjcm.config`, `train`, `sweep`, `runs` and `report`: what the commands do, without Hydra's main function."""

import copy
import logging
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import hydra
import pandas as pd
import pytest
import torch
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.version import VersionBase
from lightning.pytorch import Callback
from omegaconf import OmegaConf, open_dict

import kjcm
from kjcm.api.composing import composed, overrides_of
from kjcm.errors import ConfigError, KjcmError
from kjcm.keys.composition import without_hydra
from tests.conftest import ROOT, SMALL, command

FAST = (*SMALL, "svm_check=0", "logger=[]", "trainer.accelerator=cpu")
LINEAR = ("model=linear", "data.scale=0.02", "data.level=1", "logger=[]")


def test_import_loads_neither_torch_nor_hydra() -> None:
    code = (
        "import sys, kjcm; assert not {'torch', 'hydra', 'pandas'} & set(sys.modules); kjcm.config; "
        "assert 'torch' not in sys.modules; assert 'load' in dir(kjcm)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
    with pytest.raises(AttributeError, match="sweeep"):
        kjcm.sweeep  # noqa: B018


def test_a_config_is_the_commands(capsys: pytest.CaptureFixture[str], here: Path) -> None:
    words = ["experiment=k_jcm", "model.lr=1e-3", "name=가 나"]
    cfg = kjcm.config("train", words)
    assert cfg.hydra.overrides.task == words
    assert command("train", "--cfg", "job", *words) == 0
    shown = OmegaConf.create(capsys.readouterr().out)
    assert OmegaConf.to_container(without_hydra(cfg)) == OmegaConf.to_container(shown)


def test_an_edited_config_makes_the_run_of_its_overrides(here: Path) -> None:
    given = kjcm.config("train", [*FAST, "runs=a"])
    cfg = copy.deepcopy(given)
    cfg.seed, cfg.model.lr, cfg.name = 3, 2e-3, "한글 이름"
    cfg.trainer.flags = {"gradient_clip_val": 1.0}
    cfg.data.columns.manages = None
    run = kjcm.train(cfg)
    words = ["seed=3", "model.lr=0.002", "name=한글 이름", "trainer.flags.gradient_clip_val=1.0"]
    assert command("train", *FAST, *words, "runs=b") == 0
    assert run.path.name == next(Path("b/한글 이름").iterdir()).name and run.config["optim"]["lr"] == 2e-3
    recorded = OmegaConf.load(run.path / "hydra" / "overrides.yaml")
    assert "seed=3" in recorded and "model.lr=0.002" in recorded
    cfg.model.name = "x"
    assert kjcm.train(cfg).path == run.path  # the model's name is not part of the hash: finished already
    assert given.seed != 3


def test_an_edit_that_no_override_expresses_is_refused(here: Path) -> None:
    cfg = kjcm.config("train", FAST)
    with open_dict(cfg):
        cfg.epochs = 3
    with pytest.raises(ConfigError, match="epochs"):
        kjcm.train(cfg)
    with pytest.raises(ConfigError, match=r"kjcm\.config"):
        kjcm.train(OmegaConf.create({"model": {"lr": 1}}))
    for words in ("experiment=k_jcm", ["-m", "seed=1,2"], ["model.lrx=1"], ["sweep.dry_run=true"], ["model.lr=-1"]):
        with pytest.raises(ConfigError):
            kjcm.train(words)
    with pytest.raises(ConfigError, match=r"overrides\[1\]: int"):
        kjcm.train(["seed=1", 2])  # type: ignore[list-item]
    with pytest.raises(ConfigError, match="trian"):
        kjcm.config("trian")
    assert not list(here.iterdir())


class Counting(Callback):
    epochs = 0

    def on_train_epoch_end(self, *_: Any) -> None:
        self.epochs += 1


def test_train_returns_a_run_and_calls_callbacks(here: Path) -> None:
    counting = Counting()
    run = kjcm.train([*FAST, "data.validation=0.2"], callbacks=[counting])
    assert counting.epochs == 2 and (run.path / "DONE").exists()
    assert run.metrics["accuracy"] == run.report["metrics"]["accuracy"] and "validation_loss" in run.metrics
    assert len(run.predictions) == run.report["n_test"] > 0 and run.path.is_absolute()
    assert kjcm.train([*FAST, "data.validation=0.2"], callbacks=[counting]) == run and counting.epochs == 2
    assert run.load(accelerator="cpu").code(["택시 운전"])["decision"].tolist() != ["invalid"]
    with pytest.raises(ConfigError, match="callbacks"):
        kjcm.train(LINEAR, callbacks=[counting])
    with pytest.raises(ConfigError, match="kjcm train"):
        kjcm.train([*FAST, "trainer.devices=2"])


def test_overrides_are_written_as_on_the_command_line(here: Path) -> None:
    words = [*FAST, "name=한글", "cutoff=10"]
    assert (
        kjcm.train(words).path.parent.name == "한글"
        and kjcm.train(kjcm.config("train", words)).config["data"]["cutoff"]
    )
    with pytest.raises(ConfigError, match="fold"):
        kjcm.config("train", ["data.fold=1"])
    with pytest.raises(ConfigError, match="report"):
        kjcm.report(kjcm.config("train", FAST))
    with pytest.raises(ConfigError, match="dict"):
        kjcm.train({"seed": 1})  # type: ignore[arg-type]
    with pytest.raises(kjcm.errors.KjcmError, match="test rows"):
        _ = kjcm.train([*FAST, "evaluate=false"]).predictions


TEXTS = ("1e5", "0123", "a,b", "it's", 'say "x"', "{a}", r"a\b", "c:\\", r"\'", "$", "null", "한글 [1]")


@pytest.mark.parametrize("value", [1.0, [1, "2"], *TEXTS])
def test_an_edit_keeps_its_type(value: object) -> None:
    cfg = kjcm.config("train", ["trainer.flags.limit_train_batches=1"])
    cfg.trainer.flags.limit_train_batches = value
    with composed("train", overrides_of("train", cfg)) as found:
        same = found.trainer.flags.limit_train_batches
    assert same == value and type(same) is type(cfg.trainer.flags.limit_train_batches)


def test_an_edit_replaces_the_override_of_its_key() -> None:
    cfg = kjcm.config("train", ["seed=3", "model.lr=0.1"])
    cfg.seed = 4
    assert overrides_of("train", cfg) == ["model.lr=0.1", "seed=4"]
    cfg.trainer.flags = {"a.b": 1}
    with pytest.raises(ConfigError, match=r"trainer\.flags"):
        overrides_of("train", cfg)


def test_the_log_of_a_run_is_whole_and_a_program_hears_what_it_wants(
    here: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, logger="kjcm")
    run = kjcm.train(FAST)
    text = (run.path / "train.log").read_text(encoding="utf-8")
    assert "epoch 2/2" in text and "test rows: accuracy" in text
    assert not [record for record in caplog.records if record.name == "kjcm" and record.levelno < logging.WARNING]
    assert logging.getLogger("kjcm").propagate


def test_ctrl_c_is_a_keyboard_interrupt(here: Path) -> None:
    class Stops(Callback):
        def on_train_epoch_end(self, *_: Any) -> None:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        kjcm.train(FAST, callbacks=[Stops()])
    assert kjcm.runs()["state"].tolist() == ["resumable"]
    assert kjcm.train(FAST).report["epochs"] == 2


def test_a_program_keeps_its_own_hydra_and_logging(here: Path, tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "app.yaml").write_text("a: 1")
    torch.use_deterministic_algorithms(False)
    numbers = torch.get_rng_state()
    mine_too = logging.FileHandler("own.log", mode="w", encoding="utf-8")
    logging.getLogger("own").addHandler(mine_too)
    handlers, level = logging.root.handlers[:], logging.root.level
    with hydra.initialize_config_dir(str(tmp_path / "own"), version_base="1.3"):
        mine, node = GlobalHydra.instance().hydra, HydraConfig.instance().cfg
        version = VersionBase.instance().getbase()
        run = kjcm.train(LINEAR)
        kjcm.train(FAST)
        frame = kjcm.sweep([*LINEAR, "model.C=1,2"])
        assert GlobalHydra.instance().hydra is mine and HydraConfig.instance().cfg is node
        assert hydra.compose("app").a == 1 and VersionBase.instance().getbase() == version
    assert logging.root.handlers == handlers and logging.root.level == level
    logging.getLogger("own").warning("still open")
    mine_too.close()
    assert "still open" in Path("own.log").read_text()
    assert not torch.are_deterministic_algorithms_enabled() and torch.equal(torch.get_rng_state(), numbers)
    assert run.path.exists() and frame["state"].tolist() == ["finished", "finished"]


def test_a_sweep_returns_every_job(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    frame = kjcm.sweep([*LINEAR, "model.C=1,2", "hydra.sweep.dir=swept"])
    assert frame["state"].tolist() == ["finished"] * 2 and frame["accuracy"].between(0, 1).all()
    assert frame["model.C"].tolist() == [1, 2] and (here / "swept" / "jobs.csv").exists()
    failed = kjcm.sweep(["data=table", "data.path=none.csv,other.csv", "data.columns.code=c"])
    assert failed["state"].tolist() == ["failed"] * 2 and failed["reason"].str.contains("none|other").all()
    majority = kjcm.sweep(["kind=majority", "data.scale=0.02", "seed=0,1"], command="baseline")
    assert len(majority) == 2
    for words in (["model.lrx=1"], ["run_dir=x", "seed=0,1"], ["--cfg", "job"]):
        with pytest.raises(ConfigError):
            kjcm.sweep(words)
    with pytest.raises(ConfigError, match="predict"):
        kjcm.sweep(["a=1"], command="predict")


def test_runs_are_a_table_of_config_and_metrics(here: Path) -> None:
    kjcm.sweep([*LINEAR, "model.C=1,2"])
    kjcm.train([*FAST, "name=encoder"])
    found = kjcm.runs("runs")
    assert found["state"].tolist() == ["finished"] * 3 and set(found["name"]) == {"custom", "encoder"}
    linear = found[found["name"] == "custom"]
    assert sorted(linear["model.C"]) == [1, 2] and linear["model.shape.dim"].isna().all()
    assert {"accuracy", "f1_weighted"} <= set(found.attrs["metrics"]) and found["accuracy"].dtype == float
    assert found.loc[found["name"] == "encoder", "model.shape.dim"].tolist() == [32]
    with pytest.raises(KjcmError, match="none"):
        kjcm.runs("none")


@pytest.mark.usefixtures("unrendered")
def test_a_report_returns_its_page(here: Path) -> None:
    assert command("train", "experiment=k_jcm", *FAST) == 0
    page = kjcm.report(["runs=runs", "out=page", "replicates=0", "only=[table_3]"])
    assert page.is_file() and page.parent == Path("page")
    cfg = kjcm.config("report", ["runs=runs", "replicates=0", "only=[table_3]"])
    cfg.out = "other"
    assert kjcm.report(cfg).is_file()
    with pytest.raises(KjcmError):
        kjcm.report(["runs=none"])


def test_runs_without_any_are_an_empty_table(here: Path) -> None:
    (here / "runs").mkdir()
    assert isinstance(kjcm.runs(), pd.DataFrame) and kjcm.runs().empty

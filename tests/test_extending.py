"""Every recipe of docs/extending.md is run as it is written, from a folder outside the package."""

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from tests.conftest import ROOT, SMALL, command

PAGE = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
RECIPES = dict(re.findall(r"^## ([^\n]+)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL))
BLOCK = re.compile(r"^```(?:python|yaml)\n# (\S+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"^(kjcm .+)$", re.MULTILINE)
ANSWERS = "".join(
    json.dumps({"text": f"{'벼를 기른다' if code == '611' else '환자를 돌본다'} {n}", "job": code}, ensure_ascii=False)
    + "\n"
    for n, code in enumerate(["611", "243"] * 20)
)


@pytest.fixture
def recipes(here: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Write the page's files into an empty folder that Python can import from."""
    for name, text in BLOCK.findall(PAGE):
        file = here / name
        file.parent.mkdir(parents=True, exist_ok=True)
        before = file.read_text(encoding="utf-8") if file.exists() else ""
        file.write_text(before + text + "\n", encoding="utf-8")
    (here / "answers.jsonl").write_text(ANSWERS, encoding="utf-8")
    monkeypatch.syspath_prepend(str(here))
    monkeypatch.setenv("PYTHONPATH", f"{here}:{ROOT}")
    yield here
    sys.modules.pop("parts", None)


def test_there_is_a_recipe_for_each_part() -> None:
    assert len(RECIPES) == 10 and all(COMMAND.search(text) for text in RECIPES.values())


@pytest.mark.parametrize("title", RECIPES)
def test_a_recipe_works(title: str, recipes: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for line in COMMAND.findall(RECIPES[title]):
        _, name, *words = line.split()
        small = [word for word in SMALL if not word.startswith("model.shape.n_layers")] if name == "train" else []
        assert command(name, *words, *small) == 0, f"{line}\n{capfd.readouterr().err}"


def test_a_metric_of_ones_own_is_shown_everywhere(recipes: Path, capfd: pytest.CaptureFixture[str]) -> None:
    words = ("metrics=mine", "data.validation=0.2", "run_dir=runs/custom/a")
    assert command("train", "--config-dir", "conf", *SMALL, *words) == 0
    report = json.loads((recipes / "runs" / "custom" / "a" / "report.json").read_text())
    assert 0 < report["metrics"]["confidence"] < 1 and 0 < report["validation"]["confidence"] < 1
    assert "val_confidence" in next(recipes.glob("runs/custom/a/logs/csv/*/metrics.csv")).read_text()
    capfd.readouterr()
    assert command("runs", "runs=runs", "sort=confidence", "out=runs.csv") == 0
    assert "confidence" in (recipes / "runs.csv").read_text(encoding="utf-8-sig").splitlines()[0]


def test_a_logger_of_ones_own_gets_what_the_csv_has(recipes: Path) -> None:
    words = ("logger=[csv,mine]", "data.validation=0.2", "run_dir=run", "optim.lr=0.01")
    assert command("train", "--config-dir", "conf", *SMALL, *words) == 0
    first, *lines, last = [line.split() for line in (recipes / "run" / "logs" / "lines.txt").read_text().splitlines()]
    assert (first, last) == (["0", "learning_rate", "0.01"], ["0", "status", "success"])
    frame = pd.read_csv(next(recipes.glob("run/logs/csv/*/metrics.csv"))).set_index("step")
    wanted = [(step, name, value) for (step, name), value in frame.stack().dropna().items()]
    assert sorted((int(step), name, float(value)) for step, name, value in lines) == sorted(wanted)


def test_a_logger_of_ones_own_that_fails_stops_no_run(recipes: Path, capfd: pytest.CaptureFixture[str]) -> None:
    words = ("logger=mine", "logger.mine.file=/proc/lines.txt", "run_dir=run")
    assert command("train", "--config-dir", "conf", *SMALL, *words) == 0
    said = capfd.readouterr()
    assert said.out.count("logger mine") == 1 and "Traceback" not in said.out + said.err
    assert (recipes / "run" / "DONE").is_file()


def test_a_part_and_its_arguments_define_the_run(recipes: Path) -> None:
    for number, words in enumerate([(), ("loss.temperature=3.0",)]):
        assert command("train", "--config-dir", "conf", "loss=mine", *SMALL, *words, "runs=made") == 0
        assert len(list(recipes.glob("made/custom/*/DONE"))) == number + 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("loss=mine", "loss.temprature=2"), "Do you mean temperature?"),
        (("loss._target_=parts.NoSuch",), "cannot be imported"),
        (("callbacks=early_stopping",), "needs validation rows"),
        (
            ("callbacks=early_stopping", "data.validation=0.1", "callbacks.early_stopping.monitor=val_f1"),
            "val_f1_macro",
        ),
        *(
            (
                ("callbacks=early_stopping", "data.validation=0.1", f"trainer.flags.{flag}"),
                "no epoch has a validation batch",
            )
            for flag in ("limit_val_batches=0", "check_val_every_n_epoch=100")
        ),
        (("trainer.flags.accumulate_grad_batch=4",), "accumulate_grad_batches"),
        (("trainer.flags.devices=2",), "trainer.devices"),
        (("trainer.flags.overfit_batches=1",), "limit_train_batches"),
        (("metrics=mine", "+metrics.accuracy._target_=parts.Confidence"), "metrics.accuracy"),
        (("engine=captured", "optim=sgd"), "engine=captured does not support optim._target_"),
        (("logger=mine", "+logger.mine.fils=a"), "Do you mean file?"),
        (("logger=mine", "logger.mine._target_=parts.NoSuch"), "cannot be imported"),
        (("+logger.other.file=a",), "logger.other._target_"),
        (("optim.lr=fast",), "optim: torch.optim.Adam refuses"),
        (("optim.warmup=0.1",), "schedule.warmup"),
    ],
)
def test_what_cannot_be_is_told_before_any_file_is_read(
    words: tuple[str, ...], said: str, recipes: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert command("train", "--config-dir", "conf", *SMALL, *words, "runs=made") == 2
    error = capfd.readouterr().err
    assert said in error and "Traceback" not in error
    assert not list(recipes.glob("made/custom/*"))

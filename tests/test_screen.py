"""What a training says while it runs: a line for each epoch on any screen and in train.log, with the result at the end."""

import io
import json
import logging
import re
import sys
from pathlib import Path

import pandas as pd
import pytest

from kjcm.screen import Prefixed, ToStdout
from kjcm.tracking import epochs
from tests.conftest import SMALL, command

EPOCH = re.compile(
    r"epoch (\d+)/10: loss (\d\.\d{4}); validation loss (\d\.\d{4}), accuracy (\d+\.\d\d) %, F1 (\d+\.\d\d) %, "
    r"macro F1 (\d+\.\d\d) %; [\d,]+ rows/s(, ETA \d:\d\d:\d\d)?$",
    re.M,
)


def test_train_log_has_each_epoch_with_the_figures_of_the_csv_and_the_result(calibrated: Path) -> None:
    said, report = (calibrated / "train.log").read_text(), json.loads((calibrated / "report.json").read_text())
    points = pd.read_csv(calibrated / "logs" / "csv" / "version_0" / "metrics.csv")
    of_epochs = points[points["epoch"].notna()].groupby("epoch")
    names = ["train_loss", "val_loss", "val_accuracy", "val_f1_weighted", "val_f1_macro"]
    scale = [1, 1, 100, 100, 100]
    lines = EPOCH.findall(said)
    assert [int(line[0]) for line in lines] == list(of_epochs.groups) == [*range(1, 11)]
    for number, *figures, left in lines:
        logged = of_epochs.get_group(float(number))[names].max() * scale
        assert [float(figure) for figure in figures] == pytest.approx(logged.tolist(), abs=0.006)
        assert bool(left) == (number != "10")
    assert f"{report['n_test']:,} test rows: accuracy {report['metrics']['accuracy']:.4f}, " in said
    assert f"validation: loss {report['validation']['loss']:.4f}" in said


def test_a_long_epoch_is_logged_while_it_lasts(
    here: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(epochs, "EVERY", 0.0)
    assert command("train", *SMALL, "trainer.max_epochs=1", "evaluate=false", "logger=none", "run_dir=run") == 0
    shares = re.findall(r"epoch 1/1, (\d+) %: [\d,]+ rows/s, ETA 0:00:\d\d", capfd.readouterr().out)
    assert len(shares) > 10 and shares == sorted(shares, key=int)


def test_each_whole_line_of_a_job_has_its_prefix() -> None:
    to = io.StringIO()
    stream = Prefixed(to, "[job 3 of 8] ")
    stream.write("one\ntw")
    assert to.getvalue() == "[job 3 of 8] one\n"
    stream.writelines(["o\n", "\n"])
    assert to.getvalue() == "[job 3 of 8] one\n[job 3 of 8] two\n[job 3 of 8] \n"
    assert not stream.isatty()


def test_the_log_follows_stdout(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a progress bar replaces it while it is shown."""
    handler, streams = ToStdout(), [io.StringIO(), io.StringIO()]
    for stream in streams:
        monkeypatch.setattr(sys, "stdout", stream)
        handler.emit(logging.makeLogRecord({"msg": "said"}))
    assert [stream.getvalue() for stream in streams] == ["said\n", "said\n"]

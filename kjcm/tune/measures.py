"""Measure a trial: a metric after each epoch, and of the finished model the rare groups' F1 and the coding speed."""

import platform
import statistics
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pandas as pd
import torch
from filelock import FileLock
from lightning.pytorch.callbacks import Callback

from kjcm.coding.ensemble import AnyCoder, coder_of, device_of
from kjcm.coding.rows import reads_answers
from kjcm.confusion import counts, precision_recall_f1
from kjcm.engine.device import device_name
from kjcm.errors import ConfigError, KjcmError, counted
from kjcm.keys.commands.search import SpeedConfig
from kjcm.metrics import MEASURED
from kjcm.run_folder.contents import run_measured
from kjcm.survey.covariates import roles_of
from kjcm.survey.rows import Rows, indices_of
from kjcm.survey.texts import TEXT_COLUMNS

WARM_UP = 64  # rows coded before the clock starts: a device's first work is slow


class EachEpoch(Callback):
    """Call a function with a validation metric after each epoch; an error in the function ends the training.

    Args:
        metric: name of the metric, such as `f1_weighted` or `loss`.
        report: function of the number of finished epochs and the metric's value.
    """

    def __init__(self, metric: str, report: Callable[[int, float], None]) -> None:
        self._metric, self._report = metric, report

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Report the metric of the finished epoch."""
        if trainer.state.fn == "fit":
            self._report(trainer.current_epoch + 1, float(trainer.callback_metrics[f"val_{self._metric}"]))


@dataclass(frozen=True)
class Meter:
    """Measures finished runs on the validation rows, all of which are the study's.

    Attributes:
        rows: the validation rows.
        tail: codes of the rare groups; see `tail_of`.
        speed: how the coding speed is measured.
        folder: the study's folder, for the lock that lets one process of a machine at a time measure the speed.
    """

    rows: pd.DataFrame
    tail: frozenset[str]
    speed: SpeedConfig
    folder: Path

    def measure(self, run: Path, names: Collection[str]) -> dict[str, Any]:
        """Return name -> value of metrics of a finished run, and how the coding speed was measured if it was.

        Raises:
            KjcmError: the run has no such number.
        """
        found: dict[str, Any] = {name: value_of_run(run, name) for name in names if name not in MEASURED}
        if "f1_tail" in names:
            found["f1_tail"] = self._f1_tail(run)
        if "seconds_per_1000_rows" in names:
            found |= self._seconds(run)
        return found

    def _f1_tail(self, run: Path) -> float:
        """Return the F1 of the rare groups, weighted by their validation rows."""
        coder = coder_of(run / "model", None, "auto", "auto", 1.0, compiled=False)
        classes = coder.settings.classes
        truth, unseen = indices_of(self.rows["code"].tolist(), classes)
        first = coder.probabilities(_ready(coder, self.rows)).argmax(axis=1)
        true, predicted, both = counts(truth, first, len(classes) + len(unseen))
        is_tail = np.array([code in self.tail for code in (*classes, *unseen)])
        return float(np.average(precision_recall_f1(true, predicted, both)[2], weights=true * is_tail))

    def _seconds(self, run: Path) -> dict[str, Any]:
        """Return the median seconds to tokenise and code 1,000 validation rows, and on what they were measured."""
        rows, folder, how = self.rows.iloc[: self.speed.rows], run / "model", self.speed
        _, gpu = device_of(folder, how.accelerator, how.precision, compiled=False)
        device = device_name(torch.device("cuda" if gpu else "cpu"))
        with FileLock(self.folder / f"speed-{platform.node()}.lock"):
            coder = coder_of(folder, None, how.accelerator, how.precision, 1.0, compiled=False)
            coder.probabilities(_ready(coder, rows.iloc[:WARM_UP]))
            seconds = []
            for _ in range(how.repeats):
                begin = time.perf_counter()
                coder.probabilities(_ready(coder, rows))
                seconds.append(time.perf_counter() - begin)
        shown = f"{device}, {coder.precision}, {counted(torch.get_num_threads(), 'thread')}, {platform.node()}"
        return {"seconds_per_1000_rows": 1000 * statistics.median(seconds) / len(rows), "device": shown}


def _ready(coder: AnyCoder, rows: pd.DataFrame) -> Any:
    """Return rows as the model takes them."""
    settings = coder.settings
    if not reads_answers(settings):
        return coder.ready(rows["text"].tolist())
    columns = ["text", *TEXT_COLUMNS, *roles_of(settings.covariates.kinds)]
    return coder.ready(list(zip(*(rows[column] for column in columns), strict=True)))


def value_of_run(run: Path, metric: str) -> float:
    """Return a run's metric on the validation rows.

    Raises:
        KjcmError: the run has no such number.
    """
    found = run_measured(run).get("validation", {}).get(metric)
    if found is None:
        raise KjcmError(f"{run}: {metric} of the validation rows is no number.")
    return float(found)


def tail_of(rows: Rows, share: float) -> frozenset[str]:
    """Return the rare groups: the smallest groups that together have at most a share of the training rows.

    Raises:
        ConfigError: no validation row is in such a group.
    """
    learnt, validated = Counter(rows.learnt), rows.sides["validation"]["code"]
    tail = frozenset(_smallest(learnt, {*rows.cohort.classes, *validated}, share * learnt.total()))
    if not tail & set(validated):
        raise ConfigError(
            f"tail_share={share:g}: no validation row is in one of the {len(tail)} smallest groups, so f1_tail is unknown. "
            "Set a larger tail_share."
        )
    return tail


def _smallest(learnt: Counter[str], codes: Iterable[str], most: float) -> list[str]:
    """Return the codes with the fewest rows, as long as they have at most `most` rows together."""
    order = sorted(codes, key=lambda code: (learnt[code], code))
    within = np.cumsum([learnt[code] for code in order]) <= most
    return [code for code, is_within in zip(order, within, strict=True) if is_within]

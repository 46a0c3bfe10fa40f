"""What triage needs of a training: its temperature, the logits of rows that set thresholds, and those of the test rows.

The split's seed divides the validation rows into two halves. The first half fits the temperature. The second half sets
thresholds and pick lists; its logits and labels are stored in the model folder. An ensemble without validation rows
stores the combined out-of-fold scores of its members instead. No text or id is stored.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from kjcm.files import write_json
from kjcm.records import damaged, read_json, require_regular
from kjcm.survey.split import first_half
from kjcm.triage.calibration import brier, calibration_error, fit_temperature, probabilities, reliability_of
from kjcm.triage.logits import Scored, load_scored, save_scored
from kjcm.triage.managers import says_words

if TYPE_CHECKING:
    from kjcm.engine.module import Predictions
    from kjcm.run_folder.model_folder import Settings

CALIBRATION, HELD, TEST = "calibration.json", "triage.safetensors", "test_logits.safetensors"
OUT_OF_FOLD = "out_of_fold.safetensors"  # logits of the validation rows, in the cohort's order


def scored(
    rows: pd.DataFrame, labels: NDArray[np.int64], predictions: "Sequence[Predictions]", words: Sequence[str]
) -> Scored:
    """Return rows (text, person_at, perhaps manages) with the logits of `predictions`, batch by batch, in the rows' order."""
    numbers, logits = (
        np.concatenate([getattr(batch, name).numpy() for batch in predictions]) for name in ("rows", "logits")
    )
    return with_logits(rows, labels, logits[np.argsort(numbers)], words)


def with_logits(
    rows: pd.DataFrame, labels: NDArray[np.int64], logits: NDArray[np.float32], words: Sequence[str]
) -> Scored:
    """Return rows (text, person_at, perhaps manages) with their logits [rows, classes]."""
    answers = rows["manages"].to_numpy(bool) if "manages" in rows else np.zeros(len(rows), bool)
    said = says_words([text[at:] for text, at in zip(rows["text"], rows["person_at"], strict=True)], words)
    return Scored(logits, labels, said, answers)


def calibrate(folder: Path, rows: pd.DataFrame, found: Scored, settings: "Settings", seed: int, stopped: bool) -> None:
    """Write the calibration of a model and its held rows into its folder.

    Args:
        folder: the model folder.
        rows: validation rows: id, and cluster where mapped.
        found: the same rows, scored.
        settings: of the model.
        seed: data.split_seed.
        stopped: whether early stopping has chosen the weights by these rows.
    """
    first = first_half(rows, seed)
    held = found.of(~first)
    temperature = fit_temperature(found.logits[first], found.labels[first])
    record: dict[str, Any] = {
        "temperature": temperature,
        "n": int(first.sum()),
        "n_held": len(held.labels),
        "chosen_by_validation": stopped,
        "clustered": "cluster" in rows,
    }
    _write(folder, record, held, settings)


def calibrate_out_of_fold(folder: Path, rows: pd.DataFrame, found: Scored, settings: "Settings") -> None:
    """Write the calibration and the held rows of an ensemble that was trained without validation rows.

    Its weights were fitted to these scores, so they need no temperature.

    Args:
        folder: the model folder.
        rows: training rows: id, and cluster where mapped.
        found: the same rows with out-of-fold scores.
        settings: of the model.
    """
    about = {"n": 0, "n_held": len(rows), "chosen_by_validation": False, "clustered": "cluster" in rows}
    _write(folder, {"temperature": 1.0, **about, "out_of_fold": True}, found, settings)


def _write(folder: Path, record: dict[str, Any], held: Scored, settings: "Settings") -> None:
    """Write a calibration, with its measures on the held rows, and these rows."""
    temperature = record["temperature"]
    if len(held.labels):
        for when, at in (("before", 1.0), ("after", temperature)):
            probability = probabilities(held.logits, at)
            table = reliability_of(probability.max(axis=1), probability.argmax(axis=1) == held.labels)
            record |= {f"ece_{when}": calibration_error(table), f"brier_{when}": brier(probability, held.labels)}
    write_json(folder / CALIBRATION, record)
    save_scored(folder / HELD, held, settings.classes_hash)


def calibration_of(folder: Path) -> Mapping[str, Any] | None:
    """Return the calibration of a model folder, None where it has no held rows.

    Raises:
        KjcmError: the file is damaged.
    """
    file = folder / CALIBRATION
    if not os.path.lexists(file):
        return None
    found: Mapping[str, Any] = read_json(
        file, {"temperature": float, "chosen_by_validation?": bool, "clustered?": bool, "out_of_fold?": bool}
    )
    if found["temperature"] <= 0:
        raise damaged(file, f"temperature is {found['temperature']}")
    return found


def held_rows(folder: Path, settings: "Settings") -> Scored | None:
    """Return the rows that set thresholds of a model folder, None where it has none.

    Raises:
        KjcmError: the file is damaged, of another model, or one of calibration and rows is missing.
    """
    files = [folder / CALIBRATION, folder / HELD]
    if not any(file.exists() for file in files):
        return None
    for file in files:
        require_regular(file)
    held = load_scored(folder / HELD, len(settings.classes), settings.classes_hash)
    return held if len(held.labels) else None

"""Score rows with a run's model, and replace the weights of their candidates by the model's probabilities."""

import logging
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from kjcm.coding.chunks import probability_chunks
from kjcm.coding.ensemble import coder_of
from kjcm.coding.rows import Reading, reads_answers, require_readable
from kjcm.read.options import ReadOptions
from kjcm.recoding.decisions import Row, shares_of_classes, weights_by_model
from kjcm.run_folder.held_out import calibration_of
from kjcm.run_folder.model_folder import Settings
from kjcm.survey.texts import Labels
from kjcm.triage.calibration import Probabilities
from kjcm.triage.managers import gated, managing_classes
from kjcm.triage.rules import Tree

CHUNK = 8192  # rows

log = logging.getLogger("kjcm")


def score(
    rows: Sequence[Row],
    frame: pd.DataFrame,
    folder: Path,
    settings: Settings,
    *,
    source: Path,
    columns: Mapping[str, str | None],
    labels: Labels,
    options: ReadOptions,
    accelerator: str,
    precision: str,
    managers: str,
    least: float,
) -> None:
    """Replace the candidates' weights in rows with several candidates by the model's probabilities.

    Args:
        rows: the rows.
        frame: their cells, in the same order.
        folder: of the model.
        settings: of the model.
        source: the file, for messages.
        columns: role -> column of the three answers.
        labels: value labels of the columns.
        options: how the file is read.
        accelerator: see `coder_of`.
        precision: likewise.
        managers: triage.managers.
        least: rows whose candidates together have less probability keep their weights and are not scored.

    Raises:
        ConfigError: a rule for managers is set, and the model has no managers.
        KjcmError: a column is missing, or the model cannot be loaded.
    """
    reading = Reading(
        str(source), columns, managers, settings.manager_words, [], labels, options, settings.wording, settings.covariates,
        reads_answers(settings), "missing",
    )  # fmt: skip
    require_readable(frame, reading)
    majors = Tree(settings.classes, settings.ancestors, settings.n_train).majors
    managing = managing_classes(majors, managers)

    def gate(probability: Probabilities, manages: NDArray[np.bool_]) -> Probabilities:
        return probability if managers == "none" else gated(probability, manages, managing)

    calibration = calibration_of(folder)
    if calibration is None:
        log.warning(
            "The run was trained without validation rows: its probabilities are not calibrated. Train it with "
            "data.validation=0.3."
        )
    temperature = float(calibration["temperature"]) if calibration else 1.0
    coder = coder_of(folder, None, accelerator, precision, temperature, compiled=False)
    frames = (frame.iloc[begin : begin + CHUNK] for begin in range(0, len(frame), CHUNK))
    done = 0
    with closing(probability_chunks(frames, reading, coder, gate)) as chunks:
        for reasons, probability in chunks:
            part = rows[done : done + len(reasons)]
            done += len(reasons)
            for row, reason in zip(part, reasons, strict=True):
                row.reason = reason
            _weigh([row for row in part if not row.reason], probability, settings.classes, least)


def _weigh(rows: Sequence[Row], probability: np.ndarray, classes: Sequence[str], least: float) -> None:
    """Weigh the candidates of rows with these probabilities [rows, classes]; rows of one code have the same candidates."""
    of_code: dict[str, list[int]] = {}
    for number, row in enumerate(rows):
        of_code.setdefault(row.code, []).append(number)
    for numbers in of_code.values():
        candidates = rows[numbers[0]].candidates
        shares = shares_of_classes(classes, candidates)
        found, together = weights_by_model(probability[numbers], shares, candidates)
        for number, weights, mass in zip(numbers, found.tolist(), together.tolist(), strict=True):
            row = rows[number]
            if not shares.any():
                row.reason = "no candidate is a class of the run"
            elif mass == 0 or mass < least:
                row.reason = "the model finds all candidates unlikely"
            else:
                row.candidates, row.scored = dict(zip(candidates, weights, strict=True)), True

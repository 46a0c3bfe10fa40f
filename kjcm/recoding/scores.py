"""Score rows with a run's model, and replace the weights of their candidates by the model's probabilities."""

from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
import pandas as pd

from kjcm.coding.chunks import probability_chunks
from kjcm.coding.ensemble import coder_of
from kjcm.coding.rows import Reading, reads_answers, require_readable
from kjcm.coding.run_rules import basis_of
from kjcm.read.options import ReadOptions
from kjcm.recoding.decisions import Row, shares
from kjcm.run_folder.model_folder import Settings
from kjcm.survey.texts import Labels
from kjcm.triage.rules import Options

CHUNK = 8192  # rows


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
) -> None:
    """Set the weights of the candidates of rows, those with several candidates, by the model's probabilities.

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

    Raises:
        KjcmError: a column is missing, or the model cannot be loaded.
    """
    reading = Reading(
        str(source), columns, "none", settings.manager_words, [], labels, options, settings.wording, settings.covariates,
        reads_answers(settings), "missing",
    )  # fmt: skip
    require_readable(frame, reading)
    plain = Options(None, 0.8, 0.95, 0.3, 5, (), "none", calibrated=True)
    temperature = basis_of(plain, folder, settings).temperature
    coder = coder_of(folder, None, accelerator, precision, temperature, compiled=False)
    frames = (frame.iloc[begin : begin + CHUNK] for begin in range(0, len(frame), CHUNK))
    done = 0
    with closing(probability_chunks(frames, reading, coder, lambda probability, _: probability)) as chunks:
        for valid, probability in chunks:
            part = rows[done : done + len(valid)]
            done += len(valid)
            those = [row for row, fine in zip(part, valid, strict=True) if fine]
            for row, fine in zip(part, valid, strict=True):
                row.reason = "" if fine else "no text to decide by"
            _weigh(those, probability, settings.classes)


def _weigh(rows: Sequence[Row], probability: np.ndarray, classes: Sequence[str]) -> None:
    """Set the weights of rows with these probabilities [rows, classes]; rows of one code have the same candidates."""
    of_code: dict[str, list[int]] = {}
    for number, row in enumerate(rows):
        of_code.setdefault(row.code, []).append(number)
    for numbers in of_code.values():
        candidates = rows[numbers[0]].candidates
        known = {code for code in candidates if any(code.startswith(own) or own.startswith(code) for own in classes)}
        for number, found in zip(numbers, shares(probability[numbers], classes, candidates).tolist(), strict=True):
            row = rows[number]
            if not known:
                row.reason = "no candidate is a class of the run"
                continue
            row.candidates, row.scored = dict(zip(candidates, found, strict=True)), True

"""A run's scored rows: the test rows' probabilities, plain and calibrated, and the rows that set thresholds."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kjcm.analysis.selection import Run
from kjcm.run_folder.held_out import TEST, calibration_of, held_rows
from kjcm.run_folder.model_folder import load_settings
from kjcm.triage.calibration import Probabilities, probabilities
from kjcm.triage.logits import Scored, load_scored
from kjcm.triage.rules import Options, Tree, Triage


@dataclass(frozen=True)
class Scorings:
    """A run's scored rows.

    Attributes:
        tree: its classes.
        temperature: of its calibration.
        held: rows that set thresholds and lists.
        test: test rows.
        plain: [test rows, classes], the model's own probabilities.
        calibrated: the same, calibrated.
    """

    tree: Tree
    temperature: float
    held: Scored
    test: Scored
    plain: NDArray[np.float64]
    calibrated: NDArray[np.float64]

    def triage(self, options: Options) -> Triage:
        """Return the rules fitted on the held-out rows."""
        return Triage(options, self.tree, self.held, self.temperature)

    def right(self, probability: Probabilities) -> NDArray[np.bool_]:
        """Return which test rows' top-1 codes are right."""
        right: NDArray[np.bool_] = np.equal(probability.argmax(axis=1), self.test.labels)
        return right


def scorings(run: Run) -> Scorings | None:
    """Return a run's scored rows; None if it was trained without validation rows or not tested.

    Raises:
        KjcmError: a file is damaged.
    """
    return _read(run.path)


@cache
def _read(path: Path) -> Scorings | None:
    model, file = path / "model", path / TEST
    if not file.is_file():
        return None
    settings = load_settings(model)
    calibration, held = calibration_of(model), held_rows(model, settings)
    if calibration is None or held is None:
        return None
    test = load_scored(file, len(settings.classes), settings.classes_hash)
    temperature = float(calibration["temperature"])
    return Scorings(
        Tree(settings.classes, settings.ancestors, settings.n_train),
        temperature,
        held,
        test,
        probabilities(test.logits),
        probabilities(test.logits, temperature),
    )

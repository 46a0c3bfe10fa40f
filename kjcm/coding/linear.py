"""Code texts with a finished run's linear or nearest-neighbour model."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from kjcm.engine.device import has_bf16
from kjcm.errors import ConfigError
from kjcm.runs.model_folder import Settings, load_linear
from kjcm.survey.texts import TEXT_COLUMNS
from kjcm.triage.calibration import probabilities

PRECISION = "32-true"


class LinearCoder:
    """A finished run's model of views, ready to code texts.

    Args:
        run: the run folder.
        temperature: divides the logits.

    Raises:
        KjcmError: the run's model cannot be loaded.
    """

    def __init__(self, run: Path, temperature: float = 1.0) -> None:
        self.model, self.settings = load_linear(run / "model")
        self.precision, self.temperature = linear_precision(self.settings), temperature

    def ready(self, answers: Sequence[tuple[str, ...]]) -> NDArray[np.float32]:
        """Return the logits [texts, classes] of texts; each with its workplace, position and task."""
        return self.model.logits(pd.DataFrame(list(answers), columns=["text", *TEXT_COLUMNS], dtype=object))

    def probabilities(self, ready: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return the probabilities [texts, classes]."""
        return probabilities(ready, self.temperature)


def linear_precision(settings: Settings) -> str:
    """Return the precision in which a model of views codes: that of its encoder, if it has one."""
    return "bf16" if settings.max_length and has_bf16(gpu=False) else PRECISION


def require_linear(accelerator: str, precision: str, own: str, *, compiled: bool) -> None:
    """Raise ConfigError if a setting of coding is none of a model of views that codes in the precision `own`."""
    wrong = {
        "accelerator=gpu": accelerator == "gpu",
        f"precision={precision}": precision not in ("auto", own),
        "compile=true": compiled,
    }
    if settings := [setting for setting, is_wrong in wrong.items() if is_wrong]:
        raise ConfigError(f"{settings[0]}: the run's model reads views; it runs on the CPU in {own}. Remove it.")

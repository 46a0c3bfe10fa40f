"""Code texts with a finished run's linear or nearest-neighbour model, and explain codes by the nearest texts."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from kjcm.coding.rows import answers_frame
from kjcm.engine.device import has_bf16
from kjcm.errors import ConfigError
from kjcm.linear.nearest import Examples, NearestModel
from kjcm.run_folder.model_folder import Settings, load_linear
from kjcm.triage.calibration import probabilities

PRECISION = "32-true"
EXPLAINED = 3  # nearest texts, and nearest titles, that explain a code

Near = tuple[NDArray[np.int32], NDArray[np.float32]]  # [texts, 2 * EXPLAINED] places and similarities


class LinearCoder:
    """A model of views, ready to code texts.

    Args:
        folder: the model folder.
        temperature: divides the logits.

    Raises:
        KjcmError: the model cannot be loaded.
    """

    def __init__(self, folder: Path, temperature: float = 1.0) -> None:
        self.model, self.settings = load_linear(folder)
        self.precision, self.temperature = linear_precision(self.settings), temperature

    def ready(self, answers: Sequence[tuple[str, ...]]) -> NDArray[np.float32]:
        """Return the logits [texts, classes] of answers, see `answers_frame`."""
        return self.model.logits(answers_frame(answers, self.settings.covariates))

    def probabilities(self, ready: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return the probabilities [texts, classes]."""
        return probabilities(ready, self.temperature)

    @property
    def explainer(self) -> "Explainer | None":
        """Return what explains the codes, if the model compares texts."""
        return Explainer(self.model, self.settings) if isinstance(self.model, NearestModel) else None


class Explainer:
    """The coded texts and the titles that are most similar to a row, as numbers and as columns of a file.

    Args:
        model: compares texts.
        settings: of the model.
    """

    def __init__(self, model: NearestModel, settings: Settings) -> None:
        self.model, self.covariates = model, settings.covariates
        self._codes = pa.array(settings.classes, pa.string())

    @property
    def labels(self) -> dict[str, str]:
        """Return column -> label; without near_text_1 to near_text_3 where the model has not kept these texts."""
        texts, titles = _labels("near", "text"), _labels("near_title", "title")
        kept = {f"near_text_{rank}": f"Coded text, rank {rank}" for rank in range(1, EXPLAINED + 1)}
        named = {f"near_title_{rank}": f"Title, rank {rank}" for rank in range(1, EXPLAINED + 1)}
        return {**(kept if self.model.rows.texts is not None else {}), **texts, **named, **titles}

    def near(self, answers: Sequence[tuple[str, ...]]) -> Near:
        """Return the places of the nearest training rows, then titles, of each text, and their similarities."""
        frame = answers_frame(answers, self.covariates)
        found = [self.model.nearest(frame, examples, EXPLAINED) for examples in (self.model.rows, self.model.titles)]
        return np.hstack([places for places, _ in found]), np.hstack([similar for _, similar in found])

    def columns(self, places: NDArray[np.int32], similarity: NDArray[np.float32]) -> list[Any]:
        """Return the columns of `labels` for rows; see `near`."""
        found = []
        for begin, examples in ((0, self.model.rows), (EXPLAINED, self.model.titles)):
            own = slice(begin, begin + EXPLAINED)
            found += _columns(examples, self._codes, places[:, own], similarity[:, own])
        return found


def _labels(lead: str, what: str) -> dict[str, str]:
    ranks = range(1, EXPLAINED + 1)
    codes = {f"{lead}_code_{rank}": f"Code of {lead}_{what}_{rank}" for rank in ranks}
    return codes | {f"{lead}_similarity_{rank}": f"Similarity of {lead}_{what}_{rank}" for rank in ranks}


def _columns(examples: Examples, codes: Any, places: NDArray[np.int32], similarity: NDArray[np.float32]) -> list[Any]:
    """Return the texts of examples, if they are kept, their codes, and their similarities, each by rank."""
    own = codes.take(pa.array(examples.labels))
    lists = [own] if examples.texts is None else [pa.array(examples.texts, pa.string()), own]
    taken = [pa.array(column, mask=column < 0) for column in places.T]
    return [*(one.take(column).fill_null("") for one in lists for column in taken), *map(pa.array, similarity.T)]


def linear_precision(settings: Settings) -> str:
    """Return the precision in which a model of views codes: that of its encoder, if it has one."""
    return "bf16" if settings.max_length and has_bf16(gpu=False) else PRECISION


def require_linear(accelerator: str, precision: str, own: str, *, compiled: bool) -> None:
    """Raise ConfigError if a model of views, which codes in the precision `own`, does not have a setting of coding."""
    wrong = {
        "accelerator=gpu": accelerator == "gpu",
        f"precision={precision}": precision not in ("auto", own),
        "compile=true": compiled,
    }
    if settings := [setting for setting, is_wrong in wrong.items() if is_wrong]:
        raise ConfigError(f"{settings[0]}: the run's model reads views; it runs on the CPU in {own}. Remove it.")

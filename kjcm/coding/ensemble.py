"""Code texts with a finished run's model of any kind, and with ensembles of such models."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kjcm.coding.coder import Coder, resolve_precision
from kjcm.coding.linear import Explainer, LinearCoder, linear_precision, require_linear
from kjcm.coding.rows import reads_answers
from kjcm.engine.device import on_gpu
from kjcm.ensemble.files import load_ensemble
from kjcm.errors import ConfigError
from kjcm.run_folder.model_folder import load_settings
from kjcm.triage.calibration import probabilities

LEAST = 1e-300  # probability whose logarithm is finite


class EnsembleCoder:
    """An ensemble, ready to code texts.

    Args:
        folder: the model folder.
        batch_size: as in `Coder`, for members that are encoders; so are all further arguments.
        accelerator: as in `Coder`.
        precision: as in `Coder`, but not int8.
        temperature: divides the combined logits.
        compiled: as in `Coder`.

    Raises:
        KjcmError: the model cannot be loaded.
    """

    def __init__(
        self,
        folder: Path,
        batch_size: int | None,
        accelerator: str,
        precision: str,
        temperature: float,
        *,
        compiled: bool,
    ) -> None:
        self.combination, members, self.settings = load_ensemble(folder)
        self.temperature = temperature
        self.precision, _ = device_of(folder, accelerator, precision, compiled=compiled)
        how = (batch_size, accelerator, precision, 1.0)
        self.coders = [coder_of(member / "model", *how, compiled=compiled) for member in members]

    def ready(self, answers: Sequence[tuple[str, ...]]) -> list[Any]:
        """Return answers, see `answers_frame`, as the members take them."""
        texts = [one[0] for one in answers]
        return [
            coder.ready(texts)
            if isinstance(coder, Coder) and not reads_answers(coder.settings)
            else coder.ready(answers)
            for coder in self.coders
        ]

    def probabilities(self, ready: list[Any]) -> NDArray[np.float64]:
        """Return the probabilities [texts, classes]."""
        found = [coder.probabilities(own) for coder, own in zip(self.coders, ready, strict=True)]
        scores = [np.log(np.maximum(one, LEAST)) for one in found]
        return probabilities(self.combination(scores, self.settings.n_train), self.temperature)

    @property
    def explainer(self) -> Explainer | None:
        """Return what explains the codes: the first member that compares texts."""
        return next(filter(None, map(explainer_of, self.coders)), None)


AnyCoder = Coder | LinearCoder | EnsembleCoder


def explainer_of(coder: AnyCoder) -> Explainer | None:
    """Return what explains a coder's codes; None if the run's model compares no texts."""
    return None if isinstance(coder, Coder) else coder.explainer


def require_explainer(coder: AnyCoder) -> Explainer:
    """Return what explains a coder's codes.

    Raises:
        ConfigError: the model compares no texts.
    """
    found = explainer_of(coder)
    if found is None:
        raise ConfigError(
            "explain=true: the run's model compares no texts. Give a run of model=nearest, or of an ensemble with one."
        )
    return found


def coder_of(
    folder: Path, batch_size: int | None, accelerator: str, precision: str, temperature: float, *, compiled: bool
) -> AnyCoder:
    """Return the coder of a model folder's kind; arguments as in `EnsembleCoder`."""
    kind = load_settings(folder).kind
    if kind not in ("encoder", "ensemble"):
        return LinearCoder(folder, temperature)
    made = Coder if kind == "encoder" else EnsembleCoder
    return made(folder, batch_size, accelerator, precision, temperature, compiled=compiled)


def device_of(folder: Path, accelerator: str, precision: str, *, compiled: bool) -> tuple[str, bool]:
    """Return the precision in which a model folder's model codes, and whether it codes on a GPU.

    An ensemble's are those of its first encoder, or of its first member with embeddings if it has no encoder.

    Raises:
        ConfigError: this kind of model does not have the setting.
    """
    settings = load_settings(folder)
    if settings.kind == "ensemble":
        if precision == "int8":
            raise ConfigError("precision=int8: the run is an ensemble. Use precision=32-true or bf16.")
        _, members, _ = load_ensemble(folder, hashed=False)  # `EnsembleCoder` compares the digests
        of_members = [load_settings(member / "model") for member in members]
        rank = [(one.kind == "encoder", one.max_length > 0) for one in of_members]
        return device_of(members[rank.index(max(rank))] / "model", accelerator, precision, compiled=compiled)
    if settings.kind == "encoder":
        gpu = on_gpu(accelerator)
        return resolve_precision(precision, gpu), gpu
    require_linear(accelerator, precision, own := linear_precision(settings), compiled=compiled)
    return own, False

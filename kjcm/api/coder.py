"""Code texts and tables in memory with a finished run's model, as `kjcm predict` codes files."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from kjcm.api.composing import composed, words_of
from kjcm.coding.chunks import answers_in, coded_chunks
from kjcm.coding.decisions import Decider, Known
from kjcm.coding.ensemble import coder_of, require_explainer
from kjcm.coding.predict import columns_of
from kjcm.coding.rows import Reading, needs_seen_levels, reads_answers, require_readable, require_seen_levels
from kjcm.coding.run_rules import basis_of, warn
from kjcm.engine.device import require_device
from kjcm.errors import ConfigError, KjcmError
from kjcm.files import existing
from kjcm.keys.checks import check_values
from kjcm.keys.coding import PredictConfig
from kjcm.keys.composition import typed
from kjcm.run_folder.model_folder import finished_run, load_settings, require_regular_files
from kjcm.survey.texts import NO_LABELS
from kjcm.triage.rules import Options

TEXT = "text"  # column of a list of texts


def load(
    place: str | Path,
    *,
    triage: Mapping[str, Any] | None = None,
    columns: Mapping[str, str | None] | None = None,
    unseen_levels: str = "error",
    accelerator: str = "auto",
    precision: str = "auto",
    batch_size: int | None = None,
    compile: bool = False,
) -> "OccupationCoder":
    """Return a finished run's model, ready to code texts.

    The arguments have the names, values and meaning of `kjcm predict`'s keys (docs/config.md).

    Args:
        place: a run folder, or its folder `model` wherever it is.
        triage: rules of the decisions, as {"target_error": 0.05, "managers": "words"}.
        columns: role -> column of the tables to code, as {"task": "what I do", "workplace": None}.
        unseen_levels: 'error' or 'missing'.
        accelerator: 'auto', 'cpu' or 'gpu'.
        precision: 'auto', '32-true', 'bf16' or 'int8'.
        batch_size: texts of full length whose tokens fill a batch; None: the device's default.
        compile: use torch.compile.

    Raises:
        ConfigError: an argument is not allowed, or the model or the device does not have it.
        KjcmError: there is no finished run, or a file of it is damaged.
    """
    keys = {
        "triage": triage or {}, "columns": columns or {}, "unseen_levels": unseen_levels, "accelerator": accelerator,
        "precision": precision, "batch_size": batch_size, "compile": compile,
    }  # fmt: skip
    paths = {"run": str(place), "input": TEXT, "output": TEXT}  # that `kjcm predict` needs
    config = typed(composed("predict", words_of({**paths, **keys}))[1], PredictConfig)
    require_device("accelerator", config.accelerator)
    return OccupationCoder(_model_folder(str(place)), config)


def _model_folder(place: str) -> Path:
    path = existing(place)
    if not (path / "kjcm.json").is_file():
        return finished_run(place) / "model"
    require_regular_files(path)
    return path


class OccupationCoder:
    """A finished run's model, see `load`.

    Args:
        folder: the model folder.
        config: the keys of `kjcm predict`.

    Attributes:
        classes: the codes, in the order of `probabilities`.
        titles: code -> title, of the classes and of the groups above them.
        promises: what the decisions promise, as in `triage` of `kjcm predict`'s OUTPUT.json.
        precision: in which the model computes.
    """

    def __init__(self, folder: Path, config: PredictConfig) -> None:
        self._config, self._settings = config, load_settings(folder)
        self.classes, self.titles = self._settings.classes, dict(self._settings.titles)
        self._columns = columns_of(self._settings, config)
        basis = basis_of(Options(**vars(config.triage)), folder, self._settings)
        self._triage = basis.triage()
        self.promises = basis.outlook(self._triage)
        warn(self.promises)
        how = (config.batch_size, config.accelerator, config.precision, self._triage.temperature)
        self._coder = coder_of(folder, *how, compiled=config.compile)
        self.precision = self._coder.precision

    def code(
        self,
        texts: "pd.DataFrame | Iterable[str]",
        top_k: int = 5,
        *,
        levels: Sequence[int] = (),
        explain: bool = False,
    ) -> pd.DataFrame:
        """Return texts with their codes: the table with the columns that `kjcm predict` adds to a file, same rows and index.

        Args:
            texts: a table with the run's columns, or texts without fields, which become the column `text`: each is read
                like the task of a table without workplace and position.
            top_k: codes of a row.
            levels: levels above the codes that get columns too, 1 at the top.
            explain: add the nearest texts and titles, for models that compare texts.

        Raises:
            ConfigError: an argument is not allowed, or the model does not have it.
            KjcmError: the table lacks a column, or has one of those that would be added.
        """
        check_values(PredictConfig, {"top_k": top_k, "levels": list(levels)})
        explainer = require_explainer(self._coder) if explain else None
        decider = Decider(self._settings, self._triage, top_k, explainer, levels)
        frame, reading = self._table(texts, list(decider.added.labels))
        chunks = coded_chunks(self._frames(frame), reading, self._coder, decider)
        return pd.concat([chunk.frame for chunk in chunks]).set_axis(frame.index)

    def probabilities(self, texts: "pd.DataFrame | Iterable[str]") -> NDArray[np.float64]:
        """Return the probability of every class: [rows, classes]; nan for rows that cannot be coded.

        They are those of `code`: calibrated, and 0 for the classes that `triage.managers` rules out.

        Args:
            texts: as in `code`.

        Raises:
            KjcmError: the table lacks a column.
        """
        frame, reading = self._table(texts, ())
        found = np.full((len(frame), len(self.classes)), np.nan)
        known, parts, numbers, valid = Known(), [], [], []
        for chunk in self._frames(frame):
            answers = answers_in(chunk, reading)
            rows, manages = np.flatnonzero(answers.valid), answers.manages[answers.valid]
            number, new = known.meet([answers.inputs[row] for row in rows], manages)
            ready: Any = self._coder.ready([answers.inputs[row] for row in rows[new]])
            parts.append(self._triage.gated(self._coder.probabilities(ready), manages[new]))
            numbers.append(number)
            valid.append(answers.valid)
        found[np.concatenate(valid)] = np.concatenate(parts)[np.concatenate(numbers)]
        return found

    def _table(self, texts: "pd.DataFrame | Iterable[str]", added: Sequence[str]) -> tuple[pd.DataFrame, Reading]:
        """Return texts as a table, and how it is read."""
        columns = self._columns
        if isinstance(texts, str):
            raise ConfigError("texts: give a list of texts, or a DataFrame.")
        if not isinstance(texts, pd.DataFrame):
            if self._config.triage.managers == "column":
                raise ConfigError("triage.managers=column: a list has no columns. Give a DataFrame.")
            texts, columns = pd.DataFrame({TEXT: pd.Series(list(texts), dtype=object)}), {"task": TEXT}
        settings = self._settings
        reading = Reading(
            "the table", columns, self._config.triage.managers, settings.manager_words, added, NO_LABELS, None,
            settings.wording, settings.covariates, reads_answers(settings), self._config.unseen_levels,
        )  # fmt: skip
        if texts.columns.has_duplicates:
            raise KjcmError("the table: two columns have the same name. Rename one.")
        require_readable(texts, reading)
        if needs_seen_levels(reading):
            require_seen_levels(texts, reading)
        return texts, reading

    def _frames(self, frame: pd.DataFrame) -> Iterable[pd.DataFrame]:
        """Yield a table's chunks, at least one."""
        rows = self._config.chunk_rows  # of kjcm predict: which texts share a batch changes the last bits
        return (frame.iloc[begin : begin + rows] for begin in range(0, max(len(frame), 1), rows))

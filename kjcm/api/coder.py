"""Code texts and tables in memory with a finished run's model, as `kjcm predict` codes files."""

import logging
import operator
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from kjcm.api.composing import composed, overrides_for
from kjcm.coding.chunks import coded_chunks, probability_chunks
from kjcm.coding.decisions import Decider
from kjcm.coding.ensemble import coder_of, require_explainer
from kjcm.coding.rows import Reading, needs_seen_levels, reads_answers, require_readable, require_seen_levels
from kjcm.coding.run_rules import basis_of, warn
from kjcm.engine.device import require_device
from kjcm.errors import ConfigError, KjcmError, some
from kjcm.hub.models import model_folder
from kjcm.keys.checks import check_values
from kjcm.keys.coding import PredictConfig
from kjcm.keys.composition import typed
from kjcm.prediction.job import columns_of
from kjcm.run_folder.model_folder import load_settings
from kjcm.survey.covariates import roles_of
from kjcm.survey.texts import NO_LABELS

TEXT = "text"  # column of a list of texts

log = logging.getLogger("kjcm")


def load(
    run: str | Path,
    *,
    triage: Mapping[str, Any] | None = None,
    columns: Mapping[str, str | None] | None = None,
    unseen_levels: str | None = None,
    accelerator: str | None = None,
    precision: str | None = None,
    batch_size: int | None = None,
    compile: bool = False,
) -> "OccupationCoder":
    """Return a finished run's model, ready to code texts.

    The arguments have the names, values and meaning of `kjcm predict`'s keys (docs/config.md); None means its default.

    Args:
        run: a run folder, or a copy of its folder `model`. A text that names no folder may be a model of the Hugging Face
            hub, as "org/name" or "org/name@revision"; with a folder "org" here, only a name with a revision.
        triage: rules of the decisions, as {"target_error": 0.05, "managers": "words"}.
        columns: role -> column of the tables to code, as {"task": "what I do", "workplace": None}.
        unseen_levels: 'error' or 'missing'.
        accelerator: 'auto', 'cpu' or 'gpu'.
        precision: 'auto', '32-true', 'bf16' or 'int8'.
        batch_size: texts of full length whose tokens fill a batch.
        compile: use torch.compile.

    Raises:
        ConfigError: an argument is not allowed, or the model or the device does not have it.
        KjcmError: there is no finished run, a file of it is damaged, or the hub does not give it.
    """
    keys = {
        "triage": triage or None, "columns": columns or None, "unseen_levels": unseen_levels, "accelerator": accelerator,
        "precision": precision, "batch_size": batch_size, "compile": compile or None,
    }  # fmt: skip
    given = {key: value for key, value in keys.items() if value is not None}
    required = {"run": str(run), "input": TEXT, "output": TEXT}  # the paths of input and output are not used
    with composed("predict", overrides_for({**required, **given})) as cfg:
        config = typed(cfg, PredictConfig)
    require_device("accelerator", config.accelerator)
    coder = OccupationCoder(model_folder(run), config)
    if coder.synthetic:
        log.info("the model was trained on SYNTHETIC data: its codes are for trying kjcm out, not for use")
    return coder


class OccupationCoder:
    """A finished run's model, see `load`.

    Args:
        folder: the model folder.
        config: the keys of `kjcm predict`.

    Attributes:
        classes: the codes, in the order of `probabilities`.
        titles: code -> title, of the classes and of the groups above them.
        columns: role -> column of the tables to code; a covariate's role is `covariates.NAME`.
        promises: what the decisions promise, as in `triage` of `kjcm predict`'s OUTPUT.json.
        precision: the model's precision.
        synthetic: whether the model was trained on the synthetic twin.
        from_titles: whether the model was trained on titles, and on no answers that could validate it.
    """

    def __init__(self, folder: Path, config: PredictConfig) -> None:
        self._config, self._settings = config, load_settings(folder)
        self.classes, self.titles = self._settings.classes, dict(self._settings.titles)
        self.synthetic, self.from_titles = self._settings.synthetic, self._settings.from_titles
        self._columns = columns_of(self._settings, config)
        read = {role: name for role, name in self._columns.items() if name}
        self.columns = read | roles_of(self._settings.covariates.kinds)
        basis = basis_of(config.triage, folder, self._settings)
        self._triage, self._index = basis.triage(), basis.index
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
        levels = [_whole("levels", level) for level in levels]
        check_values(PredictConfig, {"top_k": (top_k := _whole("top_k", top_k)), "levels": levels})
        if len(set(levels)) < len(levels):
            raise ConfigError(f"levels={levels}: name each level once.")
        explainer = require_explainer(self._coder) if explain else None
        decider = Decider(self._settings, self._triage, top_k, explainer, levels, self._index)
        table, frame, reading = self._table(texts, list(decider.added.labels))
        chunks = coded_chunks(self._frames(frame), reading, self._coder, decider)
        coded = pd.concat([chunk.frame for chunk in chunks]).set_axis(frame.index)
        coded.columns = pd.Index([*table.columns, *coded.columns[len(table.columns) :]])
        return coded

    def probabilities(self, texts: "pd.DataFrame | Iterable[str]") -> NDArray[np.float64]:
        """Return the probability of every class: [rows, classes]; nan for rows that cannot be coded.

        They are those of `code`: calibrated, and 0 for the classes that `triage.managers` rules out.

        Args:
            texts: as in `code`.

        Raises:
            KjcmError: the table lacks a column.
        """
        _, frame, reading = self._table(texts, ())
        found = np.full((len(frame), len(self.classes)), np.nan)
        reasons: list[str] = []
        for why, probability in probability_chunks(self._frames(frame), reading, self._coder, self._triage.gated):
            found[[len(reasons) + row for row, reason in enumerate(why) if not reason]] = probability
            reasons += why
        return found

    def _table(
        self, texts: "pd.DataFrame | Iterable[str]", added: Sequence[str]
    ) -> tuple[pd.DataFrame, pd.DataFrame, Reading]:
        """Return texts as a table, the same with texts as column names, and how it is read."""
        columns = self._columns
        if isinstance(texts, str | bytes | Mapping):
            raise ConfigError(f"texts: {type(texts).__name__}. Give a list of texts, or a DataFrame.")
        if not isinstance(texts, pd.DataFrame):
            if self._config.triage.managers == "column":
                raise ConfigError("triage.managers=column: a list has no columns. Give a DataFrame.")
            index = texts.index if isinstance(texts, pd.Series) else None
            texts, columns = pd.DataFrame({TEXT: pd.Series(list(texts), index, dtype=object)}), {"task": TEXT}
        settings = self._settings
        reading = Reading(
            "the table", columns, self._config.triage.managers, settings.manager_words, added, NO_LABELS, None,
            settings.wording, settings.covariates, reads_answers(settings), self._config.unseen_levels, self._index,
        )  # fmt: skip
        names = pd.Index([str(name) for name in texts.columns])
        if twice := sorted({*names[names.duplicated()]}):
            raise KjcmError(f"the table: {some(twice)}: two columns have this name. Rename one.")
        frame = texts.set_axis(names, axis=1)
        require_readable(frame, reading)
        if needs_seen_levels(reading):
            require_seen_levels(frame, reading)
        return texts, frame, reading

    def _frames(self, frame: pd.DataFrame) -> Iterable[pd.DataFrame]:
        """Yield a table's chunks, at least one."""
        rows = self._config.chunk_rows  # as `kjcm predict`: the texts of a batch change its last bits
        return (frame.iloc[begin : begin + rows] for begin in range(0, max(len(frame), 1), rows))


def _whole(key: str, value: Any) -> int:
    """Return a whole number; raise ConfigError for other values."""
    try:
        return operator.index(value)
    except TypeError:
        raise ConfigError(f"{key}={value!r}: give whole numbers.") from None

"""The model, the rules and the input of `kjcm predict`."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from kjcm.coding.decisions import Decider
from kjcm.coding.ensemble import AnyCoder, coder_of, require_explainer
from kjcm.coding.rows import (
    COLUMN_KEY,
    Reading,
    needs_seen_levels,
    reads_answers,
    require_readable,
    require_seen_levels,
)
from kjcm.coding.run_rules import basis_of, warn
from kjcm.errors import ConfigError, KjcmError
from kjcm.hub.models import model_folder
from kjcm.keys.coding import CodingColumns, PredictConfig
from kjcm.read.labelled import value_labels
from kjcm.read.options import PLAIN, read_options
from kjcm.read.table import read_chunks
from kjcm.run_folder.model_folder import Settings, load_settings
from kjcm.survey.covariates import roles_of
from kjcm.triage.rules import Triage
from kjcm.triage.titles import TitleIndex
from kjcm.write.table import Input, open_input

log = logging.getLogger("kjcm")


def columns_of(settings: Settings, config: PredictConfig) -> dict[str, str | None]:
    """Return role -> column, with the run's own name for '@run'; manages only if the rule needs it."""
    found = {
        role: settings.columns.get(role) if name == "@run" else name for role, name in vars(config.columns).items()
    }
    if config.triage.managers != "column":
        found["manages"] = None
    elif found["manages"] is None:
        raise ConfigError("triage.managers=column needs columns.manages=NAME, a column of yes and no.")
    return found


@dataclass(frozen=True)
class Job:
    """The model, the rules and the input of a coding.

    Attributes:
        config: the keys.
        reading: how the rows are read.
        coder: the model.
        decider: makes the columns.
        outlook: the promises of the decisions.
        settings: of the model.
        folder: of the model.
    """

    config: PredictConfig
    reading: Reading
    coder: AnyCoder
    decider: Decider
    outlook: dict[str, Any]
    settings: Settings
    folder: Path

    @property
    def source(self) -> Path:
        """Return the path of the input."""
        return Path(self.reading.source)

    def input(self, target: Path) -> Input:
        """Open the file; raise KjcmError if it is not usable, or the target cannot store its rows."""
        check = partial(require_readable, reading=self.reading)
        options = self.reading.options or PLAIN
        return open_input(self.source, target, self.reading.added, self.config.chunk_rows, options, check)


@dataclass(frozen=True)
class Model:
    """A run's model, and how the rows are coded with it.

    Attributes:
        config: the keys.
        folder: of the model.
        settings: of the model.
        columns: role -> column.
        prefix: before the names of the columns that are added.
        key: begins the names of the keys that name the columns.
    """

    config: PredictConfig
    folder: Path
    settings: Settings
    columns: Mapping[str, str | None]
    prefix: str = ""
    key: str = COLUMN_KEY


def models_of(config: PredictConfig) -> list[Model]:
    """Return the run's model, and that of the second run if there is one.

    Raises:
        ConfigError: a key does not fit.
        KjcmError: a run is not finished.
    """
    found = []
    second = (_second(config), config.second.prefix, "second.columns.")
    for own, prefix, key in ((config, "", COLUMN_KEY), second):
        if own is not None:
            with _blamed(own.run, second=own is not config):
                folder = model_folder(own.run)
                settings = load_settings(folder)
                found.append(Model(own, folder, settings, columns_of(settings, own), prefix, key))
    return found


@contextmanager
def _blamed(run: str, *, second: bool) -> Iterator[None]:
    """Begin errors of the second run with its key."""
    try:
        yield
    except KjcmError as error:
        text = str(error)
        if second and (isinstance(error, ConfigError) or text.startswith(f"run={run}: ")):
            raise type(error)(f"second.run={run}: {text.removeprefix(f'run={run}: ')}") from None
        raise


def _second(config: PredictConfig) -> PredictConfig | None:
    """Return the config of the second run's coding, None without one: the same keys, but no managers' rule and no index."""
    second = config.second
    if second.run is None:
        return None
    if config.ray.engine == "ray":
        raise ConfigError(
            "engine=ray codes with one run. Leave second.run out, and use a second command for its columns."
        )
    if not second.prefix:
        raise ConfigError(
            "second.prefix='': both runs' columns would have the same names. Give a prefix, as industry_."
        )
    columns = CodingColumns(**vars(second.columns), manages=None)
    triage = replace(config.triage, managers="none", index="off")
    return replace(config, run=second.run, columns=columns, triage=triage)


def jobs_of(models: Sequence[Model], source: Path) -> list[Job]:
    """Load each model with its rules, in the same order.

    Raises:
        ConfigError: a key does not fit a run.
        KjcmError: a file is damaged.
    """
    jobs: list[Job] = []
    for model in reversed(models):
        others = [name for job in jobs for name in job.decider.added.labels]
        if len(models) > 1:
            log.info("run %s:", model.config.run)
        with _blamed(model.config.run, second=bool(model.prefix)):
            jobs.insert(0, _job_of(model, source, others))
    return jobs


def model_of(
    config: PredictConfig,
    folder: Path,
    settings: Settings,
    triage: Triage,
    index: TitleIndex | None = None,
    prefix: str = "",
) -> tuple[AnyCoder, Decider]:
    """Load a model, and return it with what makes the columns.

    Args:
        config: the keys.
        folder: of the model.
        settings: of the model.
        triage: the rules.
        index: of job titles; None: none.
        prefix: before the columns' names.
    """
    how = (config.batch_size, config.accelerator, config.precision, triage.temperature)
    coder = coder_of(folder, *how, compiled=config.compile)
    explainer = require_explainer(coder) if config.explain else None
    decider = Decider(
        settings,
        triage,
        config.top_k,
        explainer,
        config.levels,
        index,
        all_probabilities=config.all_probabilities,
        prefix=prefix,
    )
    return coder, decider


def _job_of(model: Model, source: Path, others: Sequence[str]) -> Job:
    """Load a model and its rules, and check the file's covariates before any row is coded.

    Args:
        model: the model.
        source: the file.
        others: columns that another run adds.
    """
    config, folder, settings, columns = model.config, model.folder, model.settings, model.columns
    options = read_options(config, "", [source], {**columns, **roles_of(settings.covariates.kinds)})
    labels = value_labels(source, options)
    basis = basis_of(config.triage, folder, settings)
    triage = basis.triage()
    outlook = basis.outlook(triage)
    warn(outlook)
    coder, decider = model_of(config, folder, settings, triage, basis.index, model.prefix)
    reading = Reading(
        str(source), columns, config.triage.managers, settings.manager_words, [*decider.added.labels, *others], labels, options,
        settings.wording, settings.covariates, reads_answers(settings), config.unseen_levels, basis.index,
        model.key,
    )  # fmt: skip
    if needs_seen_levels(reading):
        for frame in read_chunks(source, config.chunk_rows, options):
            require_seen_levels(frame, reading)
    return Job(config, reading, coder, decider, outlook, settings, folder)

"""Steps that train and baseline share: claim the run folder, then write its settings, log, predictions and report."""

import itertools
import logging
import platform
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from kjcm import __version__
from kjcm.engine.device import global_rank
from kjcm.engine.signals import Signals, signals
from kjcm.errors import KjcmError, counted, some
from kjcm.files import require_no_input, write_json, write_parquet, write_text
from kjcm.keys.commands.train import RunConfig, TrainConfig
from kjcm.keys.composition import typed
from kjcm.keys.models import EncoderConfig, ModelConfig, ViewsConfig
from kjcm.run_folder.failures import failure_of, write_failure
from kjcm.run_folder.folder import RunFolder, default_path, identity_of
from kjcm.run_folder.held_out import OUT_OF_FOLD, TEST, calibrate, scored
from kjcm.run_folder.model_card import write_card
from kjcm.run_folder.model_folder import Settings
from kjcm.run_folder.results import (
    Outcome,
    about_texts,
    cohort_record,
    flow_lines,
    outcome_record,
    prediction_frame,
    result_lines,
    show,
)
from kjcm.screen import is_quiet
from kjcm.survey.inputs import input_files, with_absolute_inputs
from kjcm.survey.rows import Rows, titles_in
from kjcm.tracking.upload import upload_results
from kjcm.training.checkpoints import tidy_up
from kjcm.training.trainer import without_sweep
from kjcm.triage.logits import Scored, save_scored

log = logging.getLogger("kjcm")
record = logging.getLogger("kjcm.record")  # only for train.log; the screen has a table
record.propagate = False
record.setLevel(logging.INFO)

Config = TypeVar("Config", bound=RunConfig)


def folder_of(config: RunConfig) -> RunFolder:
    """Return the run folder that a resolved config defines."""
    identity = identity_of(asdict(config))
    path = Path(config.run_dir) if config.run_dir else default_path(config.runs, config.name, identity)
    return RunFolder(path, identity)


def run_to_make(cfg: DictConfig, kind: type[Config]) -> tuple[Config, RunFolder] | None:
    """Return a run's resolved config and its folder; log and return None if the run is finished already.

    Raises:
        ConfigError: overwrite=true would remove an input file with the folder.
        KjcmError: the folder contains another run or other files.
    """
    config = typed(cfg, kind)
    folder = folder_of(config)
    if config.overwrite:
        files = [path for path in input_files(asdict(config)).values() if path.is_file()]
        require_no_input(folder.path, files, "run_dir")
    if folder.require_mine(config.overwrite) == "done" and not config.overwrite:
        if global_rank() == 0:
            tidy_up(folder.path, config)
            log.info("finished already, skipped: %s (overwrite=true retrains it)", folder.path)
        return None
    return config, folder


@contextmanager
def claimed_run(folder: RunFolder, cfg: DictConfig, config: RunConfig, rows: Rows) -> Iterator[Signals]:
    """Do as `claimed_folder`, and write the cohort.

    Raises:
        KjcmError: the folder contains other files, another process is running in it, or it cannot be written.
    """
    with claimed_folder(folder, cfg, config) as caught:
        write_json(folder.path / "cohort.json", cohort_record(rows.cohort, rows.classification, config.data.source))
        _log_rows(config, rows)
        yield caught


@contextmanager
def claimed_folder(folder: RunFolder, cfg: DictConfig, config: RunConfig) -> Iterator[Signals]:
    """Claim the folder and write settings, then keep the log and catch signals while the context lasts.

    Raises:
        KjcmError: the folder contains other files, another process is running in it, or it cannot be written.
    """
    path = folder.path
    with folder.claimed(config.overwrite), _log_file(path), signals() as caught:
        log.info("%s: %s", "resuming" if any(path.glob("checkpoints/*.ckpt")) else "run folder", path)
        _write_settings(path, cfg, with_absolute_inputs(asdict(config)))
        yield caught


@contextmanager
def as_helper(folder: RunFolder) -> Iterator[Signals]:
    """Catch signals in a process whose rank is not 0; write an error into the folder, because the launcher kills rank 0."""
    with signals() as caught:
        try:
            yield caught
        except Exception as error:
            with suppress(KjcmError, OSError):
                write_failure(folder.path, failure_of(error), error)
            raise


def _log_rows(config: RunConfig, rows: Rows) -> None:
    """Log the numbers of rows by source, and why rows were left out."""
    for line in flow_lines(rows.cohort):
        log.info(line)
    if rows.n_augmented:
        log.info("  + %s of augmentation", counted(rows.n_augmented, "row"))
    if rows.n_decided:
        log.info(
            "  reviewers decided %s of the training rows, and changed the code of %s",
            f"{rows.n_decided:,}", f"{rows.n_changed:,}",
        )  # fmt: skip
    if rows.n_reviewed or rows.reviewed_left:
        new = sorted(set(rows.learnt) - set(rows.cohort.side("train")["code"]))
        log.info("  + %s%s", counted(rows.n_reviewed, "reviewed row"), f" (new groups: {some(new)})" if new else "")
        for reason, count in rows.reviewed_left.items():
            log.info("    (%s left out: %s)", counted(count, "other row"), reason)
    for side, frame in rows.sides.items():
        for name, values in rows.covariates.unseen(frame).items():
            log.warning(
                "%s rows: no training row has %s of the levels of %s; they count as missing", side, len(values), name
            )
    if config.augment.descriptions and not rows.classification.descriptions:
        log.warning(
            "augment=manual found no descriptions, so only titles join the training rows. For descriptions, set "
            "classification.path=FILE."
        )


def _write_settings(path: Path, cfg: DictConfig, config: dict[str, Any]) -> None:
    """Write the resolved config, and Hydra's config, overrides and choices."""
    write_text(path / "config.yaml", OmegaConf.to_yaml(OmegaConf.create(config)))
    hydra = HydraConfig.get()
    write_text(path / "hydra" / "config.yaml", OmegaConf.to_yaml(cfg))
    write_text(path / "hydra" / "overrides.yaml", OmegaConf.to_yaml(without_sweep(hydra.overrides.task)))
    write_text(path / "hydra" / "choices.yaml", OmegaConf.to_yaml(hydra.runtime.choices))


@contextmanager
def _log_file(path: Path) -> Iterator[None]:
    """Write the run's log messages to train.log too."""
    handler = logging.FileHandler(path / "train.log", encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    for logger in (log, record):
        logger.addHandler(handler)
    try:
        with _informed(handler):
            yield
    except KjcmError as error:
        # Only train.log needs the error here: the command line prints it on the screen.
        handler.handle(logging.makeLogRecord({"msg": str(error), "levelno": logging.ERROR}))
        raise
    finally:
        for logger in (log, record):
            logger.removeHandler(handler)
        handler.close()


@contextmanager
def _informed(mine: logging.Handler) -> Iterator[None]:
    """Let the logger pass on what train.log needs, while the program's own handlers get no more than before."""
    level, shown = log.level, log.getEffectiveLevel()
    if shown <= logging.INFO:
        yield
        return

    class Passing(logging.Handler):
        def emit(self, message: logging.LogRecord) -> None:
            logging.getLogger().handle(message)

    passing, propagates = Passing(shown), log.propagate
    own = [(handler, handler.level) for handler in log.handlers if handler is not mine]
    if propagates:
        log.addHandler(passing)
    for handler, least in own:
        handler.setLevel(max(least, shown))
    log.propagate = False
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.setLevel(level)
        log.propagate = propagates
        log.removeHandler(passing)
        for handler, least in own:
            handler.setLevel(least)


def write_predictions(path: Path, rows: Rows, outcome: Outcome) -> None:
    """Write predictions.parquet into the run folder `path` if there are test rows."""
    test = rows.sides.get("test")
    if test is not None:
        frame = prediction_frame(test, outcome.predictions, rows.cohort.classes)
        frame = frame.join(about_texts(test, rows.sides["train"]["text"]))
        write_parquet(path / "predictions.parquet", frame, "synthetic" if rows.cohort.synthetic else "")


def settings_of(config: RunConfig, model: ModelConfig, rows: Rows) -> Settings:
    """Return what the model folder of a run says of its model."""
    cohort, title = rows.cohort, rows.classification.title
    ancestors = rows.ancestors
    n_train = Counter(rows.learnt)
    tokens: dict[str, Any] = {"pooling": "", "prefix": "", "max_length": 0, "kind": vars(model).get("kind")}
    if isinstance(model, ViewsConfig) and model.embeds:
        tokens |= {"prefix": model.prefix, "max_length": model.max_length}
    if isinstance(model, EncoderConfig):
        tokens = {"pooling": model.pooling, "prefix": model.prefix, "max_length": model.max_length}
    return Settings(
        classes=cohort.classes,
        classes_hash=cohort.classes_hash,
        titles={code: title(code) for code in sorted({*cohort.classes, *itertools.chain(*ancestors)})},
        classification=rows.classification.name,
        level=cohort.level,
        columns=config.data.columns.roles,
        synthetic=cohort.synthetic,
        ancestors=tuple(ancestors),
        n_train=tuple(n_train[code] for code in cohort.classes),
        manager_words=tuple(config.data.manager_words),
        wording=config.data.wording,
        covariates=rows.covariates,
        from_titles=config.data.source == "titles",
        **tokens,
    )


def keep_held_rows(
    path: Path, config: RunConfig, rows: Rows, outcome: Outcome, settings: Settings, *, stopped: bool
) -> None:
    """Write the calibration, the rows that set thresholds and the test rows' logits, where there were validation rows.

    With data.inner_folds the logits of all validation rows too.

    Args:
        path: the run folder, with its model.
        config: of the run.
        rows: of the run.
        outcome: of the run.
        settings: of the model.
        stopped: whether validation rows have chosen the weights.
    """
    if not outcome.validated:
        return
    words = settings.manager_words
    found = scored(rows.sides["validation"], rows.labels["validation"], outcome.validated, words)
    found = with_index(found, rows.sides["validation"], rows)
    if config.data.inner_folds is not None:
        save_scored(path / OUT_OF_FOLD, found, settings.classes_hash)
    calibrate(path / "model", rows.sides["validation"], found, settings, config.data.split_seed, stopped)
    if outcome.predictions:
        tested = scored(rows.sides["test"], rows.labels["test"], outcome.predictions, words)
        save_scored(path / TEST, tested, settings.classes_hash)


def with_index(found: Scored, frame: pd.DataFrame, rows: Rows) -> Scored:
    """Return scored rows with what accepting the codes of their job titles would give, if there is an index of titles.

    Args:
        found: the rows.
        frame: the same rows: workplace, position, task and code.
        rows: of the run.
    """
    if rows.index is None:
        return found
    results = rows.index.results(titles_in(frame), frame["code"].tolist())
    return replace(found, index=results, index_sha=rows.index.sha)


def report_record(
    config: RunConfig, folder: RunFolder, rows: Rows, outcome: Outcome, kind: str, packages: Sequence[str]
) -> dict[str, Any]:
    """Return the part of report.json that all kinds of run share; `packages` are recorded with their versions."""
    cohort = rows.cohort
    return {
        "experiment": config.name,
        "kind": kind,
        "seed": config.seed,
        "synthetic": cohort.synthetic,
        "data": config.data.source,
        "level": cohort.level,
        **outcome_record(
            outcome,
            rows.sides.get("test"),
            cohort.classes,
            rows.unseen.get("test", []),
            rows.classification,
            Counter(rows.learnt),
        ),
        "validation": outcome.validation,
        "n_train": len(cohort.side("train")),
        "n_validation": len(cohort.side("validation")),
        "n_augmented": rows.n_augmented,
        "n_reviewed": rows.n_reviewed,
        "n_reviewed_changed": rows.n_changed,
        "n_reviewed_left": dict(rows.reviewed_left),
        "n_classes": len(cohort.classes),
        "hashes": {
            "run": folder.identity.hash,
            "cohort": cohort.cohort_hash,
            "split": cohort.split_hash,
            "classes": cohort.classes_hash,
        },
        "versions": {
            "kjcm": __version__,
            "python": platform.python_version(),
            **{name: version(name) for name in packages},
        },
    }


def publish(
    config: TrainConfig, folder: RunFolder, rows: Rows, report: Mapping[str, Any], loggers: Sequence[Any]
) -> None:
    """Write the model card, and send the results to W&B if the config has its logger."""
    write_card(folder.path, config, config.model, rows, report, __version__)
    if "wandb" in config.logger:
        upload_results(loggers[list(config.logger).index("wandb")], asdict(config), folder.path, rows, report)


def finish(folder: RunFolder, report: dict[str, Any], seconds: Mapping[str, float]) -> None:
    """Write report.json and DONE, and show the metrics on the screen and in train.log."""
    folder.require_held()
    report["seconds"] = {name: round(value, 3) for name, value in seconds.items()}
    write_json(folder.path / "report.json", report)
    for line in result_lines(report):
        record.info("%s", line)
    folder.finish()
    if not is_quiet():
        show(report, folder.path)

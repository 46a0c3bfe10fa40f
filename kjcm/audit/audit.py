"""`kjcm audit`: labels that are probably wrong, as a file for `kjcm review`, and out-of-fold predictions as Parquet."""

import logging
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from kjcm import __version__
from kjcm.audit.folds import Folds, folds_of
from kjcm.audit.out_of_fold import OutOfFold, out_of_fold
from kjcm.audit.review_file import review_frame, write_review_file
from kjcm.audit.suspects import Suspects, pairs_of, require_cleanlab, suspects_of
from kjcm.engine.device import require_device
from kjcm.errors import ConfigError, KjcmError
from kjcm.files import atomic, require_no_input, write_parquet
from kjcm.keys.commands.reports import AuditConfig
from kjcm.keys.composition import typed
from kjcm.ksco.classification import Classification
from kjcm.shell import command_line
from kjcm.survey.inputs import input_files
from kjcm.training.parts import require_one_device
from kjcm.write.table import OUTPUTS

ON_SCREEN = 12  # pairs of codes
SYNTHETIC = "Rows of the SYNTHETIC twin, whose wrong labels are invented too."

log = logging.getLogger("kjcm")


def audit(cfg: DictConfig) -> None:
    """Write the rows with suspected labels to `output`, and all out-of-fold predictions to `out_of_fold`.

    Raises:
        ConfigError: no file is named, a file has another ending, or cleanlab is not installed.
        KjcmError: the runs are no complete cross-validation, their data have changed, or a file exists.
    """
    config = typed(cfg, AuditConfig)
    output, predictions = (Path(one).expanduser() if one else None for one in (config.output, config.out_of_fold))
    if bool(config.folds) == bool(config.runs):
        raise ConfigError("Name the folds' runs: either runs=DIR, or their folders: kjcm audit RUN_DIR RUN_DIR ...")
    _require_free(output, predictions, config.overwrite)
    require_one_device(
        config.trainer, "audit runs in one process. Use trainer=cpu or trainer=gpu with trainer.devices=1."
    )
    require_device("trainer.accelerator", config.trainer.accelerator)
    if output:
        require_cleanlab()
    folds = folds_of(config.folds or [str(config.runs)], incomplete=config.incomplete)
    read = [path for run in folds.runs.values() for path in (run.path / "model", *input_files(run.config).values())]
    for key, file in (("output", output), ("out_of_fold", predictions)):
        if file:
            require_no_input(file, read, key)
    found = out_of_fold(folds, config.trainer, config.batch_size)
    if output:
        suspects = suspects_of(found, config.rule, config.score)
        frame, about = review_frame(found, suspects, config.most), _about(config, folds, found, suspects)
    with ExitStack() as files:  # no file gets its name before all are written
        if predictions:
            file = files.enter_context(atomic(predictions, config.overwrite))
            write_parquet(file, found.frame, "synthetic" if found.synthetic else "")
        if output:
            write_review_file(output, frame, found, about, overwrite=config.overwrite)
    if predictions:
        log.info("%s rows with out-of-fold predictions: %s", f"{len(found.rows):,}", predictions)
    if output:
        _show(found, suspects)
        command = command_line(["kjcm", "review", f"run={found.run}", f"input={output}"])
        log.info("%s rows to review: %s\n%s", f"{len(frame):,}", output, command)
    if found.left:
        log.warning("%s rows are in folds without a run, and were left out", f"{found.left:,}")
    if found.synthetic:
        log.info(SYNTHETIC)


def _require_free(output: Path | None, predictions: Path | None, overwrite: bool) -> None:
    """Check the files to write.

    Raises:
        ConfigError: no file is named, a file has another ending, or both are the same file.
        KjcmError: a file exists and `overwrite` is false.
    """
    if not (output or predictions):
        raise ConfigError("Name a file to write: output=FILE for kjcm review, or out_of_fold=FILE.parquet.")
    if output and output.suffix.lower() not in OUTPUTS:
        raise ConfigError(f"output={output}: write one of {', '.join(OUTPUTS)}.")
    if predictions and predictions.suffix.lower() != ".parquet":
        raise ConfigError(f"out_of_fold={predictions}: write a .parquet file.")
    if output and predictions and output.resolve() == predictions.resolve():
        raise ConfigError(f"output and out_of_fold are the same file: {output}. Name two.")
    notes = [output.with_name(f"{output.name}.json")] if output else []
    there = [file for file in (output, predictions, *notes) if file and file.exists()]
    if there and not overwrite:
        raise KjcmError(f"{there[0]} exists. Choose another file, or add overwrite=true.")


def _about(config: AuditConfig, folds: Folds, found: OutOfFold, suspects: Suspects) -> dict[str, Any]:
    """Return the content of OUTPUT.json."""
    import cleanlab

    return {
        "run": str(found.run),
        "classes_hash": found.model.classes_hash,
        "synthetic": found.synthetic,
        "rows": len(found.rows),
        "audited": suspects.audited,
        "not_audited": {"unknown_code": suspects.not_known, "missing_fold": found.left},
        "suspected": len(suspects.order),
        "estimated_errors": suspects.estimate,
        "made_by": {
            "kjcm": __version__,
            "cleanlab": cleanlab.__version__,
            "runs": [run.hashes["run"] for run in folds.runs.values()],
            "columns": found.data.columns.roles,
            "rule": config.rule,
            "score": config.score,
            "most": config.most,
        },
    }


def _show(found: OutOfFold, suspects: Suspects) -> None:
    """Print the counts and the most frequent pairs of codes."""
    from rich.console import Console
    from rich.table import Table

    console = Console(markup=False, highlight=False)
    console.print(f"{suspects.audited:,} rows audited, {len(suspects.order):,} labels suspected")
    share = f"{suspects.estimate / suspects.audited:.1%}"
    console.print(
        f"cleanlab's estimate of wrong labels: {suspects.estimate:,} ({share}). It also counts errors of the models."
    )
    console.print(f"other top-1 code than the label: {1 - suspects.accuracy:.1%} of the rows")
    if suspects.not_known:
        console.print(f"{suspects.not_known:,} rows not audited: their fold's model has not learned their code")
    pairs = pairs_of(found, suspects)
    if len(pairs):
        table = Table(title="Suspected labels", title_justify="left", pad_edge=False)
        for name in ("given", "", "suggested", ""):
            table.add_column(name, overflow="fold")
        table.add_column("rows", justify="right")
        for given, suggested, rows in pairs.head(ON_SCREEN).itertuples(index=False):
            table.add_row(*_named(found.classification, given), *_named(found.classification, suggested), f"{rows:,}")
        console.print(table)
        if len(pairs) > ON_SCREEN:
            console.print(f"{len(pairs) - ON_SCREEN:,} more pairs")


def _named(classification: Classification, code: str) -> tuple[str, str]:
    return code, classification.title(code)

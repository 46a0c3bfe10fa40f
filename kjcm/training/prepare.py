"""`kjcm prepare`: build the cohort and write its files, without training."""

import logging
import shutil
from dataclasses import asdict
from pathlib import Path

import pandas as pd
from omegaconf import DictConfig

from kjcm.errors import KjcmError, counted, some
from kjcm.files import UNFINISHED, atomic, filling, without_formula, without_formulas, write_json, write_parquet
from kjcm.keys.commands.train import PrepareConfig
from kjcm.keys.composition import typed
from kjcm.ksco.classification import Classification, load_classification
from kjcm.run_folder.results import cohort_record, flow_lines
from kjcm.survey.augment import augmentation, index_rows
from kjcm.survey.cohort import Cohort
from kjcm.survey.inputs import cohort_of, input_files, source_of
from kjcm.survey.responses import Source
from kjcm.survey.texts import TEXT_COLUMNS

FILES = ("cohort.json", "cohort.parquet", "left.csv", "to_resolve.csv", "augmented.csv", "twin")  # what prepare writes

log = logging.getLogger("kjcm")


def prepare(cfg: DictConfig) -> None:
    """Build a cohort and write its files into `out`, with the raw files if the data are synthetic.

    Raises:
        KjcmError: the input is unusable, or `out` contains a cohort and overwrite is false.
    """
    config = typed(cfg, PrepareConfig)
    out = Path(config.out)
    _require_free(out, config)
    classification = load_classification(config.classification.name, config.classification.path)
    source = source_of(config.data, classification)
    cohort = cohort_of(config.data, classification, source)
    node = config.augment
    more = augmentation(
        classification, cohort.classes, titles=node.titles, descriptions=node.descriptions, rows=node.rows
    )
    if node.index:
        titles = index_rows(config.classification.index, classification, cohort.classes, cohort.level)
        more = pd.concat([more, titles[["text", "code"]]], ignore_index=True).drop_duplicates(ignore_index=True)
    with filling(out):
        (out / "cohort.json").unlink(missing_ok=True)  # written last, as a mark of completeness
        (out / "augmented.csv").unlink(missing_ok=True)
        if len(more):
            write_csv(out / "augmented.csv", more)
        if (out / "twin").is_dir():
            shutil.rmtree(out / "twin")
        if config.data.source == "synthetic":
            write_twin(out / "twin", source)
        write_cohort(out, cohort, classification, config.data.source)
    for line in flow_lines(cohort):
        log.info(line)
    log.info("cohort in %s%s", out, f"; {counted(len(more), 'row')} of augmentation next to it" if len(more) else "")
    if len(cohort.to_resolve) and config.data.source != "synthetic":
        log.info(
            "%s a reviewer's code: fill in ksco7 in %s and add these rows to the file of data.resolutions",
            counted(len(cohort.to_resolve), "row needs", "rows need"),
            out / "to_resolve.csv",
        )


def _require_free(out: Path, config: PrepareConfig) -> None:
    """Raise KjcmError if writing into `out` would overwrite the input, or other files without overwrite=true."""
    there = [name for name in FILES if (out / name).exists()]
    killed = (out / UNFINISHED).exists()
    if there and not (config.overwrite or killed):
        raise KjcmError(f"{out} already contains {some(there)}. Choose another out=DIR, or add overwrite=true.")
    if "twin" in there and "cohort.json" not in there and not killed:
        raise KjcmError(f"{out / 'twin'} was not made by prepare. Choose another out=DIR.")
    inside = [path for path in input_files(asdict(config)).values() if out.resolve() in path.resolve().parents]
    if inside and there:
        raise KjcmError(
            f"{inside[0]} is an input file and would be overwritten. Choose an out=DIR without input files."
        )


def write_cohort(out: Path, cohort: Cohort, classification: Classification, source: str) -> None:
    """Write the cohort's rows, the excluded rows, the rows that need a reviewer's code, and last cohort.json."""
    note = "synthetic" if cohort.synthetic else ""
    write_parquet(out / "cohort.parquet", cohort.rows, note)
    write_csv(out / "left.csv", without_formulas(cohort.left))
    # Only the answers are escaped: the ids are read back with data.resolutions.
    waiting = cohort.to_resolve
    answers = {role: waiting[role].map(without_formula) for role in TEXT_COLUMNS}
    write_csv(out / "to_resolve.csv", waiting.assign(**answers))
    write_json(out / "cohort.json", cohort_record(cohort, classification, source))


def write_twin(folder: Path, source: Source) -> None:
    """Write the synthetic twin's raw files in the survey's format, for use with data=kwcs."""
    for survey in source.surveys:
        write_csv(folder / f"{survey.label}.csv", survey.table)
    for name, table in (("crosswalk", source.crosswalk), ("resolutions", source.resolutions)):
        if table is not None:
            write_csv(folder / f"{name}.csv", table)


def write_csv(path: Path, frame: pd.DataFrame) -> None:
    """Write a frame as CSV (UTF-8 with BOM, so that spreadsheet programs show Hangul) atomically."""
    with atomic(path) as temporary:
        frame.to_csv(temporary, index=False, encoding="utf-8-sig")

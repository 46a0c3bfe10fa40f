"""`kjcm prepare`: the cohort alone."""

import logging
import shutil
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from kjcm.errors import KjcmError
from kjcm.files import atomic, write_json, write_parquet
from kjcm.ksco.classification import Classification
from kjcm.study.inputs import Config, classification_of, cohort_of, source_of
from kjcm.study.results import cohort_record, flow_lines
from kjcm.survey.augment import augmentation
from kjcm.survey.cohort import Cohort
from kjcm.survey.responses import Source

TO_RESOLVE = "to_resolve.csv"

log = logging.getLogger("kjcm")


def prepare(cfg: DictConfig) -> None:
    """Write cohort.json, cohort.parquet, left.csv, to_resolve.csv, and for the twin its raw files, into `out`.

    Raises:
        KjcmError: unusable input, or `out` holds a cohort and overwrite is false.
    """
    config: Config = OmegaConf.to_container(cfg, resolve=True)  # type: ignore[assignment]
    out = Path(config["out"])
    if (out / "cohort.json").exists() and not config["overwrite"]:
        raise KjcmError(f"{out} holds a cohort already. Choose another out=DIR, or add overwrite=true.")
    resolutions = config["data"].get("resolutions")
    if resolutions and Path(resolutions).resolve() == (out / TO_RESOLVE).resolve():
        raise KjcmError(
            f"{resolutions} would be overwritten by the rows still to resolve. Keep it outside of out={out}."
        )
    classification = classification_of(config)
    source = source_of(config["data"], classification)
    cohort = cohort_of(config["data"], classification, source)
    more = augmentation(classification, cohort.classes, **config["augment"])
    write_cohort(out, cohort, classification)
    (out / "augmented.csv").unlink(missing_ok=True)  # of an earlier cohort
    shutil.rmtree(out / "twin", ignore_errors=True)
    if len(more):
        write_csv(out / "augmented.csv", more)
    if config["data"]["source"] == "synthetic":
        write_twin(out / "twin", source)
    for line in flow_lines(cohort):
        log.info(line)
    log.info("cohort in %s%s", out, f"; {len(more):,} rows of augmentation beside it" if len(more) else "")
    if len(cohort.to_resolve) and config["data"]["source"] != "synthetic":
        log.info(
            "%s rows wait for a person: fill in ksco7 in %s and add these rows to the file of data.resolutions",
            f"{len(cohort.to_resolve):,}",
            out / TO_RESOLVE,
        )


def write_cohort(out: Path, cohort: Cohort, classification: Classification) -> None:
    """Write the cohort's rows, those that left it, those that wait for a person, and last cohort.json."""
    note = "synthetic" if cohort.synthetic else ""
    write_parquet(out / "cohort.parquet", cohort.rows, note)
    write_csv(out / "left.csv", cohort.left)
    write_csv(out / TO_RESOLVE, cohort.to_resolve)
    write_json(out / "cohort.json", cohort_record(cohort, classification))


def write_twin(folder: Path, source: Source) -> None:
    """Write the twin's raw files, as the survey's own would come: usable with data=kwcs."""
    for survey in source.surveys:
        write_csv(folder / f"{survey.label}.csv", survey.table)
    for name, table in (("crosswalk", source.crosswalk), ("resolutions", source.resolutions)):
        if table is not None:
            write_csv(folder / f"{name}.csv", table)


def write_csv(path: Path, frame: "object") -> None:
    """Write a frame as CSV (UTF-8 with BOM, so that spreadsheet programs show Hangul) atomically."""
    with atomic(path) as temporary:
        frame.to_csv(temporary, index=False, encoding="utf-8-sig")  # type: ignore[attr-defined]

"""Write the audit sample of a coded file, and estimate the errors of the file from the reviewed sample."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from kjcm.coding.decisions import Decider
from kjcm.drift.rows import File
from kjcm.drift.sampling import Estimate, Stratum, allocation, drawn, estimate, size_for
from kjcm.errors import KjcmError, counted, require_columns, some
from kjcm.files import atomic, write_json
from kjcm.read.cells import code_texts, tidy
from kjcm.read.options import ReadOptions
from kjcm.read.table import read_chunks, read_table
from kjcm.run_folder.model_folder import Settings
from kjcm.survey.cohort import hash_of
from kjcm.triage.rules import ACCEPT, DECISIONS
from kjcm.write.table import Added, writer

SHOWN = 5  # codes of a row on the page of `kjcm review`
ABOUT = {
    "audit_stratum": "Decision and major group of the top-1 code",
    "audit_rows": "Rows of the whole file in the stratum",
    "audit_sampled": "Sampled rows of the stratum",
    "audit_strata": "Strata of the whole sample",
    "audit_target": "Target error of the accepted rows; 'none' without a target",
    "audit_model": "Model that coded the sample",
}
NEEDED = ("code_1", "reviewed_code", *ABOUT)

log = logging.getLogger("kjcm")


@dataclass(frozen=True)
class Sample:
    """The rows of an audit sample.

    Attributes:
        places: [sampled rows], their places in the file.
        strata: [rows of the file], each row's stratum, '' for rows that are not sampled from.
        rows: stratum -> rows of the file.
        sampled: stratum -> sampled rows.
        about: decision -> rows, sampled rows and the expected error that set their number.
    """

    places: NDArray[np.int64]
    strata: NDArray[np.object_]
    rows: Mapping[str, int]
    sampled: Mapping[str, int]
    about: Mapping[str, Mapping[str, Any]]


def sample_of(
    file: File,
    decisions: Sequence[str],
    *,
    target: float | None,
    expected: float | None,
    half_width: float,
    level: float,
    seed: int,
) -> Sample:
    """Return an audit sample, stratified by decision and predicted major group, in proportion to the strata's rows.

    Args:
        file: the coded file.
        decisions: those whose rows are sampled.
        target: error share that accepted rows may have.
        expected: error share that sets the size; None: the target, or the probabilities' error if it is larger.
        half_width: see `size_for`.
        level: see `size_for`.
        seed: of the sample.

    Raises:
        KjcmError: no row has one of the decisions.
    """
    names = np.array(DECISIONS, object)[file.coded.decision]
    strata = np.full(len(names), "", object)
    rows: dict[str, int] = {}
    sampled: dict[str, int] = {}
    about: dict[str, dict[str, Any]] = {}
    for decision in decisions:
        own = (names == decision) & (file.majors != "")
        if not own.any():
            rule = "a lower triage.threshold" if target is None else "a larger triage.target_error"
            raise KjcmError(
                f"decisions: the file has no row with the decision {decision!r}. Name other decisions"
                + (f", or {rule}." if decision == DECISIONS[ACCEPT] else ".")
            )
        strata[own] = [f"{decision} {major}" for major in file.majors[own]]
        doubt = float(1 - file.coded.prob[own, 0].astype(float).mean())
        planned = (
            expected if expected is not None else max(doubt, (target or 0.0) if decision == DECISIONS[ACCEPT] else 0.0)
        )
        size = size_for(int(own.sum()), planned, half_width, level)
        counts = {
            str(name): int(n) for name, n in zip(*np.unique(strata[own].astype(str), return_counts=True), strict=True)
        }
        chosen = allocation(counts, size)
        rows |= counts
        sampled |= chosen
        about[decision] = {"rows": int(own.sum()), "sampled": sum(chosen.values()), "expected_error": planned}
    places = drawn(strata, sampled, np.random.Generator(np.random.PCG64(seed)))
    return Sample(places, strata, rows, sampled, about)


def write_sample(
    sample: Sample, file: File, decider: Decider, source: Path, target: Path, options: ReadOptions, note: Mapping[str, Any],
    made_for: Mapping[str, str], chunk: int, *, overwrite: bool,
) -> None:  # fmt: skip
    """Write the sampled rows in the layout of `kjcm predict`, and TARGET.json with what `kjcm review` needs.

    `made_for` has the columns that are equal in all rows, see `made_for`.

    Raises:
        KjcmError: a file exists, or the input has changed.
    """
    parts, begin = [], 0
    for frame in read_chunks(source, chunk, options):
        own = sample.places[(sample.places >= begin) & (sample.places < begin + len(frame))]
        parts.append(frame.iloc[own - begin])
        begin += len(frame)
    if begin != len(file.majors):
        raise KjcmError(f"{source}: changed while kjcm read it. Run the command again.")
    given = pd.concat(parts, ignore_index=True)
    codes = decider.frame(file.coded.take(sample.places), [""] * len(sample.places))
    strata = pd.Series(sample.strata[sample.places], dtype=object)
    about: dict[str, Any] = {
        "audit_stratum": strata,
        "audit_rows": strata.map(sample.rows),
        "audit_sampled": strata.map(sample.sampled),
        "audit_strata": len(sample.sampled),
        **made_for,
    }
    added = Added({**decider.added.labels, **ABOUT}, decider.added.rounded)
    record = target.with_name(f"{target.name}.json")
    with atomic(record, overwrite) as about_file, atomic(target, overwrite) as temporary:
        with writer(temporary, added=added) as out:
            out.write(pd.concat([given, codes], axis=1).assign(**about))
        write_json(about_file, note)


def made_for(settings: Settings, target: float | None) -> dict[str, str]:
    """Return the columns that name the target and the model of a sample."""
    model = hash_of([settings.classes_hash, *map("=".join, sorted(settings.files.items()))])
    return {"audit_target": "none" if target is None else f"{target:g}", "audit_model": f"sha256:{model[:16]}"}


def estimates(
    path: Path, options: ReadOptions, settings: Settings, target: float | None, level: float
) -> dict[str, Estimate]:
    """Return decision -> estimate of a reviewed audit sample.

    A row is wrong if the reviewer's code is not `code_1`. A row without a review, or with a code that is a beginning of
    `code_1`, is unclear.

    Raises:
        KjcmError: the file is no reviewed audit sample of the run and the target, or rows or whole strata are missing.
    """
    frame = read_table(path, options)
    remedy = "Write the sample with `kjcm drift sample=FILE`, review it, and export it with `kjcm review export=FILE`."
    require_columns(path, frame.columns, NEEDED, lambda: remedy)
    if frame.empty:
        raise KjcmError(f"{path}: has no rows. Use the whole sample.")
    cells = {name: np.array([tidy(one) for one in code_texts(frame[name])], object) for name in NEEDED}
    _require_own(path, cells, made_for(settings, target), settings.classes)
    _warn_of_strange(path, cells["reviewed_code"], settings.classes)
    found: dict[str, list[Stratum]] = {}
    for name in dict.fromkeys(cells["audit_stratum"]):
        own = cells["audit_stratum"] == name
        decision = next((one for one in DECISIONS if name.startswith(f"{one} ")), None)
        if decision is None:
            raise KjcmError(f"{path}, column 'audit_stratum': {name[:40]!r} is no stratum. {remedy}")
        rows, sampled = (_number(path, column, cells[column][own]) for column in ("audit_rows", "audit_sampled"))
        if own.sum() != sampled or sampled > rows:
            raise KjcmError(
                f"{path}: stratum {name!r} has {own.sum():,} rows, and the sample has {sampled:,}. Use the whole sample."
            )
        pairs = list(zip(cells["code_1"][own], cells["reviewed_code"][own], strict=True))
        unclear = sum(code.startswith(reviewed) and code != reviewed for code, reviewed in pairs)
        right = sum(bool(reviewed) and reviewed.startswith(code) for code, reviewed in pairs)
        found.setdefault(decision, []).append(Stratum(rows, sampled, sampled - unclear - right, unclear))
    count, whole = sum(map(len, found.values())), _number(path, "audit_strata", cells["audit_strata"])
    if count != whole:
        raise KjcmError(
            f"{path}: has rows of {counted(count, 'stratum', 'strata')}, and the sample has {whole:,}. Use the whole sample."
        )
    return {decision: estimate(strata, level) for decision, strata in found.items()}


def _require_own(
    path: Path, cells: Mapping[str, NDArray[np.object_]], own: Mapping[str, str], classes: Sequence[str]
) -> None:
    """Raise KjcmError if the sample is another model's, or was made for another target."""
    if strange := sorted(set(cells["code_1"]) - set(classes)):
        raise KjcmError(
            f"{path}, column 'code_1': the run does not have {some(strange)}. Give the run that coded the sample."
        )
    if others := sorted(set(cells["audit_model"]) - {own["audit_model"]}):
        raise KjcmError(
            f"{path}, column 'audit_model': {some(others)} is not the run's model, {own['audit_model']!r}. "
            "Give the run that coded the sample."
        )
    if set(cells["audit_target"]) - {own["audit_target"]}:
        raise KjcmError(
            f"{path}, column 'audit_target': the sample was made for {some(sorted(set(cells['audit_target'])))}. "
            "Give this target as triage.target_error, or leave the key out for 'none'."
        )


def _warn_of_strange(path: Path, reviewed: NDArray[np.object_], classes: Sequence[str]) -> None:
    """Log a warning if codes are neither the run's, nor a beginning or a finer code of one of the run's."""
    strange = {
        one for one in set(reviewed) if not any(one.startswith(code) or code.startswith(one) for code in classes)
    }
    if strange:
        log.warning(
            "%s, column 'reviewed_code': %s with codes that the run does not have, counted as wrong: %s.",
            path, counted(sum(one in strange for one in reviewed), "row"), some(sorted(strange)),
        )  # fmt: skip


def _number(path: Path, column: str, cells: NDArray[np.object_]) -> int:
    """Return the whole number that all cells of a stratum have."""
    values = set(cells)
    if len(values) != 1 or not (text := str(values.pop())).isdecimal():
        raise KjcmError(f"{path}, column {column!r}: not one whole number for each stratum. Use the unchanged sample.")
    return int(text)

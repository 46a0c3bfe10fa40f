"""Cohorts with the paper's settings, unless a test says otherwise."""

from pathlib import Path
from typing import Any

import pandas as pd

from kjcm.ksco.classification import Classification
from kjcm.survey.cohort import Cohort, build_cohort
from kjcm.survey.responses import Source, Survey, table_source
from tests.conftest import COLUMNS


def cohort_from(source: Source, classification: Classification, **settings: Any) -> Cohort:
    defaults: dict[str, Any] = {
        "level": 3, "cutoff": 10, "split_seed": 0, "train_share": 0.7, "train_fraction": 1.0, "validation": 0.0,
        "drop_invalid": False,
    }  # fmt: skip
    return build_cohort(source, classification, **{**defaults, **settings})


def from_frame(frame: pd.DataFrame, classification: Classification, **settings: Any) -> Cohort:
    columns = {**COLUMNS, **settings.pop("columns", {})}
    return cohort_from(Source((Survey(frame, "answers.csv"),), columns), classification, **settings)


def from_file(path: Path, classification: Classification, **settings: Any) -> Cohort:
    columns = {**COLUMNS, **settings.pop("columns", {})}
    return cohort_from(table_source(str(path), None, columns), classification, **settings)


def answers(**columns: Any) -> pd.DataFrame:
    """Return rows with ids 1, 2, ... and text in all three columns, but for what `columns` says."""
    count = len(next(iter(columns.values())))
    plain = {"workplace": ["은행"] * count, "position": ["직원"] * count, "task": [f"일{n}" for n in range(count)]}
    return pd.DataFrame({"id": [str(n + 1) for n in range(count)], **plain, **columns}, dtype=object)

"""The rows of a run: its cohort, reviewed rows and augmentation, with the class index of each row."""

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from kjcm.errors import ConfigError, KjcmError, some
from kjcm.keys.commands.train import SurveyConfig
from kjcm.keys.survey import AugmentConfig, DataConfig
from kjcm.ksco.classification import Classification, load_classification, prefixes_of
from kjcm.survey.augment import NEW_CODES, Reviewed, augmentation, index_rows, position_rows, reviewed_rows, with_codes
from kjcm.survey.cohort import Cohort
from kjcm.survey.covariates import LEAD, Covariates, kinds_of
from kjcm.survey.inputs import cached_cohort
from kjcm.survey.split import units_of
from kjcm.survey.texts import TEXT_COLUMNS
from kjcm.triage.titles import TitleIndex, job_titles, load_titles

log = logging.getLogger("kjcm")

NO_GROUP = -100  # of a row without a code below the classes; the loss's `ignore_index`


@dataclass(frozen=True)
class Rows:
    """The rows of a run.

    Attributes:
        cohort: the cohort; its classes include groups that only reviewed rows have, and with `data.classes=all` every group.
        classification: the codes' classification.
        sides: the rows (text, workplace, position, task, code, finer) of 'train' (survey rows, reviewed rows, then augmentation),
            'validation' and 'test', if they exist. Training rows have their unit of the split too; reviewed rows and
            augmentation have none, and augmentation has only text and code. The position alone of a survey row has that
            row's unit. Rows of augmentation have a row_weight; other rows have NaN, which means 1. Survey rows have the role
            of each covariate, reviewed rows those that their file has.
        n_augmented: rows of augmentation among them, positions included.
        n_reviewed: reviewed rows among them that are not survey rows.
        n_decided: survey rows among them that a reviewer has decided.
        n_changed: survey rows among them whose code a reviewer has changed.
        reviewed_left: reason -> reviewed rows that were left out.
        labels: side -> [rows], class index of each row; codes that are not classes have numbers beyond the last class.
        unseen: side -> codes that are not classes.
        covariates: how the rows' covariates become numbers.
        index: of job titles; None: none.
    """

    cohort: Cohort
    classification: Classification
    sides: Mapping[str, pd.DataFrame]
    n_augmented: int
    n_reviewed: int
    n_decided: int
    n_changed: int
    reviewed_left: Mapping[str, int]
    labels: Mapping[str, NDArray[np.int64]]
    unseen: Mapping[str, list[str]]
    covariates: Covariates
    index: TitleIndex | None = None

    @property
    def learnt(self) -> list[str]:
        """Return the codes of the survey and reviewed training rows, without augmentation."""
        train = self.sides["train"]["code"].tolist()
        return train[: len(train) - self.n_augmented]

    @property
    def weights(self) -> NDArray[np.float32] | None:
        """Return the weight of each training row, [rows]; None if all weights are 1."""
        found = self.sides["train"]["row_weight"].fillna(1.0).to_numpy(np.float32)
        return None if (found == 1).all() else found

    @property
    def finer(self) -> tuple[list[str], NDArray[np.int64]]:
        """Return the groups one level below the classes, and the index of each training row's group, or NO_GROUP: [rows]."""
        codes = self.sides["train"]["finer"].fillna("")
        groups = sorted(set(codes) - {""})
        place = {"": NO_GROUP, **{code: index for index, code in enumerate(groups)}}
        return groups, codes.map(place).to_numpy(np.int64)

    @property
    def titles(self) -> pd.DataFrame:
        """Return the titles and descriptions (text, code) of the classes and of all codes under them."""
        return augmentation(self.classification, self.cohort.classes, titles=True, descriptions=True)

    @property
    def ancestors(self) -> list[tuple[str, ...]]:
        """Return the codes above each class, the top first."""
        found = [self.classification.ancestors(code) for code in self.cohort.classes]
        return found if any(found) else prefixes_of(self.cohort.classes)


def indices_of(codes: Sequence[str], classes: Sequence[str]) -> tuple["np.ndarray[Any, np.dtype[np.int64]]", list[str]]:
    """Return each code's class index, and the codes that are not classes, which have numbers beyond the last class."""
    unseen = sorted(set(codes) - set(classes))
    place = {code: index for index, code in enumerate([*classes, *unseen])}
    return np.array([place[code] for code in codes], np.int64), unseen


def rows_of(config: SurveyConfig, *, test: bool, cache: str | None) -> Rows:
    """Read the rows that a config names; test rows only if they are to be evaluated.

    Raises:
        KjcmError: any input is not usable, or there is nothing to train on or to test.
    """
    classification = load_classification(config.classification.name, config.classification.path)
    cohort = cached_cohort(config.data, classification, cache)
    reviewed = _reviewed(config.data, cohort, classification)
    cohort, n_changed = with_codes(cohort, reviewed.codes)
    learnt = {*cohort.classes, *reviewed.rows["code"]}
    cohort = replace(cohort, classes=tuple(sorted(learnt)))
    if config.data.source == "titles" and not cohort.classes:
        raise ConfigError(f"data=titles: data.cutoff={config.data.cutoff} removes every group. Set data.cutoff=0.")
    cohort.require_trainable()
    if config.data.classes == "all":
        cohort = replace(cohort, classes=tuple(sorted({*learnt, *_all_classes(classification, cohort.level)})))
    train = pd.concat([_learnt(cohort), reviewed.rows], ignore_index=True)
    node, file = config.augment, config.classification.index
    index = load_titles(file, classification, cohort.level) if file is not None else None
    more = augmentation(
        classification, cohort.classes, titles=node.titles, descriptions=node.descriptions, rows=node.rows,
        level=cohort.level,
    ).assign(row_weight=node.weight)  # fmt: skip
    if node.index:
        more = _with_index(more, index_rows(file, classification, cohort.classes, cohort.level), node)
    _require_learnt(cohort.classes, {*learnt, *more["code"]})
    if node.positions:
        more = pd.concat([more, position_rows(_learnt(cohort)).assign(row_weight=node.positions)], ignore_index=True)
    sides = {
        "train": pd.concat([train, more], ignore_index=True),
        "validation": cohort.side("validation"),
    }
    if test:
        sides["test"] = cohort.side("test")
        _require_test(sides["test"], config.data)
    sides = {side: frame for side, frame in sides.items() if len(frame)}
    if node.index and index is not None:
        _say_learnt(index, [frame for side, frame in sides.items() if side != "train"])
    found = {side: indices_of(frame["code"].tolist(), cohort.classes) for side, frame in sides.items()}
    return Rows(
        cohort,
        classification,
        sides,
        len(more),
        len(reviewed.rows),
        len(reviewed.codes),
        n_changed,
        reviewed.left,
        labels={side: labels for side, (labels, _) in found.items()},
        unseen={side: codes for side, (_, codes) in found.items()},
        covariates=Covariates.of(kinds_of(config.data.columns.covariates), sides["train"]),
        index=index,
    )


def titles_in(frame: pd.DataFrame) -> list[str]:
    """Return the job title of each row of a side."""
    return job_titles(*(frame[name].fillna("").tolist() for name in TEXT_COLUMNS))


def _say_learnt(index: TitleIndex, held_out: Sequence[pd.DataFrame]) -> None:
    """Log how many rows that test the model have a title that it learns."""
    found = [bool(match.codes) for frame in held_out for match in index.matches(titles_in(frame))]
    if any(found):
        log.info("the index has the job title of %s of %s held-out and test rows", f"{sum(found):,}", f"{len(found):,}")


def _with_index(more: pd.DataFrame, titles: pd.DataFrame, node: AugmentConfig) -> pd.DataFrame:
    """Return rows of augmentation, then those of an index that they lack."""
    titles = titles.assign(row_weight=node.weight * titles["weight"]).drop(columns="weight")
    own = set(zip(more["text"], more["code"], strict=True))
    lacking = [pair not in own for pair in zip(titles["text"], titles["code"], strict=True)]
    return pd.concat([more, titles[lacking]], ignore_index=True)


def _all_classes(classification: Classification, level: int | None) -> tuple[str, ...]:
    codes = classification.codes(level) if level is not None else ()
    if not codes:
        raise ConfigError(
            f"data.classes=all: {classification.name} has no codes at data.level={level}. Set a level of a classification, "
            "or data.classes=seen."
        )
    return codes


def _require_learnt(classes: Sequence[str], learnt: Collection[str]) -> None:
    """Raise ConfigError if a class has neither training rows nor titles."""
    if missing := [code for code in classes if code not in learnt]:
        raise ConfigError(
            f"data.classes=all: {some(missing)} have no training row and no title. Add augment=titles, or a "
            "classification.path with titles for these codes."
        )


def _learnt(cohort: Cohort) -> pd.DataFrame:
    """Return the survey's training rows: text, its fields, code, finer and unit."""
    rows = cohort.side("train")
    covariates = [name for name in map(str, rows) if name.startswith(LEAD)]
    return rows[["text", *TEXT_COLUMNS, "code", "finer", *covariates]].assign(unit=units_of(rows))


def _reviewed(data: DataConfig, cohort: Cohort, classification: Classification) -> Reviewed:
    """Return the rows of data.reviewed."""
    if data.reviewed is None:
        rows, codes = (
            pd.DataFrame({name: [] for name in names}, dtype=object) for names in (("text", "code"), NEW_CODES)
        )
        return Reviewed(rows, codes, {})
    columns = data.columns
    kinds = kinds_of(columns.covariates)
    return reviewed_rows(data.reviewed, columns.roles, cohort, classification, data.wording, kinds)


def _require_test(rows: pd.DataFrame, data: DataConfig) -> None:
    require_weights(rows)
    if data.source == "titles":
        raise ConfigError("data=titles has no test rows. Set evaluate=false.")
    if not len(rows):
        split = f"data.train_share={data.train_share}" if data.folds is None else f"data.fold={data.fold}"
        raise ConfigError(
            f"{split} leaves no test rows. Lower data.train_share or data.folds, give data.test_path=FILE, or (train) set "
            "evaluate=false."
        )


def require_weights(test: pd.DataFrame) -> None:
    """Raise KjcmError if the test rows' survey weights sum to 0, which leaves weighted metrics undefined."""
    if "weight" in test and len(test) and not test["weight"].sum() > 0:
        raise KjcmError("data.columns.weight: the weights of the test rows are all 0. Map another column, or null.")

"""The cohort: converted rows, exclusions, the split, and the flow counts of the paper's Fig. 1."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from kjcm.errors import ConfigError, KjcmError, some
from kjcm.ksco.classification import Classification
from kjcm.ksco.crosswalk import crosswalk_of, partner_below, partners_at, resolutions_of, resolved_by_run
from kjcm.read.cells import tidy
from kjcm.survey.covariates import roles_of
from kjcm.survey.responses import Source, Survey, answers_of, has_twin_ids, require_valid
from kjcm.survey.similar import similar_groups
from kjcm.survey.split import draw_split
from kjcm.survey.texts import TEXT_COLUMNS

SIDES = ("train", "validation", "unused", "test")
TO_RESOLVE = ["id", *TEXT_COLUMNS, "ksco6", "candidates", "ksco7"]


@dataclass(frozen=True)
class Cohort:
    """The rows of a study with their sides.

    Attributes:
        rows: id, wave, text, person_at (where the workplace ends in the text), workplace, position, task, code, finer
            (the code one level below `level`, '' if the file's is not as fine), side (train, validation, unused, test);
            weight, cluster and manages where mapped; `covariates.NAME` of each covariate; and similar (first id of the
            similar texts) where such texts are kept together.
        left: the rows that left: id, wave, text, code (as in the file), reason.
        to_resolve: the rows of wave 5 that a person must resolve: id, answers, ksco6, candidates, ksco7 (empty).
        flow: counts at each step.
        left_groups: code of a group that the cutoff removed -> its rows drawn for training and for the test.
        classes: sorted codes with training rows, which a model trained on this cohort can predict.
        level: digits of the codes, None for whole codes.
        cohort_hash: of the converted rows before cutoff and split.
        split_hash: of the side drawn for each of these rows, train or test.
        synthetic: the rows come from the synthetic twin.
    """

    rows: pd.DataFrame
    left: pd.DataFrame
    to_resolve: pd.DataFrame
    flow: Mapping[str, Any]
    left_groups: Mapping[str, tuple[int, int]]
    classes: tuple[str, ...]
    level: int | None
    cohort_hash: str
    split_hash: str
    synthetic: bool

    def side(self, name: str) -> pd.DataFrame:
        """Return the rows of one side, in the files' order."""
        return self.rows[self.rows["side"] == name].reset_index(drop=True)

    @property
    def classes_hash(self) -> str:
        """Return the hash of the class order, which every checkpoint stores."""
        return hash_of(self.classes)

    def require_trainable(self) -> None:
        """Raise KjcmError if there is nothing to train on: no rows, or only one class."""
        if not self.classes:
            why = (
                f"the split puts all {self.flow['cohort']:,} rows on other sides. Check data.columns.cluster, "
                "data.group_similar and the shares."
                if self.flow["cohort"]
                else f"data.cutoff={self.flow['cutoff']} removes every group ({self.flow['converted']:,} rows). Lower "
                "data.cutoff."
            )
            raise KjcmError(f"No row is left to train on: {why}")
        if len(self.classes) == 1:
            raise KjcmError(
                f"Only one class ({self.classes[0]}) is left at data.level={self.level} and data.cutoff="
                f"{self.flow['cutoff']}; a classifier needs two. Check data.columns.code, data.level and data.cutoff."
            )


def hash_of(lines: Iterable[str]) -> str:
    """Return the SHA-256 of lines."""
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def build_cohort(
    source: Source,
    classification: Classification,
    *,
    level: int | None,
    cutoff: int,
    split_seed: int,
    train_share: float,
    train_fraction: float,
    validation: float,
    drop_invalid: bool,
    train_wave: int | None = None,
    group_similar: float | None = None,
    folds: int | None = None,
    fold: int = 0,
    inner_folds: int | None = None,
    inner_fold: int = 0,
    stratify: bool = False,
) -> Cohort:
    """Convert, exclude, split and count the rows of `source`.

    With `train_wave` all rows of the other wave are test rows, like the rows of a test file. With `group_similar` no
    split divides the groups of similar texts; given test rows belong to no group.

    Raises:
        KjcmError: a row is unusable (unless `drop_invalid`), or the crosswalk or a resolution is wrong.
    """
    classification.require_level(level)
    answers, waiting = _converted(source, classification, level, drop_invalid)
    if train_wave is not None:
        answers["given"] = answers["wave"] != str(train_wave)
    usable, unresolved = answers["reason"] == "", answers["reason"] == "unresolved"
    rows = answers[usable].sort_values(["survey", "id"], kind="stable")  # one order, whichever wave is for training
    if group_similar is not None:
        rows = rows.assign(similar=rows["id"])
        if not rows["given"].all():
            rows.loc[~rows["given"], "similar"] = similar_groups(rows[~rows["given"]], group_similar)
    inner = (inner_folds, inner_fold)
    drawn, use = draw_split(
        rows, split_seed, train_share, train_fraction, validation, folds, fold, *inner, stratify=stratify
    )
    sizes = rows["code"][~rows["given"]].value_counts()
    small = sizes[sizes <= cutoff].index
    below = rows["code"].isin(small) & ~rows["given"]
    answers.loc[below[below].index, "reason"] = f"group of {cutoff} rows or fewer"
    keep = rows.index[~below]
    kept = answers.loc[answers.index.isin(keep)].assign(side=use[~below])
    covariates = [*roles_of(source.covariates)]
    optional = [*(name for name in ("weight", "cluster", "manages") if name in answers), *covariates]
    if group_similar is not None:
        kept, optional = kept.assign(similar=rows["similar"][~below]), [*optional, "similar"]
    flow = {
        "read": len(answers),
        "read_by_file": {s.label: int(n) for s, n in zip(source.surveys, _counts(answers, source), strict=True)},
        "invalid": int((~usable & ~unresolved).sum()),
        "unresolved": int(unresolved.sum()),
        **_by_run(source),
        "converted": len(rows),
        "cutoff": cutoff,
        "below_cutoff": int(below.sum()),
        "below_cutoff_groups": len(small),
        "cohort": len(kept),
        "groups": int(kept["code"].nunique()),
        **{name: int((kept["side"] == name).sum()) for name in SIDES},
        **({} if group_similar is None else {"similar": _similar_counts(rows["similar"][~rows["given"]])}),
        **({"missing": {name: int((kept[name] == "").sum()) for name in covariates}} if covariates else {}),
    }
    return Cohort(
        rows=kept[["id", "wave", "text", "person_at", *TEXT_COLUMNS, "code", "finer", "side", *optional]].reset_index(
            drop=True
        ),
        left=_left(answers),
        to_resolve=waiting,
        flow=flow,
        left_groups=_left_groups(rows["code"][below], drawn[below]),
        classes=tuple(sorted(kept["code"][kept["side"] == "train"].unique())),
        level=level,
        cohort_hash=hash_of((rows["wave"] + "\t" + rows["id"] + "\t" + rows["text"] + "\t" + rows["code"]).tolist()),
        split_hash=hash_of((rows["wave"] + "\t" + rows["id"] + "\t" + drawn).tolist()),
        synthetic=source.synthetic or has_twin_ids(answers["id"]),
    )


def _counts(answers: pd.DataFrame, source: Source) -> list[int]:
    return [int((answers["survey"] == number).sum()) for number in range(len(source.surveys))]


def _similar_counts(groups: pd.Series) -> dict[str, int]:
    """Return how many groups of similar texts there are, the rows in groups of several rows, and the largest group."""
    sizes = groups.value_counts()
    largest = int(sizes.max()) if len(sizes) else 0
    return {"groups": len(sizes), "rows_of_several": int(sizes[sizes > 1].sum()), "largest": largest}


def _left_groups(codes: pd.Series, drawn: pd.Series) -> dict[str, tuple[int, int]]:
    """Return code -> its rows drawn for training and for the test."""
    counts = pd.crosstab(codes, drawn).reindex(columns=["train", "test"], fill_value=0)
    return {str(code): (int(train), int(test)) for code, train, test in counts.itertuples()}


def _by_run(source: Source) -> dict[str, int]:
    """Return how many resolutions are a run's, for the flow; nothing if there are none."""
    if source.resolutions is None:
        return {}
    rows = resolved_by_run(source.resolutions, source.resolutions_name)
    return {"resolved_by_run": rows} if rows else {}


def _left(answers: pd.DataFrame) -> pd.DataFrame:
    """Return the rows that left, with the codes in their file."""
    gone = answers[answers["reason"] != ""]
    return gone[["id", "wave", "text"]].assign(code=gone["raw"], reason=gone["reason"]).reset_index(drop=True)


def _converted(
    source: Source, classification: Classification, level: int | None, drop_invalid: bool
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return all answers with their codes at `level` (column raw: as in the file), and the rows to resolve."""
    if (column := source.columns.get("code")) is None:
        raise ConfigError("data.columns.code is null: name the column of the codes.")
    if tidy(column) in map(tidy, source.covariates):
        raise ConfigError(f"data.columns.covariates: {column} is the column of the codes. Remove it.")
    frames, waiting = [], [pd.DataFrame(columns=TO_RESOLVE)]
    for number, survey in enumerate(source.surveys):
        frame = answers_of(survey, source.columns, source.wording, source.covariates)
        frame = frame.assign(survey=number, given=survey.test)
        frame["raw"] = frame["code"]
        if survey.ksco6:
            waiting.append(_from_ksco6(frame, survey, source, classification, level))
        else:
            place = f"{survey.name}, column {source.columns['code']!r}"
            classification.require_zeros(frame["raw"][frame["reason"] == ""].unique(), level, place)
            to_level(frame, classification, level)
        if not drop_invalid:
            checked = frame.assign(code=frame["raw"])[frame["reason"] != "unresolved"]
            require_valid(checked, survey, source.columns, source.covariates)
        frames.append(frame)
    answers = pd.concat(frames, ignore_index=True)
    usable = answers["id"][answers["reason"] == ""]
    both = usable[usable.duplicated()]
    if len(both):
        raise KjcmError(
            f"{source.surveys[-1].name}: ids {some(both)} are also in {source.surveys[0].name}. Rename them."
        )
    return answers, pd.concat(waiting, ignore_index=True).astype(str)


def to_level(frame: pd.DataFrame, classification: Classification, level: int | None) -> None:
    """Set the columns code and finer to the classification's codes at and below `level`, or set the row's reason."""
    codes = {raw: classification.resolve(raw) for raw in frame["raw"].unique()}
    at = {raw: classification.at_level(code, level) if code else None for raw, code in codes.items()}
    fine = frame["reason"] == ""
    below = {raw: classification.below_level(code, level) if code else "" for raw, code in codes.items()}
    frame["code"], frame["finer"] = frame["raw"].map(at).fillna(""), frame["raw"].map(below)
    frame.loc[fine & frame["raw"].map(codes).isna(), "reason"] = "unknown code"
    frame.loc[fine & frame["raw"].map(codes).notna() & (frame["code"] == ""), "reason"] = (
        "code with fewer digits than data.level"
    )


def _from_ksco6(
    frame: pd.DataFrame, survey: Survey, source: Source, classification: Classification, level: int | None
) -> pd.DataFrame:
    """Convert KSCO-6 codes in place; return the unresolved rows."""
    if source.crosswalk is None:
        raise ConfigError(
            f"{survey.name} is coded in KSCO-6: give data.crosswalk=FILE (columns ksco6, ksco7, one pair per row)."
        )
    crosswalk = crosswalk_of(source.crosswalk, classification, source.crosswalk_name)
    resolved = (
        resolutions_of(source.resolutions, classification, source.resolutions_name)
        if source.resolutions is not None
        else {}
    )
    lead = f"{survey.wave}-"
    own = frame["id"].str.removeprefix(lead)
    unknown = set(resolved) - set(own)
    if unknown:
        raise KjcmError(f"{source.resolutions_name}, column 'id': {some(sorted(unknown))} are not in {survey.name}.")
    partners = {raw: partners_at(crosswalk, raw, classification, level) for raw in frame["raw"].unique()}
    raw_of = dict(zip(own.tolist(), frame["raw"].tolist(), strict=True))
    _require_candidates(resolved, raw_of, partners, source, classification, level)
    single = {raw: codes[0] for raw, codes in partners.items() if len(codes) == 1}
    by_person = own.map({row: classification.at_level(code, level) for row, code in resolved.items()})
    frame["code"] = [
        found if isinstance(found, str) else person if isinstance(person, str) else ""
        for found, person in zip(frame["raw"].map(single), by_person, strict=True)
    ]
    below = {raw: partner_below(crosswalk, raw, classification, level) for raw in partners}
    frame["finer"] = [
        classification.below_level(resolved.get(row, ""), level) or below[raw]
        for row, raw in zip(own, frame["raw"], strict=True)
    ]
    fine = frame["reason"] == ""
    frame.loc[fine & frame["raw"].map(lambda raw: not partners[raw]), "reason"] = "unknown code"
    waits = fine & (frame["reason"] == "") & (frame["code"] == "")
    frame.loc[waits, "reason"] = "unresolved"
    candidates = frame["raw"][waits].map({raw: " ".join(codes) for raw, codes in partners.items()})
    return pd.DataFrame(
        {
            "id": own[waits],
            **{role: frame[role][waits] for role in TEXT_COLUMNS},
            "ksco6": frame["raw"][waits],
            "candidates": candidates,
            "ksco7": "",
        }
    )


def _require_candidates(
    resolved: Mapping[str, str],
    raw_of: Mapping[str, str],
    partners: Mapping[str, tuple[str, ...]],
    source: Source,
    classification: Classification,
    level: int | None,
) -> None:
    """Raise KjcmError if a resolution is not one of its code's partners, which is probably a typing error."""
    for row, code in resolved.items():
        candidates = partners[raw_of[row]]
        if classification.at_level(code, level) not in candidates:
            raise KjcmError(
                f"{source.resolutions_name}, column 'ksco7' or 'recoded', id {some([row])}: {code} at level {level} is not "
                f"one of {' '.join(candidates)}, the crosswalk's codes for {raw_of[row]}. Correct it, or add the pair to the "
                "crosswalk."
            )

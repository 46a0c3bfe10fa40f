"""Make training rows from titles (the paper's Models 3 and 4, and `data=titles`) and from reviewed rows."""

import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from kjcm.errors import ConfigError, KjcmError, some
from kjcm.files import require_file
from kjcm.keys.survey import TitlesConfig
from kjcm.ksco.classification import Classification
from kjcm.ksco.title_index import cut_codes, index_at_level, read_index
from kjcm.parts import TARGET, build
from kjcm.read.cells import code_texts, tidy
from kjcm.read.columns import meant_columns
from kjcm.read.labelled import value_labels
from kjcm.read.table import read_table
from kjcm.survey.cohort import Cohort, to_level
from kjcm.survey.covariates import LEAD, cells_of, roles_of
from kjcm.survey.responses import Source, Survey, ids_in
from kjcm.survey.texts import EMPTY, TEXT_COLUMNS, texts_of

CODE = "reviewed_code"  # column of a reviewed file
ID = "id"  # its column of ids if the data have none
NEW_CODES = ["id", "code", "finer"]  # of survey rows that a reviewer has decided

IDS = "title-"  # beginning of the rows' ids
# keys with which titles would be held out; errors on titles say nothing about errors on answers
HELD_OUT = {"train_share": 1.0, "validation": 0.0, "folds": None, "inner_folds": None, "train_fraction": 1.0}

log = logging.getLogger("kjcm")


def augmentation(
    classification: Classification,
    classes: Sequence[str],
    *,
    titles: bool,
    descriptions: bool,
    rows: Mapping[str, Any] | None = None,
    level: int | None = None,
) -> pd.DataFrame:
    """Return training rows (text, code) from the titles and descriptions of each class and of all codes under it.

    A text is used once per class. Codes that are not in `classes` get no rows.

    Args:
        classification: the codes' classification.
        classes: the codes to learn.
        titles: whether titles are used.
        descriptions: whether descriptions are used.
        rows: node of a function that makes further rows: classification and classes in, a table of text and code out.
        level: of the classes; if given, the rows have the column finer too, as in a cohort.

    Raises:
        ConfigError: the function returns something else, or rows of other codes.
    """
    found: dict[tuple[str, str], str] = {}  # a dict keeps the order and drops repeated rows
    for code in classes:
        for one in classification.below(code):
            for wanted, texts in ((titles, classification.titles), (descriptions, classification.descriptions)):
                if wanted and (text := tidy(texts.get(one, ""))):
                    found[text, code] = found.get((text, code)) or classification.below_level(one, level)
    made = pd.DataFrame(list(found), columns=["text", "code"], dtype=str)
    if level is not None:
        made["finer"] = list(found.values())
    return pd.concat([made, _rows_of(rows, classification, classes)], ignore_index=True) if rows else made


def index_rows(
    path: str | None, classification: Classification, classes: Sequence[str], level: int | None
) -> pd.DataFrame:
    """Return training rows (text, code, finer, weight) from the titles of `classification.index`, once for equal titles.

    Codes are cut to the level of the classes. A title whose code is coarser, or not among the classes, gets no row; the
    log has their number.

    Args:
        path: the index's file.
        classification: the codes' classification.
        classes: the codes to learn.
        level: of the classes.

    Raises:
        ConfigError: there is no index, or it has no title for the classes.
        KjcmError: see `kjcm.ksco.title_index.read_index`.
    """
    if path is None:
        raise ConfigError("augment.index: give a file of job titles with classification.index=FILE, or leave it out.")
    index = cut_codes(read_index(path, classification), classification, level, path)
    known = set(classes)
    used = pd.DataFrame(
        [
            (tidy(one.title), code, classification.below_level(one.code, level), one.weight)
            for one, code in index
            if code in known
        ],
        columns=["text", "code", "finer", "weight"],
    )
    if used.empty:
        raise ConfigError(f"classification.index={path}: no title has a code of the classes. Check data.level.")
    _say_left(path, len(index) - len(used), len(index))
    weights = used.groupby(["text", "code"], sort=False)["weight"].sum().reset_index(drop=True)
    once = used.drop_duplicates(["text", "code"]).reset_index(drop=True)
    return once.assign(weight=weights)


def _say_left(path: str, left: int, titles: int) -> None:
    """Log how many titles of an index get no row."""
    if left:
        log.info(
            "%s: %s of %s titles left out: their codes are coarser than the classes or not among them",
            path, f"{left:,}", f"{titles:,}",
        )  # fmt: skip


def position_rows(learnt: pd.DataFrame) -> pd.DataFrame:
    """Return a row (text, and all columns but texts and covariates) for each training row's position that has a letter.

    Raises:
        ConfigError: no row has a position.
    """
    rows = learnt[learnt["position"].fillna("").map(lambda text: any(map(str.isalpha, text)))]
    if not len(rows):
        raise ConfigError(
            "augment.positions: no training row has a position. Set data.columns.position, or augment.positions=0."
        )
    others = [name for name in map(str, rows) if name not in ("text", *TEXT_COLUMNS) and not name.startswith(LEAD)]
    return rows[others].assign(text=rows["position"])


def _rows_of(node: Mapping[str, Any], classification: Classification, classes: Sequence[str]) -> pd.DataFrame:
    """Return the rows that a user's function makes."""
    frame = build("augment.rows", node, classification, list(classes))
    if not isinstance(frame, pd.DataFrame) or not {"text", "code"} <= set(frame.columns):
        raise ConfigError(f"augment.rows: {node[TARGET]} must return a table with the columns text and code.")
    frame = frame[["text", "code"]].astype(str)
    if other := set(frame["code"]) - set(classes):
        raise ConfigError(
            f"augment.rows: {node[TARGET]} returned rows with codes that are not classes: {some(sorted(other))}."
        )
    return frame


@dataclass(frozen=True)
class Reviewed:
    """The rows of a reviewed file.

    Attributes:
        rows: training rows to add: text, fields, code, finer and covariates.
        codes: id, code and finer of the cohort's training rows that a reviewer has decided; each id once.
        left: reason -> number of the other rows.
    """

    rows: pd.DataFrame
    codes: pd.DataFrame
    left: Mapping[str, int]


def reviewed_rows(
    path: str,
    columns: Mapping[str, str | None],
    cohort: Cohort,
    classification: Classification,
    wording: str | None,
    covariates: Mapping[str, str],
) -> Reviewed:
    """Return the reviewed rows: new training rows, and new codes of the cohort's own training rows.

    A reviewed row is one of the cohort's if id and text are the same. A code without training rows in the cohort is learnt
    if its rows pass the cutoff: its reviewed rows plus the cohort's own rows outside the test. The text of a validation or
    test row is never learnt from another row.

    Args:
        path: the file that `kjcm review` exported, with the text columns and reviewed_code.
        columns: role -> column; the file may lack the ids' column.
        cohort: the cohort that the reviewed rows join.
        classification: the reviewed codes' classification.
        wording: data.wording.
        covariates: name -> kind; the file may lack their columns.

    Raises:
        KjcmError: the file or a column is missing, or a training row has several reviewed codes.
    """
    table = read_table(path)
    wanted = {role: columns.get(role) for role in TEXT_COLUMNS}
    remedy = "Use a file that `kjcm review` exported, with the names of data.columns."
    spelt = set(map(tidy, map(str, table.columns)))
    there = {name: kind for name, kind in covariates.items() if tidy(name) in spelt}
    id_name = columns.get("id") or ID
    ids = {ID: id_name} if tidy(id_name) in spelt else {}
    roles = {**wanted, **ids, CODE: CODE, **roles_of(there)}
    mapped = meant_columns(table.columns, roles, f"data.reviewed={path}", remedy)
    texts = texts_of(table, mapped, path, value_labels(require_file(path)), wording)
    frame = pd.DataFrame({"text": texts.sentences, **texts.fields, "raw": code_texts(table[mapped[CODE]])})
    cells, wrong = cells_of(table, mapped, there)
    reasons = [
        {EMPTY: "empty text"}.get(reason, reason) or other for reason, other in zip(texts.reasons, wrong, strict=True)
    ]
    frame = frame.assign(**cells, reason=reasons, id=ids_in(table[mapped[ID]]) if ids else "")[frame["raw"] != ""]
    to_level(frame, classification, cohort.level)
    sides = dict(zip(zip(cohort.rows["id"], cohort.rows["text"], strict=True), cohort.rows["side"], strict=True))
    side = pd.Series([sides.get(key, "") for key in zip(frame["id"], frame["text"], strict=True)], frame.index, str)
    held = cohort.rows["text"][cohort.rows["side"].isin(["validation", "test"])]
    own = side == "train"
    frame.loc[(frame["reason"] == "") & ~own & frame["text"].isin(held), "reason"] = "text of a test or validation row"
    frame.loc[(frame["reason"] == "") & (side == "unused"), "reason"] = "row that the split leaves unused"
    new = frame["code"][(frame["reason"] == "") & ~frame["code"].isin(cohort.classes)]
    sizes = pd.concat([new, cohort.rows["code"][cohort.rows["side"] != "test"]]).value_counts()
    cutoff = cohort.flow["cutoff"]
    frame.loc[new.index[new.map(sizes) <= cutoff], "reason"] = f"group of {cutoff} rows or fewer"
    left = Counter(frame["reason"][frame["reason"] != ""])
    fine = frame["reason"] == ""
    wanted_columns = ["text", *TEXT_COLUMNS, "code", "finer", *cells]
    codes = frame.loc[fine & own, NEW_CODES].drop_duplicates()
    if len(twice := codes["id"][codes["id"].duplicated()]):
        raise KjcmError(f"data.reviewed={path}: ids {some(twice.unique())} have several reviewed codes. Keep one each.")
    return Reviewed(
        frame.loc[fine & ~own, wanted_columns].reset_index(drop=True), codes.reset_index(drop=True), dict(left)
    )


def with_codes(cohort: Cohort, codes: pd.DataFrame) -> tuple[Cohort, int]:
    """Return a cohort with other codes for some training rows, and the number of rows whose code at its level changes.

    Args:
        cohort: the cohort.
        codes: id, code and finer; a finer code of '' keeps the row's own if the code stays.
    """
    if codes.empty:
        return cohort, 0
    own = cohort.rows
    given, finer = (own["id"].map(dict(zip(codes["id"], codes[name], strict=True))) for name in ("code", "finer"))
    changed = given.notna() & (given != own["code"])
    rows = own.assign(
        code=own["code"].where(~changed, given),
        finer=own["finer"].where(~changed & (finer.isna() | (finer == "")), finer),
    )
    classes = tuple(sorted(rows["code"][rows["side"] == "train"].unique()))
    return replace(cohort, rows=rows, classes=classes), int(changed.sum())


def titles_source(data: TitlesConfig, columns: Mapping[str, str | None], classification: Classification) -> Source:
    """Return rows with each title as the position, or each description as the task, once for equal texts of a group.

    Raises:
        ConfigError: a key holds rows out, a column is missing, or there are no titles.
        KjcmError: see `kjcm.ksco.title_index.read_index`.
    """
    if held := [name for name, value in HELD_OUT.items() if getattr(data, name) != value]:
        raise ConfigError(
            f"data.{held[0]}: data=titles holds no titles out, because errors on titles say nothing about errors on answers. "
            "Leave this key out."
        )
    names = {role: columns.get(role) for role in ("id", "position", "task", "code")}
    if lacking := [role for role, name in names.items() if not name]:
        raise ConfigError(f"data.columns.{lacking[0]}=null: data=titles needs this column's name.")
    rows = list(dict.fromkeys(_title_rows(data, classification)))
    if not rows:
        raise ConfigError(
            f"data=titles: {classification.name} has no titles at data.level={data.level}. Give classification.path=FILE or "
            "classification.index=FILE."
        )
    table = pd.DataFrame(rows, columns=[names["position"], names["task"], names["code"]])
    table[names["id"]] = [f"{IDS}{number}" for number in range(1, len(table) + 1)]
    if workplace := columns.get("workplace"):
        table[workplace] = ""
    return Source((Survey(table, "the titles", of_titles=True),), columns)


def _title_rows(data: TitlesConfig, classification: Classification) -> Iterator[tuple[str, str, str]]:
    """Yield position, task and code of each title and description."""
    level = data.level
    for code in classification.levels:
        if classification.at_level(code, level):
            title, description = (tidy(of.get(code, "")) for of in (classification.titles, classification.descriptions))
            if title:
                yield title, "", code
            if description:
                yield "", description, code
    if data.index is None:
        return
    index = read_index(data.index, classification)
    used = index_at_level(index, classification, level, data.index)
    _say_left(data.index, len(index) - len(used), len(index))
    yield from ((tidy(one.title), "", one.code) for one in used)

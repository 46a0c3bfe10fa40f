"""Write suspected rows as a file that `kjcm review` opens."""

from pathlib import Path
from typing import Any

import pandas as pd

from kjcm.audit.out_of_fold import OutOfFold
from kjcm.audit.suspects import Suspects
from kjcm.errors import ConfigError, some
from kjcm.files import atomic, write_json
from kjcm.survey.augment import ID
from kjcm.survey.texts import TEXT_COLUMNS
from kjcm.write.table import Added, writer

SHOWN = 5  # codes of a row on the page of `kjcm review`
REVIEWED = "choose"  # decision of every row
ABOUT = {
    "rank": "Rank, 1 for the most suspicious label",
    "label_quality": "Quality of the label, from 0 (surely wrong) to 1",
    "given_code": "Code in the data",
    "given_title": "Title of given_code",
    "suggested_code": "Most probable code",
    "suggested_title": "Title of suggested_code",
    "fold": "Fold that tested the row",
}
DECIDED = {
    "decision": "Decision: a reviewer chooses",
    "decision_code": "Code until the review: given_code",
    "pick_list": "Codes to choose from first",
}


def review_frame(found: OutOfFold, suspects: Suspects, most: int | None) -> pd.DataFrame:
    """Return the most suspicious rows: id and texts as in the data, about the label, and the columns of `kjcm predict`.

    Args:
        found: the rows with out-of-fold predictions.
        suspects: rows whose label is probably wrong.
        most: greatest number of rows; None: all.

    Raises:
        ConfigError: a column of the data has the name of one that is added.
    """
    order = suspects.order[:most]
    rows, predicted = (frame.iloc[order].reset_index(drop=True) for frame in (found.rows, found.predictions))
    names = {role: name for role in TEXT_COLUMNS if (name := found.data.columns.roles.get(role))}
    frame = pd.DataFrame({found.data.columns.roles.get("id") or ID: rows["id"]})
    frame = frame.assign(**{name: rows[role] for role, name in names.items()})
    given, suggested = predicted["code"], predicted["code_1"]
    title = found.classification.title
    about: dict[str, Any] = {
        "rank": range(1, len(rows) + 1),
        "label_quality": suspects.quality[:most],
        "given_code": given,
        "given_title": given.map(title),
        "suggested_code": suggested,
        "suggested_title": suggested.map(title),
        "fold": predicted["fold"],
    }
    codes = {f"code_{k}": predicted[f"code_{k}"].fillna("") for k in _ranks(found)}
    about |= codes
    about |= {f"title_{k}": codes[f"code_{k}"].map(lambda code: title(code) if code else "") for k in _ranks(found)}
    about |= {f"prob_{k}": predicted[f"prob_{k}"] for k in _ranks(found)}
    about |= {"decision": REVIEWED, "decision_code": given, "pick_list": suggested + " " + given}
    if twice := [name for name in about if name in frame]:
        raise ConfigError(f"data.columns: {some(twice)} are also names of columns that the audit adds. Rename them.")
    return frame.assign(**about)


def _ranks(found: OutOfFold) -> range:
    return range(1, min(SHOWN, len(found.model.classes)) + 1)


def write_review_file(
    target: Path, frame: pd.DataFrame, found: OutOfFold, about: dict[str, Any], *, overwrite: bool
) -> None:
    """Write the rows, and TARGET.json with what `kjcm review` needs and what the audit found.

    Raises:
        KjcmError: a file exists and `overwrite` is false, or cannot be written.
    """
    note = target.with_name(f"{target.name}.json")
    ranks = _ranks(found)
    labels = {f"code_{k}": f"Code, rank {k}" for k in ranks} | {f"title_{k}": f"Title of code_{k}" for k in ranks}
    labels |= {f"prob_{k}": f"Probability of code_{k}" for k in ranks}
    added = Added({**ABOUT, **labels, **DECIDED}, [f"prob_{k}" for k in ranks])
    with atomic(note, overwrite) as record, atomic(target, overwrite) as temporary:
        with writer(temporary, added=added) as out:
            out.write(frame)
        write_json(record, about)

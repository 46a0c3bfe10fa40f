"""Training rows without a survey: the classification's titles and descriptions, and an index of job titles."""

import logging
from collections.abc import Iterator, Mapping

import pandas as pd

from kjcm.errors import ConfigError
from kjcm.keys.survey import TitlesConfig
from kjcm.ksco.classification import Classification
from kjcm.ksco.title_index import index_at_level, read_index
from kjcm.read.cells import tidy
from kjcm.survey.responses import Source, Survey

IDS = "title-"  # beginning of the rows' ids
# keys with which titles would be held out; errors on titles say nothing about errors on answers
HELD_OUT = {"train_share": 1.0, "validation": 0.0, "folds": None, "inner_folds": None, "train_fraction": 1.0}

log = logging.getLogger("kjcm")


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
    rows = list(dict.fromkeys(_rows(data, classification)))
    if not rows:
        raise ConfigError(
            f"data=titles: {classification.name} has no titles at data.level={data.level}. Give classification.path=FILE or "
            "classification.index=FILE."
        )
    table = pd.DataFrame(rows, columns=[names["position"], names["task"], names["code"]])
    table[names["id"]] = [f"{IDS}{number}" for number in range(1, len(table) + 1)]
    for name in filter(None, (columns.get("workplace"),)):
        table[name] = ""
    return Source((Survey(table, "the titles"),), columns)


def _rows(data: TitlesConfig, classification: Classification) -> Iterator[tuple[str, str, str]]:
    """Yield position, task and code of each title and description."""
    level = data.level
    for code in classification.levels:
        if classification.at_level(code, level):
            for texts, place in ((classification.titles, 0), (classification.descriptions, 1)):
                if any(map(str.isalpha, text := tidy(texts.get(code, "")))):
                    yield (text, "", code) if place == 0 else ("", text, code)
    if data.index is None:
        return
    index = read_index(data.index, classification)
    used = index_at_level(index, classification, level, data.index)
    if left := len(index) - len(used):
        log.info("%s: %s of %s titles are left out, because their codes are too coarse", data.index, left, len(index))
    yield from ((tidy(one.title), "", one.code) for one in used if any(map(str.isalpha, one.title)))

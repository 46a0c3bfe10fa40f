"""Covariates: side variables of a person, such as sex and age, as numbers for a model."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from kjcm.errors import ConfigError, KjcmError, some
from kjcm.read.cells import code_texts, tidy, without_decimals

LEAD = "covariates."  # of a covariate's role, which is its column in a frame of rows
KINDS = ("category", "number")
NO_NUMBER = " is no finite number"  # end of the reason of an unusable row, after the role
GREATEST = 1e100
MOST_LEVELS = 1000
STEEP = 1.7  # with it the logistic function is nearly the normal distribution's


def kinds_of(columns: Mapping[str, Sequence[str]] | None) -> dict[str, str]:
    """Return name -> kind for data.columns.covariates, None for a run that is older than the key.

    Raises:
        ConfigError: a kind is unknown, a name is no text, or a column has two kinds.
    """
    columns = columns or {}
    if other := sorted({*columns} - {*KINDS}):
        raise ConfigError(f"data.columns.covariates: {some(other)} is no kind. Use {' or '.join(KINDS)}.")
    if wrong := [name for names in columns.values() for name in names if not isinstance(name, str)]:
        raise ConfigError(f"data.columns.covariates: {some(wrong)} is no name of a column. Give lists of names.")
    if twice := sorted(set.intersection(*(set(columns.get(kind, ())) for kind in KINDS))):
        raise ConfigError(f"data.columns.covariates: {some(twice)} has both kinds. Choose one.")
    return {name: kind for kind, names in columns.items() for name in names}


def roles_of(names: Sequence[str] | Mapping[str, str]) -> dict[str, str]:
    """Return role -> name of covariates."""
    return {f"{LEAD}{name}": name for name in names}


def cells_of(
    table: pd.DataFrame, columns: Mapping[str, str], kinds: Mapping[str, str]
) -> tuple[dict[str, list[str]], list[str]]:
    """Return role -> each row's value as text, '' if missing, and why a row is unusable, else ''.

    Args:
        table: the rows as read.
        columns: role -> column.
        kinds: name -> one of KINDS.
    """
    cells, reasons = {}, [""] * len(table)
    for role, name in roles_of(kinds).items():
        cells[role] = [tidy(without_decimals(text)) for text in code_texts(table[columns[role]])]
        if kinds[name] == "number":
            wrong = [bool(text) and math.isnan(number(text)) for text in cells[role]]
            reasons = [f"{role}{NO_NUMBER}" if is_wrong else one for one, is_wrong in zip(reasons, wrong, strict=True)]
    return cells, reasons


def number(text: object) -> float:
    """Return a value as a number, NaN if it is none, or so great that a variance of such numbers is infinite."""
    try:
        value = float(str(text))
    except ValueError:
        return math.nan
    if "_" in str(text):  # float reads 1_000
        return math.nan
    return value if abs(value) < GREATEST else math.nan


@dataclass(frozen=True)
class Covariates:
    """How values become columns of numbers, learnt from training rows.

    Attributes:
        levels: category -> its levels, sorted.
        scales: number -> its mean and standard deviation.
    """

    levels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    scales: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    @classmethod
    def of(cls, kinds: Mapping[str, str], frame: pd.DataFrame) -> "Covariates":
        """Learn from training rows; rows without a person, such as titles, have NaN instead of values.

        Raises:
            KjcmError: no row has a value, or a category has too many levels.
        """
        levels: dict[str, tuple[str, ...]] = {}
        scales: dict[str, tuple[float, float]] = {}
        for role, name in sorted(roles_of(kinds).items()):
            found = [text for text in frame[role].dropna() if text]
            if not found:
                raise KjcmError(f"data.columns.{role}: no training row has a value. Leave this covariate out.")
            if kinds[name] == "category":
                levels[name] = tuple(sorted(set(found)))
                if len(levels[name]) > MOST_LEVELS:
                    raise KjcmError(
                        f"data.columns.{role}: a category of {len(levels[name]):,} levels, more than "
                        f"{MOST_LEVELS:,}. Group them, or make it a number."
                    )
            else:
                values = np.array(list(map(number, found)))
                scales[name] = float(values.mean()), float(values.std()) or 1.0
        return cls(levels, scales)

    @classmethod
    def read(cls, record: Mapping[str, Any] | None) -> "Covariates":
        """Return covariates from the JSON of their dataclass; None: there are none."""
        return cls(**{name: {key: tuple(one) for key, one in part.items()} for name, part in (record or {}).items()})

    @property
    def is_consistent(self) -> bool:
        """Return whether the levels are sorted and different, and the scales are means and positive deviations."""
        sorted_levels = all(list(levels) == sorted(set(levels)) for levels in self.levels.values())
        return sorted_levels and all(len(scale) == 2 and scale[1] > 0 for scale in self.scales.values())

    def __bool__(self) -> bool:
        return bool(self.levels or self.scales)

    @property
    def kinds(self) -> dict[str, str]:
        """Return name -> one of KINDS."""
        return {**dict.fromkeys(self.levels, "category"), **dict.fromkeys(self.scales, "number")}

    @property
    def width(self) -> int:
        """Return the number of columns."""
        return sum(len(levels) + 1 for levels in self.levels.values()) + 3 * len(self.scales)

    def encoded(self, frame: pd.DataFrame) -> NDArray[np.float32]:
        """Return the columns of rows, [rows, width]: unit length for a person, zeros for a title.

        A category has a column for each level, and one for a missing or unseen level. A number has two columns, the square
        roots of the approximate shares of training rows above and below it, and one for a missing number.
        """
        parts = [np.zeros((len(frame), 0), np.float32)]
        for name, levels in self.levels.items():
            values = frame[f"{LEAD}{name}"]
            place = values.map({level: at for at, level in enumerate(levels)}).fillna(len(levels)).to_numpy(int)
            parts.append((place[:, None] == np.arange(len(levels) + 1)) & values.notna().to_numpy()[:, None])
        for name, (mean, deviation) in self.scales.items():
            values = frame[f"{LEAD}{name}"]
            score = ((values.map(number).to_numpy(float) - mean) / deviation).clip(-10, 10)
            share = 1 / (1 + np.exp(-STEEP * score))
            missing = values.notna().to_numpy() & np.isnan(score)
            parts.append(np.column_stack([np.nan_to_num(np.sqrt(1 - share)), np.nan_to_num(np.sqrt(share)), missing]))
        return (np.hstack(parts) / math.sqrt(max(1, len(parts) - 1))).astype(np.float32)

    def unseen(self, frame: pd.DataFrame) -> dict[str, list[str]]:
        """Return name -> levels of rows that no training row has."""
        found = {
            name: sorted({*frame[f"{LEAD}{name}"].dropna()} - {*levels, ""}) for name, levels in self.levels.items()
        }
        return {name: values for name, values in found.items() if values}

    def require_seen(self, frame: pd.DataFrame, place: str) -> None:
        """Raise KjcmError if a row has a level that no training row has; `place`: the file, for the message."""
        for name, values in self.unseen(frame).items():
            raise KjcmError(
                f"{place}, covariate {name!r}: no training row has {some(values)}. Correct these values, or add "
                "unseen_levels=missing to count them as missing."
            )


NO_COVARIATES = Covariates()

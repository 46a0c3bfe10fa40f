"""Match the job title of a row with an index before the model decides: accept its only code, or suggest its codes."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kjcm.errors import ConfigError
from kjcm.ksco.classification import MANAGERS, Classification
from kjcm.ksco.title_index import codes_by_title, index_at_level, normalise, read_index

Matches = Sequence[tuple[str, ...]]  # [rows], the codes of a row's title in the index, heaviest first; () for none
UNMATCHED, WRONG, RIGHT, MANAGING = -1, 0, 1, 2  # of a held-out row; MANAGING is added for a manager's code


@dataclass(frozen=True)
class TitleIndex:
    """An index of job titles at the level of a model's classes.

    Attributes:
        codes: normalised title -> its codes, heaviest first; several codes make the title ambiguous.
        titles: code -> title, of the codes that have one.
        sha: SHA-256 of titles and codes at the classes' level.
        file: its path.
    """

    codes: Mapping[str, tuple[str, ...]]
    titles: Mapping[str, str]
    sha: str
    file: str

    def matches(self, titles: Sequence[str], manages: NDArray[np.bool_] | None = None) -> list[tuple[str, ...]]:
        """Return the codes of each title, () where the index lacks the title.

        Args:
            titles: [rows].
            manages: [rows], who says that they manage; a title with a manager's code has no match for the others. None:
                every match counts.
        """
        found = [self.codes.get(normalise(title), ()) for title in titles]
        if manages is None:
            return found
        return [
            () if not manager and any(map(is_managing, codes)) else codes
            for codes, manager in zip(found, manages.tolist(), strict=True)
        ]

    def results(self, titles: Sequence[str], truth: Sequence[str]) -> NDArray[np.int8]:
        """Return what accepting each title's only code would give: UNMATCHED, WRONG or RIGHT, plus MANAGING: [rows].

        Args:
            titles: [rows].
            truth: [rows], the right codes.
        """
        return np.array(
            [
                (RIGHT if codes[0] == code else WRONG) + MANAGING * is_managing(codes[0])
                if len(codes) == 1
                else UNMATCHED
                for codes, code in zip(self.matches(titles), truth, strict=True)
            ],
            np.int8,
        )


def is_wrong(results: NDArray[np.int8]) -> NDArray[np.bool_]:
    """Return which rows have a wrong code, by their `TitleIndex.results`: [rows]."""
    return np.isin(results, (WRONG, WRONG + MANAGING))


def is_managers(results: NDArray[np.int8]) -> NDArray[np.bool_]:
    """Return which rows have a manager's code, by their `TitleIndex.results`: [rows]."""
    return np.isin(results, (WRONG + MANAGING, RIGHT + MANAGING))


def is_managing(code: str) -> bool:
    """Return whether a code is in the major group of managers."""
    return code.startswith(MANAGERS)


def load_titles(path: str, classification: Classification, level: int | None) -> TitleIndex:
    """Read an index of job titles for the classes of a level.

    Raises:
        KjcmError: see `kjcm.ksco.title_index.read_index`.
        ConfigError: no title has a code of that level or below.
    """
    cut = index_at_level(read_index(path, classification), classification, level, path)
    if not cut:
        raise ConfigError(f"{path}: no title has a code of {level} digits or more. Give an index with finer codes.")
    named = {code: title for code in {one.code for one in cut} if (title := classification.title(code))}
    codes = codes_by_title(cut)
    sha = hashlib.sha256(json.dumps(sorted(codes.items()), ensure_ascii=False).encode()).hexdigest()
    return TitleIndex(codes, named, sha, str(path))


def job_titles(workplaces: Sequence[str], positions: Sequence[str], tasks: Sequence[str]) -> list[str]:
    """Return each row's job title: its position, or its task if that is its only answer."""
    return [
        position or ("" if workplace else task)
        for workplace, position, task in zip(workplaces, positions, tasks, strict=True)
    ]

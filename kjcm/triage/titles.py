"""Match the job title of a row with an index before the model decides: accept its only code, or suggest its codes."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kjcm.errors import ConfigError
from kjcm.ksco.classification import MANAGERS, Classification
from kjcm.ksco.title_index import coarser_titles, codes_by_title, cut_codes, normalise, read_index

UNMATCHED, WRONG, RIGHT, MANAGING = -1, 0, 1, 2  # of a held-out row; MANAGING is added for a manager's code


class Match(NamedTuple):
    """What an index has for a job title.

    Attributes:
        codes: the title's codes, heaviest first; () if the index lacks the title.
        is_ambiguous: whether the title has several codes, or also a code above the classes in another group.
    """

    codes: tuple[str, ...] = ()
    is_ambiguous: bool = False

    @property
    def only(self) -> str | None:
        """The code that triage.index=accept accepts; None if there is none."""
        return self.codes[0] if self.codes and not self.is_ambiguous else None


Matches = Sequence[Match]  # [rows]
NO_MATCH = Match()


@dataclass(frozen=True)
class TitleIndex:
    """An index of job titles at the level of a model's classes.

    Attributes:
        by_title: normalised title -> what the index has for it.
        titles: code -> title, of the codes that have one.
        sha: SHA-256 of titles and codes at the classes' level.
        file: its path.
    """

    by_title: Mapping[str, Match]
    titles: Mapping[str, str]
    sha: str
    file: str

    def matches(self, titles: Sequence[str], manages: NDArray[np.bool_] | None = None) -> list[Match]:
        """Return what the index has for each title.

        Args:
            titles: [rows].
            manages: [rows], who says that they manage; a title with a manager's code has no match for the others. None:
                every match counts.
        """
        found = [self.by_title.get(normalise(title), NO_MATCH) for title in titles]
        if manages is None:
            return found
        return [
            NO_MATCH if not manager and any(map(is_managing, match.codes)) else match
            for match, manager in zip(found, manages.tolist(), strict=True)
        ]

    def results(self, titles: Sequence[str], truth: Sequence[str]) -> NDArray[np.int8]:
        """Return what accepting each title's only code would give: UNMATCHED, WRONG or RIGHT, plus MANAGING: [rows].

        Args:
            titles: [rows].
            truth: [rows], the right codes.
        """
        return np.array(
            [
                UNMATCHED
                if match.only is None
                else (RIGHT if match.only == code else WRONG) + MANAGING * is_managing(match.only)
                for match, code in zip(self.matches(titles), truth, strict=True)
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
    index = cut_codes(read_index(path, classification), classification, level, path)
    cut = [one._replace(code=code) for one, code in index if code]
    if not cut:
        raise ConfigError(f"{path}: no title has a code of {level} digits or more. Give an index with finer codes.")
    named = {code: title for code in {one.code for one in cut} if (title := classification.title(code))}
    codes, coarser = codes_by_title(cut), coarser_titles(index, classification)
    content = [*sorted(codes.items()), *sorted(coarser)]
    sha = hashlib.sha256(json.dumps(content, ensure_ascii=False).encode()).hexdigest()
    by_title = {title: Match(own, len(own) > 1 or title in coarser) for title, own in codes.items()}
    return TitleIndex(by_title, named, sha, str(path))


def job_titles(workplaces: Sequence[str], positions: Sequence[str], tasks: Sequence[str]) -> list[str]:
    """Return each row's job title: its position, or its task if that is its only answer."""
    return [
        position or ("" if workplace else task)
        for workplace, position, task in zip(workplaces, positions, tasks, strict=True)
    ]

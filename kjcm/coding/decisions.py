"""Turn probabilities into coded rows and output columns, and remember how equal texts were coded."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from kjcm.coding.distributions import PREFIX
from kjcm.coding.linear import Explainer, Near
from kjcm.run_folder.model_folder import Settings
from kjcm.triage.calibration import Probabilities
from kjcm.triage.pick_lists import NONE, ranking
from kjcm.triage.rules import ACCEPT, BACK_OFF, CHOOSE, DECISIONS, INDEX, INVALID, SEARCH, Triage
from kjcm.triage.titles import Matches, TitleIndex
from kjcm.write.table import Added

DECIDED = {
    "decision": "What is done with the row",
    "decision_code": "Code that is accepted or backed off to",
    "decision_title": "Title of decision_code",
    "pick_list": "Codes to choose from",
    "reason": "Why the row cannot be coded",
}
INDEX_CODES = "index_codes"
MOST_KNOWN = 500_000  # remembered texts; each takes 300 bytes, 2 a character, and 4 a class with all probabilities


@dataclass(frozen=True)
class Coded:
    """Coded rows, as numbers.

    Attributes:
        top: [rows, top_k], class indices, likeliest first.
        prob: [rows, top_k], their probabilities.
        decision: [rows], places in DECISIONS.
        parent: [rows], place among the triage's parents, or NONE.
        picks: [rows, triage.k], class indices, or NONE.
        above: [rows, levels], places among the groups of all asked levels.
        above_prob: [rows, levels], their probabilities.
        near: [rows, examples], the explanation's places (see `Explainer`), or NONE; no columns without an explanation.
        similarity: [rows, examples], their similarities.
        all_probabilities: [rows, classes], the probabilities of all classes; no columns unless they are asked for.
    """

    top: NDArray[np.int16]
    prob: NDArray[np.float32]
    decision: NDArray[np.int8]
    parent: NDArray[np.int16]
    picks: NDArray[np.int16]
    above: NDArray[np.int16]
    above_prob: NDArray[np.float32]
    near: NDArray[np.int32]
    similarity: NDArray[np.float32]
    all_probabilities: NDArray[np.float32]

    def take(self, rows: NDArray[np.int64]) -> "Coded":
        """Return some rows."""
        return Coded(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})

    def with_invalid(self, invalid: NDArray[np.bool_]) -> "Coded":
        """Return these rows in order with invalid rows inserted; invalid: [rows]."""
        place = np.cumsum(~invalid) - 1
        kept = self.take(np.where(invalid, 0, place)) if len(self.top) else self.none(len(invalid))
        kept.decision[invalid], kept.parent[invalid], kept.picks[invalid] = INVALID, NONE, NONE
        kept.near[invalid], kept.similarity[invalid] = NONE, np.nan
        return kept

    def none(self, rows: int) -> "Coded":
        """Return rows without codes, with as many columns as these rows."""
        return Coded(
            **{
                field.name: np.zeros((rows, *getattr(self, field.name).shape[1:]), getattr(self, field.name).dtype)
                for field in fields(self)
            }
        )


class Known:
    """Texts met so far, and how they were coded.

    Texts are numbered when they are met, perhaps before they are coded; coding keeps this order.
    """

    def __init__(self) -> None:
        self._place: dict[tuple[Hashable, bool], int] = {}
        self._coded: list[Coded] = []

    def __len__(self) -> int:
        return len(self._place)

    def meet(
        self, texts: Sequence[Hashable], manages: NDArray[np.bool_]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return each text's number [texts], and the places of new texts [new texts], once for equal texts.

        Args:
            texts: rows' texts, perhaps with their fields.
            manages: [texts]; a manager's text and another person's equal text count as two texts.
        """
        place = self._place
        before = len(place)
        keys = zip(texts, manages.tolist(), strict=True)
        numbers = np.array([place.setdefault(key, len(place)) for key in keys], np.int64)
        highest = np.maximum.accumulate(np.append(before - 1, numbers))
        return numbers, np.flatnonzero(numbers > highest[:-1])

    def add(self, coded: Coded) -> None:
        """Add how the next texts were coded."""
        self._coded.append(coded)

    def take(self, numbers: NDArray[np.int64]) -> Coded:
        """Return the coded rows of texts by number [rows]."""
        if len(self._coded) > 1:
            self._coded = [
                Coded(
                    **{f.name: np.concatenate([getattr(part, f.name) for part in self._coded]) for f in fields(Coded)}
                )
            ]
        return self._coded[0].take(numbers)


class Decider:
    """Turn probabilities into coded rows, and coded rows into the columns of a file.

    Args:
        settings: of the model.
        triage: the rules.
        top_k: codes per row; all classes if there are fewer.
        explainer: what explains the codes; None: nothing.
        levels: levels above the classes whose most probable group a row gets, 1 at the top.
        index: of job titles, whose codes are accepted or suggested; None: none.
        all_probabilities: whether a row gets the probabilities of all classes too.
        prefix: before the names of all columns.

    Raises:
        ConfigError: a level is not above every class.
    """

    def __init__(
        self,
        settings: Settings,
        triage: Triage,
        top_k: int,
        explainer: Explainer | None = None,
        levels: Sequence[int] = (),
        index: TitleIndex | None = None,
        *,
        all_probabilities: bool = False,
        prefix: str = "",
    ) -> None:
        self.prefix = prefix
        self.triage, self.top_k = triage, min(top_k, len(settings.classes))
        self.listed_classes = list(settings.classes) if all_probabilities else []
        self.explainer, self.levels, self.index = explainer, levels, index
        self._above = [triage.tree.above(level, "levels") for level in levels]
        codes = [*settings.classes, *triage.parents, *(code for groups, _ in self._above for code in groups)]
        self._place = {code: place for place, code in enumerate(settings.classes)}
        if index:
            further = sorted({code for match in index.by_title.values() for code in match.codes} - set(self._place))
            self._place |= {code: len(codes) + place for place, code in enumerate(further)}
            codes += further
        titles = {**(index.titles if index else {}), **settings.titles}
        self._codes = pa.array(codes, pa.string())
        self._titles = pa.array([titles.get(code, "") for code in codes], pa.string())
        self._classes, self._groups = len(settings.classes), len(settings.classes) + len(triage.parents)

    @property
    def added(self) -> Added:
        """The columns that are added to a file."""
        ranks = range(1, self.top_k + 1)
        titles, chances = [f"title_{rank}" for rank in ranks], [f"prob_{rank}" for rank in ranks]
        labels = {f"code_{rank}": f"Code, rank {rank}" for rank in ranks}
        labels |= {name: f"Title of code_{rank}" for rank, name in enumerate(titles, 1)}
        labels |= {name: f"Probability of code_{rank}" for rank, name in enumerate(chances, 1)}
        above = {f"level_{level}_code": f"Most probable code at level {level}" for level in self.levels}
        above |= {f"level_{level}_title": f"Title of level_{level}_code" for level in self.levels}
        above |= {f"level_{level}_prob": f"Probability of level_{level}_code" for level in self.levels}
        more = above | ({INDEX_CODES: "Codes of the job title in the index"} if self.index else {})
        more |= self.explainer.labels if self.explainer else {}
        chance = {f"{PREFIX}{code}": f"Probability of {code}" for code in self.listed_classes}
        rounded = [name for name in more if "similarity" in name or name.endswith("_prob")]
        labels |= {**DECIDED, **more, **chance}
        return Added(
            {f"{self.prefix}{name}": label for name, label in labels.items()},
            [f"{self.prefix}{name}" for name in (*chances, *rounded)],
        )

    def coded(self, probability: Probabilities, manages: NDArray[np.bool_], near: Near | None = None) -> Coded:
        """Return coded rows; probability: [rows, classes], manages: [rows], near: their explanation."""
        places, similarity = near or (np.empty((len(manages), 0), np.int32), np.empty((len(manages), 0), np.float32))
        gated = self.triage.gated(probability, manages)
        top = ranking(gated, self.top_k)
        found = self.triage.decide(gated)
        above, sums = self._most_probable(gated)
        return Coded(
            top=top.astype(np.int16),
            prob=np.take_along_axis(gated, top, axis=1).astype(np.float32),
            decision=found.decision,
            parent=found.parent,
            picks=found.picks,
            above=above,
            above_prob=sums,
            near=places,
            similarity=similarity,
            all_probabilities=gated[:, : len(self.listed_classes)].astype(np.float32),
        )

    def _most_probable(self, gated: Probabilities) -> tuple[NDArray[np.int16], NDArray[np.float32]]:
        """Return the most probable group at each level, and its probability: the sum of its classes'."""
        shape = (len(gated), len(self.levels))
        above, sums, first = np.zeros(shape, np.int16), np.zeros(shape, np.float32), 0
        for column, (groups, under) in enumerate(self._above):
            each = gated @ under
            above[:, column], sums[:, column] = first + each.argmax(axis=1), each.max(axis=1, initial=0)
            first += len(groups)
        return above, sums

    def with_index(self, coded: Coded, matches: Matches | None) -> Coded:
        """Return rows with what the index of job titles changes: decisions and pick lists.

        With triage.index=accept a title's only code is accepted. Codes of ambiguous titles, and all codes with suggest, come
        first in the pick lists of undecided rows.

        Args:
            coded: rows as the model codes them.
            matches: [rows], what the index has for each row's job title; None: nothing changes.
        """
        if matches is None:
            return coded
        count = np.array([len(match.codes) for match in matches], np.int64)
        only = np.array([match.only is not None for match in matches], bool)
        accepted = only & (self.triage.options.index == "accept")
        suggested = (count > 0) & ~accepted & np.isin(coded.decision, (CHOOSE, SEARCH))
        most = int(count[suggested].max(initial=0))
        picks = np.hstack([coded.picks.astype(np.int32), np.full((len(count), most), NONE, np.int32)])
        picks[accepted] = NONE
        for row in np.flatnonzero(suggested).tolist():
            own = [self._place[code] for code in matches[row].codes]
            listed = own + [place for place in picks[row].tolist() if place not in (*own, NONE)]
            picks[row, : len(listed)] = listed
        decision = np.where(accepted, INDEX, np.where(suggested, CHOOSE, coded.decision)).astype(np.int8)
        return replace(coded, decision=decision, parent=np.where(accepted, NONE, coded.parent), picks=picks)

    def frame(self, coded: Coded, reasons: Sequence[str], matches: Matches | None = None) -> pd.DataFrame:
        """Return the added columns of rows.

        Args:
            coded: the rows.
            reasons: [rows], why a row is invalid, else ''.
            matches: [rows], what the index has for each row's job title; needed with an index.
        """
        invalid = coded.decision == INVALID
        top = [pa.array(column, mask=invalid) for column in coded.top.T]
        above = [pa.array(self._groups + column.astype(int), mask=invalid) for column in coded.above.T]
        decided = np.where(coded.decision == ACCEPT, coded.top[:, 0].astype(int), NONE)
        decided = np.where(coded.decision == BACK_OFF, self._classes + coded.parent.astype(int), decided)
        if matches is not None:
            for row in np.flatnonzero(coded.decision == INDEX).tolist():
                decided[row] = self._place[matches[row].codes[0]]
        joined = None if matches is None else [" ".join(match.codes) for match in matches]
        code = pa.array(decided, mask=decided == NONE)
        picks = [self._codes.take(pa.array(column, mask=column == NONE)).fill_null("") for column in coded.picks.T]
        columns = [
            *(self._codes.take(column) for column in top),
            *(self._titles.take(column) for column in top),
            *(pa.array(np.where(invalid, np.float32(np.nan), column)) for column in coded.prob.T),
            pa.array(DECISIONS).take(pa.array(coded.decision)),
            self._codes.take(code).fill_null(""),
            self._titles.take(code).fill_null(""),
            pc.utf8_rtrim_whitespace(pc.binary_join_element_wise(*picks, " ")),  # its null_handling=skip loses rows
            pa.array(reasons, pa.string()),
            *(self._codes.take(column) for column in above),
            *(self._titles.take(column) for column in above),
            *(pa.array(np.where(invalid, np.float32(np.nan), column)) for column in coded.above_prob.T),
            *([pa.array(joined, pa.string())] if self.index and joined is not None else ()),
            *(self.explainer.columns(coded.near, coded.similarity) if self.explainer else ()),
            *(pa.array(np.where(invalid, np.float32(np.nan), column)) for column in coded.all_probabilities.T),
        ]
        table = pa.table(columns, list(self.added.labels))
        return table.to_pandas(types_mapper={pa.string(): pd.StringDtype("pyarrow")}.get)  # type: ignore[no-any-return]

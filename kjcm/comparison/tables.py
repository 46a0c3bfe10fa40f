"""Tables that compare sides: config, rows, metrics with tests, groups, and rows whose code changed."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from kjcm.analysis.content import Column, Estimate, Table, Value, metric_column
from kjcm.analysis.scores import Answers, metrics, per_group, predicted_right
from kjcm.analysis.statistics import Resamples, bootstrap_p, compare, interval, resampled
from kjcm.comparison.sides import Common, Side, common_rows
from kjcm.metrics import SUMMARY

ABSENT = object()
NO_ROWS = "no common test rows, or test rows of other data"
HASH = 12  # shown characters of a hash
FIXED, BROKEN, OTHER = "fixed", "broken", "both wrong"  # what a changed code is


@dataclass(frozen=True)
class Bootstrap:
    """How intervals are made.

    Attributes:
        replicates: resamples of the test rows; 0: no intervals.
        seed: of the resamples.
    """

    replicates: int
    seed: int


def side_table(sides: Sequence[Side]) -> Table:
    """Return the sides and the rows of each: one line per side."""
    rows = []
    for side in sides:
        run = side.first
        rows.append(
            (
                side.label, run.name, len(side.runs), str(run.path), run.report.get("n_train"), run.report.get("n_test"),
                len(run.cohort["classes"]), *(run.hashes[name][:HASH] for name in ("cohort", "split", "classes")),
            )
        )  # fmt: skip
    columns = (
        Column(""), Column("name"), Column("runs", "count"), Column("first run"), Column("training rows", "count"),
        Column("test rows", "count"), Column("classes", "count"), Column("cohort"), Column("split"), Column("class list"),
    )  # fmt: skip
    notes = (
        "A setting is its runs with different seeds.",
        "Settings with the same hash have the same cohort, split or class list.",
    )
    return Table("sides", "What is compared", columns, tuple(rows), notes)


def config_table(sides: Sequence[Side]) -> Table:
    """Return the config keys in which the sides differ, with each side's value; input files by digest."""
    settings = [side.first.setting for side in sides]
    keys = sorted({key for own in settings for key in own})
    rows = []
    for key in keys:
        values = [own.get(key, ABSENT) for own in settings]
        if any(value != values[0] for value in values):
            rows.append((key, *("" if value is ABSENT else _text(value) for value in values)))
    columns = (Column("key"), *(Column(side.label) for side in sides))
    return Table("config", "Config keys that differ", columns, tuple(rows))


def _text(value: object) -> str:
    return "null" if value is None else str(value)


def metric_table(sides: Sequence[Side]) -> Table:
    """Return each side's metrics on its own test rows: mean and SD over its runs."""
    rows: list[tuple[Value, ...]] = []
    for side in sides:
        if side.answers:
            measured = [metrics(answers) for answers in side.answers]
            values = {name: np.array([one[name] for one in measured]) for name in SUMMARY}
            rows.append((side.label, len(side.answers[0]), *(_estimate(values[name]) for name in SUMMARY)))
        else:
            rows.append((side.label, None, *(None for _ in SUMMARY)))
    columns = (Column(""), Column("test rows", "count"), *map(metric_column, SUMMARY))
    notes = ("Each setting on its own test rows; mean ± SD over its runs.",)
    return Table("metrics", "Metrics", columns, tuple(rows), notes)


def _estimate(values: NDArray[np.float64]) -> Estimate:
    return Estimate(float(values.mean()), float(values.std(ddof=1)) if len(values) > 1 else None)


def paired_table(one: Side, other: Side, common: Common, bootstrap: Bootstrap) -> Table:
    """Return the differences of the metrics on the common test rows, with intervals and tests: other minus one."""
    title = f"{other.label} minus {one.label}, on the same test rows"
    columns = (
        Column("metric"), Column(one.label, "value"), Column(other.label, "value"), Column("difference", "value"),
        Column("p", "p"),
    )  # fmt: skip
    key = f"test_{one.label}_{other.label}"
    if not len(common):
        why = (
            f"{NO_ROWS}, so nothing can be tested."
            if one.answers and other.answers
            else "one of them has no test rows."
        )
        return Table(key, title, columns, (), (f"{one.label} and {other.label}: {why}",))
    known = [answers.clusters for answers in (common.first[0], common.second[0]) if answers.clusters is not None]
    clusters = known[0] if known else None
    resamples = Resamples(len(common), clusters, bootstrap.replicates, bootstrap.seed)
    means = [_means(answers) for answers in (common.first, common.second)]
    drawn = resampled(common.second, SUMMARY, resamples) - resampled(common.first, SUMMARY, resamples)
    right = [[predicted_right(answers) for answers in side] for side in (common.second, common.first)]
    accuracy = compare(right[0], right[1], clusters, bootstrap.replicates, bootstrap.seed)
    rows: list[tuple[Value, ...]] = []
    for place, name in enumerate(SUMMARY):
        own = drawn[:, place]
        low, high = interval(own) if bootstrap.replicates else (None, None)
        p = accuracy.p if name == "accuracy" else bootstrap_p(own)
        difference = Estimate(means[1][name] - means[0][name], None, low, high)
        rows.append((metric_column(name).name, means[0][name], means[1][name], difference, p))
    notes = [f"{len(common):,} test rows that both have, with the same true codes."]
    if common.only:
        notes.append(f"Left out: {common.only:,} test rows that not every run has.")
    if common.other_codes:
        notes.append(f"Left out: {common.other_codes:,} rows whose true codes differ.")
    if bootstrap.replicates:
        units = "rows" if clusters is None else "clusters"
        notes.append(
            f"Intervals: 95 %, {bootstrap.replicates:,} resamples of the {units}. p of accuracy: {accuracy.test}; of the others: "
            "paired bootstrap; not corrected for the number of tests."
        )
    return Table(key, title, columns, tuple(rows), tuple(notes))


def _means(answers: Sequence[Answers]) -> dict[str, float]:
    measured = [metrics(one) for one in answers]
    return {name: float(np.mean([scores[name] for scores in measured])) for name in SUMMARY}


def group_table(one: Side, other: Side, common: Common) -> Table:
    """Return the groups of the common test rows, those with the most rows gained or lost first."""
    sides = [_groups(answers) for answers in (common.first, common.second)] if len(common) else []
    rows: list[tuple[float, tuple[Value, ...]]] = []
    titles = {row["code"]: row["title"] for side in (one, other) for row in side.first.report.get("per_class", ())}
    if sides:
        for code in sides[0].index.union(sides[1].index):
            mine, theirs = (side.loc[code] if code in side.index else None for side in sides)
            count = int((mine if mine is not None else theirs)["n_test"])  # type: ignore[index]
            recall, f1 = (
                [None if own is None else float(own[name]) for own in (mine, theirs)] for name in ("recall", "f1")
            )
            gained = count * ((recall[1] or 0.0) - (recall[0] or 0.0))
            rows.append((abs(gained), (code, titles.get(code, ""), count, round(gained, 1), *f1)))
    rows.sort(key=lambda row: (-row[0], str(row[1][0])))
    a, b = one.label, other.label
    columns = (
        Column("code"), Column("title"), Column("test rows", "count"), Column("rows gained", "number"),
        Column(f"F1 {a}", "share"), Column(f"F1 {b}", "share"),
    )  # fmt: skip
    notes = (
        f"Means over runs. Rows gained: the group's test rows that {b} codes correctly minus those that {a} does.",
    )
    return Table(f"groups_{a}_{b}", f"Groups: {b} and {a}", columns, tuple(row for _, row in rows), notes)


def _groups(answers: Sequence[Answers]) -> pd.DataFrame:
    """Return recall, f1 and n_test of each code, means over runs."""
    frames = [per_group(one).set_index("code")[["recall", "f1", "n_test"]] for one in answers]
    return pd.concat(frames).groupby(level=0).mean()


def changed_rows(common: Common) -> pd.DataFrame:
    """Return the common test rows whose top-1 code differs between the first runs of two sides.

    Returns:
        id, code (the true one), code_a, prob_a, code_b, prob_b, change ('fixed': only the second is right; 'broken'; 'both
        wrong').
    """
    names = ["id", "code", "code_a", "prob_a", "code_b", "prob_b", "change"]
    if not len(common):
        return pd.DataFrame(columns=names)
    one, other = common.first[0], common.second[0]
    a, b = one.codes[:, 0], other.codes[:, 0]
    changed = a != b
    right_a, right_b = a == one.truth, b == one.truth
    change = np.where(right_b, FIXED, np.where(right_a, BROKEN, OTHER))
    columns = (one.ids, one.truth, a, one.prob[:, 0], b, other.prob[:, 0], change)
    return pd.DataFrame({name: column[changed] for name, column in zip(names, columns, strict=True)})


def change_table(one: Side, other: Side, changed: pd.DataFrame, common: Common) -> Table:
    """Return how many codes changed, and between which codes most."""
    counts = changed["change"].value_counts()
    rows: list[tuple[Value, ...]] = [(name, "", "", int(counts.get(name, 0))) for name in (FIXED, BROKEN, OTHER)]
    pairs = changed.groupby(["change", "code_a", "code_b"]).size().sort_values(ascending=False, kind="stable")
    rows += [(*names, int(count)) for names, count in pairs.head(10).items()]  # type: ignore[misc]
    a, b = one.label, other.label
    columns = (Column("change"), Column(f"code {a}"), Column(f"code {b}"), Column("rows", "count"))
    notes = (
        f"{len(changed):,} of {len(common):,} common test rows have another code in {b} than in {a} (the first run of each). "
        f"{FIXED}: only {b} is right; {BROKEN}: only {a} is right.",
    )
    return Table(f"changes_{a}_{b}", f"Rows whose code changed from {a} to {b}", columns, tuple(rows), notes)


def pair_tables(one: Side, other: Side, bootstrap: Bootstrap) -> Iterator[tuple[Table, pd.DataFrame | None]]:
    """Yield the tables of two sides; with the last one the changed rows."""
    common = common_rows(one, other)
    yield paired_table(one, other, common, bootstrap), None
    if len(common):
        yield group_table(one, other, common), None
        changed = changed_rows(common)
        yield change_table(one, other, changed, common), changed

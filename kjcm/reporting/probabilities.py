"""Evaluate a model's probabilities on its test rows: calibration, error targets, pick lists, managers."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from kjcm.analysis.content import Column, Estimate, Figure, Table, Value
from kjcm.analysis.experiments import Experiment
from kjcm.analysis.scorings import Scorings, scorings
from kjcm.analysis.study import Study, mean_of
from kjcm.confusion import precision_recall_f1
from kjcm.ksco.classification import MANAGERS
from kjcm.plot.curves import draw_acceptance, draw_reliability
from kjcm.reporting.further import SIZES
from kjcm.reporting.tables import Content
from kjcm.triage.calibration import Labels, Probabilities, brier, calibration_error, reliability_of
from kjcm.triage.pick_lists import on_list, ranking, sizes
from kjcm.triage.rules import ACCEPT, CHOOSE, FIXED, SEARCH, Options

PLAIN = Options(None, FIXED, 0.95, 0.3, 5, (), "none", True)  # the defaults of conf/predict.yaml
TARGETS = (0.05, 0.1, 0.2, 0.3, 0.4)
SHARES = (0.5, 0.6, 0.7, 0.8, 0.9)
CALIBRATED = "k_jcm_calibrated"
NEEDS = "Needs a run with validation rows: train with data.validation=0.3."
SEALED = "All figures are of test rows, which set no temperature and no threshold."


def _models(study: Study, this: Experiment) -> list[tuple[str, list[Scorings]]]:
    """Return the label and the scored runs of each model that has scored runs."""
    models = [(study.label(name), list(map(scorings, study.runs.get(name, ())))) for name in this.runs]
    return [(label, found) for label, runs in models if (found := [one for one in runs if one is not None])]


def _table(
    study: Study,
    this: Experiment,
    key: str,
    title: str,
    columns: Sequence[Column],
    rows_of: Callable[[Sequence[Scorings]], Sequence[Sequence[Value]]],
    notes: Sequence[str],
) -> Table:
    """Return a table of the rows from `rows_of` for each calibrated model's runs, under the model's label.

    A model without validation rows has no row. If no model has validation rows, the table names the run that it needs.
    """
    models = _models(study, this)
    rows = tuple((label, *row) for label, found in models for row in rows_of(found))
    missing = () if models else study.missing((CALIBRATED,))
    return Table(key, title, (Column("Model"), *columns), rows, (SEALED if models else NEEDS, *notes), missing)


def calibration(study: Study, this: Experiment) -> Sequence[Content]:
    """Reliability before and after temperature scaling, and the rows that the paper's 80 % rule accepts."""
    columns = (
        Column("Probabilities"), Column("Temperature", "share"), Column("Expected calibration error", "share"),
        Column("Brier score", "share"), Column("Rows of 0.80 or more", "percent"), Column("Right among them", "percent"),
    )  # fmt: skip

    def rows(found: Sequence[Scorings]) -> Sequence[Sequence[Value]]:
        return [
            ("as the model gives them", None, *_worth(found, lambda one: one.plain)),
            ("calibrated", mean_of(one.temperature for one in found), *_worth(found, lambda one: one.calibrated)),
        ]

    note = (
        "The temperature is fitted on one half of the validation rows. It minimises the log loss over all codes, so the "
        "top-1 code's calibration error can rise. Expected calibration error: mean distance of accuracy "
        "from probability over 15 bins; Brier score: over all classes, 0 at best."
    )
    table = _table(study, this, this.key, this.heading, columns, rows, [note])
    return [table, *_reliability(study, this)]


def _worth(found: Sequence[Scorings], of: Callable[[Scorings], NDArray[np.float64]]) -> Sequence[Value]:
    """Return calibration error, Brier score, share of rows from 0.8 and accuracy among them: means over runs."""
    sure = [np.greater_equal(of(one).max(axis=1), FIXED) for one in found]
    among = [one.right(of(one))[rows].mean() if rows.any() else np.nan for one, rows in zip(found, sure, strict=True)]
    return [
        mean_of(calibration_error(reliability_of(of(one).max(axis=1), one.right(of(one)))) for one in found),
        mean_of(brier(of(one), one.test.labels) for one in found),
        mean_of(float(rows.mean()) for rows in sure),
        _mean_or_none(among),
    ]  # fmt: skip


def _reliability(study: Study, this: Experiment) -> Sequence[Content]:
    models = _models(study, this)
    if not models:
        return []
    label, (found, *_) = models[0]
    tables = {
        name: reliability_of(probability.max(axis=1), found.right(probability))
        for name, probability in (("as the model gives them", found.plain), ("calibrated", found.calibrated))
    }
    columns = (
        Column("Probabilities"), Column("From", "share"), Column("To", "share"), Column("Mean probability", "share"),
        Column("Accuracy", "share"), Column("Rows", "count"),
    )  # fmt: skip
    data: list[tuple[Value, ...]] = [
        (name, *map(float, edges), int(rows))
        for name, table in tables.items()
        for *edges, rows in table[["low", "high", "confidence", "accuracy", "rows"]].to_numpy().tolist()
    ]
    title = f"Reliability diagram of {label}"
    errors = ", ".join(f"{calibration_error(table):.3f} {name}" for name, table in tables.items())
    return [
        Figure(
            "reliability", title, lambda: draw_reliability(tables, synthetic=study.synthetic),
            f"Accuracy against probability. Expected calibration error: {errors}.",
            Table("reliability", title, columns, tuple(data)), (SEALED, f"Expected calibration error: {errors}."),
        )
    ]  # fmt: skip


def triage(study: Study, this: Experiment) -> Sequence[Content]:
    """Rows accepted under an error target and their errors; accuracy by acceptance; pick lists; managers."""
    return [
        _promises(study, this),
        _acceptance(study, this),
        *_curve(study, this),
        _lists(study, this),
        _managers(study, this),
    ]


def _promises(study: Study, this: Experiment) -> Table:
    columns = (
        Column("Rule"), Column("Accepted", "percent"), Column("Errors among them", "percent"),
        Column("Runs within the target", "figure"), Column("To choose from a list", "percent"),
        Column("To search for", "percent"),
    )  # fmt: skip

    def rows(found: Sequence[Scorings]) -> Sequence[Sequence[Value]]:
        rules = {f"at most {100 * target:.0f} % errors": replace(PLAIN, target_error=target) for target in TARGETS}
        rules = {"probability 0.80, calibrated": PLAIN, **rules}
        return [(name, *_followed(found, options)) for name, options in rules.items()]

    notes = (
        "A target is promised with 95 % confidence, for rows like the validation rows. Runs whose accepted test rows had no more "
        "errors, out of all runs: chance alone takes some past a promise that is kept. Errors are a mean over the runs that "
        "accepted a row.",
        f"Rows that are not accepted get a pick list of 1 to {PLAIN.k} codes, or are left to search for.",
    )
    return _table(study, this, this.key, this.heading, columns, rows, notes)


def _followed(found: Sequence[Scorings], options: Options) -> Sequence[Value]:
    """Return a rule's outcome on the test rows: means over runs."""
    cells: list[list[float]] = []
    for one in found:
        decision = one.triage(options).decide(one.calibrated).decision
        taken, chosen, searched = (decision == place for place in (ACCEPT, CHOOSE, SEARCH))
        error = float((~one.right(one.calibrated))[taken].mean()) if taken.any() else np.nan
        cells.append([float(taken.mean()), error, float(chosen.mean()), float(searched.mean())])
    accepted, errors, choose, search = zip(*cells, strict=True)
    within = sum(not error > (options.target_error or 1) for error in errors)  # NaN (nothing accepted) counts as within
    return [
        mean_of(accepted), _mean_or_none(errors),
        None if options.target_error is None else f"{within} of {len(found)}", mean_of(choose), mean_of(search),
    ]  # fmt: skip


def _acceptance(study: Study, this: Experiment) -> Table:
    columns = [Column(f"{100 * share:.0f} % accepted", "percent") for share in SHARES]

    def rows(found: Sequence[Scorings]) -> Sequence[Sequence[Value]]:
        right = [_by_confidence(one) for one in found]
        return [[mean_of(float(one[: max(1, int(share * len(one)))].mean()) for one in right) for share in SHARES]]

    title = "Accuracy of the rows that the model is surest of"
    return _table(study, this, "acceptance", title, columns, rows, [])


def _by_confidence(one: Scorings) -> NDArray[np.bool_]:
    """Return which rows are right, the most probable first."""
    return one.right(one.calibrated)[np.argsort(-one.calibrated.max(axis=1), kind="stable")]


def _curve(study: Study, this: Experiment) -> Sequence[Content]:
    lines: dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]] = {}
    for label, (first, *_) in _models(study, this):
        right = _by_confidence(first)
        counts = np.unique(np.linspace(max(1, len(right) // 50), len(right), 50).astype(int))
        lines[label] = counts / len(right), right.cumsum()[counts - 1] / counts
    if not lines:
        return []
    columns = (Column("Model"), Column("Accepted", "share"), Column("Accuracy", "share"))
    data = [(label, float(x), float(y)) for label, line in lines.items() for x, y in zip(*line, strict=True)]
    title = "Accuracy against acceptance"
    ends = "; ".join(
        f"{label}: {100 * y[0]:.0f} % of the surest rows right, {100 * y[-1]:.0f} % of all"
        for label, (_, y) in lines.items()
    )
    return [
        Figure(
            "acceptance_curve", title, lambda: draw_acceptance(lines, synthetic=study.synthetic),
            f"Accuracy falls as more rows are accepted. {ends}.",
            Table("acceptance_curve", title, columns, tuple(data)), (SEALED, "The first seed of each model."),
        )
    ]  # fmt: skip


def _lists(study: Study, this: Experiment) -> Table:
    columns = (
        Column("Groups by size"), Column("Undecided rows", "count"), Column("With a list", "percent"),
        Column("Mean codes", "number"), Column("Right code on the list", "percent"),
        Column("Right code in a top-n of equal mean length", "percent"),
        Column("Right code in the Top-5 without a list", "percent"),
    )  # fmt: skip

    def rows(found: Sequence[Scorings]) -> Sequence[Sequence[Value]]:
        order = np.argsort(found[0].tree.n_train, kind="stable")
        thirds = dict(zip(SIZES, np.array_split(order, 3), strict=True))
        parts = {"all": None, **thirds}
        return [(name, *values) for name, classes in parts.items() if (values := _covered(found, classes)) is not None]

    notes = (
        f"Undecided rows are those whose probability is below {FIXED:.2f}. A list has 1 to {PLAIN.k} codes. It is "
        f"shown where the test promises that at most {100 * PLAIN.alpha:.0f} % of the shown lists miss the right code, with 95 % "
        "confidence, for all groups together. Right codes are counted among the shown lists; a code that the model does not know "
        "is a miss.",
    )
    return _table(study, this, "pick_lists", "Pick lists", columns, rows, notes)


def _covered(found: Sequence[Scorings], classes: NDArray[np.int64] | None) -> Sequence[Value] | None:
    """Return the pick lists' results on undecided test rows of some classes (None: all): means over runs, None without rows."""
    cells: list[list[float]] = []
    for one in found:
        own = np.ones(len(one.test.labels), bool) if classes is None else np.isin(one.test.labels, classes)
        decided = one.triage(PLAIN).decide(one.calibrated[own])
        labels = one.test.labels[own]
        listed, searched = decided.decision == CHOOSE, decided.decision == SEARCH
        if not (listed | searched).any():
            continue
        hit = on_list(decided.picks[listed], labels[listed])
        length = float(sizes(decided.picks[listed]).mean()) if listed.any() else np.nan
        shown = one.calibrated[own][listed], labels[listed]
        top = on_list(ranking(one.calibrated[own][searched], 5).astype(np.int16), labels[searched])
        cells.append(
            [
                float((listed | searched).sum()), float(listed.sum() / (listed | searched).sum()), length,
                float(hit.mean()) if listed.any() else np.nan, plain_top_n(*shown, length) if listed.any() else np.nan,
                float(top.mean()) if searched.any() else np.nan,
            ]
        )  # fmt: skip
    if not cells:
        return None
    count, *shares = zip(*cells, strict=True)
    return [round(float(np.mean(count))), *map(_mean_or_none, shares)]


def plain_top_n(probability: Probabilities, labels: Labels, length: float) -> float:
    """Return how often the right code is among the top `length`, interpolated between the adjacent whole numbers."""
    n = int(length)
    fewer, more = (float(on_list(ranking(probability, k).astype(np.int16), labels).mean()) for k in (n, n + 1))
    return fewer + (length - n) * (more - fewer)


def _managers(study: Study, this: Experiment) -> Table:
    columns = (
        Column("Who can be coded as a manager"), Column("Coded as one", "count"), Column("Precision", "share"),
        Column("Recall", "share"), Column("Accuracy of all rows", "percent"),
    )  # fmt: skip

    def rows(found: Sequence[Scorings]) -> Sequence[Sequence[Value]]:
        if not any(major == MANAGERS for major in found[0].tree.majors):
            return []
        rules = {"everybody": "none", "who says so in position or task": "words"}
        if any(one.test.answers.any() for one in found):
            rules["who answers yes"] = "column"
        return [(name, *_gated(found, rule)) for name, rule in rules.items()]

    note = f"Major group {MANAGERS}; who says so has one of data.manager_words."
    return _table(study, this, "managers", "Managers", columns, rows, [note])


def _gated(found: Sequence[Scorings], rule: str) -> Sequence[Value]:
    """Return a managers' rule's outcome: rows coded as managers, their precision and recall, and overall accuracy."""
    cells: list[list[float]] = []
    for one in found:
        rules = one.triage(replace(PLAIN, managers=rule))
        probability = rules.probability(one.test)
        manager = np.append(rules.managing, False)  # a code that is not a class counts as no manager
        given = manager[probability.argmax(axis=1)]
        true = manager[np.minimum(one.test.labels, len(manager) - 1)]
        precision, recall, _ = precision_recall_f1(true.sum(), given.sum(), (given & true).sum(), empty=np.nan)
        cells.append([float(given.sum()), float(precision), float(recall), float(one.right(probability).mean())])
    count, *shares = zip(*cells, strict=True)
    return [round(float(np.mean(count))), *map(_mean_or_none, shares)]


def _mean_or_none(values: Sequence[float]) -> Estimate | None:
    """Return the mean over the runs that have a value, None if no run has one."""
    there = [value for value in values if not np.isnan(value)]
    return mean_of(there) if there else None

"""Tables beyond the paper: comparisons, digits, unseen texts, label noise, waves, small groups, all groups, the search."""

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import pandas as pd

from kjcm.analysis.content import NOT_RUN, Column, Estimate, Table, Value, metric_column
from kjcm.analysis.experiments import Experiment
from kjcm.analysis.formats import show
from kjcm.analysis.scores import Answers, at_level, metrics, predicted_right
from kjcm.analysis.statistics import BOOTSTRAP, Comparison, Flags, compare, holm
from kjcm.analysis.study import Study, mean_of, not_run
from kjcm.errors import counted
from kjcm.reporting.tables import (
    ROWS_AND_METRICS,
    UNCERTAINTY,
    Content,
    common_rows,
    model_table,
    rows_and_metrics,
    with_errors,
)
from kjcm.run_folder.results import same_text

LEVELS = (1, 2, 3, 4)
TRIAL = ("loss", "accuracy", "f1_weighted", "f1_macro")  # metrics of a trial
SIZES = ("tail: the third of the groups with the fewest training rows", "middle third", "head: the third with the most")


def comparisons(study: Study, this: Experiment) -> Sequence[Content]:
    """Compare every pair of models on the test rows whose code both can predict."""
    columns = (
        Column("First"), Column("Second"), Column("Rows", "count"), Column("Accuracy, first", "percent"),
        Column("Accuracy, second", "percent"), Column("Difference", "percent"), Column("Low", "percent"),
        Column("High", "percent"), Column("Test"), Column("p", "p"), Column("p, Holm", "p"),
    )  # fmt: skip
    pairs = list(combinations([key for key in this.runs if key in study.runs], 2))
    found = [paired(study, one, other) for one, other in pairs]
    tested = [number for number, (result, _) in enumerate(found) if result.p is not None]
    corrected = dict(zip(tested, holm([found[number][0].p or 0.0 for number in tested]), strict=True))
    table_rows = [
        (
            study.label(one), study.label(other), result.n, float(np.mean(sides[0])), float(np.mean(sides[1])),
            result.difference, result.low, result.high, result.test, result.p, corrected.get(number),
        )
        for number, ((one, other), (result, sides)) in enumerate(zip(pairs, found, strict=True))
    ]  # fmt: skip
    notes = [
        "Difference: accuracy of the first model minus the second's, in percentage points, with its 95 % bootstrap interval.",
        "McNemar's exact test where both models have one seed and there are no clusters; otherwise a paired bootstrap over "
        f"rows (or clusters) of means over seeds. Holm's method corrects p for {counted(len(tested), 'comparison')}.",
    ]
    drawn = sum(result.test == BOOTSTRAP for result, _ in found)
    if study.replicates and drawn:
        least = min(1.0, drawn * 2 / (study.replicates + 1))  # see `bootstrap_p`
        notes.append(
            f"With {study.replicates:,} resamples the smallest corrected p of a paired bootstrap is {show(least, 'p')}. "
            "Raise replicates=NUMBER for smaller ones."
        )
    return [Table(this.key, this.heading, columns, tuple(table_rows), tuple(notes), study.missing(this.runs))]


def paired(study: Study, one: str, other: str) -> tuple[Comparison, list[list[Flags]]]:
    """Return the paired test of two models, and for each model and seed whether it is right on each of the rows."""
    rows = common_rows(study, (one, other))
    sides = [[predicted_right(answers.on(rows)) for answers in study.answers(key)] for key in (one, other)]
    clusters = study.answers(one)[0].on(rows).clusters
    return compare(sides[0], sides[1], clusters, study.replicates, study.bootstrap_seed), sides


def digits(study: Study, this: Experiment) -> Sequence[Content]:
    """Return each model's accuracy with codes cut to one, two, three and, if the model predicts them, four digits."""

    def accuracy(key: str, to: int) -> Estimate | None:
        if any(study.classification.at_level(code, to) is None for code in set(study.answers(key)[0].truth)):
            return None  # with `from_data`, codes may be shorter
        coarse = [at_level(one, lambda code: study.classification.at_level(code, to)) for one in study.answers(key)]
        return study.estimated(coarse)["accuracy"]

    def row(key: str) -> Sequence[Value]:
        level = study.runs[key][0].report["level"] or max(LEVELS)
        return [*(accuracy(key, to) if to <= level else None for to in LEVELS), study.runs[key][0].report["n_classes"]]

    columns = [
        *(Column(f"{level} digit{'s' if level > 1 else ''}", "percent") for level in LEVELS),
        Column("Groups", "count"),
    ]
    notes = (
        UNCERTAINTY,
        "Each model is trained at its own number of digits; its codes are cut to fewer. The four-digit model has its own test "
        "rows.",
    )
    return [model_table(study, this, columns, row, notes)]


def texts(study: Study, this: Experiment) -> Sequence[Content]:
    """Return the accuracy on texts seen and never seen in training, and the ceiling that label noise sets."""

    def parts(answers: Answers) -> tuple[Answers, Answers] | None:
        return None if answers.seen is None else (answers.take(answers.seen), answers.take(~answers.seen))

    def row(key: str) -> Sequence[Value]:
        both = [parts(one) for one in study.answers(key)]
        cells: list[Value] = []
        for side in (0, 1):
            answers = [one[side] for one in both if one is not None]
            if not answers or not len(answers[0]):
                cells += [0 if answers else None, None]
            else:
                cells += [len(answers[0]), study.estimated(answers)["accuracy"]]
        return cells

    columns = [
        Column("Rows seen", "count"), Column("Accuracy, text seen in training", "percent"), Column("Rows unseen", "count"),
        Column("Accuracy, text never seen", "percent"),
    ]  # fmt: skip
    note = "A text is seen if the model's training texts contain exactly this text."
    return [model_table(study, this, columns, row, (note, UNCERTAINTY)), _label_noise(study, this)]


def _label_noise(study: Study, this: Experiment) -> Table:
    columns = (
        Column("Rows"), Column("Number", "count"), Column("Distinct texts", "count"), Column("Rows of a repeated text", "count"),
        Column("Rows whose text has several codes", "count"), Column("Ceiling of accuracy", "percent"),
    )  # fmt: skip
    cohort, answers = study.reference.cohort, study.reference.answers
    parts = [("cohort", cohort["flow"]["cohort"], cohort["same_text"])]
    if answers.texts is not None:
        test = pd.DataFrame({"text": answers.texts, "code": answers.truth})
        parts.append(("test", len(test), same_text(test)))
    names = ("texts", "rows_repeated", "rows_conflicting", "ceiling")
    rows = [(side, number, *(found[name] for name in names)) for side, number, found in parts]
    note = (
        "Ceiling: the accuracy on these rows if every text got its most frequent code. No model that sees only the text can do "
        "better."
    )
    return Table("label_noise", "Same text, different codes", columns, tuple(rows), (note,))


def waves(study: Study, this: Experiment) -> Sequence[Content]:
    """Return metrics of models that train on one wave and test on the other, and of the model of both waves."""
    if not all(map(study.applies, this.runs)):
        return [Table(this.key, this.heading, ROWS_AND_METRICS, (), ("These data have no waves.",))]
    notes = (UNCERTAINTY, "Each model has its own test rows: all rows of the other wave, or 30 % of both waves.")
    return [model_table(study, this, ROWS_AND_METRICS, lambda key: rows_and_metrics(study, study.answers(key)), notes)]


def head_and_tail(study: Study, this: Experiment) -> Sequence[Content]:
    """Return accuracy and mean precision, recall and F1 for thirds of the groups by training rows."""
    columns = (
        Column("Model"), Column("Groups by size"), Column("Groups", "count"), Column("Training rows", "figure"),
        Column("Test rows", "count"), Column("Accuracy", "percent"), Column("Mean precision", "share"),
        Column("Mean recall", "share"), Column("Mean F1", "share"),
    )  # fmt: skip
    sizes = pd.Series(study.reference.trained)
    order = sizes.sort_values(kind="stable").index
    thirds = [list(third) for third in np.array_split(order.to_numpy(object), 3)]
    reference = study.reference.answers
    rows: list[tuple[Value, ...]] = []
    for key in this.runs:
        if key not in study.runs:
            rows += [not_run(study.label(key), len(columns))] if study.applies(key) else []
            continue
        for name, third in zip(SIZES, thirds, strict=True):
            if not third:  # fewer than three groups
                continue
            frames = [frame.reindex(third, fill_value=0) for frame in study.groups[key]]
            rows_of_third = np.isin(reference.truth, third)
            own = [with_errors(answers, reference).take(rows_of_third) for answers in study.answers(key)]
            rows.append(
                (
                    study.label(key), name, len(third), f"{sizes[third].min():,} to {sizes[third].max():,}", len(own[0]),
                    mean_of(metrics(one)["accuracy"] for one in own) if len(own[0]) else None,
                    *(mean_of(frame[metric].mean() for frame in frames) for metric in ("precision", "recall", "f1")),
                )
            )  # fmt: skip
    notes = (
        f"Thirds of the groups by the training rows of {study.label(study.reference.name)}; means are over groups, each counted "
        "once. A group that a model cannot predict counts as 0, and its rows count as errors.",
        "Mean over seeds ± standard deviation.",
    )
    return [Table(this.key, this.heading, columns, tuple(rows), notes, study.missing(this.runs))]


def all_groups(study: Study, this: Experiment) -> Sequence[Content]:
    """Return metrics over every group of the classification; a group that a model cannot predict is an error."""
    total = study.reference.cohort["classification_groups"]

    def row(key: str) -> Sequence[Value]:
        run = study.runs[key][0]
        left = sum(group["test"] for group in run.cohort["left_groups"])
        rows = run.report["n_test"] + left
        right = [metrics(one)["accuracy"] * len(one) for one in study.answers(key)]
        frames = study.groups[key]
        weighted = [float((frame["f1"] * frame["n_test"]).sum()) / rows for frame in frames]
        return [
            len(run.trained), left, rows, mean_of(value / rows for value in right), mean_of(weighted),
            mean_of(frame["f1"].sum() / (total or len(frame)) for frame in frames),
        ]  # fmt: skip

    columns = [
        Column("Groups it can predict", "count"), Column("Test rows of others", "count"), Column("All test rows", "count"),
        *map(metric_column, ("accuracy", "f1_weighted", "f1_macro")),
    ]  # fmt: skip
    notes = (
        f"All {total} groups of the classification are counted; macro F1 is over all of them, including groups without rows."
        if total
        else "The classification does not list its groups; macro F1 is over the groups that a model can predict.",
        "Test rows of others: test rows whose group is below the cutoff. They count as errors. No model has read "
        "them, so they lower no group's precision, and F1 is an upper bound. Mean over seeds ± standard deviation.",
    )
    return [model_table(study, this, columns, row, notes)]


def search(study: Study, this: Experiment) -> Sequence[Content]:
    """Return every trial of the hyperparameter search on validation rows, the best first."""
    (key,) = this.runs
    columns = (
        Column("Batch size", "count"), Column("Learning rate", "figure"), Column("Epochs", "count"), Column("Seed", "count"),
        Column("Validation loss", "value"), *map(metric_column, TRIAL[1:]),
    )  # fmt: skip
    missing = study.missing(this.runs)
    if key not in study.runs:
        return [Table(this.key, this.heading, columns, ((NOT_RUN, *[None] * (len(columns) - 1)),), (), missing)]
    trials = [
        (
            run.config["data"]["batch_size"], f"{run.config['optim']['lr']:g}", run.config["trainer"]["max_epochs"], run.seed,
            *(run.report["validation"].get(name) for name in TRIAL),
        )
        for run in study.runs[key]
    ]  # fmt: skip
    trials.sort(key=lambda trial: (-(trial[6] or 0.0), trial[:4]))
    looked = sum(bool(run.report["n_test"]) for run in study.runs[key])
    notes = (
        "Ordered by weighted F1 on the validation rows, which are part of K-JCM's training rows.",
        "No trial read the test rows."
        if not looked
        else f"{counted(looked, 'trial')} read the test rows (evaluate=true). Do not choose by their test results.",
    )
    return [Table(this.key, this.heading, columns, tuple(trials), notes, missing)]


def runs_found(study: Study, this: Experiment) -> Sequence[Content]:
    """Return every run folder found, and its status in the report."""
    columns = (
        Column("Run"),
        Column("Model"),
        Column("Seed", "count"),
        Column("In this report"),
        Column(f"Differs from {study.label(study.anchor.name)} in"),
    )
    rows = [
        (one.path.as_posix(), one.name, one.seed, one.state, one.differs)
        for one in sorted(study.listed, key=lambda one: one.path.as_posix())
    ]
    return [
        Table(this.key, this.heading, columns, tuple(rows), ("Every run folder found, and its status in this report.",))
    ]

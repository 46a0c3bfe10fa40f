"""The paper's tables, each a function of a study."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd

from kjcm.analysis.content import Column, Figure, Table, Value, metric_column
from kjcm.analysis.experiments import Experiment
from kjcm.analysis.formats import show
from kjcm.analysis.scores import Answers
from kjcm.analysis.study import MAIN, Study, mean_of, not_run
from kjcm.metrics import REPORTED, TOP

PRINTED_EXAMPLES = ("285", "320", "630", "910")  # the groups of the paper's Table 1
PRINTED_PROBABILITY = 0.4562  # of the top-1 code in the paper's Table 2
HIDDEN = "withheld (texts=true shows it)"
HALF = "k_jcm_half"
ROWS_AND_METRICS = (Column("Test rows", "count"), *map(metric_column, REPORTED))
UNCERTAINTY = "Mean over seeds ± standard deviation over seeds; in brackets the 95 % bootstrap interval over test rows."
Content = Table | Figure


def model_table(
    study: Study,
    this: Experiment,
    columns: Sequence[Column],
    row: Callable[[str], Sequence[Value]],
    notes: Sequence[str] = (),
    key: str = "",
    title: str = "",
) -> Table:
    """Return a table with one row per model: its label, its number of seeds, and the values of `row` for its key."""
    whole = (Column("Model"), Column("Seeds", "count"), *columns)
    rows = [
        (study.label(one), len(study.runs[one]), *row(one))
        if one in study.runs
        else not_run(study.label(one), len(whole))
        for one in this.runs
        if study.applies(one)
    ]
    return Table(key or this.key, title or this.heading, whole, tuple(rows), tuple(notes), study.missing(this.runs))


def rows_and_metrics(study: Study, answers: Sequence[Answers]) -> Sequence[Value]:
    """Return the values of ROWS_AND_METRICS for one model's runs."""
    found = study.estimated(answers)
    return [len(answers[0]), *(found[name] for name in REPORTED)]


def wording_examples(study: Study, this: Experiment) -> Sequence[Content]:
    """Table 1: what the model reads, one training row of each group that the paper shows."""
    columns = (Column("Text that the model reads"), Column("Code"), Column("Title"), Column("English title"))
    if study.texts is None:
        return [Table(this.key, this.heading, columns, (), text_notes(study))]
    training = study.texts[study.texts["side"] == "train"].drop_duplicates("code").set_index("code")["text"]
    known = [code for code in PRINTED_EXAMPLES if code in training]
    largest = sorted(training.index, key=lambda code: (-study.reference.trained[code], code))
    codes = (known + [code for code in largest if code not in known])[: len(PRINTED_EXAMPLES)]
    rows = [(str(training[code]), code, study.titles.get(code), study.english.get(code)) for code in codes]
    return [Table(this.key, this.heading, columns, tuple(rows), text_notes(study))]


def text_notes(study: Study) -> tuple[str, ...]:
    """Return the notes beneath a table of answers."""
    if study.synthetic:
        return ("The answers are synthetic: nobody gave them.",)
    if study.texts is None:
        return ("Respondents' answers are personal and stay out of the report unless texts=true.",)
    return ()


def example_output(study: Study, this: Experiment) -> Sequence[Content]:
    """Table 2: one test row with the model's first five codes and their probabilities.

    The model is as sure of this row's code as the paper's model was of its example.
    """
    columns = (
        Column("Order", "count"),
        Column("Code"),
        Column("Title"),
        Column("English title"),
        Column("Probability", "percent"),
    )
    if MAIN not in study.runs:
        return [Table(this.key, this.heading, columns, (), (), study.missing((MAIN,)))]
    answers = study.answers(MAIN)[0]
    row = int(np.lexsort((answers.ids, np.abs(answers.prob[:, 0] - PRINTED_PROBABILITY)))[0])
    codes = [code for code in answers.codes[row, :5] if code is not None]
    rows = [
        (place + 1, code, study.titles.get(code), study.english.get(code), float(answers.prob[row, place]))
        for place, code in enumerate(codes)
    ]
    text = HIDDEN if study.texts is None else str(study.texts.set_index("id")["text"][answers.ids[row]])
    true = answers.truth[row]
    notes = (
        f"Input: {text}",
        f"The row's own code is {_named(true, study.titles)}.",
        "Of all test rows this one has the top-1 probability nearest to the paper's "
        f"{show(PRINTED_PROBABILITY, 'percent')}.",
        *text_notes(study),
    )
    return [Table(this.key, this.heading, columns, tuple(rows), notes)]


def _named(code: str, titles: Mapping[str, str]) -> str:
    """Return a code, with its title in parentheses if it has one."""
    return f"{code} ({titles[code]})" if titles.get(code) else code


def evaluation_metrics(study: Study, this: Experiment) -> Sequence[Content]:
    """Table 3: accuracy and weighted precision, recall and F1, of the paper's model and of others on the same split."""
    notes = (
        UNCERTAINTY,
        "Precision, recall and F1 are weighted by the groups' test rows; a group never predicted has precision 0.",
    )
    further = list(dict.fromkeys(name for key in this.runs for name in study.further.get(key, ())))

    def row(key: str) -> Sequence[Value]:
        return [*rows_and_metrics(study, study.answers(key)), *(study.further[key].get(name) for name in further)]

    return [model_table(study, this, (*ROWS_AND_METRICS, *map(metric_column, further)), row, notes)]


def top_k(study: Study, this: Experiment) -> Sequence[Content]:
    """Supplementary Table 2: how often the right code is among the top two to five."""
    names = [f"top_{k}_accuracy" for k in TOP]
    return [
        model_table(
            study,
            this,
            list(map(metric_column, names)),
            lambda key: [study.metrics[key].get(name) for name in names],
            (UNCERTAINTY,),
        )
    ]


def precision_by_major(study: Study, this: Experiment) -> Sequence[Content]:
    """Table 4: groups, training rows and the distribution of precision in each major group."""
    columns = (
        Column("Major group"), Column("Title"), Column("Groups", "count"), Column("Training rows", "count"),
        Column("Average", "number"), Column("Min", "share"), Column("Q1", "share"), Column("Median", "share"),
        Column("Q3", "share"), Column("Max", "share"),
    )  # fmt: skip
    if MAIN not in study.runs:
        return [Table(this.key, this.heading, columns, (), (), study.missing((MAIN,)))]
    found = study.post_hoc(MAIN)
    rows: list[tuple[Value, ...]] = [
        (
            major,
            study.titles.get(major, ""),
            size["groups"],
            size["train"],
            size["train"] / size["groups"],
            *(found[f"{major}.{name}"] for name in ("min", "q1", "median", "q3", "max")),
        )
        for major, size in major_sizes(study).items()
    ]
    notes = (UNCERTAINTY, "Quartiles are linear (R type 7); a group never predicted has precision 0.")
    return [Table(this.key, this.heading, columns, tuple(rows), notes)]


def major_sizes(study: Study) -> dict[str, dict[str, int]]:
    """Return major group -> its predictable groups and their training rows, of K-JCM."""
    sizes: dict[str, dict[str, int]] = {}
    for code, rows in study.runs[MAIN][0].trained.items():
        own = sizes.setdefault(study.major(code), {"groups": 0, "train": 0})
        own["groups"] += 1
        own["train"] += rows
    return sizes


def every_group(study: Study, this: Experiment) -> Sequence[Content]:
    """Supplementary Table 1: each group's precision, recall, F1 and sizes."""
    columns = (
        Column("Code"), Column("Title"), Column("English title"), Column("Precision", "share"), Column("Recall", "share"),
        Column("F1", "share"), Column("Training rows", "count"), Column("Test rows", "count"), Column("Predicted", "number"),
    )  # fmt: skip
    if MAIN not in study.runs:
        return [Table(this.key, this.heading, columns, (), (), study.missing((MAIN,)))]
    frames = study.groups[MAIN]
    rows = [
        (
            code, study.titles.get(code, ""), study.english.get(code, ""),
            *(mean_of(frame.loc[code, name] for frame in frames) for name in ("precision", "recall", "f1")),
            int(frames[0].loc[code, "n_train"]), int(frames[0].loc[code, "n_test"]),
            float(np.mean([frame.loc[code, "n_predicted"] for frame in frames])),
        )
        for code in frames[0].index
    ]  # fmt: skip
    never = sum(int((frame["n_predicted"] == 0).sum()) for frame in frames) / len(frames)
    notes = (
        f"{never:g} of {len(rows)} groups are never predicted{' (mean over seeds)' if len(frames) > 1 else ''}; their "
        "precision is 0.",
    )
    return [Table(this.key, this.heading, columns, tuple(rows), notes)]


def own_common_and_all(study: Study, this: Experiment) -> Sequence[Content]:
    """Supplementary Table 3: K-JCM and Models 2 to 4 on their own test rows, on common rows, and on all of K-JCM's rows."""
    present = [key for key in this.runs if key in study.runs]
    common = common_rows(study, present) if present else []
    reference = study.reference.answers

    def row_of(choose: Callable[[Answers], Answers]) -> Callable[[str], Sequence[Value]]:
        return lambda key: rows_and_metrics(study, [choose(one) for one in study.answers(key)])

    views: dict[str, tuple[str, Callable[[Answers], Answers], str]] = {
        "": ("own test rows", lambda one: one, "Models 2 and 4 leave groups out, so their own test rows are easier."),
        "_common": (
            "test rows that all of them can answer",
            lambda one: one.on(common),
            "The rows of groups that every model above can predict.",
        ),
        "_all": (
            f"all test rows of {study.label(study.reference.name)}",
            lambda one: with_errors(one, reference),
            "A row of a group that a model leaves out counts as an error of that model.",
        ),
    }
    return [
        model_table(
            study, this, ROWS_AND_METRICS, row_of(choose), (note, UNCERTAINTY), f"{this.key}{ending}", f"{this.heading}: {name}"
        )
        for ending, (name, choose, note) in views.items()
    ]  # fmt: skip


def common_rows(study: Study, keys: Sequence[str]) -> list[str]:
    """Return the ids of test rows whose code every model among `keys` can predict, in the first model's order."""
    able = set.intersection(*(_answerable(study, key) for key in keys))
    return [row for row in study.answers(keys[0])[0].ids if row in able]


def _answerable(study: Study, key: str) -> set[str]:
    answers, trained = study.answers(key)[0], study.runs[key][0].trained
    return {row for row, code in zip(answers.ids, answers.truth, strict=True) if code in trained}


def with_errors(answers: Answers, reference: Answers) -> Answers:
    """Return answers to all rows of `reference`; a row that `answers` lacks has no prediction and counts as an error."""
    place = pd.Index(answers.ids).get_indexer(pd.Index(reference.ids))
    codes = np.append(answers.codes, np.full((1, answers.codes.shape[1]), None, object), axis=0)[place]
    prob = np.append(answers.prob, np.full((1, answers.prob.shape[1]), np.nan), axis=0)[place]
    return Answers(reference.ids, reference.truth, codes, prob, reference.clusters, place=answers.place)

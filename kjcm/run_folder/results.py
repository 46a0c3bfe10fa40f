"""A run's results on its test rows: metrics, figures of each group, and ten codes per row."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from kjcm.confusion import averages, counts
from kjcm.errors import counted, some
from kjcm.ksco.classification import Classification
from kjcm.metrics import SHOWN_CODES, SUMMARY, shown
from kjcm.run_folder.model_folder import UNVALIDATED
from kjcm.survey.cohort import SIDES, Cohort

if TYPE_CHECKING:
    from kjcm.engine.module import Predictions

SYNTHETIC_REMARK = (
    "SYNTHETIC twin: these figures say nothing about real answers, and are not comparable with the paper's"
)


@dataclass(frozen=True)
class Outcome:
    """A model's measured results.

    Attributes:
        metrics: test metrics, {} without a test.
        per_class: metric -> values by class, then by unseen code.
        validation: validation loss and metrics, {} without validation rows.
        predictions: predictions for the test rows, batch by batch.
        validated: predictions for the validation rows, batch by batch.
        device: the device of the measurement.
    """

    metrics: dict[str, float]
    per_class: dict[str, list[float]]
    validation: dict[str, float]
    predictions: "list[Predictions]"
    validated: "list[Predictions]"
    device: str


def prediction_frame(rows: pd.DataFrame, predictions: "list[Predictions]", classes: Sequence[str]) -> pd.DataFrame:
    """Return id, code, code_1..code_10, prob_1..prob_10 in the order of `rows`; empty beyond the number of classes."""
    numbers, top, prob = (
        np.concatenate([getattr(batch, name).numpy() for batch in predictions]) for name in ("rows", "top", "prob")
    )
    place = np.argsort(numbers)
    names = np.array([*classes], dtype=object)[top[place]]
    frame = rows[["id", "code"]].reset_index(drop=True)
    columns: dict[str, Any] = {}
    for k in range(SHOWN_CODES):
        columns[f"code_{k + 1}"] = names[:, k] if k < names.shape[1] else None
    for k in range(SHOWN_CODES):
        columns[f"prob_{k + 1}"] = prob[place, k] if k < names.shape[1] else np.float32("nan")
    return pd.concat([frame, pd.DataFrame(columns, index=frame.index)], axis=1)


def about_texts(rows: pd.DataFrame, learnt: Iterable[str]) -> pd.DataFrame:
    """Return what comparisons need to know about each row's text, without the text itself.

    Args:
        rows: test rows with text, and cluster if mapped.
        learnt: the training texts, including augmentation.

    Returns:
        Columns text (int32, equal for rows with the same text, numbered by first occurrence), seen (whether the text is
        a training text), and cluster if mapped.
    """
    frame = pd.DataFrame(
        {"text": pd.factorize(rows["text"])[0].astype(np.int32), "seen": rows["text"].isin(set(learnt)).to_numpy(bool)}
    )
    return frame.assign(cluster=rows["cluster"].to_numpy()) if "cluster" in rows else frame


def outcome_record(
    outcome: Outcome,
    test: pd.DataFrame | None,
    classes: Sequence[str],
    unseen: Sequence[str],
    classification: Classification,
    n_train: Mapping[str, int],
) -> dict[str, Any]:
    """Return the part of report.json and metrics.json about the test rows."""
    codes = [] if test is None else test["code"].tolist()
    without = [code for code in codes if not n_train.get(code)]
    record: dict[str, Any] = {
        "metrics": outcome.metrics,
        "device": outcome.device,
        "n_test": len(codes),
        "n_test_without_training": len(without),
        "codes_without_training": sorted(set(without)),
        "per_class": [],
    }
    if test is not None:
        record["per_class"] = per_class_rows([*classes, *unseen], outcome.per_class, classification, n_train)
        record["groups_never_predicted"] = sum(
            row["n_predicted"] == 0 for row in record["per_class"] if row["code"] not in unseen
        )
        if set(without) & set(classes):  # data.classes=all
            predicted = prediction_frame(test, outcome.predictions, classes)
            record["metrics_without_training"] = _of_codes(predicted, record["codes_without_training"])
        if "weight" in test:
            first = prediction_frame(test, outcome.predictions, classes)["code_1"]
            record["metrics_survey_weighted"] = survey_weighted(
                test["code"].tolist(), first.tolist(), test["weight"].tolist()
            )
    return record


def _of_codes(predicted: pd.DataFrame, codes: Sequence[str]) -> dict[str, float]:
    """Return accuracy and Top-5 accuracy of the test rows with some codes."""
    rows = predicted[predicted["code"].isin(list(codes))]
    right = rows[[f"code_{k}" for k in range(1, 6)]].eq(rows["code"], axis=0)
    return {"accuracy": float(right["code_1"].mean()), "top_5_accuracy": float(right.any(axis=1).mean())}


def show(report: Mapping[str, Any], path: Path) -> None:
    """Print the metrics and the path of the results."""
    from rich.console import Console
    from rich.table import Table

    console = Console(markup=False, highlight=False)  # codes and paths may contain brackets
    if report["metrics"]:
        table = Table(title=f"{report['n_test']:,} test rows", title_justify="left")
        for metric in shown(report["metrics"]):
            table.add_column(metric.label, justify="right")
        table.add_row(*(f"{report['metrics'][metric.name]:.4f}" for metric in shown(report["metrics"])))
        console.print(table)
    for line in _remarks(report):
        console.print(line)
    console.print(f"results in {path}", soft_wrap=True)


def result_lines(report: Mapping[str, Any]) -> list[str]:
    """Return the lines that `show` prints about the metrics, for a log."""
    values = _values(report["metrics"])
    return [*([f"{report['n_test']:,} test rows: {values}"] if values else []), *_remarks(report)]


def _values(metrics: Mapping[str, float], known: Collection[str] = SUMMARY) -> str:
    return ", ".join(f"{metric.label} {metrics[metric.name]:.4f}" for metric in shown(metrics, known))


def _remarks(report: Mapping[str, Any]) -> list[str]:
    """Return remarks on the test metrics: validation, groups without training rows, synthetic data."""
    lines = []
    if validation := report.get("validation"):
        lines.append(f"validation: {_values(validation, ('loss', 'accuracy'))}")
    if report["n_test_without_training"]:
        found = report.get("metrics_without_training")
        what = f": {_values(found, tuple(found))}" if found else ", counted as errors"
        lines.append(
            f"{counted(report['n_test_without_training'], 'test row')} in groups without training rows "
            f"({some(report['codes_without_training'])}){what}"
        )
    if report["synthetic"]:
        lines.append(SYNTHETIC_REMARK)
    if report.get("data") == "titles":
        lines.append(UNVALIDATED)
    return lines


def survey_weighted(codes: Sequence[str], predicted: Sequence[str], weights: Sequence[float]) -> dict[str, float]:
    """Return accuracy and weighted precision, recall and F1 with each row counted by its survey weight."""
    numbers, names = pd.factorize(np.array([*codes, *predicted], object), sort=True)
    truth, first = np.split(numbers, 2)
    found = averages(*counts(truth, first, len(names), weights))
    del found["f1_macro"]
    return {"accuracy": float(np.average(truth == first, weights=weights)), **found}


def per_class_rows(
    codes: Sequence[str],
    scores: Mapping[str, Sequence[float]],
    classification: Classification,
    n_train: Mapping[str, int],
) -> list[dict[str, Any]]:
    """Return a record of each group: code, titles, precision, recall, F1, and its training, test and predicted rows."""
    return [
        {
            "code": code,
            "title": classification.title(code),
            "title_en": classification.title(code, "en"),
            "precision": scores["precision"][index],
            "recall": scores["recall"][index],
            "f1": scores["f1"][index],
            "n_train": int(n_train.get(code, 0)),
            "n_test": int(scores["n"][index]),
            "n_predicted": int(scores["n_predicted"][index]),
        }
        for index, code in enumerate(codes)
    ]


def cohort_record(cohort: Cohort, classification: Classification, source: str = "") -> dict[str, Any]:
    """Return the contents of cohort.json: flow counts as in Fig. 1, rows by group and side, classes and hashes.

    Args:
        cohort: the cohort.
        classification: its codes' classification.
        source: data.source.
    """
    kinds = {
        "synthetic": "synthetic twin: invented answers, not survey data",
        "titles": "titles, not answers",
    }
    counts = cohort.rows.groupby(["code", "side"]).size().unstack(fill_value=0)
    groups = [
        {"code": code, "title": classification.title(str(code)), **{side: int(row.get(side, 0)) for side in SIDES}}
        for code, row in counts.iterrows()
    ]
    return {
        "synthetic": cohort.synthetic,
        "data": kinds.get("synthetic" if cohort.synthetic else source, "survey or other table"),
        "classification": classification.name,
        "level": cohort.level,
        "classification_groups": _groups_at(classification, cohort.level),
        "flow": dict(cohort.flow),
        "groups": groups,
        "left_groups": [
            {"code": code, "title": classification.title(code), "train": train, "test": test}
            for code, (train, test) in cohort.left_groups.items()
        ],
        "same_text": same_text(cohort.rows),
        "classes": list(cohort.classes),
        "hashes": {"cohort": cohort.cohort_hash, "split": cohort.split_hash, "classes": cohort.classes_hash},
    }


def _groups_at(classification: Classification, level: int | None) -> int | None:
    """Return how many codes a classification has at `level`; None if it lists none, or codes are not cut."""
    if level is None:
        return None
    return sum(classification.at_level(code, level) == code for code in classification.levels) or None


def same_text(rows: pd.DataFrame) -> dict[str, int | float | None]:
    """Return how many rows (text, code) share their text, and the best possible accuracy.

    `ceiling` is the accuracy on these rows if every text got its most frequent code; no model that sees only the text can
    do better. It is None without rows.
    """
    by_text = rows.groupby("text")["code"]
    size, codes = by_text.transform("size"), by_text.transform("nunique")
    commonest = rows.groupby(["text", "code"]).size().groupby("text").max()
    return {
        "texts": int(rows["text"].nunique()),
        "rows_repeated": int((size > 1).sum()),
        "rows_conflicting": int((codes > 1).sum()),
        "ceiling": float(commonest.sum() / len(rows)) if len(rows) else None,
    }


def flow_lines(cohort: Cohort) -> list[str]:
    """Return the flow counts of Fig. 1 as readable lines."""
    flow, similar = cohort.flow, cohort.flow.get("similar")
    by_file = ", ".join(f"{name} {count:,}" for name, count in flow["read_by_file"].items())
    lines = [
        f"{'SYNTHETIC twin: ' if cohort.synthetic else ''}{flow['read']:,} rows read ({by_file})",
        f"  - {flow['unresolved']:,} lost in code conversion" if flow["unresolved"] else "",
        f"  - {flow['invalid']:,} unusable" if flow["invalid"] else "",
        f"  - {flow['below_cutoff']:,} in {flow['below_cutoff_groups']} groups of {flow['cutoff']} rows or fewer"
        if flow["below_cutoff"]
        else "",
        f"  {similar['groups']:,} groups of similar texts, the largest of {similar['largest']:,} rows"
        if similar
        else "",
        f"  = {flow['cohort']:,} in {flow['groups']} groups: {flow['train']:,} training"
        + (f", {flow['validation']:,} validation" if flow["validation"] else "")
        + (f", {flow['unused']:,} unused" if flow["unused"] else "")
        + f", {flow['test']:,} test",
    ]
    return [line for line in lines if line]

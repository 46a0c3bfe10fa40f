"""What the paper left open, each cell recomputed from predictions.parquet with scikit-learn and scipy; and intervals."""

import math
from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest
from sklearn.metrics import f1_score, precision_recall_fscore_support

from tests.conftest import command
from tests.reporting.fixtures import REPLICATES
from tests.reporting.making import make_run
from tests.reporting.reading import (
    INTERVAL,
    NONE,
    TITLES,
    Finished,
    Row,
    Study,
    estimate,
    label,
    model_rows,
    models_of,
    read_csv,
    same_rows,
)
from tests.reporting.test_tables import RECOMPUTED as OF_THE_ARTICLE
from tests.reporting.test_tables import metrics_on

pytestmark = pytest.mark.usefixtures("undrawn")

SIZES = ("tail: the third of the groups with the fewest training rows", "middle third", "head: the third with the most")


def right(frame: pd.DataFrame, digits: int = 4) -> float:
    """Return the share of rows whose first code is right in its first digits."""
    return float((frame["code"].str[:digits] == frame["code_1"].str[:digits]).mean())


def common(one: Finished, other: Finished) -> list[str]:
    """Return the ids of rows whose code both can predict and both have answered."""
    sides = [set(run.frame["id"][run.frame["code"].isin(set(run.trained))]) for run in (one, other)]
    return sorted(sides[0] & sides[1])


def hits(one: Finished) -> "pd.Series[bool]":
    """Return by id whether the first code is right."""
    frame = one.frame.set_index("id")
    return frame["code"] == frame["code_1"]


def pair(study: Study, keys: tuple[str, str]) -> Row:
    """Return the comparison of two models, without the p values."""
    ids = common(*(study.of(key)[0] for key in keys))
    flags = [np.array([hits(one).loc[ids] for one in study.of(key)]) for key in keys]  # [seeds, rows] of either model
    means = [float(part.mean()) for part in flags]
    found: Row = {"First": label(keys[0]), "Second": label(keys[1]), "Rows": len(ids)}
    found |= {"Accuracy, first": means[0], "Accuracy, second": means[1], "Difference": means[0] - means[1]}
    found |= {"Low": INTERVAL, "High": INTERVAL, "p, Holm": INTERVAL}
    if max(map(len, flags)) > 1:
        return {**found, "Test": "paired bootstrap", "p": INTERVAL}
    first, second = flags[0][0], flags[1][0]
    alone = [int((first & ~second).sum()), int((second & ~first).sum())]
    return {**found, "Test": "McNemar", "p": binomtest(alone[0], sum(alone), 0.5).pvalue if sum(alone) else 1.0}


def comparisons(study: Study) -> list[Row]:
    return [pair(study, keys) for keys in combinations([key for key in models_of("comparisons") if study.of(key)], 2)]


def digits(study: Study) -> list[Row]:
    def row(key: str, runs: list[Finished]) -> Row:
        level = 4 if key == "level_4" else 3
        found: Row = {}
        for to in range(1, level + 1):
            found |= estimate(f"{to} digit{'s' if to > 1 else ''}", [right(one.frame, to) for one in runs])
        return {**found, "Groups": len(runs[0].trained)}

    return model_rows(study, "digits", row)


def texts(study: Study) -> list[Row]:
    def row(_: str, runs: list[Finished]) -> Row:
        found: Row = {}
        for seen, name, count in ((True, "seen in training", "seen"), (False, "never seen", "unseen")):
            frames = [one.frame[one.frame["seen"] == seen] for one in runs]
            found[f"Rows {count}"] = len(frames[0])
            found |= estimate(f"Accuracy, text {name}", [right(frame) for frame in frames])
        return found

    return model_rows(study, "texts", row)


def noise(name: str, frame: pd.DataFrame) -> Row:
    """Return the row of frame (text, code): how often equal texts have different codes."""
    counts = {text: own["code"].value_counts() for text, own in frame.groupby("text")}
    return {
        "Rows": name, "Number": len(frame), "Distinct texts": len(counts),
        "Rows of a repeated text": sum(own.sum() for own in counts.values() if own.sum() > 1),
        "Rows whose text has several codes": sum(own.sum() for own in counts.values() if len(own) > 1),
        "Ceiling of accuracy": sum(own.max() for own in counts.values()) / len(frame),
    }  # fmt: skip


def label_noise(study: Study) -> list[Row]:
    rows = study.survey().assign(code=lambda frame: frame["group"])
    rows = rows[rows["code"].map(rows["code"].value_counts()) > 10]
    test = rows[rows["id"].isin(set(study.of("k_jcm")[0].frame["id"]))]
    return [noise("cohort", rows), noise("test", test)]


def waves(study: Study) -> list[Row]:
    return model_rows(study, "waves", lambda _, runs: metrics_on(runs))


def head_and_tail(study: Study) -> list[Row]:
    trained = study.of("k_jcm")[0].trained
    order = sorted(trained, key=lambda code: (trained[code], code))
    most = -(-len(order) // 3)
    middle = most + -(-(len(order) - most) // 2)
    thirds = [order[:most], order[most:middle], order[middle:]]
    rows: list[Row] = []
    for key in models_of("head_and_tail"):
        for name, third in zip(SIZES, thirds, strict=True):
            rows.append({"Model": label(key), "Groups by size": name, **of_groups(study, study.of(key), third)})
    return rows


def of_groups(study: Study, runs: list[Finished], codes: list[str]) -> Row:
    """Return the row of the groups `codes`: accuracy on K-JCM's rows of them, and means over them, each counting once."""
    reference = study.of("k_jcm")[0]
    sizes = [reference.trained[code] for code in codes]
    whole = reference.frame[reference.frame["code"].isin(codes)][["id", "code"]]
    own = [whole.merge(one.frame[["id", "code_1"]], on="id", how="left") for one in runs]
    found: Row = {"Groups": len(codes), "Training rows": f"{min(sizes)} to {max(sizes)}", "Test rows": len(whole)}
    found |= estimate("Accuracy", [right(frame) for frame in own], interval=False)
    parts = [
        precision_recall_fscore_support(
            one.frame["code"].tolist(), one.frame["code_1"].tolist(), labels=codes, average="macro", zero_division=0
        )
        for one in runs
    ]
    for place, name in enumerate(("precision", "recall", "F1")):
        found |= estimate(f"Mean {name}", [part[place] for part in parts], interval=False)
    return found


def all_groups(study: Study) -> list[Row]:
    every = [code for code in TITLES if len(code) == 3]
    assert len(every) == 156

    def row(_: str, runs: list[Finished]) -> Row:
        left = [group["code"] for group in runs[0].cohort["left_groups"] for _ in range(group["test"])]
        accuracy, weighted, macro = [], [], []
        for one in runs:
            truth, first = [*one.frame["code"], *left], [*one.frame["code_1"], *[NONE] * len(left)]
            accuracy.append(float(np.mean(np.array(truth) == np.array(first))))
            weighted.append(f1_score(truth, first, labels=every, average="weighted", zero_division=0))
            macro.append(f1_score(truth, first, labels=every, average="macro", zero_division=0))
        counts = {"Groups it can predict": len(runs[0].trained), "Test rows of others": len(left)}
        found: Row = {**counts, "All test rows": len(runs[0].frame) + len(left)}
        for name, values in (("Accuracy", accuracy), ("F1", weighted), ("Macro F1", macro)):
            found |= estimate(name, values, interval=False)
        return found

    return model_rows(study, "all_groups", row)


def search(study: Study) -> list[Row]:
    trials = sorted(study.of("search"), key=lambda one: -one.report["validation"]["f1_weighted"])
    return [
        {
            "Batch size": one.config["data"]["batch_size"], "Learning rate": f"{one.config['optim']['lr']:g}",
            "Epochs": one.config["trainer"]["max_epochs"], "Seed": 0, "Validation loss": one.report["validation"]["loss"],
            "Accuracy": one.report["validation"]["accuracy"], "F1": one.report["validation"]["f1_weighted"],
            "Macro F1": one.report["validation"]["f1_macro"],
        }
        for one in trials
    ]  # fmt: skip


# File of the report -> its rows
RECOMPUTED: dict[str, Callable[[Study], list[Row]]] = {
    f"tables/{function.__name__}": function
    for function in (
        comparisons, digits, texts, label_noise, waves, head_and_tail, all_groups, search,
    )
}  # fmt: skip


@pytest.mark.parametrize("name", RECOMPUTED)
def test_every_cell_is_that_of_scikit_learn_and_scipy(study: Study, built: Path, name: str) -> None:
    same_rows(read_csv(built / f"{name}.csv"), RECOMPUTED[name](study))


def test_no_table_or_figure_stands_in_a_report_that_no_test_recomputes(built: Path) -> None:
    files = {file.relative_to(built).with_suffix("").as_posix() for file in built.rglob("*.csv")}
    elsewhere = {"tables/runs", "tables/not_run", "tables/left_out"} | {
        name for name in files if "verdicts" in name
    }  # test_runs, test_report, test_tables
    elsewhere |= {
        f"tables/{name}" for name in ("calibration", "triage", "acceptance", "pick_lists", "managers")
    }  # test_triage
    assert files - elsewhere == {*OF_THE_ARTICLE, *RECOMPUTED}


def test_no_trial_of_the_search_has_read_the_test_rows(study: Study, built: Path) -> None:
    assert not any((one.path / "predictions.parquet").exists() for one in study.of("search"))
    assert "No trial read the test rows" in (built / "tables" / "search.md").read_text(encoding="utf-8")


def test_p_values_are_corrected_after_holm_and_go_with_the_intervals(built: Path) -> None:
    rows = read_csv(built / "tables" / "comparisons.csv")
    p = [float(row["p"]) for row in rows]
    order = sorted(range(len(p)), key=p.__getitem__)
    highest = 0.0
    for place, row in enumerate(order):
        highest = max(highest, min(1.0, (len(p) - place) * p[row]))
        assert float(rows[row]["p, Holm"]) == pytest.approx(highest, rel=1e-9)
    for cells in rows:
        low, high = float(cells["Low"]), float(cells["High"])
        assert low <= float(cells["Difference"]) <= high
        if cells["Test"] == "paired bootstrap" and not low <= 0 <= high:
            assert float(cells["p"]) <= 2 * (math.ceil(0.025 * REPLICATES) + 1) / (REPLICATES + 1)
    assert {cells["Test"] for cells in rows} == {"McNemar", "paired bootstrap"}


def test_the_least_p_that_the_resamples_can_give_is_said(built: Path) -> None:
    rows = read_csv(built / "tables" / "comparisons.csv")
    drawn = [float(row["p, Holm"]) for row in rows if row["Test"] == "paired bootstrap"]
    least = min(1.0, 2 * len(drawn) / (REPLICATES + 1))
    assert min(drawn) >= least - 1e-12
    text = (built / "tables" / "comparisons.md").read_text(encoding="utf-8")
    assert f"With {REPLICATES} resamples the smallest corrected p of a paired bootstrap is {least:.3f}." in text


def test_equal_models_differ_by_nothing(copied: Callable[..., Study], tmp_path: Path) -> None:
    made = copied("k_jcm", "model_3")
    (first, *_), (other,) = made.of("k_jcm"), made.of("model_3")
    own = pd.read_parquet(first.path / "predictions.parquet")
    for one in (*made.of("k_jcm"), other):
        own.to_parquet(one.path / "predictions.parquet")
    (row,) = read_csv(report_of(made, tmp_path / "out", "comparisons") / "tables" / "comparisons.csv")
    assert [float(row[name]) for name in ("Difference", "Low", "High", "p")] == [0, 0, 0, 1]


def report_of(study: Study, out: Path, *only: str, replicates: int = REPLICATES) -> Path:
    """Build a report of some experiments."""
    chosen = f"only=[{','.join(only)}]"
    assert command("report", f"runs={study.runs}", f"out={out}", f"replicates={replicates}", chosen) == 0
    return out


def width(out: Path) -> float:
    row = read_csv(out / "tables" / "table_3.csv")[0]
    return float(row["Accuracy high"]) - float(row["Accuracy low"])


def give_clusters(made: Study, clusters: Callable[[pd.DataFrame], "pd.Series[str]"]) -> None:
    """Write a cluster for each row into the predictions of all runs."""
    for one in [*made.of("k_jcm"), *made.of("model_3")]:
        frame = pd.read_parquet(one.path / "predictions.parquet")
        frame.assign(cluster=clusters(one.frame).to_numpy()).to_parquet(one.path / "predictions.parquet")


def test_intervals_follow_clusters_and_come_out_the_same_again(copied: Callable[..., Study], tmp_path: Path) -> None:
    made = copied("k_jcm", "model_3")
    rows = report_of(made, tmp_path / "rows", "table_3")
    again = report_of(made, tmp_path / "again", "table_3")
    assert (rows / "tables" / "table_3.csv").read_bytes() == (again / "tables" / "table_3.csv").read_bytes()
    give_clusters(made, lambda frame: frame["code"].str[:1])  # ten clusters of rows that resemble each other
    few = report_of(made, tmp_path / "few", "table_3", "comparisons")
    assert width(few) > 1.5 * width(rows)
    assert [row["Test"] for row in read_csv(few / "tables" / "comparisons.csv")] == ["paired bootstrap"]


def test_another_bootstrap_seed_moves_the_intervals_alone(copied: Callable[..., Study], tmp_path: Path) -> None:
    words = (f"runs={copied('k_jcm', 'majority').runs}", "only=[table_3]", f"replicates={REPLICATES}")
    tables = []
    for seed in (0, 1):
        assert command("report", *words, f"out={tmp_path / str(seed)}", f"bootstrap_seed={seed}") == 0
        tables.append(read_csv(tmp_path / str(seed) / "tables" / "table_3.csv"))
    changed = {name for one, other in zip(*tables, strict=True) for name in one if one[name] != other[name]}
    assert changed and all(name.endswith((" low", " high")) for name in changed)


def test_without_resamples_there_are_no_intervals(copied: Callable[..., Study], tmp_path: Path) -> None:
    made = copied("k_jcm", "model_3", "majority")
    out = report_of(made, tmp_path / "out", "table_3", "table_4", "comparisons", replicates=0)
    for name in ("table_3", "table_4"):
        for row in read_csv(out / "tables" / f"{name}.csv"):
            assert not [cell for column, cell in row.items() if column.endswith((" low", " high")) and cell]
    found = {
        row["Test"]: (row["Low"], row["p"], row["p, Holm"]) for row in read_csv(out / "tables" / "comparisons.csv")
    }
    assert found["paired bootstrap"] == ("", "", "")
    assert found["McNemar"][0] == "" and found["McNemar"][1] == found["McNemar"][2]  # the one test there is


def table_study(folder: Path, codes: list[str], *words: str) -> Study:
    """Return K-JCM and the SVM on a table of fifty rows a code."""
    rows = pd.DataFrame({"id": range(50 * len(codes)), "workplace": "일터", "position": "직원", "code": codes * 50})
    rows.assign(task=[f"일 {row}" for row in rows["id"]]).to_csv(folder / "rows.csv", index=False)
    for key in ("k_jcm", "svm"):
        make_run(folder / "runs", key, ("data=table", f"data.path={folder / 'rows.csv'}", *words))
    return Study(folder, folder / "runs")


def test_codes_as_they_stand_have_no_coarser_level_where_one_is_shorter(tmp_path: Path) -> None:
    made = table_study(tmp_path, ["b", "a12", "a13", "c1"], "classification=from_data", "data.level=null")
    assert command("report", f"runs={made.runs}", f"out={tmp_path / 'out'}", "replicates=0") == 0
    row = read_csv(tmp_path / "out" / "tables" / "digits.csv")[0]
    cut = [float(np.mean([right(one.frame, 1) for one in made.of("k_jcm")]))]
    assert [row[name] for name in ("1 digit", "2 digits", "3 digits")] == [str(*cut), "", ""]
    (total,) = [row for row in read_csv(tmp_path / "out" / "tables" / "all_groups.csv") if row["Model"] == "K-JCM"]
    assert total["Groups it can predict"] == "4" and total["Test rows of others"] == "0"
    verdicts = {row["verdict"] for row in read_csv(tmp_path / "out" / "tables" / "verdicts.csv")}
    assert "not comparable" in verdicts and not verdicts & {"match", "off"}


def test_two_groups_have_no_thirds(tmp_path: Path) -> None:
    made = table_study(tmp_path, ["111", "320"])
    assert command("report", f"runs={made.runs}", f"out={tmp_path / 'out'}", "replicates=5") == 0
    rows = [row for row in read_csv(tmp_path / "out" / "tables" / "head_and_tail.csv") if row["Model"] == "K-JCM"]
    assert [row["Groups"] for row in rows] == ["1", "1"]
    cells = [cell for file in (tmp_path / "out").rglob("*.csv") for row in read_csv(file) for cell in row.values()]
    assert cells and not {"nan", "inf", "None"} & set(cells)

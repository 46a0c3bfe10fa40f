"""The paper's tables and figures, each cell recomputed from predictions.parquet with scikit-learn and scipy."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from scipy.stats import pearsonr
from scipy.stats.mstats import mquantiles

from kjcm.analysis.content import Estimate
from kjcm.analysis.formats import show
from kjcm.keys.commands.reports import ReportConfig
from kjcm.reporting.ours import figures_of
from kjcm.reporting.report import read_study
from tests.conftest import ROOT
from tests.reporting.fixtures import REPLICATES
from tests.reporting.reading import (
    ENGLISH,
    NONE,
    TITLES,
    Finished,
    Row,
    Study,
    by_group,
    estimate,
    label,
    metric_cells,
    model_rows,
    models_of,
    read_csv,
    same_rows,
    scores_of,
)

PAPER = {
    figure["id"]: figure
    for figure in yaml.safe_load((ROOT / "experiments" / "paper.yaml").read_text(encoding="utf-8"))["figures"]
}
HIDDEN = "withheld (texts=true shows it)"
FIVE = ("Min", "Q1", "Median", "Q3", "Max")


def metrics_on(runs: list[Finished]) -> Row:
    return {"Test rows": len(runs[0].frame), **metric_cells([scores_of(one.frame) for one in runs])}


def table_3(study: Study) -> list[Row]:
    return model_rows(study, "table_3", lambda _, runs: metrics_on(runs))


def top(one: Finished, k: int) -> float:
    """Return the share of rows whose code is among the first k, row by row."""
    codes = one.frame[[f"code_{place}" for place in range(1, k + 1)]].to_numpy()
    return float(np.mean([true in row for true, row in zip(one.frame["code"], codes, strict=True)]))


def supplementary_table_2(study: Study) -> list[Row]:
    def row(_: str, runs: list[Finished]) -> Row:
        cells = [estimate(f"Top-{k}", [top(one, k) for one in runs]) for k in range(2, 6)]
        return {name: value for part in cells for name, value in part.items()}

    return model_rows(study, "supplementary_table_2", row)


def flow(study: Study) -> dict[str, float]:
    """Return the counts of Fig. 1, from the survey's files and the test rows of K-JCM."""
    rows = study.survey()
    sizes = rows["group"].value_counts()
    small = sizes[sizes <= 10]
    waves = {name: len(pd.read_csv(study.data / f"{name}.csv")) for name in ("wave5", "wave6")}
    cohort, test = len(rows) - int(small.sum()), len(study.of("k_jcm")[0].frame)
    return {
        **waves, "read": sum(waves.values()), "unresolved": sum(waves.values()) - len(rows), "invalid": 0,
        "below_cutoff": int(small.sum()), "cohort": cohort, "train": cohort - test, "validation": 0, "unused": 0,
        "test": test, "groups": int((sizes > 10).sum()), "below_cutoff_groups": len(small),
    }  # fmt: skip


def figure_1(study: Study) -> list[Row]:
    found = flow(study)
    names = {
        "read from wave5": "wave5", "read from wave6": "wave6", "read": "read", "lost in code conversion": "unresolved",
        "unusable": "invalid", "in groups of 10 rows or fewer": "below_cutoff", "cohort": "cohort", "training": "train",
        "validation": "validation", "not used": "unused", "test": "test", "groups": "groups",
    }  # fmt: skip
    return [{"Step": step, "Rows": found[name]} for step, name in names.items()]


def titled(code: str) -> Row:
    return {"Code": code, "Title": TITLES[code], "English title": ENGLISH[code]}


def table_2(study: Study) -> list[Row]:
    frame = study.of("k_jcm")[0].frame
    row = frame.iloc[int(np.argmin(np.abs(frame["prob_1"].to_numpy(float) - 0.4562)))]
    return [
        {"Order": place, **titled(row[f"code_{place}"]), "Probability": float(row[f"prob_{place}"])}
        for place in range(1, 6)
    ]


def mean_precision(study: Study, key: str) -> dict[str, float]:
    """Return group -> mean of its precision over seeds."""
    groups = [by_group(one) for one in study.of(key)]
    return {code: float(np.mean([group["precision"][code] for group in groups])) for code in groups[0].index}


def figure_2(study: Study) -> list[Row]:
    trained = study.of("k_jcm")[0].trained
    return [
        {**titled(code), "Training rows": trained[code], "Precision": precision}
        for code, precision in mean_precision(study, "k_jcm").items()
    ]


def supplementary_figure_1(study: Study) -> list[Row]:
    return [
        {"Model": label(key), "Code": code, "Training rows": study.of(key)[0].trained[code], "Precision": precision}
        for key in ("k_jcm", "k_jcm_half")
        for code, precision in mean_precision(study, key).items()
    ]


def quartiles(values: "pd.Series[float]") -> list[float]:
    """Return min, Q1, median, Q3 and max, by scipy's quantiles of type 7."""
    return [float(value) for value in mquantiles(values.to_numpy(), (0, 0.25, 0.5, 0.75, 1), alphap=1, betap=1)]


def five_by_major(study: Study, major: str) -> list[list[float]]:
    """Return for each of FIVE its value in each seed of K-JCM."""
    groups = [by_group(one) for one in study.of("k_jcm")]
    return [
        list(part) for part in zip(*(quartiles(g["precision"][g.index.str[0] == major]) for g in groups), strict=True)
    ]


def table_4(study: Study) -> list[Row]:
    trained = pd.Series(study.of("k_jcm")[0].trained)
    rows = []
    for major in sorted({code[0] for code in trained.index}):
        own = trained[trained.index.str[0] == major]
        row = {"Major group": major, "Title": TITLES[major], "Groups": len(own), "Training rows": own.sum()}
        row["Average"] = own.mean()
        for name, values in zip(FIVE, five_by_major(study, major), strict=True):
            row |= estimate(name, values)
        rows.append(row)
    return rows


def supplementary_table_1(study: Study) -> list[Row]:
    groups = [by_group(one) for one in study.of("k_jcm")]

    def cells(code: str) -> Row:
        found: Row = {}
        for name in ("precision", "recall", "f1"):
            heading = "F1" if name == "f1" else name.capitalize()
            found |= estimate(heading, [float(group[name][code]) for group in groups], interval=False)
        return found

    return [
        {
            **titled(code), **cells(code), "Training rows": groups[0]["n_train"][code],
            "Test rows": groups[0]["n_test"][code], "Predicted": np.mean([group["n_predicted"][code] for group in groups]),
        }
        for code in groups[0].index
    ]  # fmt: skip


def supplementary_table_3(study: Study) -> list[Row]:
    return model_rows(study, "supplementary_table_3", lambda _, runs: metrics_on(runs))


def supplementary_table_3_common(study: Study) -> list[Row]:
    keys = models_of("supplementary_table_3")
    codes = set.intersection(*(set(study.of(key)[0].trained) for key in keys))

    def row(_: str, runs: list[Finished]) -> Row:
        frames = [one.frame[one.frame["code"].isin(codes)] for one in runs]
        return {"Test rows": len(frames[0]), **metric_cells([scores_of(frame) for frame in frames])}

    return model_rows(study, "supplementary_table_3", row)


def supplementary_table_3_all(study: Study) -> list[Row]:
    whole = study.of("k_jcm")[0].frame[["id", "code"]]

    def row(_: str, runs: list[Finished]) -> Row:
        filled = [whole.merge(one.frame[["id", "code_1"]], on="id", how="left").fillna(NONE) for one in runs]
        return {"Test rows": len(whole), **metric_cells([scores_of(frame) for frame in filled])}

    return model_rows(study, "supplementary_table_3", row)


def disagreements(study: Study) -> list[Row]:
    frame = study.of("k_jcm")[0].frame
    wrong = frame[frame["code"] != frame["code_1"]].sort_values(["prob_1", "id"], ascending=[False, True])
    return [
        {
            "id": row.id, "text": HIDDEN, "code": row.code, "title": TITLES[row.code], "predicted": row.code_1,
            "predicted_title": TITLES[row.code_1], "probability": row.prob_1, "verdict": "",
        }
        for row in wrong.itertuples()
    ]  # fmt: skip


def not_judged(study: Study) -> list[Row]:
    """Return the surest disagreements, which stand in the first table of judged rows until a verdict is given."""
    return [
        {
            "Code": row["code"], "Title": row["title"], "Predicted": row["predicted"],
            "Title of the prediction": row["predicted_title"], "Probability": row["probability"],
        }
        for row in disagreements(study)[:20]
    ]  # fmt: skip


RESULT = {"Accuracy": "accuracy", "F1": "f1"}


def described(study: Study, key: str) -> str:
    tfidf, (run, *_) = "character TF-IDF and a linear SVM", study.of(key)
    return {
        "majority": "the most frequent groups for every row", "svm": tfidf,
        "svm_manual": f"{tfidf}, {run.report['n_augmented']:,} rows of the classification added",
        "klue_bert": "2 layers × 256, pretrained klue/bert-base",
        "k_jcm_half": f"2 layers × 256, random start, {run.cohort['flow']['train']:,} training rows",
    }.get(key, "2 layers × 256, random start")  # fmt: skip


def result(study: Study) -> list[Row]:
    """Return the paper's figures and ours, K-JCM first and the others by accuracy."""

    def ours(key: str, runs: list[Finished]) -> Row:
        scores = [scores_of(one.frame) for one in runs]
        cells = {name: estimate(name, [one[metric] for one in scores]) for name, metric in RESULT.items()}
        return {
            "Model": label(key),
            "Description": described(study, key),
            "Seeds": len(runs),
            **cells["Accuracy"],
            **cells["F1"],
        }

    rows = [ours(key, study.of(key)) for key in models_of("result") if study.of(key)]
    first, *others = rows
    others.sort(key=lambda row: -row["Accuracy"])
    printed = {
        name: PAPER[f"table_3.{metric}"]["value"] for name, metric in (("Accuracy", "accuracy"), ("F1", "f1_weighted"))
    }
    paper = {
        "Model": "K-JCM, as the paper prints it", "Description": "pretrained DistilKoBERT of 3 layers × 768", "Seeds": None,
        **{name + part: None for name in RESULT for part in (" sd", " low", " high")}, **printed,
    }  # fmt: skip
    return [first, paper, *others]


def accuracy(study: Study) -> list[Row]:
    names = ("Model", *(f"Accuracy{part}" for part in ("", " sd", " low", " high")))
    return [{name: row[name] for name in names} for row in result(study)]


# File of the report -> its rows. No verdict is given in these runs.
RECOMPUTED: dict[str, Callable[[Study], list[Row]]] = {
    "tables/table_1": lambda _: [],  # answers are withheld
    "tables/table_2": table_2,
    "tables/table_3": table_3,
    "tables/table_4": table_4,
    "tables/supplementary_table_1": supplementary_table_1,
    "tables/supplementary_table_2": supplementary_table_2,
    "tables/supplementary_table_3": supplementary_table_3,
    "tables/supplementary_table_3_common": supplementary_table_3_common,
    "tables/supplementary_table_3_all": supplementary_table_3_all,
    "tables/supplementary_table_4": not_judged,
    "tables/supplementary_table_5": lambda _: [],
    "tables/both_defensible": lambda _: [],
    "figures/figure_1": figure_1,
    "figures/figure_2": figure_2,
    "figures/supplementary_figure_1": supplementary_figure_1,
    "figures/accuracy": accuracy,
    "tables/result": result,
    "disagreements": disagreements,
}


@pytest.mark.parametrize("name", RECOMPUTED)
def test_every_cell_is_that_of_scikit_learn_and_scipy(study: Study, built: Path, name: str) -> None:
    same_rows(read_csv(built / f"{name}.csv"), RECOMPUTED[name](study))


def test_the_invented_runs_hold_what_the_tables_must_cope_with(study: Study) -> None:
    k_jcm, other = study.of("k_jcm")
    never = by_group(k_jcm)["n_predicted"] == 0
    assert never.any() and not by_group(k_jcm)["precision"][never].any()
    assert len({code[0] for code in k_jcm.trained}) == 10  # all major groups, the armed forces too
    assert set(study.of("model_2")[0].trained) < set(k_jcm.trained)
    assert k_jcm.cohort["left_groups"]
    assert not k_jcm.frame["code_1"].equals(other.frame["code_1"])
    assert {*k_jcm.frame["seen"]} == {True, False}


def over_seeds(study: Study, key: str, measure: Callable[[pd.DataFrame], float]) -> float:
    """Return the mean over seeds of what `measure` says of the groups."""
    return float(np.mean([measure(by_group(one)) for one in study.of(key)]))


def third_quartile(below: bool) -> Callable[[pd.DataFrame], float]:
    """Return what gives Q3 of the training rows of groups with precision below 0.5, or of the others."""
    return lambda groups: quartiles(groups["n_train"][(groups["precision"] < 0.5) == below].astype(float))[3]


def correlation(part: int) -> Callable[[pd.DataFrame], float]:
    """Return what gives R squared (0) or p (1) of precision and log10 of the training rows."""

    def measure(groups: pd.DataFrame) -> float:
        r, p = pearsonr(np.log10(groups["n_train"]), groups["precision"])
        return float((r**2, p)[part])

    return measure


def recomputed_figures(study: Study) -> dict[str, float]:
    """Return id of paper.yaml -> our figure."""
    own, counts = study.of("k_jcm"), flow(study)
    names = {
        "accuracy": "accuracy",
        "precision": "precision_weighted",
        "recall": "recall_weighted",
        "f1": "f1_weighted",
    }
    found = {f"figure_1.{name}": counts[name] for name in ("wave5", "wave6", "read", "unresolved", "below_cutoff")}
    found |= {f"figure_1.{name}": counts[name] for name in ("cohort", "train", "test")}
    found |= {"abstract.test": counts["test"], "methods.groups": counts["groups"]}
    found |= {
        "methods.groups_in_classification": 156,
        "methods.groups_in_data": counts["groups"] + counts["below_cutoff_groups"],
        "methods.below_cutoff_groups": counts["below_cutoff_groups"],
        "methods.groups_left_out": 156 - counts["groups"],
        "methods.unresolved_share": counts["unresolved"] / counts["read"],
        "methods.below_cutoff_share": counts["below_cutoff"] / counts["read"],
    }
    for key in models_of("supplementary_table_3"):
        means = pd.DataFrame([scores_of(one.frame) for one in study.of(key)]).mean()
        found |= {f"supplementary_table_3.{key}.{to}": float(means[name]) for name, to in names.items()}
        if key == "k_jcm":
            found |= {f"table_3.{to}": float(means[name]) for name, to in names.items()}
    found |= {f"supplementary_table_2.top_{k}": float(np.mean([top(one, k) for one in own])) for k in range(2, 6)}
    found |= {"figure_2.r_squared": over_seeds(study, "k_jcm", correlation(0))}
    found |= {"figure_2.p": over_seeds(study, "k_jcm", correlation(1))}
    found["results.zero_precision_exceptions"] = over_seeds(
        study, "k_jcm", lambda g: float(((g["precision"] == 0) & (g["n_train"] >= 100)).sum())
    )
    for key in ("k_jcm", "k_jcm_half"):
        found[f"supplementary_figure_1.{key}.q3"] = over_seeds(study, key, third_quartile(below=True))
        found[f"supplementary_figure_1.{key}.q3_above"] = over_seeds(study, key, third_quartile(below=False))
    for row in table_4(study)[:9]:  # the paper leaves out the armed forces
        for name, column in {"groups": "Groups", "train": "Training rows", "average": "Average"}.items():
            found[f"table_4.{row['Major group']}.{name}"] = float(row[column])
        found |= {f"table_4.{row['Major group']}.{name.lower()}": row[name] for name in FIVE}
    return found


@pytest.fixture(scope="module")
def ours(study: Study) -> dict[str, Estimate]:
    """What the report takes for this study's figures, by id of paper.yaml."""
    settings = {"like": None, "texts": False, "replicates": REPLICATES, "bootstrap_seed": 0}
    return figures_of(read_study(ReportConfig(runs=str(study.runs), **settings)))


def test_the_figures_beside_the_article_are_recomputed_too(study: Study, ours: dict[str, Estimate]) -> None:
    expected = recomputed_figures(study)
    assert {name: figure.mean for name, figure in ours.items()} == pytest.approx(expected, rel=1e-9, abs=1e-12)
    without = {name for name, figure in PAPER.items() if figure.get("compared", True)} - set(ours)
    assert not without, "figures of the paper that a run could give, and none does"
    assert ours["table_3.accuracy"].sd == pytest.approx(
        np.std([scores_of(one.frame)["accuracy"] for one in study.of("k_jcm")], ddof=1)
    )
    assert ours["supplementary_table_3.model_3.accuracy"].sd is None  # one seed


def agrees(printed: dict[str, Any], figure: Estimate) -> bool:
    """Return whether the paper's figure lies on ours or in its interval, give or take its tolerance."""
    if printed.get("bound") == "below":
        return figure.mean < float(printed["value"])
    ends = [end for end in (figure.mean, figure.low, figure.high) if end is not None]
    value, slack = float(printed["value"]), float(printed["tolerance"]) + 1e-9
    return min(ends) - slack <= value <= max(ends) + slack


UNSAID = ("ours", "SD over seeds", "95 % interval", "difference")  # cells that may be empty


def verdict_row(printed: dict[str, Any], figure: Estimate | None) -> Row:
    """Return the row of a verdict table; the paper's survey, so that every figure is compared."""
    kind, value = printed.get("kind", "number"), printed["value"]
    row = {"where": printed["table"], "row": printed["row"], "metric": printed["metric"], "remark": printed["why"]}
    row |= {"paper": (printed["printed"] or "not at hand").replace("%", " %")} | dict.fromkeys(UNSAID)
    if figure is None:
        return {**row, "verdict": "for reference" if value is not None else "not printed"}
    row |= {"ours": show(figure.mean, kind), "SD over seeds": None if figure.sd is None else show(figure.sd, kind)}
    if figure.low is not None:
        row["95 % interval"] = f"{show(figure.low, kind)} to {show(figure.high, kind)}"
    if value is None:
        return {**row, "verdict": "not printed"}
    if not printed.get("bound"):
        row["difference"] = show(figure.mean - value, kind)
    return {**row, "verdict": "match" if agrees(printed, figure) else "off"}


def test_every_verdict_follows_from_the_figures_beside_it(built: Path, ours: dict[str, Estimate]) -> None:
    rows = {name: verdict_row(printed, ours.get(name)) for name, printed in PAPER.items()}
    said = read_csv(built / "tables" / "verdicts.csv")
    same_rows(said, list(rows.values()))
    assert {row["verdict"] for row in said} == {"match", "off", "for reference", "not printed"}
    short = {row["figure"] for row in read_csv(built / "tables" / "verdicts_short.csv")}
    left = ("table_4.", "supplementary_table_3.k_jcm.")  # they stand with their tables
    expected = {
        f"{figure['table']}. {figure['row']}: {figure['metric']}"
        for name, figure in PAPER.items()
        if figure.get("compared", True) and figure["printed"] is not None and not name.startswith(left)
    }
    assert short == expected


def named_in_one(row: Row) -> Row:
    where, name, metric = (row[key] for key in ("where", "row", "metric"))
    return {
        "figure": f"{where}. {name}: {metric}",
        **{key: row[key] for key in row if key not in ("where", "row", "metric")},
    }


def without_empty_columns(rows: list[Row]) -> list[Row]:
    filled = {name for row in rows for name, cell in row.items() if cell}
    return [{name: cell for name, cell in row.items() if name in filled} for row in rows]


VERDICTS = sorted(
    file.stem for file in (ROOT / "experiments").glob("*.yaml") if "\nprinted:" in file.read_text("utf-8")
)


@pytest.mark.parametrize("name", VERDICTS)
def test_the_verdicts_beneath_a_table_are_those_of_its_figures(
    built: Path, ours: dict[str, Estimate], name: str
) -> None:
    ids = yaml.safe_load((ROOT / "experiments" / f"{name}.yaml").read_text(encoding="utf-8"))["printed"]
    own = {key: figure for key, figure in PAPER.items() if any(f"{key}.".startswith(f"{one}.") for one in ids)}
    assert own
    named = [named_in_one(verdict_row(printed, ours.get(key))) for key, printed in own.items()]
    rows = without_empty_columns(named)
    same_rows(read_csv(built / "tables" / f"{name}_verdicts.csv"), rows)

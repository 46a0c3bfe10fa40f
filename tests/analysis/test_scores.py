"""The report's metrics against scikit-learn, and what they say of codes that are missing, unseen or never predicted."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import accuracy_score, precision_recall_fscore_support

from kjcm.analysis.scores import (
    Answers,
    answers_of,
    at_level,
    metrics,
    per_group,
    predicted_right,
)
from kjcm.errors import KjcmError
from kjcm.metrics import REPORTED, TOP

METRICS = (*REPORTED, *(f"top_{k}_accuracy" for k in TOP))
NONE = "no code"  # stands for an empty prediction in scikit-learn, which knows no None


def random_frame(seed: int, rows: int = 300, classes: int = 14) -> pd.DataFrame:
    """Return predictions.parquet of invented answers.

    Of `classes` codes two are never predicted first, one is predicted and never true, and two further true codes are
    no class; rows have as many codes as there are classes, at most ten.
    """
    generator = np.random.default_rng(seed)
    names = np.array([f"{code:02d}" for code in range(10, 10 + classes)], dtype=object)
    truth = generator.choice(np.append(names[:-1], ["90", "91"]), rows)
    order = np.argsort(generator.random((rows, classes)), axis=1)
    order = np.stack([np.append(row[row > 1], row[row <= 1]) for row in order])  # 10 and 11 come last
    codes = names[order]
    right = (generator.random(rows) < 0.6) & np.isin(truth, names[2:])
    for row in np.flatnonzero(right):
        codes[row] = [truth[row], *(code for code in codes[row] if code != truth[row])]
    prob = -np.sort(-generator.dirichlet(np.ones(classes), rows), axis=1).astype(np.float32)
    frame = pd.DataFrame({"id": [f"w5-{row}" for row in range(rows)], "code": truth})
    for k in range(10):
        frame[f"code_{k + 1}"] = codes[:, k] if k < classes else None
    for k in range(10):
        frame[f"prob_{k + 1}"] = prob[:, k] if k < classes else np.float32("nan")
    return frame


def random_answers(seed: int, rows: int = 300, classes: int = 14) -> Answers:
    return answers_of(random_frame(seed, rows, classes), f"run-{seed}/predictions.parquet")


def by_hand(answers: Answers, weights: np.ndarray[Any, Any] | None = None) -> dict[str, float]:
    """Return METRICS by scikit-learn, Top-k by looking at each row."""
    first = [NONE if code is None else code for code in answers.codes[:, 0]]
    truth = answers.truth.tolist()
    counts = np.ones(len(truth)) if weights is None else weights
    counted = {
        code for pair, count in zip(zip(truth, first, strict=True), counts, strict=True) if count for code in pair
    }
    labels = sorted(counted - {NONE})
    given: dict[str, Any] = {"labels": labels, "sample_weight": weights, "zero_division": 0}
    precision, recall, f1, _ = precision_recall_fscore_support(truth, first, average="weighted", **given)
    top = {
        f"top_{k}_accuracy": sum(
            count for row, count in enumerate(counts) if answers.truth[row] in answers.codes[row, :k].tolist()
        )
        / sum(counts)
        for k in (2, 3, 4, 5)
    }
    return {
        "accuracy": accuracy_score(truth, first, sample_weight=weights),
        "precision_weighted": precision,
        "recall_weighted": recall,
        "f1_weighted": f1,
        "f1_macro": precision_recall_fscore_support(truth, first, average="macro", **given)[2],
        **top,
    }


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(("rows", "classes"), [(1, 14), (7, 5), (300, 14), (2000, 60)])
def test_metrics_are_those_of_scikit_learn(seed: int, rows: int, classes: int) -> None:
    answers = random_answers(seed, rows, classes)
    found = metrics(answers)
    assert tuple(found) == METRICS
    assert found == pytest.approx(by_hand(answers), abs=1e-12)


@pytest.mark.parametrize("seed", range(6))
def test_weighted_metrics_are_those_of_scikit_learn_and_of_rows_that_are_repeated(seed: int) -> None:
    answers = random_answers(seed, rows=120)
    weights = np.random.default_rng(seed + 100).integers(0, 4, len(answers))
    found = metrics(answers, weights)
    assert found == pytest.approx(by_hand(answers, weights), abs=1e-12)
    repeated = answers.take(np.repeat(np.arange(len(answers)), weights))
    assert found == pytest.approx(metrics(repeated), abs=1e-12)
    assert found != pytest.approx(metrics(answers), abs=1e-6)


def test_macro_f1_forgets_a_code_that_no_counted_row_has() -> None:
    answers = answers_by_hand(["a", "a", "b"], ["a", "b", "c"])
    assert metrics(answers)["f1_macro"] == pytest.approx((2 / 3 + 0 + 0) / 3)
    assert metrics(answers, np.array([1, 1, 0]))["f1_macro"] == pytest.approx((2 / 3 + 0) / 2)


def answers_by_hand(truth: list[str], *predicted: list[str | None]) -> Answers:
    codes = np.array(predicted, dtype=object).T
    ids = np.array([f"id{row}" for row in range(len(truth))], dtype=object)
    return Answers(ids, np.array(truth, dtype=object), codes, np.full(codes.shape, np.nan))


def test_hand_worked_metrics_and_groups() -> None:
    answers = answers_by_hand(
        ["a", "a", "a", "b", "c", "z"], ["a", "a", "b", "b", "a", "a"], ["b", "b", "a", "a", "c", "b"]
    )
    assert metrics(answers) == pytest.approx(
        {
            "accuracy": 3 / 6,
            "precision_weighted": (3 * 2 / 4 + 1 / 2) / 6,
            "recall_weighted": 3 / 6,
            "f1_weighted": (3 * 4 / 7 + 2 / 3) / 6,
            "f1_macro": (4 / 7 + 2 / 3) / 4,
            "top_2_accuracy": 5 / 6,
        }
    )
    expected = pd.DataFrame(
        {
            "code": ["a", "b", "c", "z"],
            "precision": [2 / 4, 1 / 2, 0.0, 0.0],
            "recall": [2 / 3, 1.0, 0.0, 0.0],
            "f1": [4 / 7, 2 / 3, 0.0, 0.0],
            "n_test": [3, 1, 1, 1],
            "n_predicted": [4, 2, 0, 0],
        }
    )
    pd.testing.assert_frame_equal(per_group(answers), expected, check_dtype=False)
    assert predicted_right(answers).tolist() == [True, True, False, True, False, False]


@pytest.mark.parametrize("seed", range(4))
def test_groups_are_those_of_scikit_learn(seed: int) -> None:
    answers = random_answers(seed)
    groups = per_group(answers)
    first = answers.codes[:, 0].tolist()
    labels = sorted({*answers.truth, *first})
    assert groups["code"].tolist() == labels
    precision, recall, f1, n = precision_recall_fscore_support(
        answers.truth.tolist(), first, labels=labels, zero_division=0
    )
    for name, values in (("precision", precision), ("recall", recall), ("f1", f1), ("n_test", n)):
        assert groups[name].to_numpy() == pytest.approx(values), name
    assert groups["n_predicted"].tolist() == [first.count(code) for code in labels]
    never = groups[groups["n_predicted"] == 0]
    assert {"10", "11", "90", "91"} <= {*never["code"]} and not never["precision"].any()


def test_a_row_without_a_code_is_an_error_of_no_group() -> None:
    answers = answers_by_hand(["a", "a", "b"], ["a", None, None])
    found = metrics(answers)
    assert found == pytest.approx({name: by_hand(answers)[name] for name in METRICS[:5]})
    assert found["accuracy"] == pytest.approx(1 / 3)
    assert found["precision_weighted"] == pytest.approx(2 / 3)
    assert found["f1_macro"] == pytest.approx((2 / 3 + 0) / 2)
    assert per_group(answers)["n_predicted"].tolist() == [1, 0]


def test_top_k_stops_at_the_codes_that_are_kept() -> None:
    answers = answers_by_hand(["a", "b"], ["b", "b"], ["a", "a"], ["c", "c"])
    found = metrics(answers)
    assert (found["top_2_accuracy"], found["top_3_accuracy"]) == (1.0, 1.0)
    assert "top_4_accuracy" not in found


def test_top_k_of_fewer_classes_than_k_is_whether_the_code_is_a_class() -> None:
    answers = random_answers(3, rows=200, classes=4)
    assert answers.codes[0, 4] is None and np.isnan(answers.prob[0, 4])
    assert metrics(answers)["top_5_accuracy"] == pytest.approx(np.mean(~np.isin(answers.truth, ["90", "91"])))


ALTERED = {  # row of the test below: true b, predicted a, b, c -> new codes, and the metrics that change with them
    "second and third exchanged": (["a", "c", "b"], {"top_2_accuracy"}),
    "second and third lost": (["a", "x", "y"], {"top_2_accuracy", "top_3_accuracy"}),
    "another wrong code first": (["c", "b", "a"], {"precision_weighted", "f1_weighted", "f1_macro"}),
    "wrong made right": (["b", "a", "c"], {*METRICS[:5]}),
}


@pytest.mark.parametrize(("codes", "changed"), ALTERED.values(), ids=ALTERED)
def test_an_altered_prediction_changes_the_metrics_that_it_should_and_no_others(
    codes: list[str], changed: set[str]
) -> None:
    truth = ["b", "a", "a", "b", "c"]
    before = answers_by_hand(truth, ["a", "a", "b", "b", "c"], ["b", "b", "a", "a", "a"], ["c"] * 4 + ["b"])
    altered = before.codes.copy()
    altered[0] = codes
    after = metrics(Answers(before.ids, before.truth, altered, before.prob))
    assert {name for name, value in metrics(before).items() if value != after[name]} == changed


def test_no_row_to_measure_is_named() -> None:
    answers = random_answers(0)
    for call in (
        lambda: metrics(answers.take(np.zeros(len(answers), bool))),
        lambda: metrics(answers, np.zeros(len(answers), int)),
    ):
        with pytest.raises(KjcmError, match=r"run-0/predictions\.parquet: no rows to measure"):
            call()


def test_answers_are_read_from_predictions(tmp_path: Path) -> None:
    frame = random_frame(1, rows=5, classes=3).assign(
        cluster=[1, 1, 2, 2, 3], seen=[True, False, True, True, False], text=[0, 1, 0, 2, 3]
    )
    frame.to_parquet(tmp_path / "predictions.parquet")
    for read in (frame, pd.read_parquet(tmp_path / "predictions.parquet")):
        answers = answers_of(read, "run")
        assert len(answers) == 5 and answers.codes.shape == answers.prob.shape == (5, 10)
        assert answers.ids.tolist() == frame["id"].tolist() and answers.truth.tolist() == frame["code"].tolist()
        assert answers.codes[:, :3].tolist() == frame[["code_1", "code_2", "code_3"]].to_numpy().tolist()
        assert {*answers.codes[:, 3:].ravel()} == {None}
        assert answers.prob[:, 0] == pytest.approx(frame["prob_1"]) and np.isnan(answers.prob[:, 3:]).all()
        assert answers.clusters is not None and answers.clusters.tolist() == ["1", "1", "2", "2", "3"]
        assert answers.seen is not None and answers.seen.tolist() == [True, False, True, True, False]
        assert answers.texts is not None and answers.texts.tolist() == [0, 1, 0, 2, 3]
    bare = random_answers(1)
    assert bare.clusters is None and bare.seen is None and bare.texts is None


def test_answers_without_probabilities_are_read() -> None:
    frame = random_frame(2).assign(**{f"prob_{k}": None for k in range(1, 11)})
    answers = answers_of(frame, "svm")
    assert np.isnan(answers.prob).all()
    assert metrics(answers) == metrics(random_answers(2))


BROKEN = {
    "column": (lambda frame: frame.drop(columns=["code_7"]), "has no column 'code_7'"),
    "rows": (lambda frame: frame.iloc[:0], "no rows"),
    "twice": (lambda frame: frame.assign(id=["a", "b", "b", *frame["id"][3:]]), "column id: 'b' more than once"),
    "code": (lambda frame: frame.assign(code=[None, *frame["code"][1:]]), "column code: empty in 1 rows .*'w5-0'"),
    "cluster": (lambda frame: frame.assign(cluster=[*"ab", *[None] * 298]), "column cluster: empty in 298 rows"),
    "seen": (lambda frame: frame.assign(seen="False"), "column seen: true or false wanted, not 'False'"),
    "text": (lambda frame: frame.assign(text=0.5), "column text: whole numbers wanted, not '0.5'"),
    "prob": (lambda frame: frame.assign(prob_2="high"), "column prob_2: numbers wanted, not 'high'"),
}


@pytest.mark.parametrize(("change", "message"), BROKEN.values(), ids=BROKEN)
def test_broken_predictions_are_named(change: Any, message: str) -> None:
    with pytest.raises(KjcmError, match=f"^out/predictions.parquet: {message}"):
        answers_of(change(random_frame(0)), "out/predictions.parquet")


def test_rows_are_taken_with_all_that_belongs_to_them() -> None:
    frame = random_frame(4).assign(
        cluster=[f"c{row % 7}" for row in range(300)], seen=[row % 3 == 0 for row in range(300)], text=range(300)
    )
    answers = answers_of(frame, "run")
    assert metrics(answers)["accuracy"] > 0  # counted before rows are taken: the count must not travel with them
    mask = np.asarray(answers.seen)
    ids = frame["id"][::-1][:50].tolist()
    for taken, rows in ((answers.take(mask), frame[mask]), (answers.on(ids), frame[::-1][:50])):
        again = answers_of(rows, "run")
        for name in ("ids", "truth", "codes", "prob", "clusters", "seen", "texts"):
            assert np.array_equal(getattr(taken, name), getattr(again, name)), name
        assert metrics(taken) == metrics(again) != metrics(answers)
        assert taken.place == "run"


def test_an_id_without_an_answer_is_named() -> None:
    with pytest.raises(KjcmError, match=r"run-0/.*: 1 of 2 requested rows have no answer \(id 'w6-1'\)"):
        random_answers(0).on(["w5-1", "w6-1"])


def test_accuracy_at_a_coarser_level() -> None:
    answers = answers_by_hand(
        ["11", "12", "21", "22", "31"], ["12", "21", "21", None, "99"], ["11", "12", "22", "22", "31"]
    )
    coarse = at_level(answers, lambda code: None if code == "99" else code[0])
    assert coarse.truth.tolist() == ["1", "1", "2", "2", "3"]
    assert coarse.codes.tolist() == [["1"], ["2"], ["2"], [None], [None]]
    assert np.isnan(coarse.prob).all()
    assert metrics(coarse)["accuracy"] == 2 / 5 and metrics(answers)["accuracy"] == 1 / 5
    assert set(metrics(coarse)) == set(METRICS[:5])
    with pytest.raises(KjcmError, match=r"column code: '31' have no code at the coarser level"):
        at_level(answers, lambda code: None if code == "31" else code[0])

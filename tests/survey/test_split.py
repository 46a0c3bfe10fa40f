"""The split is drawn once by its seed, whatever the row order and whatever cutoff, half or validation come after."""

import numpy as np
import pandas as pd
import pytest

from kjcm.survey.split import draw_split, round_half_up

SIZES = {"a": 60, "b": 40, "c": 11, "d": 10, "e": 7, "f": 2}  # 111 rows in groups of more than 10, 19 below


def rows_of(sizes: dict[str, int]) -> pd.DataFrame:
    codes = np.repeat(list(sizes), list(sizes.values()))
    return pd.DataFrame({"id": [f"row-{n}" for n in range(len(codes))], "code": codes, "given": False})


def uses(rows: pd.DataFrame, seed: int = 0, share: float = 0.7, fraction: float = 1.0, held: float = 0.0) -> pd.Series:
    return draw_split(rows, seed, share, fraction, held)[1].set_axis(rows["id"])


@pytest.mark.parametrize(
    ("value", "whole"), [(69_765.5, 69_766), (0.5, 1), (1.5, 2), (2.5, 3), (2.49, 2), (0.0, 0), (7.0, 7)]
)
def test_halves_round_up(value: float, whole: int) -> None:
    assert round_half_up(value) == whole


def test_69_766_of_99_665_rows_and_half_of_them() -> None:
    rows = rows_of({"a": 90_000, "b": 9_665})
    whole, half = uses(rows), uses(rows, fraction=0.5)
    assert whole.value_counts().to_dict() == {"train": 69_766, "test": 29_899}
    assert half.value_counts().to_dict() == {"train": 34_883, "unused": 34_883, "test": 29_899}
    assert (half[half == "test"].index == whole[whole == "test"].index).all()
    assert (whole[half == "train"] == "train").all()
    assert 0.69 < (whole[rows["code"].to_numpy() == "b"] == "train").mean() < 0.71  # random over the groups


def test_row_order_does_not_matter_and_the_seed_does() -> None:
    rows = rows_of(SIZES)
    shuffled = rows.sample(frac=1, random_state=1)
    settings = {"fraction": 0.5, "held": 0.1}
    assert uses(rows, **settings).to_dict() == uses(shuffled, **settings).to_dict()
    other = uses(rows, seed=1)
    assert other.value_counts().to_dict() == uses(rows).value_counts().to_dict()
    assert 20 < (other != uses(rows)).sum() < 90  # 0.42 of 130 rows, on average


def test_small_groups_move_no_row_of_the_others() -> None:
    rows = rows_of(SIZES)
    large = rows["code"].isin(["a", "b", "c"])
    with_small, without = uses(rows), uses(rows[large])
    assert (with_small[large.to_numpy()] == without).all()
    assert without.value_counts().to_dict() == {"train": 78, "test": 33}  # 77.7 of 111


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_small_groups_fill_up_to_70_percent_of_all_rows(seed: int) -> None:
    assert uses(rows_of(SIZES), seed).value_counts().to_dict() == {"train": 91, "test": 39}  # 91.0 of 130


def test_only_small_groups_are_split_too() -> None:
    assert uses(rows_of({"a": 10, "b": 5})).value_counts().to_dict() == {"train": 11, "test": 4}  # 10.5 of 15


def test_validation_is_a_share_of_the_training_rows_used() -> None:
    rows = rows_of({"a": 900, "b": 100})
    plain, held = uses(rows), uses(rows, held=0.1)
    assert held.value_counts().to_dict() == {"train": 630, "validation": 70, "test": 300}
    assert (plain[held.isin(["train", "validation"])] == "train").all()
    both = uses(rows, fraction=0.5, held=0.1)
    assert both.value_counts().to_dict() == {"train": 315, "validation": 35, "unused": 350, "test": 300}
    side = draw_split(rows, 0, 0.7, 0.5, 0.1)[0]
    assert side.value_counts().to_dict() == {"train": 700, "test": 300}


def test_clusters_stay_together() -> None:
    rows = rows_of({"a": 600, "b": 400})
    cluster = pd.Series([f"district {n % 97}" for n in range(1000)])
    for fraction, held in ((1.0, 0.0), (0.5, 0.2)):
        use = uses(rows.assign(cluster=cluster), fraction=fraction, held=held)
        assert use.groupby(cluster.to_numpy()).nunique().max() == 1
        assert abs((use == "test").sum() - 300) <= 6  # as near as clusters of ten or eleven rows allow
    plain = uses(rows.assign(cluster=cluster))
    assert plain.to_dict() == uses(rows.assign(cluster=cluster).sample(frac=1, random_state=1)).to_dict()


def test_rows_given_as_test_rows_stay_so_and_decide_nothing() -> None:
    rows = rows_of({"a": 100, "b": 20})
    given = pd.concat([rows, rows_of({"a": 50, "z": 3}).assign(given=True, id=lambda r: "t" + r["id"])])
    given = given.reset_index(drop=True)
    assert uses(given, share=1.0).to_dict() == {i: "test" if i[0] == "t" else "train" for i in given["id"]}
    assert uses(given)[:120].to_dict() == uses(rows).to_dict()


@pytest.mark.parametrize("unit", ["id", "cluster", "similar"])
def test_each_row_is_tested_in_one_fold(unit: str) -> None:
    rows = rows_of(SIZES)
    rows = rows.assign(**{unit: rows["id"] if unit == "id" else [f"unit {n % 41}" for n in range(len(rows))]})
    tested = np.zeros(len(rows), int)
    for fold in range(5):
        use = draw_split(rows, 3, 0.7, 0.5, 0.2, folds=5, fold=fold)[1]
        tested += (use == "test").to_numpy()
        assert 18 <= (use == "test").sum() <= 34 and {"train", "validation", "unused"} <= set(use)
        assert use.groupby(rows[unit]).nunique().max() == 1
    assert (tested == 1).all()


@pytest.mark.parametrize("unit", ["id", "cluster", "similar"])
def test_each_training_row_is_in_one_inner_fold_and_no_row_held_out_by_the_split_is(unit: str) -> None:
    rows = rows_of(SIZES)
    rows = rows.assign(**{unit: rows["id"] if unit == "id" else [f"unit {n % 41}" for n in range(len(rows))]})
    sides, outer = draw_split(rows, 3, 0.7, 0.8, 0.2)
    for folds in (2, 4):
        held = np.zeros(len(rows), int)
        for fold in range(folds):
            side, use = draw_split(rows, 3, 0.7, 0.8, 0.2, inner_folds=folds, inner_fold=fold)
            assert (side == sides).all() and use.groupby(rows[unit]).nunique().max() == 1
            assert (use[outer != "train"].isin(["unused", "test"])).all()
            assert (use[outer == "train"].isin(["train", "validation"])).all()
            assert 0.5 < (use == "validation").sum() * folds / (outer == "train").sum() < 1.5
            held += (use == "validation").to_numpy()
        assert (held == (outer == "train")).all()


def test_clustered_rows_all_train_where_the_test_rows_are_given() -> None:
    rows = rows_of({"a": 30, "b": 5}).assign(cluster=[f"district {n}" for n in range(35)])
    for seed in range(20):  # in some orders a row of b, a small group, comes last
        assert set(uses(rows, seed, share=1.0)) == {"train"}


def test_stratified_folds_have_each_group_in_proportion() -> None:
    rows = rows_of({**SIZES, "g": 5, "h": 1, "i": 1, "j": 1})
    folds = [draw_split(rows, 0, 0.7, 1.0, 0.0, 5, fold, stratify=True)[1] == "test" for fold in range(5)]
    assert (np.sum(folds, axis=0) == 1).all()
    for code, size in rows["code"].value_counts().items():
        counts = [int((fold & (rows["code"] == code)).sum()) for fold in folds]
        assert min(counts) >= size // 5 - 1 and max(counts) <= -(-size // 5) + 1
    shares = [fold[rows["code"] == "a"].sum() for fold in folds]
    assert max(shares) - min(shares) <= 2


def test_stratified_split_depends_on_neither_row_order_nor_small_groups() -> None:
    rows = rows_of(SIZES)
    use = draw_split(rows, 3, 0.7, 0.5, 0.2, stratify=True)[1]
    shuffled = rows.sample(frac=1, random_state=1)
    assert draw_split(shuffled, 3, 0.7, 0.5, 0.2, stratify=True)[1].sort_index().equals(use)
    large = rows["code"].isin(["a", "b", "c"])
    assert draw_split(rows[large], 3, 0.7, 0.5, 0.2, stratify=True)[1].equals(use[large])
    counts = use.groupby(rows["code"]).value_counts()
    for used, share in {"train": 0.28, "validation": 0.07, "unused": 0.35, "test": 0.3}.items():
        assert counts["a"][used] == pytest.approx(60 * share, abs=1.5)


def test_stratified_units_stay_whole_and_count_in_the_group_of_most_rows() -> None:
    rows = rows_of({"a": 600, "b": 400})
    rows["cluster"] = [f"district {n // 7}" for n in range(1000)]  # one district has rows of both groups
    side = draw_split(rows, 0, 0.7, 1.0, 0.0, stratify=True)[0]
    assert (side.groupby(rows["cluster"]).nunique() == 1).all()
    for code in ("a", "b"):
        assert (side[rows["code"] == code] == "train").mean() == pytest.approx(0.7, abs=0.02)


def test_given_test_rows_do_not_move_a_stratified_row() -> None:
    rows = rows_of(SIZES)
    more = pd.concat([rows, rows.assign(id=rows["id"] + "-test", given=True)], ignore_index=True)
    use = draw_split(more, 0, 1.0, 1.0, 0.3, stratify=True)[1]
    assert (use[130:] == "test").all()
    assert use[:130].equals(draw_split(rows, 0, 1.0, 1.0, 0.3, stratify=True)[1])

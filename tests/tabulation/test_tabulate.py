"""`kjcm tabulate`: hand-worked shares and errors, weights, groups, titles, real text, and wrong input."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from kjcm.tabulation.shares import Tally, logit_interval
from tests.conftest import Run, command

WORDS = ("tabulate", "input=coded.csv", "output=out.csv")


@pytest.fixture
def coded(here: Path) -> pd.DataFrame:
    frame = pd.DataFrame(
        {
            "sex": ["m", "m", "f", "f"],
            "w": ["1", "3", "2", "1"],
            "code_1": ["111", "211", "111", ""],
            "prob_1": ["0.8", "0.6", "0.5", ""],
            "code_2": ["211", "112", "211", ""],
            "prob_2": ["0.2", "0.4", "0.25", ""],
        }
    )
    frame.to_csv("coded.csv", index=False)
    return frame


def made(name: str = "out.csv") -> pd.DataFrame:
    return pd.read_csv(name, dtype={"code": str})


def test_hand_worked_shares(coded: pd.DataFrame) -> None:
    """Weights 1, 3, 2; probabilities of 111: 0.8, 0 and 0.5 / 0.75."""
    assert command(*WORDS, "weight=w") == 0
    found = made().set_index("code")
    weight, p = np.array([1, 3, 2.0]), np.array([0.8, 0, 2 / 3])
    share = weight @ p / 6
    sampling = np.sqrt((weight**2 * (p - share) ** 2).sum() * 3 / 2) / 6
    coding = np.sqrt((weight**2 * p * (1 - p)).sum()) / 6
    row = found.loc["111"]
    np.testing.assert_allclose(
        row[["share", "se_sampling", "se_coding"]].astype(float), [share, sampling, coding], atol=1e-6
    )
    assert row["se"] == pytest.approx(np.hypot(sampling, coding), abs=1e-6)
    assert row["top1_share"] == pytest.approx(0.5)
    assert row["top1_se"] == pytest.approx(np.sqrt(14 * 0.25 * 1.5) / 6, abs=1e-6)
    assert row[["rows", "group_rows"]].tolist() == [2, 3] and row["effective_rows"] == round(36 / 14, 1)
    assert row["low"] < share < row["high"]
    assert found["share"].sum() == pytest.approx(1, abs=1e-5) and found["top1_share"].sum() == pytest.approx(1)
    record = json.loads(Path("out.csv.json").read_text(encoding="utf-8"))
    assert (record["rows"], record["rows_used"]) == (4, 3)
    assert record["mean_mass_not_shown"] == pytest.approx(0.25 / 3)


def test_levels_groups_and_titles(coded: pd.DataFrame) -> None:
    assert command(*WORDS, "by=sex", "level=1", "titles=ksco7") == 0
    found = made().set_index(["sex", "code"])
    assert found.loc[("m", "1"), "share"] == pytest.approx((0.8 + 0.4) / 2)
    assert found.loc[("f", "2"), "share"] == pytest.approx(1 / 3, abs=1e-6)
    assert found.loc[("m", "2"), "title"] == "전문가 및 관련 종사자"
    assert found["group_rows"].tolist() == [1, 1, 2, 2]
    assert np.isnan(found.loc[("f", "1"), "se_sampling"])  # a single row


def test_a_settled_group_keeps_the_distribution_of_its_codes(coded: pd.DataFrame) -> None:
    """The second row shows 112 (0.4) of the group 11; the first row 111 (0.8), and the third 111 (0.5 of 0.75)."""
    coded["decision_code"] = ["11", "11", "", ""]
    coded.to_csv("coded.csv", index=False)
    assert command(*WORDS, "settled=decided", "level=3") == 0
    found = made().set_index("code")
    assert found.index.tolist() == ["111", "112", "211"]
    np.testing.assert_allclose(found["share"], np.array([1 + 2 / 3, 1, 1 / 3]) / 3, atol=1e-6)
    assert found["rows"].tolist() == [2, 1, 0]


def test_chunks_change_nothing(coded: pd.DataFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    assert command(*WORDS, "by=sex", "weight=w") == 0
    monkeypatch.setattr("kjcm.tabulation.tabulate.CHUNK", 1)
    assert command(*WORDS[:2], "output=again.csv", "by=sex", "weight=w") == 0
    pd.testing.assert_frame_equal(made("again.csv"), made())
    assert made()["code"].tolist() == ["111", "112", "211"] * 2  # f has no 112


def test_intervals_stay_between_0_and_1() -> None:
    low, high = logit_interval(0.01, 0.02, 0.95)
    assert 0 < low < 0.01 < high < 1
    assert logit_interval(0.5, 0.05, 0.95) == pytest.approx((0.4025, 0.5975), abs=1e-3)
    assert np.isnan(logit_interval(0.0, 0.0, 0.95)).all()


def test_a_certain_share_has_no_interval(coded: pd.DataFrame) -> None:
    """Two sums of the weights 0.1, 0.2, ... differ in the last digit."""
    weight = np.linspace(0.1, 0.7, 7)
    tally = Tally()
    tally.add({"1": np.array([0])}, np.ones((7, 1)), np.zeros(7, np.intp), weight)
    for share in (tally.from_top("1", 0.95), tally.from_probabilities("1", 0.95)):
        assert share.value == pytest.approx(1) and np.isnan([share.low, share.high]).all()
    for slightly in (1e-16, 1 - 1e-16, 1 + 1e-16):
        assert np.isnan(logit_interval(slightly, 0.0, 0.95)).all()


@pytest.mark.parametrize(
    ("cell", "words", "code", "said"),
    [
        ("-1", ["weight=w"], 1, "column 'w', data row 2: '-1' is no weight"),
        ("", ["weight=w"], 1, "column 'w', data row 2: '' is no weight"),
        ("3", ["weight=v"], 1, "has no column 'v'"),
        ("3", ["by=code"], 2, "by=code"),
        ("3", ["columns.code=code_1", "settled=none"], 2, "settled=none"),
        ("3", ["by=group"], 1, "has no column 'group'"),
        ("3", ["titles=none.tsv"], 1, "none.tsv: no such file"),
        ("3", ["output=out.doc"], 2, "write one of"),
        ("3", ["output=coded.csv", "overwrite=true"], 2, "is an input"),
    ],
)
def test_wrong_input(
    cell: str,
    words: list[str],
    code: int,
    said: str,
    coded: pd.DataFrame,
    here: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    coded.loc[1, "w"] = cell
    coded.to_csv("coded.csv", index=False)
    output = [] if any(word.startswith("output=") for word in words) else ["output=out.csv"]
    assert command(*WORDS[:2], *output, *words) == code
    assert said in capfd.readouterr().err
    assert sorted(path.name for path in here.iterdir()) == ["coded.csv"]


def test_a_file_without_codes_is_an_error(coded: pd.DataFrame, capfd: pytest.CaptureFixture[str]) -> None:
    coded.iloc[3:].to_csv("coded.csv", index=False)
    assert command(*WORDS) == 1
    assert "has no row with a code and a weight" in capfd.readouterr().err


@pytest.mark.slow
def test_shares_of_real_text_are_closer(shared: Callable[[str], Path], kjcm: Run, tmp_path: Path) -> None:
    """The dictionary's second half, coded by a linear model of the first half."""
    table = pd.read_csv(shared("data/kdo/kdo_dev.tsv"), sep="\t", dtype=str, keep_default_na=False)
    first = table.sample(frac=0.5, random_state=0).sort_index()
    first.to_csv(tmp_path / "first.tsv", sep="\t", index=False)
    table.drop(first.index).to_csv(tmp_path / "second.tsv", sep="\t", index=False)
    kjcm(
        "train", "data=table", "data.path=first.tsv", "data.test_path=second.tsv", "data.columns.code=ksco7",
        "data.cutoff=0", "model=linear", "data.validation=0.3", "run_dir=run",
    )  # fmt: skip
    kjcm("predict", "run=run", "input=second.tsv", "output=coded.parquet", "all_probabilities=true")
    for level in (1, 2, 3):
        kjcm("tabulate", "input=coded.parquet", f"output={level}.csv", f"level={level}")
        kjcm("tabulate", "input=coded.parquet", f"output={level}_true.csv", f"level={level}", "columns.code=ksco7")
        coded, true = (made(str(tmp_path / f"{level}{end}.csv")).set_index("code") for end in ("", "_true"))
        both = coded.join(true["share"].rename("true"), how="outer").fillna(0.0)
        distance = {name: (both[name] - both["true"]).abs().sum() / 2 for name in ("top1_share", "share")}
        assert distance["share"] < distance["top1_share"]

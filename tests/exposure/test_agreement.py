"""Agreement in exposure of two codings: statistics as scikit-learn's, intervals, and how rows are matched."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import cohen_kappa_score

from kjcm.exposure.agreement import agreement, statistics
from tests.conftest import command


def test_a_hand_worked_table() -> None:
    """Of 10 rows 7 agree; by chance 0.6 * 0.5 + 0.4 * 0.5 = 0.5 would."""
    found = statistics(np.array([[4.0, 2.0], [1.0, 3.0]]), np.array([0.0, 1.0]))
    np.testing.assert_allclose(found, [0.7, 0.4, 0.4])
    assert np.isnan(statistics(np.array([[5.0]]), np.array([1.0]))[1])


def test_levels_that_do_not_occur_change_nothing() -> None:
    """Of 0, 1 and 2 the level 1 does not occur: 4 rows 0 and 0, 2 rows 0 and 2, 1 row 2 and 0, 3 rows 2 and 2."""
    one, other = np.repeat([0, 0, 2, 2], [4, 2, 1, 3]), np.repeat([0, 2, 0, 2], [4, 2, 1, 3])
    expected = cohen_kappa_score(one, other, labels=[0, 1, 2], weights="linear")
    assert statistics(np.array([[4.0, 2.0], [1.0, 3.0]]), np.array([0.0, 2.0]))[2] == pytest.approx(expected)
    labels = [np.array([0, 1, 3, 3, 0]), np.array([1, 1, 3, 0, 0])]
    found = agreement(labels[0].astype(float), labels[1].astype(float), 0, np.random.default_rng(0))
    expected = cohen_kappa_score(*labels, labels=[0, 1, 2, 3], weights="linear")
    assert found.values["weighted_kappa"][0] == pytest.approx(expected)


def test_kappas_are_those_of_scikit_learn() -> None:
    generator = np.random.Generator(np.random.PCG64(3))
    one = generator.integers(0, 4, 300).astype(float)
    other = np.where(generator.random(300) < 0.6, one, generator.integers(0, 4, 300))
    one[:5], other[5:8] = np.nan, np.nan
    found = agreement(one, other, 400, generator)
    both = ~np.isnan(one) & ~np.isnan(other)
    labels = [one[both].astype(int), other[both].astype(int)]
    assert (found.rows, found.left_out, found.levels) == (292, 8, 4)
    assert found.values["agreement"][0] == pytest.approx((labels[0] == labels[1]).mean())
    assert found.values["kappa"][0] == pytest.approx(cohen_kappa_score(*labels))
    assert found.values["weighted_kappa"][0] == pytest.approx(cohen_kappa_score(*labels, weights="linear"))
    value, low, high = found.values["kappa"]
    assert low < value < high and 0.05 < high - low < 0.2
    # the bootstrap's standard error is near the asymptotic one of the agreement
    share, low, high = found.values["agreement"]
    assert (high - low) / 3.92 == pytest.approx((share * (1 - share) / 292) ** 0.5, rel=0.2)


@pytest.fixture
def files(here: Path) -> None:
    coded = {"id": ["a", "b", "c", "d"], "code_1": ["1", "2", "1", "3"], "prob_1": 0.9, "hand": ["1", "1", "1", ""]}
    pd.DataFrame(coded).to_csv("coded.csv", index=False)
    pd.DataFrame({"id": ["d", "c", "b", "a"], "code": ["3", "1", "1", "2"]}).to_csv("hand.csv", index=False)
    Path("jem.csv").write_text("code,agent,level\n1,x,0\n2,x,1\n3,x,2\n1,y,1\n2,y,1\n", encoding="utf-8")


WORDS = ("expose", "input=coded.csv", "jem=jem.csv", "output=out.csv", "replicates=20")


def test_a_column_of_the_same_file(files: None, capfd: pytest.CaptureFixture[str]) -> None:
    assert command(*WORDS, "compare=coded.csv", "columns.compare=hand") == 0
    found = pd.read_csv("out.csv").set_index("agent")
    assert found.loc["x", ["rows", "rows_left_out", "levels"]].tolist() == [3, 1, 2]
    assert found.loc["x", "agreement"] == pytest.approx(2 / 3, abs=1e-6)
    assert found.loc["x", "kappa"] == 0
    assert found.loc["y", "agreement"] == 1 and np.isnan(found.loc["y", "kappa"])
    assert "nan" not in "".join(capfd.readouterr())


def test_rows_are_matched_by_id(files: None) -> None:
    assert command(*WORDS, "compare=hand.csv", "columns.compare=code", "columns.id=id") == 0
    found = pd.read_csv("out.csv").set_index("agent")
    assert found.loc["x", "rows"] == 4 and found.loc["x", "agreement"] == 0.5  # a: 1 and 2, b: 2 and 1


@pytest.mark.parametrize(
    ("text", "words", "said"),
    [
        ("id,code\na,1\n", [], "has 1 row, coded.csv has 4"),
        ("id,code\na,1\na,1\nc,1\nd,1\n", ["columns.id=id"], "ids occur more than once: 'a'"),
        ("id,code\na,1\nb,1\nc,1\n,1\n", ["columns.id=id"], "data row 4: is empty"),
        ("id,code\na,1\nb,1\nc,1\ne,1\n", ["columns.id=id"], "2 ids are in only one of the two files"),
        ("id,code\na,7\nb,8\nc,9\nd,9\n", [], "of 0 of 4 coded rows in hand.csv"),
    ],
)
def test_wrong_codings(text: str, words: list[str], said: str, files: None, capfd: pytest.CaptureFixture[str]) -> None:
    Path("hand.csv").write_text(text, encoding="utf-8")
    assert command(*WORDS, "compare=hand.csv", "columns.compare=code", *words) == 1
    assert said in capfd.readouterr().err
    assert not Path("out.csv").exists()

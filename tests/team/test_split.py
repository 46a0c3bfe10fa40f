"""`kjcm team split`: balanced and blind shares, identical texts together, the same under the same seed, wrong input."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from kjcm.team.shares import divide
from tests.conftest import Run, command

WORDS = ("team", "split", "input=coded.csv", "output=out")
TWO = (*WORDS, "coders=[kim,lee]", "texts=[task]")


@pytest.fixture
def coded(here: Path) -> pd.DataFrame:
    """Fifty rows, ten of them accepted; 40 rows with 30 texts."""
    frame = pd.DataFrame(
        {"task": [f"일 {n % 30}" for n in range(40)] + ["쉬움"] * 10, "decision": ["choose"] * 40 + ["accept"] * 10}
    )
    frame = frame.assign(decision_code="", pick_list="111 112", code_1="111", title_1="x", prob_1="0.5")
    frame.loc[40:, "decision_code"] = "111"
    frame.to_csv("coded.csv", index=False)
    return frame


def made(name: str) -> pd.DataFrame:
    return pd.read_csv(f"out/{name}.csv", dtype=str, keep_default_na=False)


@pytest.mark.parametrize("coders", [2, 3, 5])
def test_shares_are_balanced_and_texts_stay_together(coders: int) -> None:
    texts = np.arange(1000) % 800
    rows, pairs = divide(texts, coders, 100, np.random.default_rng(0))
    assert np.ptp(rows.sum(axis=0)) <= 1 and rows.sum() == 1100 and pairs.sum() == 100
    assert np.ptp(pairs[np.triu_indices(coders, 1)]) <= 2
    for text in range(800):
        own = rows[texts == text]
        assert own.all(axis=0).any()  # one coder has every row of the text
    drawn = [
        np.flatnonzero(divide(texts, 2, 100, np.random.default_rng(seed))[0].sum(axis=1) == 2) for seed in range(200)
    ]
    often = np.bincount(np.concatenate(drawn), minlength=1000)
    assert abs(often - 20).max() < 20  # each row is double with probability 1/10


def test_files_are_blind_and_complete(coded: pd.DataFrame) -> None:
    assert command(*TWO, "overlap=0.2") == 0
    kim, lee = made("kim"), made("lee")
    assert list(kim) == [*coded, "team_row", "team_text"] == list(lee) and len(kim) == len(lee) == 24
    rows = [set(frame["team_row"].astype(int)) for frame in (kim, lee)]
    assert rows[0] | rows[1] == set(range(1, 41)) and len(rows[0] & rows[1]) == 8
    assert not kim.drop_duplicates("team_text")["team_text"].astype(int).is_monotonic_increasing
    for frame in (kim, lee):
        assert frame["task"].tolist() == coded["task"].iloc[frame["team_row"].astype(int) - 1].tolist()
        assert frame["team_row"].astype(int).is_monotonic_increasing
    both = pd.concat([kim, lee])
    assert (both.groupby("task")["team_text"].nunique() == 1).all() and both["team_text"].nunique() == 30
    text = Path("out/split.json").read_text(encoding="utf-8")
    record = json.loads(text)
    assert (record["rows"], record["texts"], record["double_rows"], record["seed"]) == (40, 30, 8, 0)
    assert record["double_rows_of"] == [{"coders": ["kim", "lee"], "rows": 8}]
    assert record["coders"]["kim"]["rows"] == 24 and "일" not in text
    stored = (record["input"], record["coders"]["lee"]["sha256"])
    assert stored == tuple(hashlib.sha256(Path(name).read_bytes()).hexdigest() for name in ("coded.csv", "out/lee.csv"))


def test_the_seed_decides_and_nothing_is_overwritten(coded: pd.DataFrame) -> None:
    assert command(*TWO) == 0
    first = Path("out/kim.csv").read_bytes()
    assert command(*TWO) == 1 and command(*TWO, "overwrite=true") == 0 and Path("out/kim.csv").read_bytes() == first
    assert command(*TWO, "overwrite=true", "seed=1") == 0 and Path("out/kim.csv").read_bytes() != first
    assert command(*TWO, "overwrite=true", "decisions=[accept,choose]", "overlap=0") == 0
    assert json.loads(Path("out/split.json").read_text())["rows"] == 50


def test_an_old_record_does_not_stay(coded: pd.DataFrame, kjcm: Run) -> None:
    note = Path("coded.csv.json")
    note.write_text(json.dumps({"classes_hash": "abc", "made_by": {"columns": {"task": "task"}}}))
    assert "10 rows with other decisions: not divided" in kjcm(*TWO).stdout and Path("out/kim.csv.json").is_file()
    note.unlink()
    assert command(*TWO, "overwrite=true") == 0 and not Path("out/kim.csv.json").exists()


def test_text_columns_come_from_the_record(coded: pd.DataFrame) -> None:
    made_by = {"columns": {"task": "task", "workplace": None}, "input": "secret"}
    Path("coded.csv.json").write_text(json.dumps({"classes_hash": "abc", "made_by": made_by}))
    coded.to_parquet("coded.parquet")
    Path("coded.csv.json").rename("coded.parquet.json")
    assert command("team", "split", "input=coded.parquet", "output=out", "coders=[kim,lee]") == 0
    assert len(pd.read_parquet("out/kim.parquet")) == 22
    assert json.loads(Path("out/kim.parquet.json").read_text()) == {
        "classes_hash": "abc",
        "made_by": {"columns": {"task": "task"}},
    }


@pytest.mark.parametrize(
    ("words", "code", "what"),
    [
        (("coders=[kim,Kim]", "texts=[task]"), 2, "twice"),
        (("coders=[kim]", "texts=[task]"), 2, "at least two"),
        (("coders=[kim,../x]", "texts=[task]"), 2, "../x"),
        (("coders=[kim,split]", "texts=[task]"), 2, "split"),
        (("coders=[kim,lee]",), 2, "texts="),
        (("coders=[kim,lee]", "texts=[job]"), 1, "job"),
        (("coders=[kim,lee]", "texts=[task]", "decisions=[maybe]"), 2, "maybe"),
        (("coders=[kim,lee]", "texts=[task]", "decisions=[search]"), 1, "choose 40"),
        (("coders=[kim,lee]", "texts=[task]", "overlap=0.001"), 2, "overlap=0.001"),
        (("coders=[coded,lee]", "texts=[task]", "output=.", "overwrite=true"), 2, "coded.csv: is an input"),
    ],
)  # fmt: skip
def test_wrong_input(coded: pd.DataFrame, kjcm: Run, words: tuple[str, ...], code: int, what: str) -> None:
    assert what in kjcm(*WORDS, *words, code=code).stderr
    assert not Path("out").exists()


def test_a_divided_or_uncoded_file_is_refused(coded: pd.DataFrame, kjcm: Run) -> None:
    coded.assign(team_row="1").to_csv("coded.csv", index=False)
    assert "team_row" in kjcm(*TWO, code=1).stderr
    coded.drop(columns="pick_list").to_csv("coded.csv", index=False)
    assert "pick_list" in kjcm(*TWO, code=1).stderr

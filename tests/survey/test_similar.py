"""Similar texts are on one side of every split and fold."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from kjcm.errors import KjcmError
from kjcm.ksco.classification import Classification
from kjcm.survey.similar import components
from kjcm.survey.split import first_half
from tests.conftest import command
from tests.survey.making import answers, from_frame

TASKS = [
    "병원에서 환자 간호",
    "병원에서 환자 간호 업무",
    "병원에서 환자 간호 업무 보조",
    "트럭 운전",
    "버스 운전",
    "트럭 운전",
]


def partners(texts: list[str], cosine: float, others: list[int] | None = None) -> list[list[int]]:
    found = components(texts, cosine, None if others is None else np.array(others))
    return sorted(np.flatnonzero(found == number).tolist() for number in set(found.tolist()))


def test_a_chain_of_similar_texts_is_one_component() -> None:
    assert partners(TASKS, 0.999) == [[0], [1], [2], [3, 5], [4]]  # equal texts always belong together
    chain = partners(TASKS, 0.6)
    assert [0, 1, 2] in chain and [3, 5] in chain
    assert partners(TASKS, 0.2) == [[0, 1, 2], [3, 4, 5]]
    assert partners(TASKS, 0.999, [7, 1, 2, 7, 3, 4]) == [[0, 3, 5], [1], [2], [4]]  # a cluster joins 0 and 3


def test_chunks_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [f"{'가나다라마바사'[n % 7] * 3} 일 {n % 5}" for n in range(60)]
    whole = components(texts, 0.5)
    monkeypatch.setattr("kjcm.survey.similar.CHUNK", 7)
    assert (components(texts, 0.5) == whole).all() and 1 < len(set(whole.tolist())) < 35


def near_duplicates(**columns: Any) -> pd.DataFrame:
    """Return 120 rows of two codes: 40 tasks, each in three near-equal wordings."""
    names = [f"{first}{second} 만들기" for first in "빵책옷집길배칼잔" for second in "가나다라마"]
    tasks = [f"{name} {end}" for name in names for end in ("일", "일 함", "일 함.")]
    codes = ["1110" if n % 2 else "2221" for n in range(120)]
    return answers(task=tasks, code=codes, workplace=[""] * 120, position=[""] * 120, **columns)


def test_a_cohort_counts_and_keeps_groups_together(ksco: Classification) -> None:
    seen: set[str] = set()
    for fold in range(4):
        cohort = from_frame(near_duplicates(), ksco, group_similar=0.8, folds=4, fold=fold, validation=0.2)
        rows = cohort.rows
        assert cohort.flow["similar"] == {"groups": 40, "rows_of_several": 120, "largest": 3}
        assert rows.groupby("similar")["side"].nunique().max() == 1
        assert (rows["similar"] == rows.groupby("similar")["id"].transform("min")).all()
        half = pd.Series(first_half(rows, 0))
        assert half.groupby(rows["similar"]).nunique().max() == 1 and 55 <= half.sum() <= 65
        seen |= set(rows["id"][rows["side"] == "test"])
    assert len(seen) == 120
    plain = from_frame(near_duplicates(), ksco)
    assert "similar" not in plain.rows and "similar" not in plain.flow


def test_clusters_stay_whole_among_similar_texts(ksco: Classification) -> None:
    frame = near_duplicates(psu=[f"area {n % 12}" for n in range(120)])
    cohort = from_frame(frame, ksco, group_similar=0.8, columns={"cluster": "psu"})
    assert cohort.rows.groupby("cluster")["side"].nunique().max() == 1
    assert cohort.rows.groupby("cluster")["similar"].nunique().max() == 1


def test_rows_that_no_split_divides(ksco: Classification, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    frame, cluster = near_duplicates(psu=["one area"] * 120), {"cluster": "psu"}
    with pytest.raises(KjcmError, match=r"120 rows.*data\.columns\.cluster"):
        from_frame(frame, ksco, columns=cluster, folds=2, fold=1).require_trainable()
    frame.to_csv("a.csv", index=False)
    words = ("data=table", "data.path=a.csv", "data.columns.cluster=psu", "data.folds=2")
    assert command("baseline", "kind=majority", *words) == 2 and "data.fold=0 " in capsys.readouterr().err

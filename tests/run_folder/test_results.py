"""What records say of rows, hand-worked."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from kjcm.ksco.classification import Classification, load_classification
from kjcm.run_folder.results import about_texts, cohort_record, same_text
from tests.survey.making import answers, from_frame


def test_texts_are_numbered_by_first_occurrence_and_not_shown() -> None:
    rows = pd.DataFrame({"id": list("abcd"), "text": ["굽는 일", "파는 일", "굽는 일", "쓰는 일"]})
    found = about_texts(rows, ["파는 일", "자는 일"])
    assert found["text"].tolist() == [0, 1, 0, 2] and found["text"].dtype == np.int32
    assert found["seen"].tolist() == [False, True, False, False] and found["seen"].dtype == bool
    assert list(found) == ["text", "seen"]
    clustered = about_texts(rows.assign(cluster=["7", "7", "8", "9"]), [])
    assert list(clustered) == ["text", "seen", "cluster"] and clustered["cluster"].tolist() == ["7", "7", "8", "9"]


def test_same_text_counts_rows_that_share_theirs() -> None:
    rows = pd.DataFrame({"text": list("xxxyyz"), "code": ["1", "1", "2", "3", "3", "1"]})
    assert same_text(rows) == {"texts": 3, "rows_repeated": 5, "rows_conflicting": 3, "ceiling": 5 / 6}
    assert same_text(rows[:0]) == {"texts": 0, "rows_repeated": 0, "rows_conflicting": 0, "ceiling": None}


def test_cohort_record_counts_what_left_and_what_the_classification_has(ksco: Classification) -> None:
    table = answers(code=["111"] * 12 + ["320"] * 11 + ["630"] * 3)
    record = cohort_record(from_frame(table, ksco), ksco)
    (left,) = record["left_groups"]
    assert (left["code"], left["title"]) == ("630", ksco.title("630")) and left["train"] + left["test"] == 3
    assert record["same_text"] == {"texts": 23, "rows_repeated": 0, "rows_conflicting": 0, "ceiling": 1.0}
    assert record["classification_groups"] == 156
    assert cohort_record(from_frame(table, ksco, level=2), ksco)["classification_groups"] == 52


@pytest.mark.parametrize(("level", "groups"), [(2, 2), (1, None), (None, None)])
def test_a_classification_of_the_data_counts_the_codes_it_names(
    level: int | None, groups: int | None, tmp_path: Path
) -> None:
    (tmp_path / "codes.csv").write_text("code,title\n11,a\n12,b\n123,c\n", encoding="utf-8")
    named = load_classification("from_data", tmp_path / "codes.csv")
    table = answers(code=["11"] * 12 + ["12"] * 12)
    assert cohort_record(from_frame(table, named, level=level), named)["classification_groups"] == groups
    bare = load_classification("from_data")
    assert cohort_record(from_frame(table, bare, level=level), bare)["classification_groups"] is None

"""A text file is written as pandas writes it."""

import csv
from datetime import date
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from kjcm.coding.tables import read_chunks, writer


@pytest.mark.parametrize(("suffix", "separator"), [(".csv", ","), (".tsv", "\t")])
def test_text_is_written_as_pandas_writes_it(suffix: str, separator: str, tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {
            "이름, \"text\"": ["가,나", 'say "x"', "", None, "line\nbreak", "tab\there", " 끝"],
            "whole": [1, 2, 3, 4, 5, 6, 7],
            "number": [1.5, np.nan, 2, 3e-9, 1e20, -1, 0.1],
            "yes": [True, False, True, False, True, True, False],
            "date": pd.to_datetime(["2020-01-01"] * 6 + [None]),
            "mixed": [1, "x,y", None, 2.5, 'q"', True, "a\tb"],
            "prob_1": np.array([0.1234565, 1, 0, np.nan, 1e-7, 0.9999999, 0.5], np.float32),
        }
    ).assign(
        arrow=pd.array(["x", None, "y", "z", "w", "", "a,b"], dtype=pd.StringDtype("pyarrow")),
        prob_theirs=[-1.0, 1e20, np.inf, None, 123456.7, -0.25, 0],
        passed=pd.to_timedelta([1, None, 2, 3, 4, 5, 6], unit="D"),
        gaps=pd.array([1, None, 3, 4, 5, 6, 7], dtype="Int64"),
        kind=pd.Categorical(["a,b", "c", None, "c", "c", "d\n", ""]),
        lists=pd.array([["x", "y"], None, [], ["z"], [], [], []], dtype=pd.ArrowDtype(pa.list_(pa.string()))),
        text=pd.array(["x,y", None, "", "z", "", "", ""], dtype=pd.ArrowDtype(pa.string())),
        day=pd.array([date(2020, 1, 1), None, *[date(2021, 1, 1)] * 5], dtype=pd.ArrowDtype(pa.date32())),
        exact=pd.array([Decimal("1.50"), None, *[Decimal("2")] * 5], dtype=pd.ArrowDtype(pa.decimal128(5, 2))),
    )  # fmt: skip
    with writer(tmp_path / f"out{suffix}") as out:
        out.write(frame)
        out.write(frame[:0])
        out.write(frame[:2])
    shown = frame.assign(
        **{name: frame[name].map("{:.6f}".format, na_action="ignore") for name in ("prob_1", "prob_theirs")}
    )
    wanted = pd.concat([shown, shown[:2]]).to_csv(sep=separator, index=False)
    assert (tmp_path / f"out{suffix}").read_bytes().decode("utf-8-sig") == wanted


def test_a_line_end_within_a_cell_ends_no_row(tmp_path: Path) -> None:
    frame = pd.DataFrame({"task": ["한\r줄", "두\r\n줄", "끝"]})
    with writer(tmp_path / "out.csv") as out:
        out.write(frame)
    with (tmp_path / "out.csv").open(encoding="utf-8-sig", newline="") as stream:
        assert list(csv.reader(stream)) == [["task"], *([cell] for cell in frame["task"])]


def test_what_pandas_had_as_an_index_stays_a_column(tmp_path: Path) -> None:
    file = tmp_path / "in.parquet"
    pd.DataFrame({"id": ["a", "b"], "task": ["용접", "농사"]}).set_index("id").to_parquet(file)
    (frame,) = read_chunks(file, 10)
    assert sorted(frame) == ["id", "task"] and frame["id"].tolist() == ["a", "b"]

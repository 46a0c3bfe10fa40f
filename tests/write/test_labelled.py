"""SPSS and Stata files keep what they are when columns are added."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyreadstat
import pytest

from kjcm.errors import KjcmError
from kjcm.read.labelled import stata_format
from kjcm.read.stata import StataFile, Variable, read_stata
from kjcm.read.table import read_table
from kjcm.write.stata import write_stata
from kjcm.write.table import open_input, writer
from tests.write.test_table import copied

BASE = pd.DataFrame(
    {
        "i8": np.array([1, -127, 100], np.int8),
        "i16": np.array([1, -32767, 32740], np.int16),
        "i32": np.array([1, 2, 2147483620], np.int32),
        "f": np.array([1.5, np.nan, 3], np.float32),
        "d": [1.5, np.nan, 1e300],
        "s": ["ab", "", "x" * 200],
        "day": pd.to_datetime(["2020-01-01", None, "1950-02-03"]),
    }
)
KEPT = (
    "original_variable_types", "readstat_variable_types", "column_names_to_labels", "variable_display_width",
    "variable_to_label", "value_labels", "variable_storage_width", "file_label", "notes", "missing_ranges", "variable_measure",
)  # fmt: skip


def about(path: Path) -> dict[str, Any]:
    """Return what a file says of itself and its columns, but for the one that was added."""
    reader = pyreadstat.read_dta if path.suffix == ".dta" else pyreadstat.read_sav
    found = reader(str(path), metadataonly=True)[1]
    kept = {name: getattr(found, name) for name in KEPT}
    return {
        name: {key: one for key, one in value.items() if key != "code_1"} if isinstance(value, dict) else value
        for name, value in kept.items()
    }


def raw(path: Path) -> pd.DataFrame:
    """Return a Stata file's cells as they are stored."""
    options = {"convert_missing": True, "convert_dates": False, "convert_categoricals": False}
    frame = pd.read_stata(path, **options).drop(columns="code_1", errors="ignore")
    return frame.map(str)


@pytest.mark.parametrize("release", [114, 117, 118, 119])
@pytest.mark.parametrize("order", ["little", "big"])
def test_pandas_stata_files_stay(release: int, order: str, tmp_path: Path) -> None:
    source, target = tmp_path / "in.dta", tmp_path / "out.dta"
    frame = BASE.assign(long=["y" * 3000, "", "z"] if release > 114 else "q")
    frame.to_stata(
        source, version=release, byteorder=order, write_index=False, convert_dates={"day": "%tm"},
        convert_strl=["long"] if release > 114 else None, variable_labels={"d": "wage"}, data_label="2023 survey",
        value_labels={"i8": {1: "one", 100: "hundred"}},
    )  # fmt: skip
    copied(source, target)
    assert about(target) == about(source) and raw(target).equals(raw(source))
    assert about(target)["original_variable_types"]["day"] == "%tm" and stata_format(target) == 118


@pytest.mark.parametrize("version", [8, 10, 12, 13, 14, 15])
def test_pyreadstats_stata_files_stay(version: int, tmp_path: Path) -> None:
    source, target = tmp_path / "in.dta", tmp_path / "out.dta"
    pyreadstat.write_dta(
        BASE.drop(columns="f"), str(source), version=version, file_label="label", column_labels={"d": "wage"},
        variable_value_labels={"i8": {1: "one"}}, variable_format={"i32": "%9.0gc", "d": "%-8.1f"},
    )  # fmt: skip
    copied(source, target)
    assert about(target) == about(source) and raw(target).equals(raw(source))


def test_stata_keeps_extended_missing_values_notes_and_formats(tmp_path: Path) -> None:
    source, target = tmp_path / "in.dta", tmp_path / "out.dta"
    dot = 2.0**1023
    formats = ("%tm", "%tq", "%th", "%ty", "%tw", "%td", "%tcDD/NN/CCYY", "%9.2fc", "%-12.0g")
    before = StataFile(
        [
            Variable("age", "byte", np.array([102, 1, 127, 101], np.int8), "%8.0g", "ages", "나이"),
            *(
                Variable(
                    f"v{place}", "double", np.array([dot, dot * (1 + 2**-12), dot * (1 + 26 * 2**-12), 5.0]), shown
                )
                for place, shown in enumerate(formats)
            ),
            Variable("text", "str", np.array([name.encode() for name in ("가", "", "나", "다")]), "%-20s"),
        ],
        4,
        "조사 2023",
        "28 Nov 2026 10:00",
        [0],
        [
            ("_dta", "note0", "1"),
            ("_dta", "note1", "노트"),
            ("age", "note1", "of a variable"),
            ("_dta", "_svy_wvar", "w"),
        ],
        {"ages": {1: "하나", 102: "거부"}},
    )
    write_stata(source, before)
    copied(source, target)
    after = read_stata(target)
    assert (after.label, after.saved, after.sorted_by) == (before.label, before.saved, before.sorted_by)
    assert (after.notes, after.tables) == (before.notes, before.tables)
    for one, two in zip(before.variables, after.variables[:-1], strict=True):
        assert one.cells.tobytes() == two.cells.tobytes() and one.cells.dtype == two.cells.dtype
        assert (one.name, one.kind, one.format, one.values, one.label) == (
            two.name, two.kind, two.format, two.values, two.label,
        )  # fmt: skip
    assert (after.variables[-1].name, after.variables[-1].label) == ("code_1", "Code, rank 1")
    assert raw(target)["age"].tolist() == [".a", "1", ".z", "."]
    assert raw(target)["v0"].tolist() == [".", ".a", ".z", "5.0"]


def test_old_stata_files_get_utf8(tmp_path: Path) -> None:
    source, target = tmp_path / "in.dta", tmp_path / "out.dta"
    frame = pd.DataFrame({"task": ["용접", "가" * 100, ""], "n": [1, 2, 3]})
    mojibake = frame.assign(task=frame["task"].map(lambda text: text.encode("cp949").decode("latin-1")))
    label = "하는 일".encode("cp949").decode("latin-1")
    mojibake.to_stata(source, version=114, write_index=False, variable_labels={"task": label})
    copied(source, target)
    assert pd.read_stata(target)["task"].tolist() == frame["task"].tolist()
    assert about(target)["column_names_to_labels"]["task"] == "하는 일"


def test_damage_that_pyreadstat_passes_over_is_found_before_anything_is_coded(tmp_path: Path) -> None:
    source = tmp_path / "in.dta"
    BASE.assign(long="y" * 3000).to_stata(source, version=118, write_index=False, convert_strl=["long"])
    whole = source.read_bytes()
    for tag, other in ((b"<varnames>", b"<varnamen>"), (b"GSO\x08", b"GSO\7")):
        source.write_bytes(whole.replace(tag, other))
        with pytest.raises(KjcmError, match=r"in\.dta: not a readable DTA file"):
            open_input(source, tmp_path / "out.dta", (), 5)


@pytest.mark.parametrize("kind", [".sav", ".zsav"])
def test_spss_files_stay(kind: str, tmp_path: Path) -> None:
    formats = {
        "day": "EDATE10", "hour": "TIME11.2", "month": "MOYR8", "quarter": "QYR8", "week": "WKYR10", "at": "DATETIME23.2",
        "passed": "DTIME12", "pay": "DOLLAR12.2", "rate": "PCT5.1", "n": "F3.0", "text": "A60",
    }  # fmt: skip
    frame = pd.DataFrame({name: [13e9 + 1.25, 8.0, np.nan] for name in formats}).assign(text=["가", "99", ""])
    source, target = tmp_path / f"in{kind}", tmp_path / f"out{kind}"
    frame.loc[0, "text"] += " " * 57  # as wide as its format says
    pyreadstat.write_sav(
        frame, str(source), compress=kind == ".zsav", variable_format=formats, file_label="조사", note=["a note"],
        variable_display_width={"text": 33, "n": 5}, variable_measure={"n": "ordinal", "text": "nominal"},
        missing_ranges={"n": [{"lo": 8, "hi": 9}, 99], "text": ["99"]}, variable_value_labels={"n": {8.0: "거부"}},
        column_labels={"n": "라" * 80},
    )  # fmt: skip
    copied(source, target)
    assert about(target) == about(source)
    options: dict[str, Any] = {"user_missing": True, "disable_datetime_conversion": True}
    before, after = (pyreadstat.read_sav(str(path), **options)[0] for path in (source, target))
    pd.testing.assert_frame_equal(after[list(before)], before)
    found = pyreadstat.read_sav(str(target))[1]
    assert found.column_names_to_labels["code_1"] == "Code, rank 1" and found.variable_measure["code_1"] == "nominal"


def test_labels_go_from_spss_to_stata_and_back(tmp_path: Path) -> None:
    frame = pd.DataFrame({"sex": [1.0, 2.0, np.nan], "text": ["a", "b", ""]})
    labels = {"sex": {1.0: "남", 2.0: "여", 1.5: "?"}, "text": {"a": "에이"}}
    pyreadstat.write_sav(frame, str(tmp_path / "in.sav"), variable_value_labels=labels, column_labels={"sex": "성별"})
    copied(tmp_path / "in.sav", tmp_path / "out.dta")
    found = about(tmp_path / "out.dta")
    assert found["value_labels"] == {"sex": {1: "남", 2: "여"}} and found["column_names_to_labels"]["sex"] == "성별"
    (tmp_path / "out.dta").rename(tmp_path / "back.dta")
    stata = read_stata(tmp_path / "back.dta")
    write_stata(tmp_path / "back.dta", StataFile(stata.variables[:2], 3, tables=stata.tables))
    copied(tmp_path / "back.dta", tmp_path / "back.sav")
    found = pyreadstat.read_sav(str(tmp_path / "back.sav"))[1]
    assert found.variable_value_labels == {"sex": {1.0: "남", 2.0: "여"}}
    assert found.column_names_to_labels["sex"] == "성별"


def test_a_text_goes_on_after_a_nul(tmp_path: Path) -> None:
    pd.DataFrame({"text": ["a\0b", "c"]}).to_csv(tmp_path / "in.csv", index=False)
    for kind in ("dta", "sav"):
        copied(tmp_path / "in.csv", tmp_path / f"out.{kind}")
        assert read_table(tmp_path / f"out.{kind}")["text"].tolist() == ["ab", "c"]


def test_a_file_without_rows_stays(tmp_path: Path) -> None:
    for kind in ("dta", "sav"):
        source, target = tmp_path / f"in.{kind}", tmp_path / f"out.{kind}"
        write = pyreadstat.write_dta if kind == "dta" else pyreadstat.write_sav
        write(BASE[:0].drop(columns="f"), str(source), column_labels={"d": "wage"})
        copied(source, target)
        assert about(target)["column_names_to_labels"]["d"] == "wage"


@pytest.mark.parametrize("kind", [".sav", ".zsav", ".dta"])
def test_the_last_microsecond_stays_in_its_year(kind: str, tmp_path: Path) -> None:
    stamps = pd.Series(["9999-12-31 23:59:59.999999", "2020-01-02 03:04:05.678"], dtype="datetime64[us]")
    with writer(tmp_path / f"out{kind}") as out:
        out.write(pd.DataFrame({"at": stamps}))
    found = read_table(tmp_path / f"out{kind}")["at"].astype("datetime64[us]")
    assert found.dt.floor("s").tolist() == stamps.dt.floor("s").tolist()
    assert (stamps - found).abs().max() <= pd.Timedelta(microseconds=35)

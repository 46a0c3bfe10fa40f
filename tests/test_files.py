"""Cells as text, encodings, files written whole or not at all, digests, and short messages."""

import hashlib
import json
import os
import stat
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from kjcm.errors import ConfigError, KjcmError, some
from kjcm.files import atomic, cached, digest, key_of, require_no_input, sha256, write_json, write_parquet
from kjcm.read.cells import code_text, code_texts
from kjcm.read.table import read_table
from kjcm.read.text import encoding_of, text_chunks


def test_an_output_replaces_no_input(here: Path) -> None:
    (here / "run" / "model").mkdir(parents=True)
    for name in ("a.csv", "b.csv", "run/model/x.csv"):
        Path(name).write_text("mine")
    os.link("a.csv", "hard.csv")
    Path("soft.csv").symlink_to("a.csv")
    Path("link").symlink_to("run")
    for output in (
        "a.csv",
        here / "a.csv",
        "run/../a.csv",
        "hard.csv",
        "soft.csv",
        "run/model/x.csv",
        "link/model/x.csv",
    ):
        with pytest.raises(ConfigError, match=r"^out=.*(is an input|is in the input run.model)"):
            require_no_input(output, [None, "a.csv", "run/model"], "out")
    with pytest.raises(ConfigError, match="contains the input"):
        require_no_input("run", ["run/model/x.csv"])
    for output in ("b.csv", "c.csv", "run/model/y.csv", "run/x.csv"):
        require_no_input(output, ["a.csv", "c.csv", "run/model"])


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (111, "111"), (111.0, "111"), ("36.0", "36.0"), ("36.00", "36.00"), (" 0111 ", "0111"), ("A01", "A01"),
        (np.int16(1001), "1001"), (np.float32(111), "111"), (1e7, "10000000"), (111.5, "111.5"), ("11.10", "11.10"),
        ("1.5.0", "1.5.0"), ("11-1021.00", "11-1021.00"), (0, "0"), ("", ""), (None, ""), (float("nan"), ""),
        (np.nan, ""), (pd.NA, ""), (pd.NaT, ""), ("NA", "NA"), ("nan", "nan"), ("어부 1.0", "어부 1.0"),
    ],
)  # fmt: skip
def test_code_text(value: object, text: str) -> None:
    assert code_text(value) == text


def test_missing_cells_are_empty_whatever_the_column_type() -> None:
    for dtype in ("object", "float64", "float32", "Int64", "string"):
        column = pd.Series([111, None], dtype=dtype)
        assert [code_text(value) for value in column] == code_texts(column) == ["111", ""], dtype


@pytest.mark.parametrize(
    ("content", "encoding"),
    [("가,나\n", "utf-8-sig"), ("\ufeff가,나\n", "utf-8-sig"), ("a,b\n", "utf-8-sig"), ("", "utf-8-sig")],
)
def test_utf8_with_and_without_bom(tmp_path: Path, content: str, encoding: str) -> None:
    path = tmp_path / "t.csv"
    path.write_text(content, encoding="utf-8")
    assert encoding_of(path) == encoding


def test_cp949_is_found_even_late_in_a_long_file(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(b"id,task\n" + b"1,plain\n" * 200_000 + "2,똠방각하 역\n".encode("cp949"))
    assert encoding_of(path) == "cp949"
    assert read_table(path)["task"].iloc[-1] == "똠방각하 역"


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"id,task\n1," + b"\xff\xfe\n", 2),
        ("번호,하는 일\n1,참다랑어 키우는 일\n2,".encode() + b"\xff\xff\n3,a\n", 3),  # UTF-8 but for its third line
        ("번호,하는 일\n1,참다랑어 키우는 일\n2,낚시\n3,".encode("cp949") + b"\xff\xff\n", 4),
        ("id,task\n1,일\n".encode("utf-16"), 1),
    ],
)
def test_other_encodings_are_refused_by_line(tmp_path: Path, content: bytes, line: int) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(content)
    with pytest.raises(KjcmError) as caught:
        read_table(path)
    assert f"{path}, line {line}: the text is neither UTF-8 nor CP949" in str(caught.value)


def test_text_cells_stay_as_they_stand(tmp_path: Path) -> None:
    path = tmp_path / "t.tsv"
    path.write_text('id\ttask\tcode\n1\t"낚시,\n참치"\t0111\n2\tNA\t1e5\n3\t\t111.0\n', encoding="utf-8")
    table = read_table(path)
    assert table.to_numpy().tolist() == [["1", "낚시,\n참치", "0111"], ["2", "NA", "1e5"], ["3", "", "111.0"]]
    assert [len(chunk) for chunk in text_chunks(path, 2)] == [2, 1]


def test_blank_lines_are_rows_but_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("\ufefftask,n\n용접,1\n\n농사\n,\n\n\n", encoding="utf-8")
    assert read_table(path).to_numpy().tolist() == [["용접", "1"], ["", ""], ["농사", ""], ["", ""]]
    path.write_text('task\n\n용접\n""\n\n', encoding="utf-8")
    assert read_table(path)["task"].tolist() == ["", "용접", ""]
    assert [chunk["task"].tolist() for chunk in text_chunks(path, 2)] == [["", "용접"], [""]]
    path.write_text("task,,n\n", encoding="utf-8")  # one column may be without a name
    assert [list(chunk) for chunk in text_chunks(path, 2)] == [["task", "", "n"]]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("t.csv", 'n,task\n1,"낚시\n2,택시\n3,"운전"\n', "row from line 2 on: not a well-formed CSV"),
        ("t.csv", 'n,task\n1,일\n2,"낚시\n3,택시\n', "row from line 3 on: not a well-formed CSV"),
        ("t.tsv", 'n\ttask\n1\t"긴급 출동\n2\t택시\n3\t모니터 19"\n', "line 2: a cell begins with a quote mark"),
    ],
)
def test_a_stray_quote_takes_in_no_rows(tmp_path: Path, name: str, content: str, words: str) -> None:
    (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(KjcmError, match=words):
        read_table(tmp_path / name)


def test_a_quoted_cell_may_hold_tabs_and_lines(tmp_path: Path) -> None:
    path = tmp_path / "t.tsv"
    path.write_text('n\ttask\n1\t"낚시\t바다\n배"\n', encoding="utf-8")
    assert read_table(path)["task"].tolist() == ["낚시\t바다\n배"]


def test_atomic_writes_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "out.csv"
    with atomic(path) as temporary:
        temporary.write_text("new")
        assert not path.exists()
        assert temporary.suffix == ".csv"
    assert path.read_text() == "new"
    mask = os.umask(0)
    os.umask(mask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~mask
    with pytest.raises(ZeroDivisionError), atomic(path) as temporary:
        temporary.write_text("half")
        raise ZeroDivisionError
    assert path.read_text() == "new"
    assert [file.name for file in path.parent.iterdir()] == ["out.csv"]


def test_atomic_refuses_what_exists_and_folders_that_cannot_be(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    path.write_text("mine")
    with pytest.raises(KjcmError, match=r"out\.csv exists\. .* overwrite=true"), atomic(path, overwrite=False):
        pytest.fail("the block runs")
    assert path.read_text() == "mine"
    with pytest.raises(KjcmError, match="cannot be written"), atomic(path / "below" / "x.csv"):
        pytest.fail("the block runs")
    assert [file.name for file in tmp_path.iterdir()] == ["out.csv"]


def test_json_and_parquet(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"제목": [1, 0.5]})
    text = (tmp_path / "a.json").read_text(encoding="utf-8")
    assert "제목" in text
    assert json.loads(text) == {"제목": [1, 0.5]}
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "b.json", {"x": float("nan")})
    frame = pd.DataFrame({"id": ["1"], "text": ["낚시"]})
    write_parquet(tmp_path / "a.parquet", frame, "synthetic")
    assert pq.read_schema(tmp_path / "a.parquet").metadata[b"kjcm"] == b"synthetic"
    assert read_table(tmp_path / "a.parquet").to_numpy().tolist() == frame.to_numpy().tolist()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.json", "a.parquet"]


def test_digest_of_files_and_folders(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    for folder in (one, two):
        (folder / "sub").mkdir(parents=True)
        (folder / "sub" / "a").write_bytes(b"abc")
    inner = hashlib.sha256(b"abc").digest()
    assert sha256(one / "sub" / "a") == hashlib.sha256(b"abc").hexdigest()
    assert digest(one / "sub" / "a") == hashlib.sha256(inner).hexdigest()
    assert digest(one) == digest(two) == hashlib.sha256(b"sub/a\0" + inner).hexdigest()
    (two / "sub" / "a").rename(two / "sub" / "b")
    assert digest(one) != digest(two)


def test_key_of_a_value_and_texts() -> None:
    assert key_of({"b": 1, "a": None}, ["가"]) == hashlib.sha256('{"a": null, "b": 1}1\0가'.encode()).hexdigest()[:32]
    assert len({key_of(1, texts) for texts in ([], [""], ["ab"], ["a", "b"], ["a\x001\0b"], ["b", "a"])}) == 6


def test_cached_makes_once_and_again_what_is_damaged(tmp_path: Path) -> None:
    file, made = tmp_path / "deep" / "entry.npz", []

    def value(name: str = "x") -> list[int]:
        def make() -> list[int]:
            made.append(name)
            return [1, 2, 3]

        return cached(file, make, lambda found: {name: np.array(found)}, lambda arrays: arrays["x"].tolist())

    assert [value(), value()] == [[1, 2, 3]] * 2 and made == ["x"]
    whole = file.read_bytes()
    for at in range(len(whole)):
        file.write_bytes(whole[:at] + bytes([whole[at] ^ 255]) + whole[at + 1 :])
        assert value() == [1, 2, 3], at
    made.clear()
    file.write_bytes(b"")
    assert value("other") == [1, 2, 3]  # an entry without what is looked for is made again as well
    assert value() == value() == [1, 2, 3] and made == ["other", "x"]
    assert [path.name for path in file.parent.iterdir()] == ["entry.npz"]
    assert cached(None, lambda: 1, lambda _: {}, lambda _: 2) == 1


def test_some_values_are_shown_short() -> None:
    assert some(["a", 1, None]) == "'a', '1', 'None'"
    assert some("abcdefg") == "'a', 'b', 'c', 'd', 'e' and 2 more"
    assert some(["가" * 41]) == "'" + "가" * 40 + "'"
    assert some([]) == ""

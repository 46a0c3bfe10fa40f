"""`kjcm expose` on small files with an invented matrix: hand-worked exposures, shapes, kinds of files and wrong input."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from kjcm.exposure.record import likely_cause
from kjcm.write.table import writer
from tests.coding.test_shards import rows, words_for  # noqa: F401
from tests.conftest import ROOT, command

MATRIX = """code,agent,level,prevalence
11,noise,1,0.5
112,noise,3,0.8
211,noise,0,0
A01,noise,2,1
111,dust,1,0.1
112,dust,0,0
211,dust,0,0
"""
WORDS = ("expose", "input=coded.csv", "jem=jem.csv")


@pytest.fixture
def files(here: Path) -> pd.DataFrame:
    """coded.csv and jem.csv in the working folder: a shown rest, a reviewed row, an invalid row, a tie, an unknown code."""
    frame = pd.DataFrame(
        {
            "id": ["a", "b", "c", "d", "e"],
            "code_1": ["111", "112", "211", "", "A01"],
            "code_2": ["112", "211", "999", "", "111"],
            "prob_1": ["0.7", "0.5", "0.6", "", "0.5"],
            "prob_2": ["0.2", "0.4", "0.3", "", "0.5"],
            "decision_code": ["111", "", "", "", ""],
            "reviewed_code": ["", "211", "", "", ""],
            "final_code": ["111", "211", "", "", ""],
        }
    )
    frame.to_csv("coded.csv", index=False)
    Path("jem.csv").write_text(MATRIX, encoding="utf-8")
    return frame


def made(name: str = "out.csv") -> pd.DataFrame:
    return pd.read_csv(name)


def test_hand_worked_exposures(files: pd.DataFrame) -> None:
    assert command(*WORDS, "output=out.csv", "draws=3") == 0
    found = made()
    assert found["id"].tolist() == files["id"].tolist()
    nan = np.nan
    expected = {
        "mass_not_shown": [0.1, 0, 0.1, nan, 0],
        "noise_top": [1, 0, 0, nan, 2],  # 111 by its parent 11; b is reviewed; e's code_1 is A01
        "noise_expected": [(0.7 * 1 + 0.2 * 3) / 0.9, 0, 0, nan, 1.5],
        "noise_weighted_top": [0.5, 0, 0, nan, 2],
        "noise_weighted_expected": [(0.7 * 0.5 + 0.2 * 2.4) / 0.9, 0, 0, nan, 1.25],
        "noise_mass_without_data": [0, 0, 0.3, nan, 0],
        "dust_top": [1, 0, 0, nan, nan],  # A01 has no dust
        "dust_expected": [0.7 / 0.9, 0, 0, nan, 1],
        "dust_mass_without_data": [0, 0, 0.3, nan, 0.5],
    }
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, atol=1e-6, err_msg=name)
    record = json.loads(Path("out.csv.json").read_text(encoding="utf-8"))
    assert [record[name] for name in ("rows", "rows_coded", "rows_settled", "codes")] == [5, 4, 1, 5]
    assert record["mean_mass_not_shown"] == pytest.approx(0.05)
    assert record["codes_without_row"] == ["999"]
    assert record["agents"]["noise"]["codes_by_parent"] == 1
    assert record["agents"]["noise"]["mean_top"] == pytest.approx(0.75)
    assert (record["agents"]["dust"]["rows"], record["agents"]["dust"]["rows_expected"]) == (3, 4)
    assert record["rows_matched"] == 4 and record["columns"] == {"code": None, "compare": None, "id": None}
    assert record["agents"]["dust"]["codes_without_data"] == 2
    assert record["agents"]["dust"]["mean_mass_without_data"] == pytest.approx(0.2)


def test_settled_decides_which_codes_are_certain(files: pd.DataFrame) -> None:
    tops = {"reviewed": [13 / 9, 0], "decided": [1, 0], "none": [13 / 9, (0.5 * 3 + 0) / 0.9]}
    for settled, expected in tops.items():
        assert command(*WORDS, f"output={settled}.csv", f"settled={settled}") == 0
        np.testing.assert_allclose(made(f"{settled}.csv")["noise_expected"][:2], expected, atol=1e-6)
    assert made("decided.csv")["mass_not_shown"].tolist()[:2] == [0, 0]


def test_a_settled_group_keeps_the_distribution_of_its_codes(files: pd.DataFrame) -> None:
    """a is backed off to 11, of which it shows 111 (0.7) and 112 (0.2); b to A0, of which it shows none."""
    files.loc[0, ["decision_code", "final_code"]] = "11"
    files.loc[1, "final_code"] = "A0"
    files.to_csv("coded.csv", index=False)
    Path("jem.csv").write_text(f"{MATRIX}A,dust,1,1\n", encoding="utf-8")
    assert command(*WORDS, "output=out.csv", "settled=decided") == 0
    found = made()
    np.testing.assert_allclose(found["noise_expected"][0], (7 * 1 + 2 * 3) / 9, atol=1e-6)
    np.testing.assert_allclose(found["dust_expected"][:2], [7 / 9, 1], atol=1e-6)
    assert found["dust_top"].tolist()[:2] == [1, 1] and found["mass_not_shown"].tolist()[:2] == [0, 0]
    assert json.loads(Path("out.csv.json").read_text(encoding="utf-8"))["rows_settled"] == 1


def test_a_settled_code_is_no_group_of_longer_codes(here: Path) -> None:
    """Of the classes 1 and 10, 10 is not in 1."""
    frame = {"code_1": ["10"], "prob_1": [0.6], "code_2": ["1"], "prob_2": [0.4], "reviewed_code": ["1"]}
    pd.DataFrame(frame).to_csv("coded.csv", index=False)
    Path("jem.csv").write_text("code,agent,level\n1,x,0\n10,x,1\n", encoding="utf-8")
    assert command(*WORDS, "output=out.csv") == 0
    assert made().loc[0, ["x_top", "x_expected"]].tolist() == [0, 0]


def test_chunks_change_nothing(files: pd.DataFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    for ending in ("wide", "long"):
        assert command(*WORDS, f"output={ending}.csv", "draws=3", f"shape={ending}") == 0
    monkeypatch.setattr("kjcm.exposure.expose.CHUNK", 2)
    for ending in ("wide", "long"):
        assert command(*WORDS, f"output={ending}_2.csv", "draws=3", f"shape={ending}") == 0
        assert Path(f"{ending}_2.csv").read_bytes() == Path(f"{ending}.csv").read_bytes()
        records = [json.loads(Path(f"{name}.csv.json").read_text("utf-8")) for name in (ending, f"{ending}_2")]
        assert records[0]["codes_without_row"] == records[1]["codes_without_row"]
        assert records[0]["agents"]["noise"] == pytest.approx(records[1]["agents"]["noise"])


def test_unexposed_codes_of_the_wrong_matrix(files: pd.DataFrame, capfd: pytest.CaptureFixture[str]) -> None:
    Path("jem.csv").write_text("code,agent,level\n15-1252,x,1\n", encoding="utf-8")
    assert command(*WORDS, "output=out.csv", "absent=unexposed") == 0
    record = json.loads(Path("out.csv.json").read_text(encoding="utf-8"))
    assert record["rows_matched"] == 0 and record["agents"]["x"]["mean_top"] == 0
    assert record["codes_without_row"] == ["111", "112", "211", "999", "A01"]
    assert "Check the classification" in "".join(capfd.readouterr())


def test_unexposed_codes_have_level_0(files: pd.DataFrame) -> None:
    assert command(*WORDS, "output=out.csv", "absent=unexposed") == 0
    np.testing.assert_allclose(made()["dust_expected"].dropna(), [7 / 9, 0, 0, 0.5], atol=1e-6)
    assert made()["dust_mass_without_data"].dropna().eq(0).all()


def test_draws_are_seeded_joint_and_like_the_probabilities(here: Path) -> None:
    count = 2000
    pd.DataFrame({"code_1": "1", "prob_1": 0.6, "code_2": "2", "prob_2": 0.3, "n": range(count)}).to_csv("coded.csv")
    Path("jem.csv").write_text("code,agent,level\n1,x,0\n2,x,1\n1,y,5\n2,y,7\n", encoding="utf-8")
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        assert command(*WORDS, f"output={name}.csv", "draws=2", f"seed={seed}") == 0
    assert Path("a.csv").read_bytes() == Path("b.csv").read_bytes() != Path("c.csv").read_bytes()
    found = made("a.csv")
    assert found["x_draw_1"].mean() == pytest.approx(1 / 3, abs=0.04)
    assert (found["y_draw_1"] == 5 + 2 * found["x_draw_1"]).all()  # both agents draw the same code
    assert 0.3 < (found["x_draw_1"] == found["x_draw_2"]).mean() < 0.7


def test_long_has_a_line_for_each_row_and_agent(files: pd.DataFrame) -> None:
    assert command(*WORDS, "output=wide.csv", "draws=2") == 0
    assert command(*WORDS, "output=long.csv", "draws=2", "shape=long", "columns.id=id") == 0
    wide, long = made("wide.csv"), made("long.csv")
    assert long["row"].tolist() == np.repeat(range(1, 6), 2).tolist()
    assert long["id"].tolist() == np.repeat(list("abcde"), 2).tolist()
    for agent in ("noise", "dust"):
        own = long[long["agent"] == agent].reset_index(drop=True)
        for name in ("top", "expected", "draw_1", "draw_2", "weighted_draw_2", "mass_without_data"):
            pd.testing.assert_series_equal(own[name], wide[f"{agent}_{name}"], check_names=False)


def test_levels_in_words_count_by_their_order(files: pd.DataFrame) -> None:
    Path("jem.csv").write_text("code,agent,level\n1,x,high\n2,x,none\nA01,x,low\n", encoding="utf-8")
    assert command(*WORDS, "output=out.csv", "categories=[none,low,high]") == 0
    assert made()["x_top"].dropna().tolist() == [2, 0, 0, 1]


def test_the_case_of_prevalence_does_not_matter(files: pd.DataFrame) -> None:
    Path("jem.csv").write_text(MATRIX.replace("prevalence", " Prevalence"), encoding="utf-8")
    assert command(*WORDS, "output=out.csv") == 0
    assert made()["noise_weighted_top"].dropna().tolist() == [0.5, 0, 0, 2]


def test_every_kind_of_file_gives_the_same(files: pd.DataFrame) -> None:
    assert command(*WORDS, "output=out.csv") == 0
    frame = files.replace("", None)
    frame[["prob_1", "prob_2"]] = frame[["prob_1", "prob_2"]].astype(float)
    for ending in (".xlsx", ".parquet", ".sav", ".dta", ".tsv"):
        with writer(Path(f"in{ending}")) as out:
            out.write(frame)
        assert command("expose", f"input=in{ending}", "jem=jem.csv", f"output=out{ending}.csv") == 0
        columns = [name for name in made() if name.startswith(("noise", "dust", "mass"))]
        pd.testing.assert_frame_equal(made(f"out{ending}.csv")[columns], made()[columns])
    assert command("expose", "input=in.dta", "jem=jem.csv", "output=out.dta") == 0
    np.testing.assert_allclose(pd.read_stata("out.dta")["noise_expected"], made()["noise_expected"], atol=1e-6)


def test_the_whole_distribution_of_predict(calibrated: Path, rows: pd.DataFrame) -> None:  # noqa: F811
    """Expected exposures over all classes; the codes of top_k=2 are nearer the top-1 code."""
    matrix = ROOT / "examples" / "exposure" / "invented_jem.csv"
    given = words_for(calibrated, "precision=32-true", "top_k=2")
    assert command(*given, "output=whole.parquet", "all_probabilities=true") == 0
    assert command(*given, "output=two.csv") == 0
    for name in ("whole.parquet", "two.csv"):
        assert command("expose", f"input={name}", f"jem={matrix}", f"output=of_{name}") == 0
    whole, two = pd.read_parquet("of_whole.parquet"), made("of_two.csv")
    levels = pd.read_csv(matrix).query("agent == 'lifting'").set_index("code")["level"]
    every = whole[[name for name in whole if name.startswith("probability_")]]
    by_class = levels[[name.removeprefix("probability_")[0] for name in every]].to_numpy()
    coded = whole["decision"] != "invalid"
    np.testing.assert_allclose(whole["lifting_expected"][coded], (every[coded] * by_class).sum(axis=1), atol=1e-5)
    assert whole["mass_not_shown"][coded].max() < 1e-5 < two["mass_not_shown"].max()
    np.testing.assert_allclose(two["mass_not_shown"], 1 - two["prob_1"] - two["prob_2"], atol=2e-6)
    assert whole["lifting_expected"].isna().tolist() == (~coded).tolist()


def test_a_surveys_own_column_is_no_class(files: pd.DataFrame, capfd: pytest.CaptureFixture[str]) -> None:
    """A response probability, before the columns of `kjcm predict`, with and without all probabilities."""
    assert command(*WORDS, "output=out.csv") == 0
    files.insert(1, "probability_response", "1")
    files.to_csv("coded.csv", index=False)
    assert command(*WORDS, "output=own.csv") == 0
    pd.testing.assert_frame_equal(made("own.csv").drop(columns="probability_response"), made())
    whole = {"probability_211": ["0", "0.4", "0.6", "", "0"], "probability_112": ["0.1", "0.6", "0.3", "", "0"]}
    whole |= {"probability_111": ["0.9", "0", "0.1", "", "0.5"], "probability_A01": ["0", "0", "0", "", "0.5"]}
    whole |= {"reviewed_by": "", "probability_selection": "0.02"}  # joined to the coded file
    files.assign(**whole).to_csv("coded.csv", index=False)
    assert command(*WORDS, "output=whole.csv", "settled=none") == 0
    np.testing.assert_allclose(made("whole.csv")["noise_expected"].dropna(), [1.2, 1.8, 1, 1.5], atol=1e-6)
    moved = files.assign(**whole)
    moved[sorted(moved, key=lambda name: not name.startswith("probability_"))].to_csv("coded.csv", index=False)
    assert command(*WORDS, "output=moved.csv") == 1
    assert "'probability_A01' are before code_1" in capfd.readouterr().err


def test_a_code_column_is_certain(here: Path) -> None:
    pd.DataFrame({"ksco7": ["111", "112", ""]}).to_csv("coded.csv", index=False)
    Path("jem.csv").write_text(MATRIX, encoding="utf-8")
    assert command(*WORDS, "output=out.csv", "columns.code=ksco7", "draws=1") == 0
    found = made()
    assert found["noise_draw_1"].tolist()[:2] == found["noise_top"].tolist()[:2] == [1, 3]
    assert found["noise_top"].isna().tolist() == [False, False, True]


@pytest.mark.parametrize(
    ("change", "words", "code", "said"),
    [
        ({"jem.csv": "code,agent\n1,x\n"}, [], 1, "jem.csv: has no column 'level'"),
        ({"jem.csv": "code,agent,level\n1,x,high\n"}, [], 1, "data row 1: 'high' is not a number. For levels in words"),
        ({"jem.csv": "code,agent,level\n1,x,inf\n"}, [], 1, "'inf' is not a number"),
        ({"jem.csv": "code,agent,level\n1,x,high\n"}, ["categories=[none,low]"], 1, "'high' is none of the categories"),
        ({}, ["categories=[low,low]"], 2, "name each category once"),
        ({"jem.csv": "code,agent,level\n1,x,1\n1,x,2\n"}, [], 1, "data row 2: code '1' and agent 'x' occur before"),
        ({"jem.csv": "code,agent,level,prevalence\n1,x,1,40\n"}, [], 1, "column 'prevalence', data row 1: '40'"),
        ({"jem.csv": "code,agent,level,prevalence,Prevalence\n1,x,1,0,1\n"}, [], 1, "'prevalence', 'Prevalence'. Keep"),
        ({"jem.csv": "code,agent,level\n,x,1\n"}, [], 1, "column 'code', data row 1: '' is empty"),
        ({"jem.csv": "code,agent,level\n1,,1\n"}, [], 1, "column 'agent', data row 1: '' is empty"),
        ({"jem.csv": "code,agent,level\n1,x,\n"}, [], 1, "no row with a level"),
        ({"jem.csv": "code,agent,level\n51,x,1\n"}, [], 1, "of 0 of 4 coded rows in coded.csv. The file has"),
        ({"coded.csv": "code_1,prob_1\n111,70\n"}, [], 1, "column 'prob_1', data row 1: '70' is not a probability"),
        ({"coded.csv": "code_1,prob_1\n111,\n"}, [], 1, "column 'prob_1', data row 1: '' is not a probability"),
        ({"coded.csv": "code_1,code_2,prob_1,prob_2\n111,112,0.8,0.7\n"}, [], 1, "sum to 1.5"),
        ({"coded.csv": "code_1,probability_111,probability_112\n112,0.1,0.2\n"}, [], 1, "sum to 0.3"),
        ({"coded.csv": "probability_111,probability_112\n0.8,0.2\n"}, [], 1, "has no column 'code_1'"),
        ({"coded.csv": "code_1,prob_1,probability_x\n111,1,1\n"}, [], 1, "columns of probabilities are 'probability_x'"),
        ({}, ["compare=coded.csv", "columns.compare=nix"], 1, "Set columns.compare=NAME"),
        ({"coded.csv": "code\n111\n"}, [], 1, "set columns.code=NAME"),
        ({"coded.csv": "code_1,prob_1\n111,1\n"}, ["settled=decided"], 1, "no column 'decision_code'"),
        ({"coded.csv": "code_1,prob_1,noise_top\n111,1,1\n"}, [], 1, "already has columns 'noise_top'"),
        ({}, ["columns.code=kode"], 1, "has no column 'kode'"),
        ({}, ["output=out.doc"], 2, "write one of"),
        ({}, ["output=coded.csv", "overwrite=true"], 2, "output=coded.csv: is an input"),
        ({}, ["output=jem.csv", "overwrite=true"], 2, "output=jem.csv: is an input"),
        ({}, ["draws=0", "seed=3"], 2, "seed=3"),
        ({}, ["columns.code=code_1", "settled=none"], 2, "settled=none"),
        ({}, ["compare=coded.csv", "columns.id=id"], 2, "compare: is the same coding as input"),
        ({}, ["columns.id=id"], 2, "columns.id=id"),
        ({}, ["replicates=10"], 2, "without compare=FILE"),
        ({}, ["shape=long", "columns.id=agent"], 2, "columns.id=agent: shape=long has a column of this name"),
        ({}, ["jem=none.csv"], 1, "none.csv: no such matrix"),
    ],
)  # fmt: skip
def test_wrong_input(
    change: dict[str, str], words: list[str], code: int, said: str, files: Any, here: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    for name, text in change.items():
        Path(name).write_text(text, encoding="utf-8")
    output = [] if any(word.startswith("output=") for word in words) else ["output=out.csv"]
    assert (
        command(*WORDS[:2], *([] if any("jem=" in word for word in words) else ["jem=jem.csv"]), *output, *words)
        == code
    )
    assert said in capfd.readouterr().err
    assert sorted(path.name for path in here.iterdir()) == ["coded.csv", "jem.csv"]


def test_nothing_is_overwritten_unasked(files: pd.DataFrame, capfd: pytest.CaptureFixture[str]) -> None:
    Path("out.csv.json").write_text("mine", encoding="utf-8")
    assert command(*WORDS, "output=out.csv") == 1
    assert "out.csv.json exists" in capfd.readouterr().err
    assert Path("out.csv.json").read_text(encoding="utf-8") == "mine" and not Path("out.csv").exists()
    assert command(*WORDS, "output=out.csv", "overwrite=true") == 0


def test_agreement_without_replicates_has_no_interval(files: pd.DataFrame, capfd: pytest.CaptureFixture[str]) -> None:
    words = ("compare=coded.csv", "columns.compare=code_2", "replicates=0", "output=out.csv")
    assert command(*WORDS, *words) == 0
    said = capfd.readouterr().out
    assert "agreement 0." in said and "nan" not in said


def test_likely_causes() -> None:
    assert "Leading zeros" in likely_cause(["110", "120"], ["0110", "0120"])
    assert "is finer" in likely_cause(["111"], ["1111", "1112"])
    assert "different classifications" in likely_cause(["111"], ["15-1252"])

"""`kjcm team agreement`: from the split to merged codes on 40 rows, hand-worked figures, and wrong input."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from kjcm.ksco.classification import Classification
from kjcm.review.files import export, opened
from kjcm.run_folder.model_folder import load_settings
from tests.conftest import Run, command

CODED = [
    # id, kim, lee, the model's first code
    ("1", "111", "111", "111"),
    ("2", "111", "112", "111"),
    ("3", "211", "211", "212"),
    ("4", "211", "111", "312"),
    ("5", "312", "", "312"),
    ("6", "", "312", "111"),
    ("7", "", "", "111"),
]


def table(name: str) -> pd.DataFrame:
    return pd.read_csv(name, dtype=str, keep_default_na=False)


def record() -> Any:
    return json.loads(Path("out/agreement.json").read_text(encoding="utf-8"))


def exported(coder: str, codes: list[tuple[str, str]], models: list[str], **marks: list[str]) -> None:
    """Write a coder's file as `kjcm review` exports it; marks: column -> cells."""
    frame = pd.DataFrame(codes, columns=["team_row", "reviewed_code"])
    done = frame["reviewed_code"] != ""
    frame = frame.assign(
        task="비밀", decision="choose", decision_code="11", pick_list="111 312", code_1=models, title_1="x", prob_1="0.75",
        reviewed_title="T" + frame["reviewed_code"], reviewed_by=done.map({True: coder, False: ""}),
        reviewed_at=done.map({True: "2025-03-04T05:06:07+00:00", False: ""}), final_code=frame["reviewed_code"],
        **marks,
    )  # fmt: skip
    frame.to_csv(f"{coder}.csv", index=False)


@pytest.fixture
def files(here: Path) -> tuple[str, ...]:
    models = [model for *_, model in CODED]
    exported("kim", [(id, kim) for id, kim, _, _ in CODED], models)
    exported("lee", [(id, lee) for id, _, lee, _ in CODED], models)
    return ("team", "agreement", "files=[lee.csv,kim.csv]", "output=out", "replicates=200")


def test_hand_worked_figures(files: tuple[str, ...]) -> None:
    """Four double rows: codes agree on 2, first digits on 3; chance (2*2 + 2*1) / 16 and (2*3 + 2*1) / 16."""
    assert command(*files) == 0
    found = record()
    people = found["between_coders"]
    assert people["3"]["agreement"]["value"] == 0.5
    assert people["3"]["kappa"]["value"] == pytest.approx((0.5 - 6 / 16) / (1 - 6 / 16))
    assert people["1"]["agreement"]["value"] == 0.75
    assert people["1"]["kappa"]["value"] == pytest.approx((0.75 - 0.5) / 0.5)
    assert found["major_groups"]["1"]["agreement"]["value"] == pytest.approx(2 * 2 / 5)
    assert found["major_groups"]["2"]["agreement"]["value"] == pytest.approx(2 * 1 / 3)
    model = found["model_on_doubly_coded"]["3"]
    assert model["agreement"]["value"] == pytest.approx(3 / 8) and model["pairs"] == 8
    assert found["model_on_all_coded"]["3"]["agreement"]["value"] == pytest.approx(4 / 10)
    assert found["model_with_each_coder"]["kim"]["agreement"]["value"] == pytest.approx(3 / 5)
    assert found["model_minus_coder"]["value"] == pytest.approx(3 / 8 - 1 / 2)
    assert found["ceiling"] == 0.75 and found["model_expected_error"] == 0.25 and found["few"]
    assert found["doubly_coded"] == {"rows": 4, "texts": 4} and found["coded"] == 6
    assert found["pairs_of_coders"][0]["coders"] == ["kim", "lee"]
    assert found["files"]["kim.csv"] == hashlib.sha256(Path("kim.csv").read_bytes()).hexdigest()
    lines = table("out/agreement.csv")
    assert lines["texts"].tolist()[:3] == ["4", "4", "4"]
    assert lines[lines["what"] == "coders"]["agreement"].astype(float).tolist() == [0.75, 0.75, 0.5]


def test_who_coded_what_and_what_is_open(files: tuple[str, ...]) -> None:
    assert command(*files) == 0
    codes = table("out/codes.csv")
    assert len(codes) == 10 and codes["team_row"].tolist() == ["1", "1", "2", "2", "3", "3", "4", "4", "5", "6"]
    assert codes.iloc[3].to_dict() == {
        "team_row": "2", "coder": "lee", "code": "112", "at": "2025-03-04T05:06:07+00:00", "model_code": "111",
        "model_probability": "0.75", "pick_list": "111 312", "on_pick_list": "0",
    }  # fmt: skip
    open_rows = table("out/adjudication.csv")
    assert open_rows["team_row"].tolist() == ["2", "4"] and open_rows["pick_list"].tolist() == [
        "111 112",
        "111 211",
    ]
    assert not [name for name in open_rows if name.startswith("reviewed")]
    assert "kim" not in (text := Path("out/adjudication.csv").read_text(encoding="utf-8")) and "lee" not in text
    merged = table("out/merged.csv")
    assert merged["settled"].tolist() == ["agreed", "disagreed", "agreed", "disagreed", "single", "single", "model"]
    assert merged["final_code"].tolist() == ["111", "", "211", "", "312", "312", "11"]
    assert merged["reviewed_by"][0] == "kim, lee" and merged["reviewed_title"][4] == "T312"
    assert command(*files) == 1 and command(*files, "overwrite=true") == 0


def test_comments_flags_and_skips_of_all_are_merged_and_the_adjudicator_sees_the_comments(
    files: tuple[str, ...],
) -> None:
    models = [model for *_, model in CODED]
    rows = [(id, kim) for id, kim, _, _ in CODED]
    empty = [""] * 5
    exported("kim", rows, models, flagged_by=["kim", "kim", *empty], review_comment=["", "kim's", "x", *empty[1:]],
             commented_by=["", "kim", "kim", *empty[1:]], skipped_by=[*empty, "", "kim"])  # fmt: skip
    rows = [(id, lee) for id, _, lee, _ in CODED]
    exported("lee", rows, models, flagged_by=["lee", "", *empty], review_comment=["", "both?", *empty],
             commented_by=["", "lee", *empty], skipped_by=["", "", *empty])  # fmt: skip
    assert command(*files) == 0
    assert table("out/adjudication.csv")["coders_comments"].tolist() == ["both? | kim's", ""]
    merged = table("out/merged.csv")
    assert merged["flagged_by"].tolist()[:3] == ["kim, lee", "kim", ""] and merged["skipped_by"][6] == "kim"
    assert merged["review_comment"].tolist()[:4] == ["", "kim's | both?", "x", ""]
    assert merged["commented_by"].tolist()[:3] == ["", "kim, lee", "kim"]
    judged = table("out/adjudication.csv").assign(
        reviewed_code="111", reviewed_title="T", reviewed_by="cho", reviewed_at="2025-03-05T05:06:07+00:00",
        final_code="111", flagged_by=["", "cho"], skipped_by="", review_comment=["ask", ""], commented_by=["cho", ""],
    )  # fmt: skip
    judged.to_csv("judged.csv", index=False)
    assert command(*files, "adjudicated=judged.csv", "overwrite=true") == 0
    merged = table("out/merged.csv")
    assert merged["review_comment"][1] == "ask | kim's | both?" and merged["commented_by"][1] == "cho, kim, lee"
    assert merged["flagged_by"][3] == "cho" and "coders_comments" not in merged
    lee = table("lee.csv").assign(review_comment=["", "kim's", *empty])  # the same comment as kim's
    lee.drop(columns="skipped_by").to_csv("lee.csv", index=False)
    assert command(*files, "overwrite=true") == 0
    merged = table("out/merged.csv")
    assert merged["review_comment"][1] == "kim's" and merged["skipped_by"].tolist() == [*empty, "", "kim"]


def test_the_difference_compares_codes_as_long_as_the_coders(files: tuple[str, ...]) -> None:
    models = [model for *_, model in CODED]
    exported("kim", [(id, kim[:2]) for id, kim, _, _ in CODED], models)
    exported("lee", [(id, lee[:2]) for id, _, lee, _ in CODED], models)
    assert command(*files) == 0
    found = record()
    model, people = (found[name]["2"]["agreement"]["value"] for name in ("model_on_doubly_coded", "between_coders"))
    assert found["model_minus_coder"]["value"] == pytest.approx(model - people) and model > 0


def test_rows_without_two_codes_are_counted(files: tuple[str, ...], kjcm: Run) -> None:
    assert "3 rows in several files without two codes: not in the agreement" in kjcm(*files).stdout
    assert record()["in_several_files"] == 7


def test_value_labels_become_text_and_an_old_record_goes(files: tuple[str, ...]) -> None:
    columns = ["team_row", "task", "decision", "decision_code", "pick_list", "code_1"]
    frame = table("kim.csv")[columns].assign(task=[1, 2, 1, 2, 1, 2, 1])
    frame.to_stata("coded.dta", write_index=False, version=118, value_labels={"task": {1: "택시", 2: "용접"}})
    note = {"classes_hash": "x", "made_by": {"columns": {"task": "task"}}}
    Path("coded.dta.json").write_text(json.dumps(note), encoding="utf-8")
    assert command(*files, "input=coded.dta") == 0
    assert table("out/merged.csv")["task"].tolist() == ["택시", "용접"] * 3 + ["택시"]
    assert Path("out/adjudication.csv.json").is_file()
    assert command(*files, "overwrite=true") == 0 and not Path("out/adjudication.csv.json").exists()


def test_three_coders_of_a_row(files: tuple[str, ...]) -> None:
    exported("park", [("1", "111"), ("2", "111")], ["111", "111"])
    assert command(*files[:2], "files=[kim.csv,lee.csv,park.csv]", *files[3:]) == 0
    found = record()
    assert found["between_coders"]["3"]["pairs"] == 8  # four of kim and lee, two of park with each
    assert found["between_coders"]["3"]["agreement"]["value"] == pytest.approx(5 / 8)
    assert [two["coders"] for two in found["pairs_of_coders"]] == [["kim", "lee"], ["kim", "park"], ["lee", "park"]]
    assert found["model_minus_coder"]["value"] == pytest.approx(
        found["model_on_doubly_coded"]["3"]["agreement"]["value"] - 5 / 8
    )
    assert table("out/merged.csv")["settled"].tolist()[:2] == ["agreed", "disagreed"]


def change(name: str, **columns: Any) -> None:
    table(name).assign(**columns).to_csv(name, index=False)


def test_wrong_files(files: tuple[str, ...], kjcm: Run) -> None:
    def refused(what: str, *words: str, code: int = 1) -> None:
        assert what in (said := kjcm(*files, *words, code=code).stderr) and "비밀" not in said
        assert not Path("out").exists()

    refused("once", "files=[kim.csv,kim.csv]", code=2)
    refused("no row has codes by two coders", "files=[kim.csv]")
    refused("nobody", "id=nobody")
    refused("input=kim.csv: is a coder's file", "input=kim.csv", code=2)
    refused("adjudicated=lee.csv: is a coder's file", "adjudicated=lee.csv", code=2)
    Path("merged.csv").write_bytes(Path("kim.csv").read_bytes())
    refused("merged.csv: is an input", "input=merged.csv", "output=.", "overwrite=true", code=2)
    Path("again.csv").write_bytes(Path("kim.csv").read_bytes())
    refused("team_row=1 by kim", "files=[kim.csv,lee.csv,again.csv]")
    Path("judged.csv").write_bytes(Path("kim.csv").read_bytes())
    refused("adjudicated: the coders do not disagree", "adjudicated=judged.csv")
    change("again.csv", code_1="999")
    refused("column 'code_1': differs", "input=again.csv")
    table("kim.csv").iloc[:3].to_csv("again.csv", index=False)
    refused("no row team_row=4", "input=again.csv")
    for column, value, what in [
        ("pick_list", "999", "another suggestion"),
        ("reviewed_by", "", "5 rows have a code without a coder"),
        ("team_row", "", "7 rows have no id"),
        ("team_row", "1", "there twice"),
    ]:
        kept = Path("kim.csv").read_bytes()
        change("kim.csv", **{column: value})
        refused(what)
        Path("kim.csv").write_bytes(kept)
    for column, value, what in [
        ("pick_list", "999", "1 row has another suggestion"),
        ("reviewed_by", "", "1 row has a code without"),
        ("team_row", "", "1 row has no id"),
    ]:
        kept = Path("kim.csv").read_bytes()
        change("kim.csv", **{column: [value, *table("kim.csv")[column][1:]]})
        refused(what)
        Path("kim.csv").write_bytes(kept)
    table("kim.csv").iloc[:1].to_csv("again.csv", index=False)
    refused("1 row has two codes by one coder", "files=[kim.csv,lee.csv,again.csv]")
    table("kim.csv").drop(columns="reviewed_at").to_csv("kim.csv", index=False)
    refused("reviewed_at")


@pytest.fixture
def coded(finished: Path, here: Path) -> Path:
    """Forty coded rows to decide, and one that the model accepts."""
    tasks = ["예금 상담", "택시 운전", "벼농사", "머리 손질", "건물 청소", "학생 가르침", "빵 굽기", "용접"]
    frame = pd.DataFrame(
        {"workplace": [f"회사 {n // 8}" for n in range(41)], "position": "", "task": [tasks[n % 8] for n in range(41)]}
    )
    frame.to_csv("in.csv", index=False)
    words = (f"run={finished}", "input=in.csv", "output=coded.csv", "triage.threshold=0.999")
    assert command("predict", *words, "accelerator=cpu", "precision=32-true") == 0
    frame = table("coded.csv")
    frame.loc[40, ["decision", "decision_code"]] = ["accept", "312"]
    frame.to_csv("coded.csv", index=False)
    return Path("coded.csv")


def decide(source: Path, run: Path, ksco: Classification, target: str, who: str, codes: dict[str, str]) -> None:
    """Decide the rows of a file as `kjcm review` does, and export it."""
    store = opened(source, Path(f"{source}.review.sqlite"), ksco, load_settings(run / "model"))
    for row, name in enumerate(table(str(source))["team_row"]):
        assert store.choose(row, codes[name], who)
    export(source, Path(target), store, ksco, overwrite=False)
    store.close()


def test_from_split_to_merged_codes(coded: Path, finished: Path, ksco: Classification) -> None:
    assert command("team", "split", "input=coded.csv", "output=team", "coders=[kim,lee]", "overlap=0.25") == 0
    first = table("coded.csv")["code_1"]
    codes = {str(row + 1): code for row, code in enumerate(first)}
    decide(Path("team/kim.csv"), finished, ksco, "kim.csv", "kim", codes)
    double = [*set(table("team/kim.csv")["team_row"]) & set(table("team/lee.csv")["team_row"])]
    assert len(double) == 10
    others = sorted(double, key=int)[:3]  # lee chooses another code on three of the ten
    assert not {"942", "951"} & set(first)
    decide(Path("team/lee.csv"), finished, ksco, "lee.csv", "lee", {**codes, **dict.fromkeys(others, "942")})
    words = ("team", "agreement", "files=[kim.csv,lee.csv]", "output=out", "input=coded.csv", "replicates=200")
    assert command(*words) == 0
    found = record()
    assert found["between_coders"]["3"]["agreement"]["value"] == pytest.approx(0.7)
    assert found["model_on_doubly_coded"]["3"]["agreement"]["value"] == pytest.approx(0.85) == found["ceiling"]
    assert found["settled"] == {"agreed": 7, "single": 30, "adjudicated": 0, "disagreed": 3, "model": 1, "open": 0}
    judged = opened(Path("out/adjudication.csv"), Path("judged.sqlite"), ksco, load_settings(finished / "model"))
    assert judged.counts() == {"choose": (3, 0)}
    item = judged.item(0)
    assert item and item["picks"] == sorted([codes[others[0]], "942"]) and item["disputed"] is True
    judged.close()
    decide(Path("out/adjudication.csv"), finished, ksco, "judged.csv", "park", {**codes, others[0]: "951"})
    before = Path("out/adjudication.csv").read_bytes()
    assert command(*words, "adjudicated=judged.csv", "overwrite=true") == 0
    assert Path("out/adjudication.csv").read_bytes() == before  # its review stays valid
    assert record()["settled"]["adjudicated"] == 3 and record()["settled"]["disagreed"] == 0
    merged = table("out/merged.csv")
    expected = {**codes, others[0]: "951", "41": "312"}
    assert merged["final_code"].tolist() == [expected[str(row)] for row in range(1, 42)]
    assert set(merged.loc[merged["settled"] == "adjudicated", "reviewed_by"]) == {"park"}
    assert merged["task"].tolist() == table("coded.csv")["task"].tolist()

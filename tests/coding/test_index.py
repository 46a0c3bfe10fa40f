"""An index of job titles before the model: accepted and suggested titles, and what the promise then covers."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import kjcm
from kjcm.coding.run_rules import index_line, say
from kjcm.errors import ConfigError
from kjcm.ksco.classification import Classification
from kjcm.run_folder.held_out import HELD, held_rows
from kjcm.run_folder.model_folder import load_settings
from kjcm.triage.logits import save_scored
from kjcm.triage.titles import (
    MANAGING,
    RIGHT,
    UNMATCHED,
    WRONG,
    Match,
    is_managers,
    is_wrong,
    job_titles,
    load_titles,
)  # fmt: skip
from tests.conftest import command

INDEX = (
    "title,code\n용접원 1,7430\n용접원-2,743\n기자 3,2813\n기자4,743\n운전원 5,8731\n운전원 5,2813\n공장장,1413\n"
    "사장,111\n살림꾼,1413\n"
)
FAST = (
    "model=linear", "~model.views.position", "model.calibration_folds=0", "data=table", "data.columns.id=null",
    "data.cutoff=0", "data.validation=0.6", "data.train_share=0.9", "logger=[]",
)  # fmt: skip
CODES = {"용접원": "7430", "기자": "2813", "운전원": "8731", "대표": "1120"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an index, and a run that held rows back and knows the index."""
    folder = tmp_path_factory.mktemp("index")
    codes = [*CODES.values()]  # every third row has another name's code, so that no row is sure
    rows = [
        ("회사", f"{name} {n}", f"{name} 일", codes[(place + (n % 3 == 0) * (1 + n % 2)) % 4])
        for place, name in enumerate(CODES)
        for n in range(60)
    ]
    pd.DataFrame(rows, columns=["workplace", "position", "task", "code"]).to_csv(folder / "a.csv", index=False)
    (folder / "index.csv").write_text(INDEX, encoding="utf-8")
    words = (*FAST, f"data.path={folder / 'a.csv'}")
    assert command("train", *words, f"classification.index={folder / 'index.csv'}", f"run_dir={folder / 'run'}") == 0
    return folder


TABLE = pd.DataFrame(
    {
        "workplace": ["회사", "", "회사", "회사", "", "회사", ""],
        "position": ["용접원1", "", "기자 4", "운전원 5", "", "공장장", ""],
        "task": ["쇠를 붙임", "용접원 2", "글을 씀", "몬다", "택시", "공장을 맡음", ""],
    }
)


def test_a_title_is_the_position_or_the_only_answer() -> None:
    assert job_titles(["a", "", "a", ""], ["b", "b", "", ""], ["c", "", "c", "c"]) == ["b", "b", "", "c"]


def test_what_accepting_would_give(folder: Path, ksco: Classification) -> None:
    index = load_titles(str(folder / "index.csv"), ksco, 3)
    titles, truth = ["용접원 2", "기자 4", "운전원 5", "사장", "x"], ["743", "281", "873", "112", "743"]
    assert index.results(titles, truth).tolist() == [RIGHT, WRONG, UNMATCHED, WRONG + MANAGING, UNMATCHED]
    assert [match.codes for match in index.matches(["사장", "기자3"], np.array([False, False]))] == [(), ("281",)]
    results = np.array([UNMATCHED, WRONG, RIGHT, WRONG + MANAGING, RIGHT + MANAGING], np.int8)
    assert is_wrong(results).tolist() == [False, True, False, True, False]
    assert is_managers(results).tolist() == [False, False, False, True, True]
    assert index.matches(["사장"], np.array([True])) == [Match(("111",))] and index.titles["743"]


def test_a_title_with_a_coarser_code_of_another_group_is_only_suggested(
    folder: Path, here: Path, ksco: Classification
) -> None:
    Path("own.csv").write_text("title,code\n총무,3121\n총무,27\n회계,3125\n회계,31\n", encoding="utf-8")
    index = load_titles("own.csv", ksco, 3)
    assert index.matches(["총무", "회계"]) == [Match(("312",), is_ambiguous=True), Match(("312",))]
    assert index.results(["총무", "회계"], ["312", "312"]).tolist() == [UNMATCHED, RIGHT]
    Path("fine.csv").write_text("title,code\n총무,312\n회계,312\n", encoding="utf-8")
    assert load_titles("fine.csv", ksco, 3).sha != index.sha
    rows = pd.DataFrame({"workplace": "", "position": ["총무", "회계"], "task": "일"})
    rules = {"index": "accept", "index_file": "own.csv", "threshold": 1.0}
    coded = kjcm.load(folder / "run", triage=rules).code(rows)
    assert coded["decision"].tolist() == ["choose", "index"] and coded["decision_code"].tolist() == ["", "312"]
    assert coded["index_codes"].tolist() == ["312", "312"] and coded["pick_list"][0].split()[0] == "312"


@pytest.mark.parametrize("mode", ["accept", "suggest"])
def test_predict_accepts_or_suggests_the_codes_of_the_index(folder: Path, here: Path, mode: str) -> None:
    TABLE.to_csv("in.csv", index=False)
    words = (f"triage.index={mode}", "triage.threshold=1", "top_k=3")
    assert command("predict", f"run={folder / 'run'}", "input=in.csv", "output=out.csv", *words) == 0
    found = pd.read_csv("out.csv", dtype=str, keep_default_na=False)
    assert found["index_codes"].tolist() == ["743", "743", "743", "281 873", "", "141", ""]
    accepted = ["743", "743", "743", "", "", "141", ""] if mode == "accept" else [""] * 7
    assert found["decision_code"].tolist() == accepted
    decisions = ["index" if code else "choose" for code in accepted[:4]] + ["search", "choose", "invalid"]
    decisions[5] = decisions[0]
    assert found["decision"].tolist() == decisions
    assert found["decision_title"][0] == ("용접원" if mode == "accept" else "") and found["code_1"][2] == "281"
    assert found["pick_list"][3].split()[:2] == ["281", "873"]
    lists = [len(set(picks.split())) == len(picks.split()) for picks in found["pick_list"]]
    assert all(lists) and (found["pick_list"][0] == "") is (mode == "accept")
    note = json.loads(Path("out.csv.json").read_text(encoding="utf-8"))
    assert note["decisions"]["index"] == (4 if mode == "accept" else 0)
    assert note["triage"]["index"]["mode"] == mode and note["triage"]["index"]["titles"] == 8
    coder = kjcm.load(folder / "run", triage={"index": mode, "threshold": 1.0})
    coded = coder.code(TABLE, top_k=3)
    assert coded["decision"].tolist() == decisions and coded["decision_code"].tolist() == accepted
    assert coder.code(["용접원 2"])["decision"].tolist() == [decisions[0]]


def test_the_index_gives_no_managers_code_to_who_does_not_manage(folder: Path) -> None:
    rules = {"index": "accept", "managers": "words", "threshold": 1.0}
    coded = kjcm.load(folder / "run", triage=rules).code(TABLE.assign(position=["살림꾼", "사장", *[""] * 5]))
    assert coded["index_codes"].tolist()[:2] == ["", "111"] and coded["decision"][1] == "index"  # 사장 is such a word


def test_only_the_rows_that_the_index_leaves_set_the_thresholds(
    folder: Path, here: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    held = held_rows(folder / "run" / "model", load_settings(folder / "run" / "model"))
    assert held is not None and held.index is not None
    taken = int((held.index != UNMATCHED).sum())
    assert 0 < taken < len(held.labels)
    coder = kjcm.load(folder / "run", triage={"index": "accept"})
    record = coder.promises["index"]
    assert record["measured"] and (record["held_rows"], record["accepted_rows"]) == (len(held.labels), taken)
    assert record["accepted_errors"] == int((held.index == WRONG).sum())
    assert coder.promises["validation_rows"] == len(held.labels) - taken
    (here / "other.csv").write_text(INDEX.replace("사장", "회장"), encoding="utf-8")
    other = kjcm.load(folder / "run", triage={"index": "accept", "index_file": "other.csv"}).promises
    assert not other["index"]["measured"] and other["validation_rows"] == len(held.labels)
    assert "classification.index=FILE" in caplog.text
    suggested = kjcm.load(folder / "run", triage={"index": "suggest"}).promises
    assert suggested["validation_rows"] == len(held.labels)
    capsys.readouterr()
    words = (f"run={folder / 'run'}", "triage.index=accept")
    assert command("triage", *words, "out=t.csv") == 0
    assert "classification.index=FILE" not in capsys.readouterr().out
    assert command("triage", *words, "triage.index_file=other.csv") == 0
    assert "classification.index=FILE" in capsys.readouterr().out


def test_an_index_that_accepts_all_held_out_rows_leaves_none_for_the_model(
    folder: Path, here: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copytree(folder / "run", here / "run")
    settings = load_settings(here / "run" / "model")
    held = held_rows(here / "run" / "model", settings)
    assert held is not None and held.index is not None
    whole = replace(held, index=np.full_like(held.index, RIGHT))
    save_scored(here / "run" / "model" / HELD, whole, settings.classes_hash)
    coder = kjcm.load("run", triage={"index": "accept", "target_error": 0.1})
    say(coder.promises)
    assert "the 0 held-out rows" not in caplog.text and "other figures" not in caplog.text
    assert coder.promises["validation_rows"] == 0 and coder.promises["index"]["accepted_rows"] == len(held.labels)
    assert f"all {len(held.labels)} held-out rows" in caplog.text
    assert "without validation rows" not in caplog.text
    assert command("triage", "run=run", "triage.index=accept") == 1
    assert command("triage", "run=run", "triage.index=suggest") == 0


def test_the_line_of_an_index_counts_one_title() -> None:
    suggested = {"mode": "suggest", "file": "i.csv", "titles": 1}
    assert "1 job title," in index_line(suggested, 0.95) and "figures" in index_line(suggested, 0.95)
    assert "figures" not in index_line(suggested, 0.95, figures=False)


def test_predict_reads_the_index_with_the_classification_of_the_training(folder: Path, here: Path) -> None:
    known = {code[:end] for code in CODES.values() for end in range(1, 5)}
    lines = [f"{code},군 {code}" for code in sorted(known)]
    Path("ksco8.csv").write_text("\n".join(["code,title", *lines]), encoding="utf-8")
    index = "title,code\n용접원 1,7430\n기자 3,0281\n기자 4,281\n운전원 5,8731\n"
    Path("index.csv").write_text(index, encoding="utf-8")
    words = ("classification=ksco8", "classification.path=ksco8.csv", "classification.index=index.csv", "run_dir=run")
    assert command("train", *FAST, f"data.path={folder / 'a.csv'}", *words) == 0
    TABLE.assign(position=["용접원1", "기자 3", "기자4", "운전원 5", "", "", ""]).to_csv("in.csv", index=False)
    assert command("predict", "run=run", "input=in.csv", "output=out.csv", "triage.index=accept") == 0
    found = pd.read_csv("out.csv", dtype=str, keep_default_na=False)
    assert found["index_codes"].tolist()[:4] == ["743", "281", "281", "873"]
    assert found["decision_title"].tolist()[:4] == ["군 743", "군 281", "군 281", "군 873"]
    record = json.loads(Path("out.csv.json").read_text(encoding="utf-8"))["triage"]["index"]
    held = held_rows(here / "run" / "model", load_settings(here / "run" / "model"))
    assert record["measured"] and held is not None and held.index is not None
    assert record["accepted_rows"] == int((held.index != UNMATCHED).sum())
    shutil.copytree("run/model", "copy")  # beside another run's config, but in no run's folder
    shutil.copy(folder / "run" / "config.yaml", here)
    words = ("run=copy", "input=in.csv", "output=b.csv", "triage.index=accept")
    assert command("predict", *words) == 2
    assert command("predict", *words, "triage.index_file=index.csv") == 2


def test_a_run_that_did_not_use_its_index_needs_a_file(folder: Path, here: Path) -> None:
    shutil.copytree(folder / "run", here / "run")
    identity = json.loads((here / "run" / "identity.json").read_text(encoding="utf-8"))
    assert identity["inputs"].pop("classification.index")
    (here / "run" / "identity.json").write_text(json.dumps(identity), encoding="utf-8")
    with pytest.raises(ConfigError, match="did not use"):
        kjcm.load("run", triage={"index": "accept"})
    named = kjcm.load("run", triage={"index": "accept", "index_file": str(folder / "index.csv")})
    assert named.promises["index"]["measured"]


def test_without_an_index_nothing_changes(folder: Path, calibrated: Path, here: Path) -> None:
    coded = kjcm.load(folder / "run").code(TABLE)
    assert "index_codes" not in coded and "index" not in set(coded["decision"])
    assert "index" not in kjcm.load(folder / "run").promises
    TABLE.to_csv("in.csv", index=False)
    words = ("input=in.csv", "output=out.csv")
    assert command("predict", f"run={calibrated}", *words, "triage.index=accept") == 2
    assert command("predict", f"run={folder / 'run'}", *words, "triage.index_file=a.csv") == 2
    assert command("predict", f"run={folder / 'run'}", *words, "triage.index=accept", "triage.index_file=a.csv") == 1

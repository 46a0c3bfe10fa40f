"""`kjcm recode` on small files: every row stays, with and without a run."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.conftest import Run, command

PAIRS = "from\tto\n1111\t1112\n2111\t2211\n2111\t2212\n2121\t2211\n2121\t3110\n"
TEXTS = {"2211": "소프트웨어 개발", "2212": "웹 화면 설계", "3110": "회계 장부 정리", "1112": "회사 경영 총괄"}

TRIFLES = "가나다라마바사아자차카타파하거너더러머버서어저처커터퍼허"


def survey(path: Path) -> pd.DataFrame:
    frame = pd.DataFrame(
        {
            "id": ["a", "b", "c", "d", "e", "f"],
            "task": ["회사 경영 총괄", "소프트웨어 개발", "회계 장부 정리", "-", "웹 화면 설계", "x"],
            "code": ["1111", "2111", "2121", "2111", "0000", ""],
        }
    )
    frame.to_csv(path, index=False)
    return frame


def test_without_a_run_ambiguous_rows_keep_their_candidates(kjcm: Run, tmp_path: Path) -> None:
    frame = survey(tmp_path / "a.csv")
    (tmp_path / "pairs.tsv").write_text(PAIRS, encoding="utf-8")
    done = kjcm("recode", "input=a.csv", "output=b.csv", "from=ksco7", "to=ksco8", "correspondence=pairs.tsv")
    made = pd.read_csv(tmp_path / "b.csv", dtype=str, keep_default_na=False)
    pd.testing.assert_frame_equal(made[list(frame)], frame)
    assert made["recode_decision"].tolist() == ["convert", *["undecided"] * 5]
    assert made["recoded"].tolist() == ["1112", *[""] * 5]
    assert made["recode_candidates"].tolist() == ["1112", "2211 2212", "2211 3110", "2211 2212", "", ""]
    assert made["recode_weights"].tolist()[:2] == ["1.000000", "0.500000 0.500000"]
    several = "several candidates, and no run"
    assert made["recode_reason"].tolist() == ["", several, several, several, "unknown code", "empty code"]
    record = json.loads((tmp_path / "b.csv.json").read_text(encoding="utf-8"))
    assert record["rows"] == 6 and record["decisions"]["undecided"] == 5
    assert record["reasons"] == {several: 3, "unknown code": 1, "empty code": 1}
    assert "undecided, unknown code: 1" in done.stdout
    assert (
        "b.csv exists"
        in kjcm(
            "recode", "input=a.csv", "output=b.csv", "from=ksco7", "to=ksco8", "correspondence=pairs.tsv", code=1
        ).stderr
    )
    kjcm("recode", "input=a.csv", "output=c.parquet", "correspondence=[pairs.tsv]", "weights=true", "level=3")
    cut = pd.read_parquet(tmp_path / "c.parquet")
    assert cut["recode_decision"].tolist() == ["convert", "convert", "weights", "convert", "undecided", "undecided"]
    assert cut["recoded"].tolist()[1] == "221"


@pytest.fixture
def run(kjcm: Run, tmp_path: Path) -> str:
    """Train a model on a classification of the new codes."""
    rows = [("직원", f"{text} {number}", code) for code, text in TEXTS.items() for number in "가나다라마바사아자차"]
    pd.DataFrame(rows, columns=["position", "task", "code"]).to_csv(tmp_path / "train.csv", index=False)
    kjcm(
        "train", "data=table", "data.path=train.csv", "data.columns.id=null", "data.columns.workplace=null",
        "data.cutoff=0", "data.level=4", "classification=from_data", "model=linear", "augment=none",
        "data.validation=0.2", "run_dir=run",
    )  # fmt: skip
    return "run"


def test_a_run_decides_among_the_candidates(run: str, kjcm: Run, tmp_path: Path) -> None:
    survey(tmp_path / "a.csv")
    (tmp_path / "pairs.tsv").write_text(PAIRS, encoding="utf-8")
    given = ("recode", "input=a.csv", "correspondence=pairs.tsv", f"run={run}", "columns.position=null")
    done = kjcm(*given, "output=b.csv", "triage.threshold=0.5")
    made = pd.read_csv(tmp_path / "b.csv", dtype=str, keep_default_na=False)
    assert made["recode_decision"].tolist() == ["convert", "accept", "accept", *["undecided"] * 3]
    assert made["recoded"].tolist() == ["1112", "2211", "3110", "", "", ""]
    assert made["recode_reason"].tolist()[3] == "no text to decide by"
    assert "no promise" in done.stdout + done.stderr
    kjcm(*given, "output=c.csv", "weights=true")
    weights = pd.read_csv(tmp_path / "c.csv", dtype=str, keep_default_na=False)
    assert weights["recode_candidates"].tolist()[2] == "3110 2211"
    assert sum(map(float, weights["recode_weights"][2].split())) == pytest.approx(1)


def test_the_promise_comes_from_rows_coded_both_ways(run: str, kjcm: Run, tmp_path: Path) -> None:
    random = np.random.Generator(np.random.PCG64(1))
    new = random.choice(["2211", "3110"], 400)
    texts = [" ".join(random.permutation([*TEXTS[code].split(), *random.choice(list(TRIFLES), 3)])) for code in new]
    frame = pd.DataFrame({"task": texts, "code": "2121", "new": new})
    frame.loc[200:, "new"] = ""
    frame.to_csv(tmp_path / "a.csv", index=False)
    (tmp_path / "pairs.tsv").write_text(PAIRS, encoding="utf-8")
    given = (
        "recode", "input=a.csv", "output=b.csv", "correspondence=pairs.tsv", f"run={run}", "triage.target_error=0.1",
        "columns.position=null",
    )  # fmt: skip
    assert "columns.recoded" in kjcm(*given, code=2).stderr
    done = kjcm(*given, "columns.recoded=new")
    made = pd.read_csv(tmp_path / "b.csv", dtype=str, keep_default_na=False)
    assert set(made["recode_decision"][:200]) == {"given"} and set(made["recode_decision"][200:]) == {"accept"}
    assert made["recoded"].tolist() == new.tolist()
    assert "promise: at most 10 % of the accepted rows are wrong" in done.stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "Give correspondence=..."),
        (["correspondence=[]"], "correspondence=[]: give a file"),
        (["correspondence=p.tsv", "triage.k=3"], "triage.k"),
        (["correspondence=p.tsv", "triage.target_error=0.1"], "triage.target_error"),
        (["correspondence=p.tsv", "output=b.doc"], "write one of"),
        (["correspondence=p.tsv", "columns.code=kode"], "has no column 'kode'"),
        (["correspondence=q.tsv"], "q.tsv: no such file"),
        (["correspondence=p.tsv", "level=5"], "the correspondence has the shorter codes '1112'"),
    ],
)
def test_wrong_commands(words: list[str], said: str, here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    survey(here / "a.csv")
    (here / "p.tsv").write_text(PAIRS, encoding="utf-8")
    output = [] if any(word.startswith("output") for word in words) else ["output=b.csv"]
    assert command("recode", "input=a.csv", *output, *words) in (1, 2)
    assert said in capfd.readouterr().err
    assert sorted(path.name for path in here.iterdir()) == ["a.csv", "p.tsv"]

"""`kjcm recode` on small files: every row stays, with and without a run."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from kjcm.write.table import open_input
from tests.conftest import Run, command

PAIRS = "from\tto\n1110\t1112\n2111\t2211\n2111\t2212\n2121\t2211\n2121\t3110\n"
TEXTS = {"2211": "소프트웨어 개발", "2212": "웹 화면 설계", "3110": "회계 장부 정리", "1112": "회사 경영 총괄"}

TRIFLES = "가나다라마바사아자차카타파하거너더러머버서어저처커터퍼허"


def survey(path: Path) -> pd.DataFrame:
    frame = pd.DataFrame(
        {
            "id": ["a", "b", "c", "d", "e", "f"],
            "task": ["회사 경영 총괄", "소프트웨어 개발", "회계 장부 정리", "-", "웹 화면 설계", "x"],
            "code": ["1110", "2111", "2121", "2111", "0000", ""],
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
    assert made["recode_title"].tolist() == [""] * 6  # neither a run nor the table has titles
    assert made["recode_candidates"].tolist() == ["1112", "2211 2212", "2211 3110", "2211 2212", "", ""]
    assert made["recode_weights"].tolist()[:2] == ["1.000000", "0.500000 0.500000"]
    several = "several candidates, and no run"
    assert made["recode_reason"].tolist() == ["", several, several, several, "no code of KSCO-7", "empty code"]
    record = json.loads((tmp_path / "b.csv.json").read_text(encoding="utf-8"))
    assert record["rows"] == 6 and record["decisions"]["undecided"] == 5
    assert record["reasons"] == {several: 3, "no code of KSCO-7": 1, "empty code": 1}
    assert "undecided, no code of KSCO-7: 1" in done.stdout
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


def recoded(kjcm: Run, tmp_path: Path, codes: list[str], pairs: str, *words: str) -> pd.DataFrame:
    """Recode a file of codes and return the output."""
    pd.DataFrame({"code": codes}).to_csv(tmp_path / "a.csv", index=False)
    (tmp_path / "pairs.tsv").write_text(pairs, encoding="utf-8")
    kjcm("recode", "input=a.csv", "output=b.csv", "correspondence=pairs.tsv", "overwrite=true", *words)
    return pd.read_csv(tmp_path / "b.csv", dtype=str, keep_default_na=False)


def test_a_file_without_rows_has_no_decisions(kjcm: Run, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("code\n", encoding="utf-8")
    (tmp_path / "pairs.tsv").write_text(PAIRS, encoding="utf-8")
    done = kjcm("recode", "input=a.csv", "output=b.csv", "correspondence=pairs.tsv")
    assert "0 rows\n" in done.stdout and pd.read_csv(tmp_path / "b.csv").shape == (0, 8)


def test_a_code_that_ksco_7_lacks_is_not_converted(kjcm: Run, tmp_path: Path) -> None:
    """The table has a beginning of 1199, which KSCO-7 does not have."""
    pairs = "from\tto\n1110\t1112\n11\t19\n"
    for name in ("ksco7", "KSCO-7"):
        made = recoded(kjcm, tmp_path, ["1199", "1120", "1110"], pairs, f"from={name}")
        assert made["recoded"].tolist() == ["", "19", "1112"]
        assert made["recode_reason"].tolist() == ["no code of KSCO-7", "", ""]
    assert recoded(kjcm, tmp_path, ["1199"], pairs, "from=keco")["recoded"].tolist() == ["19"]


def test_ksco_has_other_spellings_in_both_files(kjcm: Run, tmp_path: Path) -> None:
    pairs = "from\tto\n0111\t0121\nA01\tA02\n"
    made = recoded(kjcm, tmp_path, ["111", "0111", "1001", "A01"], pairs)
    assert made["recoded"].tolist() == ["121", "121", "A02", "A02"]


def test_codes_that_lost_their_zeros_are_an_error(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (here / "p.tsv").write_text("from\tto\n0110\t5\n1101\t6\n1102\t6\n", encoding="utf-8")
    words = ("recode", "input=a.csv", "output=b.csv", "correspondence=p.tsv", "from=keco", "to=ksco8")
    (here / "a.csv").write_text("code\n110\n1101\n", encoding="utf-8")
    assert command(*words) == 1
    said = capfd.readouterr().err
    assert "a.csv, column 'code': '110' lost leading zeros: the correspondence has '0110'. Store codes as text." in said
    assert not (here / "b.csv").exists()
    (here / "a.csv").write_text("code\n0110\n110\n", encoding="utf-8")  # has zeros, so 110 is a group
    assert command(*words) == 0
    assert pd.read_csv(here / "b.csv", dtype=str)["recoded"].tolist() == ["5", "6"]


@pytest.mark.parametrize("level", ["null", "3"])
def test_given_codes_must_be_new_codes(level: str, here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    survey(here / "a.csv").assign(new=["", "의사", "22", "2211", "", ""]).to_csv(here / "a.csv", index=False)
    (here / "p.tsv").write_text(PAIRS, encoding="utf-8")
    words = ("recode", "input=a.csv", "output=b.csv", "correspondence=p.tsv", "columns.recoded=new", f"level={level}")
    assert command(*words) == 1
    said = capfd.readouterr().err
    assert "a.csv, column 'new': 2 rows without a code of the column 'to' in p.tsv" in said and "의사" not in said
    assert not (here / "b.csv").exists()


def test_a_record_is_not_replaced_unasked(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    survey(here / "a.csv")
    (here / "p.tsv").write_text(PAIRS, encoding="utf-8")
    (here / "b.csv.json").write_text("mine", encoding="utf-8")
    words = ("recode", "input=a.csv", "output=b.csv", "correspondence=p.tsv")
    assert command(*words) == 1
    assert "b.csv.json exists" in capfd.readouterr().err and not (here / "b.csv").exists()
    assert (here / "b.csv.json").read_text(encoding="utf-8") == "mine"
    assert command(*words, "overwrite=true") == 0


def test_a_chain_reports_codes_that_lost_all_partners(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    survey(here / "a.csv")
    (here / "p.tsv").write_text(PAIRS, encoding="utf-8")
    (here / "q.tsv").write_text("from\tto\n2211\t25\n2212\t26\n", encoding="utf-8")
    assert command("recode", "input=a.csv", "output=b.csv", "correspondence=[p.tsv,q.tsv]", "to=isco08") == 0
    made = pd.read_csv(here / "b.csv", dtype=str, keep_default_na=False)
    assert made["recode_decision"].tolist()[:3] == ["undecided", "undecided", "convert"]
    assert made["recode_reason"].tolist()[0] == "no partner in the next correspondence"
    said = "".join(capfd.readouterr())
    assert "no partner for 2 codes on the way: '1112', '3110'. Other partners share the weight" in said
    assert "rows of 1 code without other partners stay undecided" in said


def test_a_file_that_changes_meanwhile_is_an_error(
    here: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (here / "p.tsv").write_text(PAIRS, encoding="utf-8")
    for codes in (["1110"] * 7, ["1110"] * 5):
        frame = survey(here / "a.csv")

        def changed(*given: object, codes: list[str] = codes, **more: object) -> object:
            pd.DataFrame({"id": 1, "task": "x", "code": codes}).to_csv(here / "a.csv", index=False)
            return open_input(*given, **more)  # type: ignore[arg-type]

        monkeypatch.setattr("kjcm.recoding.recode.open_input", changed)
        assert len(frame) == 6
        assert command("recode", "input=a.csv", "output=b.csv", "correspondence=p.tsv") == 1
        assert "a.csv: changed while kjcm read it" in capfd.readouterr().err
        assert sorted(path.name for path in here.iterdir()) == ["a.csv", "p.tsv"]


def test_from_is_a_key_of_recode_only(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert command("triage", "run=r", "from=3") == 2
    said = capfd.readouterr().err
    assert "no key from." in said


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
    assert made["recode_reason"].tolist()[3] == "not text"
    assert "no promise" in done.stdout + done.stderr
    assert "not calibrated" not in done.stdout + done.stderr
    done = kjcm(*given, "output=c.csv", "weights=true")
    record = json.loads((tmp_path / "c.csv.json").read_text(encoding="utf-8"))
    assert record["not_weighed"] == {"not text": 1}
    assert record["reasons"] == {"no code of KSCO-7": 1, "empty code": 1}
    assert "not weighed by the run, not text: 1" in done.stdout and "undecided, empty code: 1" in done.stdout
    weights = pd.read_csv(tmp_path / "c.csv", dtype=str, keep_default_na=False)
    assert weights["recode_candidates"].tolist()[2] == "3110 2211"
    assert sum(map(float, weights["recode_weights"][2].split())) == pytest.approx(1)
    wrong = kjcm(*given[:-1], "output=d.csv", code=1).stderr
    assert "Set columns.position=NAME, or columns.position=null if there is none." in wrong


def test_unlikely_candidates_decide_nothing(run: str, kjcm: Run, tmp_path: Path) -> None:
    """The row's text is that of a class which is no candidate; without calibration kjcm warns."""
    pd.DataFrame({"task": ["회사 경영 총괄"], "code": "2121"}).to_csv(tmp_path / "a.csv", index=False)
    (tmp_path / "pairs.tsv").write_text(PAIRS, encoding="utf-8")
    for name in ("calibration.json", "triage.safetensors"):
        (tmp_path / "run" / "model" / name).unlink()
    done = kjcm(
        "recode", "input=a.csv", "output=b.csv", "correspondence=pairs.tsv", f"run={run}", "columns.position=null",
        "triage.least_probability=0.6",
    )  # fmt: skip
    assert "not calibrated" in done.stdout + done.stderr
    made = pd.read_csv(tmp_path / "b.csv", dtype=str)
    assert made["recode_reason"].tolist() == ["the model finds all candidates unlikely"]
    assert made["recode_weights"].tolist() == ["0.500000 0.500000"]


@pytest.fixture
def managers_run(kjcm: Run, tmp_path: Path) -> str:
    """Train a model of KSCO-7 with managers."""
    rows = [
        ("직원", f"{text} {n}", code)
        for code, text in {"1120": "회사 살림", "3121": "회사 장부"}.items()
        for n in TRIFLES
    ]
    pd.DataFrame(rows, columns=["position", "task", "code"]).to_csv(tmp_path / "train.csv", index=False)
    kjcm(
        "train", "data=table", "data.path=train.csv", "data.columns.id=null", "data.columns.workplace=null",
        "data.cutoff=0", "data.level=4", "model=linear", "augment=none", "data.validation=0.2", "run_dir=managers",
    )  # fmt: skip
    return "managers"


def test_only_people_who_say_so_become_managers(managers_run: str, kjcm: Run, tmp_path: Path) -> None:
    frame = pd.DataFrame({"task": ["회사 살림"] * 2, "code": "9", "boss": ["예", "아니오"]})
    frame.to_csv(tmp_path / "a.csv", index=False)
    (tmp_path / "pairs.tsv").write_text("from\tto\n9\t1120\n9\t3121\n8\t1120\n8\t1311\n", encoding="utf-8")
    given = (
        "recode", "input=a.csv", "from=old", "to=ksco7", "correspondence=pairs.tsv", f"run={managers_run}",
        "columns.position=null", "triage.threshold=0.5",
    )  # fmt: skip
    for rule, codes in {"none": ["1120", "1120"], "words": ["3121", "3121"], "column": ["1120", "3121"]}.items():
        boss = ["columns.manages=boss"] if rule == "column" else []
        kjcm(*given, f"output={rule}.csv", f"triage.managers={rule}", *boss)
        made = pd.read_csv(tmp_path / f"{rule}.csv", dtype=str)
        assert made["recoded"].tolist() == codes
        titles = {"1120": "기업 고위 임원", "3121": "기획 및 마케팅 사무원"}
        assert made["recode_title"].tolist() == [titles[code] for code in codes]
    frame.assign(boss=["예", "글쎄"]).to_csv(tmp_path / "a.csv", index=False)
    kjcm(*given, "output=f.csv", "triage.managers=column", "columns.manages=boss")
    unclear = pd.read_csv(tmp_path / "f.csv", dtype=str, keep_default_na=False)
    assert unclear["recode_reason"].tolist() == ["", "boss: neither yes nor no"]
    frame.assign(code="8").to_csv(tmp_path / "a.csv", index=False)  # all candidates are managers
    kjcm(*given, "output=d.csv", "triage.managers=words")
    assert pd.read_csv(tmp_path / "d.csv", dtype=str)["recode_reason"][0] == "the model finds all candidates unlikely"
    assert "columns.manages=NAME" in kjcm(*given, "output=e.csv", "triage.managers=column", code=2).stderr


@pytest.mark.parametrize("to", ["KSCO-8", "ksco_8", "ksco8"])
def test_a_run_of_the_old_classification_is_refused(
    to: str, here: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    survey(here / "a.csv")
    (here / "p.tsv").write_text(PAIRS, encoding="utf-8")
    monkeypatch.setattr("kjcm.recoding.recode.model_folder", Path)
    monkeypatch.setattr("kjcm.recoding.recode.load_settings", lambda _: SimpleNamespace(classification="KSCO-7"))
    words = ("recode", "input=a.csv", "output=b.csv", "correspondence=p.tsv", "run=r", f"to={to}")
    assert command(*words) == 2
    assert "its codes are of KSCO-7" in capfd.readouterr().err


def test_the_promise_comes_from_rows_coded_both_ways(run: str, kjcm: Run, tmp_path: Path) -> None:
    random = np.random.Generator(np.random.PCG64(1))
    new = random.choice(["2211", "3110"], 400)
    texts = [" ".join(random.permutation([*TEXTS[code].split(), *random.choice(list(TRIFLES), 3)])) for code in new]
    frame = pd.DataFrame({"task": texts, "code": "2121", "new": new})
    frame.loc[200:, "new"] = ""
    frame.loc[len(frame)] = ["-", "2121", "2211"]
    frame.to_csv(tmp_path / "a.csv", index=False)
    (tmp_path / "pairs.tsv").write_text(PAIRS, encoding="utf-8")
    given = (
        "recode", "input=a.csv", "output=b.csv", "correspondence=pairs.tsv", f"run={run}", "triage.target_error=0.1",
        "columns.position=null",
    )  # fmt: skip
    assert "columns.recoded" in kjcm(*given, code=2).stderr
    done = kjcm(*given, "columns.recoded=new")
    made = pd.read_csv(tmp_path / "b.csv", dtype=str, keep_default_na=False)
    assert set(made["recode_decision"][:200]) == {"given"} and set(made["recode_decision"][200:400]) == {"accept"}
    assert made["recoded"].tolist() == [*new.tolist(), "2211"]
    triage = json.loads((tmp_path / "b.csv.json").read_text(encoding="utf-8"))["triage"]
    assert (triage["rows_coded_both_ways"], triage["rows_weighed_by_run"]) == (201, 200)
    assert "201 rows with several candidates, coded both ways; the run weighed 200:" in done.stdout
    assert "promise: at most 10 % of the accepted rows are wrong" in done.stdout


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ([], 2, "Give correspondence=..."),
        (["correspondence=[]"], 2, "correspondence=[]: give a file"),
        (["correspondence=p.tsv", "triage.k=3"], 2, "triage.k"),
        (["correspondence=p.tsv", "triage.target_error=0.1"], 2, "triage.target_error"),
        (["correspondence=p.tsv", "run=r", "triage.confidence=0.9"], 2, "triage.confidence"),
        (["correspondence=p.tsv", "run=r", "weights=true", "triage.k=3"], 2, "triage.k"),
        (["correspondence=p.tsv", "output=b.doc"], 2, "write one of"),
        (["correspondence=p.tsv", "columns.code=kode"], 1, "has no column 'kode'"),
        (["correspondence=q.tsv"], 1, "q.tsv: no such file"),
        (["correspondence=p.tsv", "output=a.csv", "overwrite=true"], 2, "output=a.csv: is an input"),
        (["correspondence=[p.tsv,p.tsv]", "output=p.tsv", "overwrite=true"], 2, "output=p.tsv: is an input"),
        (["correspondence=p.tsv", "level=5"], 2, "the correspondence has the shorter codes '1112'"),
    ],
)
def test_wrong_commands(words: list[str], code: int, said: str, here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    survey(here / "a.csv")
    (here / "p.tsv").write_text(PAIRS, encoding="utf-8")
    output = [] if any(word.startswith("output") for word in words) else ["output=b.csv"]
    assert command("recode", "input=a.csv", *output, *words) == code
    assert said in capfd.readouterr().err
    assert sorted(path.name for path in here.iterdir()) == ["a.csv", "p.tsv"]


def test_a_run_resolves_the_rows_of_wave_5(here: Path) -> None:
    """The twin knows the KSCO-7 codes of two thirds of these rows; the others' answers say nothing."""
    assert command("prepare", "data.scale=0.05", "out=twin") == 0
    files = [f"data.{name}=twin/twin/{name}.csv" for name in ("wave5", "wave6", "crosswalk")]
    assert command("prepare", "data=kwcs", *files, "data.cutoff=0", "out=first") == 0
    assert command("train", "data=kwcs", files[1], "model=linear", "data.cutoff=0", "run_dir=wave6") == 0
    assert command("recode", "input=first/to_resolve.csv", "output=resolved.csv", "from=ksco6", "to=ksco7", "level=3",
                   "correspondence=twin/twin/crosswalk.csv", "run=wave6", "columns.code=ksco6") == 0  # fmt: skip
    truth = pd.read_csv(here / "twin/twin/resolutions.csv", dtype=str).set_index("id")["ksco7"].str[:3]
    made = pd.read_csv(here / "resolved.csv", dtype=str, keep_default_na=False).set_index("id")
    known = made.loc[truth.index]
    first = known["recode_candidates"].str.split().str[0]
    by_table = known["candidates"].str.split().str[0]
    assert (by_table == truth).mean() < 0.6 < 0.8 < (first == truth).mean()
    accepted = known[known["recode_decision"] == "accept"]
    assert len(accepted) > 0.6 * len(known) and (accepted["recoded"] == truth[accepted.index]).mean() > 0.9
    assert command("prepare", "data=kwcs", *files, "data.resolutions=resolved.csv", "data.cutoff=0", "out=second") == 0
    flow = json.loads((here / "second/cohort.json").read_text(encoding="utf-8"))["flow"]
    assert flow["resolved_by_run"] == (made["recoded"] != "").sum()
    assert flow["unresolved"] == (made["recoded"] == "").sum() < len(made) / 2

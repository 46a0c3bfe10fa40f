"""`kjcm reproduce`: trains what is missing, then reports."""

import json
from pathlib import Path

import pytest

from tests.conftest import SMALL, command
from tests.reporting.making import make_run, survey_words, write_survey
from tests.reporting.reading import read_csv

WORDS = (*SMALL, "models=[k_jcm,majority]", "replicates=20", "only=[table_3,figure_1]")


@pytest.mark.slow
def test_it_trains_what_is_missing_once_and_reports(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert command("reproduce", *WORDS, "repeats=2") == 0
    runs = sorted(path.parent.parent.name for path in here.glob("runs/*/*/DONE"))
    assert runs == ["k_jcm", "k_jcm", "majority"]
    rows = {row["Model"]: row for row in read_csv(here / "out" / "report" / "tables" / "table_3.csv")}
    assert rows["K-JCM"]["Seeds"] == "2" and rows["Majority class"]["Seeds"] == "1"
    assert rows["TF-IDF + SVM"]["Seeds"] == "not run"
    verdicts = read_csv(here / "out" / "report" / "tables" / "verdicts.csv")
    assert {row["verdict"] for row in verdicts if row["where"] == "Table 3"} == {"not comparable"}
    page = (here / "out" / "report" / "report.html").read_bytes()
    times = {path: path.stat().st_mtime_ns for path in here.glob("runs/*/*/DONE")}
    capfd.readouterr()
    assert command("reproduce", *WORDS, "repeats=2") == 0
    assert capfd.readouterr().out.count("finished already") == 3
    assert {path: path.stat().st_mtime_ns for path in here.glob("runs/*/*/DONE")} == times
    assert (here / "out" / "report" / "report.html").read_bytes() == page
    # the same words give the same run, whichever command trains it
    assert command("train", *SMALL, "experiment=k_jcm", "seed=1") == 0
    assert "finished already" in capfd.readouterr().out
    manifest = here / "out" / "report" / "report.json"
    manifest.write_text(json.dumps({"study": "another"}), encoding="utf-8")
    assert command("reproduce", *WORDS, "repeats=3") == 1
    assert len(list(here.glob("runs/*/*/DONE"))) == 3  # nothing was trained for a report that cannot be written


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["models=[search]"], "kjcm train -m experiment=search"),
        (["models=[nothing]"], "'nothing'"),
        (["experiment=model_2"], "experiment=model_2"),
        (["name=mine"], "name=mine"),
        (["only=[table_9]"], "'table_9'"),
        (["data=table", "data.path=a.csv", "models=[wave_5_to_6]"], "wave_5_to_6"),
    ],
)
def test_what_it_refuses(words: list[str], said: str, here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert command("reproduce", *words) == 2
    assert said in capfd.readouterr().err and not (here / "runs").exists()


def test_a_misspelt_key_fails(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert command("reproduce", "repeat=2") != 0
    assert "repeat" in capfd.readouterr().err


def test_where_every_training_fails_no_other_study_is_reported(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    write_survey(here)
    make_run(here / "runs", "k_jcm", survey_words(here))
    (here / "rows.csv").write_text("id,workplace,position,task,code\n1,a,b,c,111\n", encoding="utf-8")
    words = ("data=table", "data.path=rows.csv", "models=[k_jcm,svm]", "only=[table_3]", "replicates=0")
    assert command("reproduce", *words) == 1
    assert "'K-JCM, seed 0', 'TF-IDF + SVM, seed 0' could not be trained" in capfd.readouterr().err
    assert not (here / "out").exists()


def test_whatever_one_training_raises_the_others_are_trained(
    here: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = "고객의 답"

    def fails(*_: object, **__: object) -> None:
        raise ValueError(answer)

    monkeypatch.setattr("kjcm.training.train.rows_of", fails)
    assert command("reproduce", *SMALL, "models=[k_jcm,majority]", "replicates=0", "only=[table_3]") == 1
    said = "".join(capfd.readouterr())
    assert "K-JCM, seed 0: ValueError" in said and "train.py" in said and answer not in said
    assert len(list(here.glob("runs/majority/*/DONE"))) == 1


def test_a_training_that_fails_is_named_and_the_rest_is_reported(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    words = [
        *SMALL,
        "models=[k_jcm,majority]",
        "tokenizer=kobert",
        "tokenizer.path=nowhere",
        "replicates=0",
        "only=[table_3]",
    ]
    assert command("reproduce", *words) == 1
    out, error = capfd.readouterr()
    assert "nowhere" in out + error and "K-JCM, seed 0" in error
    rows = {row["Model"]: row for row in read_csv(here / "out" / "report" / "tables" / "table_3.csv")}
    assert rows["K-JCM"]["Seeds"] == "not run" and rows["Majority class"]["Seeds"] == "1"

"""`kjcm predict`: what it writes and decides, and what an error or a kill leaves."""

import os
import shutil
import sys
import threading
import time
from datetime import datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pyreadstat
import pytest

from kjcm.coding.coder import Coder, Ready
from kjcm.files import digest
from kjcm.records import read_json
from kjcm.run_folder.lease import leased
from kjcm.run_folder.model_folder import load_settings
from kjcm.triage.calibration import probabilities
from kjcm.triage.logits import load_scored
from kjcm.triage.managers import says_words
from tests.conftest import ROOT, command
from tests.forking import Forked


@pytest.fixture
def rows(here: Path) -> pd.DataFrame:
    """in.csv in the working folder: 40 rows of 8 texts."""
    tasks = ["예금 상담", "택시 운전", "학생 가르침", "벼농사", "용접", "회계 장부 정리", "머리 손질", "건물 청소"]
    frame = pd.DataFrame({"n": range(40), "workplace": "회사", "position": "", "task": tasks * 5})
    frame.to_csv("in.csv", index=False)
    return frame


@pytest.mark.parametrize("precision", ["auto", "32-true", "bf16"])
def test_order_is_kept_over_chunks_and_the_note_tells_the_precision(
    finished: Path, rows: pd.DataFrame, precision: str
) -> None:
    words = (f"run={finished}", "input=in.csv", "accelerator=cpu", f"precision={precision}")
    assert command("predict", *words, "output=out.csv", "chunk_rows=7") == 0
    coded = pd.read_csv("out.csv", dtype={"code_1": str})
    assert coded["n"].tolist() == rows["n"].tolist() and coded["task"].tolist() == rows["task"].tolist()
    assert coded.groupby("task")["code_1"].nunique().eq(1).all() and coded["prob_1"].between(0.001, 1).all()
    used = read_json(Path("out.csv.json"))["precision"]
    assert used == precision if precision != "auto" else used in ("32-true", "bf16")


def test_precision_that_is_not_there_is_refused(
    finished: Path, rows: pd.DataFrame, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = (f"run={finished}", "input=in.csv", "output=out.csv")
    assert command("predict", *words, "precision=fp8") == 2
    assert "32-true, bf16, int8" in capfd.readouterr().err
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert command("predict", *words, "precision=int8") == 2
    assert "accelerator=cpu" in capfd.readouterr().err
    assert sorted(path.name for path in Path().iterdir()) == ["in.csv"]


def test_an_error_before_anything_is_coded_leaves_nothing(
    finished: Path, rows: pd.DataFrame, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def fails(self: Coder, ready: object) -> None:
        raise RuntimeError(f"cannot convert {rows['task'][0]}")

    monkeypatch.setattr(Coder, "probabilities", fails)
    assert command("predict", f"run={finished}", "input=in.csv", "output=out.csv", "chunk_rows=4") == 1
    said = capfd.readouterr().err
    assert "in fails" in said and "RuntimeError" in said and "--debug" in said and "예금" not in said
    assert sorted(path.name for path in Path().iterdir()) == ["in.csv"]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("ahead")]


def test_it_goes_on_after_an_error_and_codes_nothing_twice(
    finished: Path, rows: pd.DataFrame, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    words = ("predict", f"run={finished}", "input=in.csv", "chunk_rows=3", "accelerator=cpu", "precision=32-true")
    met = spied(monkeypatch)
    assert command(*words, "output=whole.csv") == 0
    assert len(met) == len(set(met)) == 8  # of equal texts, in whatever chunk, one is coded
    whole = Path("whole.csv").read_bytes()
    probabilities = Coder.probabilities

    def third_fails(self: Coder, ready: Ready) -> object:
        if len(list(Path().glob(".out.csv.parts/*.npz"))) == 2:
            raise RuntimeError("the device is gone")
        return probabilities(self, ready)

    with monkeypatch.context() as patch:
        patch.setattr(Coder, "probabilities", third_fails)
        assert command(*words, "output=out.csv") == 1
    assert not Path("out.csv").exists()
    assert command(*words, "output=out.csv", "top_k=2") == 1  # rows coded otherwise do not go on from these
    assert "unfinished coding" in capfd.readouterr().err
    met.clear()
    assert command(*words, "output=out.csv") == 0
    assert sorted(met) == sorted(["회사(에서) 머리 손질", "회사(에서) 건물 청소"])
    assert Path("out.csv").read_bytes() == whole
    assert read_json(Path("out.csv.json"))["rows_resumed"] == 6
    assert sorted(path.name for path in Path().iterdir()) == [
        "in.csv", "out.csv", "out.csv.json", "whole.csv", "whole.csv.json",
    ]  # fmt: skip


def spied(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the list that the texts go into that the model is given."""
    met: list[str] = []
    ready = Coder.ready

    def tells(self: Coder, texts: list[str]) -> Ready:
        met.extend(texts)
        return ready(self, texts)

    monkeypatch.setattr(Coder, "ready", tells)
    return met


def test_a_killed_coding_goes_on_without_a_lost_or_doubled_row(finished: Path, here: Path) -> None:
    tasks = [f"{task} {n}" for n in range(700) for task in ("용접", "벼농사", "머리 손질")]
    pd.DataFrame({"n": range(len(tasks)), "workplace": "", "position": "", "task": tasks}).to_csv("in.csv", index=False)
    words = [
        f"run={finished}",
        "input=in.csv",
        "output=out.csv",
        "chunk_rows=10",
        "accelerator=cpu",
        "precision=32-true",
    ]
    for kill in range(3):
        child = Forked([sys.executable, "-m", "kjcm", "predict", *words], env={**os.environ, "PYTHONPATH": str(ROOT)})
        while child.poll() is None and len(list(here.glob(".out.csv.parts/[0-9]*.npz"))) <= 10 * kill + 5:
            time.sleep(0.002)
        child.kill()
        assert child.wait() == -9 and not Path("out.csv").exists()
    assert command("predict", *words) == 0
    coded = pd.read_csv("out.csv")
    assert coded["n"].tolist() == list(range(len(tasks))) and coded["task"].tolist() == tasks
    assert read_json(Path("out.csv.json"))["rows_resumed"] >= 10 * 25
    assert command("predict", *[word.replace("out.csv", "once.csv") for word in words]) == 0
    assert Path("out.csv").read_bytes() == Path("once.csv").read_bytes()


def killed(words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, times: int) -> None:
    """Run a command that is killed when the file is put in its place, after `times` of two files are."""
    replace, done = Path.replace, []

    def dies(self: Path, target: Path) -> Path:
        if self.parent.name == ".out.csv.parts" and self.name in ("output.csv", "note.json"):
            if len(done) == times:
                raise KeyboardInterrupt
            done.append(target)
        return replace(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", dies)
        assert command(*words) == 130


@pytest.mark.parametrize("times", [0, 1])
def test_killed_while_the_file_was_put_in_place_it_goes_on_there(
    finished: Path, rows: pd.DataFrame, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    words = ("predict", f"run={finished}", "input=in.csv", "output=out.csv", "accelerator=cpu")
    killed(words, monkeypatch, times)
    assert Path("out.csv").exists() == bool(times) and not Path("out.csv.json").exists()
    met = spied(monkeypatch)
    assert command(*words) == 0
    assert met == [] and len(pd.read_csv("out.csv")) == 40 and read_json(Path("out.csv.json"))["rows"] == 40
    for file in ("out.csv", "out.csv.json"):
        Path(file).unlink()
    killed(words, monkeypatch, 1)
    Path("out.csv").unlink()  # what was in its place is gone again
    assert command(*words) == 0 and len(pd.read_csv("out.csv")) == 40
    assert not Path(".out.csv.parts").exists()


def test_what_was_put_there_meanwhile_is_not_replaced_and_a_torn_part_is_coded_again(
    finished: Path, rows: pd.DataFrame, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    words = ("predict", f"run={finished}", "input=in.csv", "output=out.csv", "accelerator=cpu", "chunk_rows=10")
    killed(words, monkeypatch, 0)
    Path("out.csv").write_text("mine")
    assert command(*words) == 1 and "out.csv exists" in capfd.readouterr().err
    assert Path("out.csv").read_text() == "mine"
    Path("out.csv").unlink()
    Path(".out.csv.parts/note.json").unlink()
    Path(".out.csv.parts/00000001.npz").write_bytes(b"PK")
    assert command(*words) == 0
    assert len(pd.read_csv("out.csv")) == 40 and read_json(Path("out.csv.json"))["rows_resumed"] == 30
    Path("out.csv").unlink()
    Path("out.csv.json").unlink()
    killed(words, monkeypatch, 0)
    Path(".out.csv.parts/what.json").write_text("{")
    assert command(*words) == 1 and "unfinished coding" in capfd.readouterr().err
    assert command(*words, "overwrite=true") == 0


def test_neither_the_input_nor_the_model_is_overwritten(
    calibrated: Path, rows: pd.DataFrame, here: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(calibrated, "run")
    index = Path("index.csv")
    for path in (index, Path("run/model/mine.csv")):
        path.write_text("title,code\n청소원,941\n", encoding="utf-8")
    before = digest(here)
    given = ("run=run", "overwrite=true", "triage.index_file=index.csv", "triage.index=suggest")
    for name in ("in.csv", "index.csv", "run/model/mine.csv"):
        assert command("predict", *given, "input=in.csv", f"output={name}") == 2
        assert f"output={name}: " in capfd.readouterr().err
        if name != "in.csv":
            assert command("triage", *given, f"out={name}") == 2
            assert f"out={name}: " in capfd.readouterr().err
    assert digest(here) == before


def test_two_processes_do_not_write_one_output(
    finished: Path, rows: pd.DataFrame, capfd: pytest.CaptureFixture[str]
) -> None:
    parts = Path(".out.csv.parts")
    parts.mkdir()
    with leased(parts):
        assert command("predict", f"run={finished}", "input=in.csv", "output=out.csv") == 1
    assert f"process {os.getpid()} on " in capfd.readouterr().err


def test_a_bad_row_is_said_and_the_rest_is_coded(finished: Path, here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    tasks = ["용접", None, "  ", "123", "??? - !", datetime(2020, 1, 1), "벼농사", 5, "ㅇㅇ"]
    pd.DataFrame({"workplace": "", "position": None, "task": tasks}).to_excel("in.xlsx", index=False)
    assert command("predict", f"run={finished}", "input=in.xlsx", "output=out.parquet", "chunk_rows=4") == 0
    coded = pd.read_parquet("out.parquet")
    assert coded["reason"].tolist() == ["", "empty", "empty", "not text", "not text", "not text", "", "not text", ""]
    invalid = coded["decision"] == "invalid"
    assert (invalid == (coded["reason"] != "")).all() and (coded["code_1"].isna() == invalid).all()
    assert (coded.loc[invalid, ["decision_code", "pick_list"]] == "").all(axis=None)
    assert read_json(Path("out.parquet.json"))["decisions"]["invalid"] == 6
    lists = pd.DataFrame({"workplace": ["", "", ""], "position": "", "task": [["용접"], None, ["농사"]]})
    lists.assign(yes=True).to_parquet("lists.parquet")
    words = ("predict", f"run={finished}", "input=lists.parquet", "output=lists.csv")
    for more, kind in (("columns.task=task", "list<"), ("columns.task=yes", "bool")):
        assert command(*words, more) == 1 and not Path("lists.csv").exists()
        said = capfd.readouterr().err
        assert "lists.parquet" in said and repr(more.partition("=")[2]) in said and kind in said
    pd.DataFrame({"workplace": ["", ""], "position": "", "task": ["", "1"]}).to_csv("none.csv", index=False)
    assert command("predict", f"run={finished}", "input=none.csv", "output=none_out.csv") == 0
    assert pd.read_csv("none_out.csv")["decision"].tolist() == ["invalid"] * 2


def test_the_articles_rule_without_validation_rows_promises_nothing(
    finished: Path, rows: pd.DataFrame, capfd: pytest.CaptureFixture[str]
) -> None:
    words = ("predict", f"run={finished}", "input=in.csv", "accelerator=cpu", "precision=32-true")
    assert command(*words, "output=first.csv") == 0
    first = np.unique(pd.read_csv("first.csv")["prob_1"])
    least = first[len(first) // 2] - 1e-4  # which probabilities there are depends on the processor's rounding
    capfd.readouterr()
    assert command(*words, "output=out.csv", f"triage.threshold={least:.6f}") == 0
    shown = capfd.readouterr()
    assert "not calibrated" in shown.out + shown.err
    coded = pd.read_csv("out.csv", dtype=str, keep_default_na=False)
    sure = coded["prob_1"].astype(float) >= least
    assert 0 < sure.sum() < len(coded)
    assert coded["decision"].tolist() == ["accept" if one else "choose" for one in sure]
    assert (coded["decision_code"] == coded["code_1"].where(sure, "")).all()
    firsts = coded[[f"code_{k}" for k in range(1, 6)]].agg(" ".join, axis=1)
    assert (coded["pick_list"] == firsts.where(~sure, "")).all()
    assert command("predict", f"run={finished}", "input=in.csv", "output=b.csv", "triage.target_error=0.1") == 2
    assert "data.validation=0.3" in capfd.readouterr().err


def test_a_calibrated_run_decides_by_its_promise(
    calibrated: Path, here: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    test = pd.read_parquet(calibrated / "predictions.parquet")
    cohort = pd.read_parquet(twin_rows(0.04))
    texts = cohort.set_index("id").loc[test["id"], "text"]
    pd.DataFrame({"workplace": "", "position": "", "task": texts.to_numpy()}).to_csv("in.csv", index=False)
    words = (f"run={calibrated}", "input=in.csv", "accelerator=cpu", "precision=32-true", "triage.target_error=0.4")
    assert command("predict", *words, "output=out.csv", "triage.back_off=[2,1]", "triage.managers=words") == 0
    coded = pd.read_csv("out.csv", dtype=str, keep_default_na=False)
    calibration = read_json(calibrated / "model" / "calibration.json")
    settings = load_settings(calibrated / "model")
    logits = load_scored(calibrated / "test_logits.safetensors", len(settings.classes), settings.classes_hash)
    place = {code: number for number, code in enumerate(settings.classes)}
    assert [
        place.get(code, label) for code, label in zip(test["code"], logits.labels, strict=True)
    ] == logits.labels.tolist()
    np.testing.assert_allclose(probabilities(logits.logits).max(axis=1), test["prob_1"], atol=1e-6)
    outlook = read_json(Path("out.csv.json"))["triage"]
    assert outlook["temperature"] == calibration["temperature"] != 1
    assert outlook["validation_rows"] == calibration["n_held"]
    accepted = coded["decision"] == "accept"
    assert accepted.mean() == pytest.approx(outlook["expected"]["accept"], abs=0.1) and accepted.sum() > 50
    true = test["code"].to_numpy()
    assert (coded["decision_code"] != true)[accepted].mean() < 0.4
    assert len(outlook["summary"]) == 3 and 0 < outlook["expected"]["accepted_error_at_most"] <= 0.4
    assert all(one["title"] for one in outlook["expected"]["by_major_group"])
    shown = capfd.readouterr().out
    assert (
        all(sentence in shown for sentence in outlook["summary"]) and "promise: " in shown and "major group: " in shown
    )
    backed = coded["decision"] == "back off"
    assert coded["decision_code"][backed].str.len().isin([1, 2]).all() and (coded["decision_title"][backed] != "").all()
    assert (coded["pick_list"] != "").equals(coded["decision"] == "choose")
    # the lists of a file say what the model folder's own rows promise
    manage = says_words(list(texts), settings.manager_words)
    assert not coded["code_1"][~manage].str.startswith("1").any()


def twin_rows(scale: float) -> Path:
    """Return the twin's cohort as a file."""
    assert command("prepare", f"data.scale={scale}", "out=twin") == 0
    return Path("twin/cohort.parquet")


def test_levels_above_have_the_sums_of_their_codes(finished: Path, rows: pd.DataFrame) -> None:
    rows.assign(task=rows["task"].where(rows["n"] != 3, ""), workplace="").to_csv("in.csv", index=False)
    words = (f"run={finished}", "input=in.csv", "accelerator=cpu", "precision=32-true", "chunk_rows=7")
    assert command("predict", *words, "output=plain.parquet") == 0
    assert command("predict", *words, "output=out.parquet", "levels=[2,1]") == 0
    assert command("predict", *words, "output=out.csv", "levels=[2,1]") == 0
    plain, coded = pd.read_parquet("plain.parquet"), pd.read_parquet("out.parquet")
    names = [f"level_{level}_{what}" for what in ("code", "title", "prob") for level in (2, 1)]
    assert coded.columns.tolist() == [*plain.columns, *names]
    pd.testing.assert_frame_equal(coded[plain.columns], plain)
    settings = load_settings(finished / "model")
    chances = Coder(finished / "model", accelerator="cpu", precision="32-true").code(rows["task"].tolist())
    for level in (1, 2):
        groups = pd.Series([above[level - 1] for above in settings.ancestors])
        sums = pd.DataFrame(chances, columns=settings.classes).T.groupby(groups.to_numpy()).sum().T
        own = coded[[f"level_{level}_code", f"level_{level}_title", f"level_{level}_prob"]]
        assert own.iloc[3].isna().all()
        codes, titles, chance = (own[name].drop(3) for name in own)
        assert codes.tolist() == sums.idxmax(axis=1).drop(3).tolist()
        assert chance.to_numpy() == pytest.approx(sums.max(axis=1).drop(3).to_numpy(), abs=1e-5)
        assert titles.tolist() == [settings.titles[code] for code in codes]
    as_text = pd.read_csv("out.csv", dtype=str)["level_1_prob"].dropna()
    assert as_text.str.fullmatch(r"\d\.\d{6}").all()


@pytest.mark.parametrize(("levels", "said"), [("[3]", "levels are 1 to 2"), ("[1,1]", "once"), ("[0]", "levels")])
def test_levels_that_are_not_above_are_refused(
    finished: Path, rows: pd.DataFrame, levels: str, said: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert command("predict", f"run={finished}", "input=in.csv", "output=out.csv", f"levels={levels}") == 2
    assert said in capfd.readouterr().err and not Path("out.csv").exists()


def test_managers_by_a_column(
    finished: Path, calibrated: Path, rows: pd.DataFrame, capfd: pytest.CaptureFixture[str]
) -> None:
    test = pd.read_parquet(finished / "predictions.parquet")
    names = [f"code_{k}" for k in range(1, 11)]
    one = test["id"][test[names].apply(lambda code: code.str.startswith("1")).any(axis=1)].iloc[0]
    texts = pd.read_parquet(twin_rows(0.02)).set_index("id")["text"]
    rows = pd.concat([rows.assign(boss=answer, workplace="", task=texts[one]) for answer in ("예", "아니오")])
    rows.to_csv("in.csv", index=False)
    words = (f"run={finished}", "input=in.csv", "triage.managers=column", "top_k=10")
    assert command("predict", *words, "output=out.csv") == 2
    assert "columns.manages" in capfd.readouterr().err
    assert command("predict", f"run={calibrated}", *words[1:], "output=out.csv", "columns.manages=boss") == 2
    assert "trained without data.columns.manages" in capfd.readouterr().err  # its validation rows all answer no
    assert command("predict", *words, "output=out.csv", "columns.manages=boss") == 0
    coded = pd.read_csv("out.csv", dtype={"code_1": str})
    managers = coded[names].astype(str).apply(lambda code: code.str.startswith("1"))
    assert managers[coded["boss"] == "예"].any(axis=None) and not managers[coded["boss"] == "아니오"].any(axis=None)
    rows.assign(boss=["글쎄", *["예"] * (len(rows) - 1)]).to_csv("in.csv", index=False)
    assert command("predict", *words, "output=b.csv", "columns.manages=boss") == 0
    unclear = pd.read_csv("b.csv", keep_default_na=False)
    assert unclear["reason"].tolist() == ["boss: neither yes nor no"] + [""] * (len(rows) - 1)


@pytest.mark.parametrize("kind", ["sav", "dta"])
def test_labelled_files_keep_their_labels(finished: Path, here: Path, kind: str) -> None:
    rows = pd.DataFrame(
        {"n": [1.0, 2.0, np.nan], "workplace": ["은행", "", ""], "position": "", "task": ["예금 상담", "용접", "농사"]}
    )
    labels = {"column_labels": {"n": "성별", "task": "하는 일"}, "variable_value_labels": {"n": {1: "남", 2: "여"}}}
    write = pyreadstat.write_sav if kind == "sav" else pyreadstat.write_dta
    write(rows, f"in.{kind}", **labels)
    assert command("predict", f"run={finished}", f"input=in.{kind}", f"output=out.{kind}", "chunk_rows=2") == 0
    read = pyreadstat.read_sav if kind == "sav" else pyreadstat.read_dta
    coded, about = read(f"out.{kind}")
    assert coded["task"].tolist() == rows["task"].tolist() and coded["n"].tolist()[:2] == [1, 2]
    assert about.column_names_to_labels["task"] == "하는 일" and about.variable_value_labels["n"] == {1: "남", 2: "여"}
    assert coded["title_1"].str.len().min() > 0 and set(coded["decision"]) <= {"accept", "choose"}
    assert command("predict", f"run={finished}", f"input=in.{kind}", "output=out.csv") == 0
    assert pd.read_csv("out.csv", dtype=str)["code_1"].tolist() == coded["code_1"].tolist()


def test_a_labelled_files_own_columns_stay_as_they_are(finished: Path, here: Path) -> None:
    rows = pd.DataFrame(
        {
            "n": [1.0, 9.0, np.nan],
            "task": [" 예금 상담 ", "99", "농사"],
            "day": [datetime(2020, 1, 1).date(), None, datetime(2021, 1, 1).date()],
            "large": [1e20, 2.5, 1.0],
        }
    )
    missing = {"n": [{"lo": 9.0, "hi": 9.0}], "task": [{"lo": "99", "hi": "99"}]}
    pyreadstat.write_sav(rows, "in.sav", missing_ranges=missing)
    words = ("predict", f"run={finished}", "input=in.sav", "columns.workplace=null", "columns.position=null")
    assert command(*words, "output=out.sav") == 0
    before, _ = pyreadstat.read_sav("in.sav", user_missing=True)
    after, about = pyreadstat.read_sav("out.sav", user_missing=True)
    pd.testing.assert_frame_equal(after[list(rows)], before)
    assert about.missing_ranges == missing and after["reason"].tolist() == ["", "empty", ""]
    assert command(*words, "output=out.parquet", "chunk_rows=1") == 0
    assert pd.read_parquet("out.parquet")["large"].tolist() == [1e20, 2.5, 1.0]


def test_a_kind_that_cannot_hold_the_table_says_so(
    finished: Path, rows: pd.DataFrame, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows.rename(columns={"n": "1 bad name"}).to_csv("in.csv", index=False)
    met = spied(monkeypatch)
    assert command("predict", f"run={finished}", "input=in.csv", "output=out.sav", "chunk_rows=10") == 1
    assert not met  # said before anything is coded
    assert "SAV cannot hold columns named '1 bad name'" in capfd.readouterr().err
    assert sorted(path.name for path in Path().iterdir()) == ["in.csv"]


def test_columns_of_the_codes_are_not_overwritten(
    finished: Path, rows: pd.DataFrame, capfd: pytest.CaptureFixture[str]
) -> None:
    rows.assign(code_2="x").to_csv("in.csv", index=False)
    assert command("predict", f"run={finished}", "input=in.csv", "output=out.csv") == 1
    assert "code_2" in capfd.readouterr().err

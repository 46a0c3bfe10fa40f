"""What was decided is kept at once, and nothing of it is ever overwritten."""

import shutil
import socket
from pathlib import Path

import pandas as pd
import pytest

from kjcm.errors import ConfigError, KjcmError
from kjcm.ksco.classification import Classification, load_classification
from kjcm.records import read_json
from kjcm.review.files import export, opened
from kjcm.review.store import Store
from kjcm.run_folder.model_folder import load_settings
from tests.conftest import LEARNS, SMALL, command
from tests.review.conftest import TASKS

KSCO = load_classification("ksco7")
OPEN = ("choose", "search", "back off")


@pytest.fixture
def store(coded: Path, finished: Path, tmp_path: Path) -> Store:
    return opened(coded, tmp_path / "review.sqlite", KSCO, load_settings(finished / "model"))


def test_the_store_has_the_rows_in_order(store: Store) -> None:
    assert store.counts() == {"choose": (7, 0), "invalid": (1, 0)}
    assert [row for row, decision, _ in store.items() if decision in OPEN] == [0, 1, 2, 3, 4, 5, 7]
    item = store.item(2)
    assert item and item["text"] == {"workplace": "회사", "position": "", "task": TASKS[2]} and len(item["first"]) == 5
    assert item["picks"] == [one["code"] for one in (*item["first"], *item["further"])] and item["chosen"] is None
    assert store.item(8) is None


def test_a_decision_stands_until_its_own_maker_undoes_it(store: Store) -> None:
    assert store.choose(0, "111", "kim") and store.choose(1, "320", "lee")
    assert not store.choose(0, "312", "kim") and not store.choose(0, "312", "kim", 2)  # another decision came meanwhile
    assert store.choose(0, "312", "kim", 1)
    assert store.choice(0).code == "312" and store.counts()["choose"] == (7, 2)  # type: ignore[union-attr]
    assert store.settled() == {0: "312", 1: "320"}
    other = Store(store.file)  # another process sees it, for it is on the disk
    assert [(row, choice.code, choice.who) for row, choice in other.choices()] == [
        (0, "312", "kim"),
        (1, "320", "lee"),
    ]
    assert other.undo("kim") == 0 and store.choice(0).code == "111"  # type: ignore[union-attr]
    assert other.undo("kim") == 0 and other.undo("kim") is None and store.choice(0) is None
    assert store.base.execute("SELECT COUNT(*) FROM choice").fetchone() == (3,)


def test_export_keeps_all_and_adds_who_and_when(
    store: Store, coded: Path, tmp_path: Path, ksco: Classification
) -> None:
    first = store.item(1)["first"][0]["code"]  # type: ignore[index]
    store.choose(1, first, "lee")
    store.choose(6, "942", "kim")
    found = export(coded, tmp_path / "out.csv", store, ksco, overwrite=False)
    assert found == {"rows": 8, "settled": 2, "as_the_model": 1}
    before, after = (pd.read_csv(file, dtype=str, keep_default_na=False) for file in (coded, tmp_path / "out.csv"))
    pd.testing.assert_frame_equal(after[list(before)], before)
    assert after["reviewed_code"].tolist() == ["", first, "", "", "", "", "942", ""]
    assert after["reviewed_by"].tolist() == ["", "lee", "", "", "", "", "kim", ""]
    assert after["final_code"].tolist() == after["reviewed_code"].tolist()  # nothing was accepted by the model
    assert after["reviewed_title"][6] == ksco.title("942") and after["reviewed_at"][6].endswith("+00:00")
    with pytest.raises(KjcmError, match="overwrite=true"):
        export(coded, tmp_path / "out.csv", store, ksco, overwrite=False)
    with pytest.raises(ConfigError, match="under review"):
        export(coded, coded, store, ksco, overwrite=True)


def test_an_accepted_code_stands_where_nobody_settled_the_row(
    coded: Path, finished: Path, tmp_path: Path, ksco: Classification
) -> None:
    frame = pd.read_csv(coded, dtype=str, keep_default_na=False)
    frame.loc[0, ["decision", "decision_code", "pick_list"]] = ["accept", "312", ""]
    settings = load_settings(finished / "model")
    frame.loc[1, ["decision", "pick_list"]] = ["choose", " ".join(settings.classes)]
    frame.to_csv(tmp_path / "coded.csv", index=False)
    store = opened(tmp_path / "coded.csv", tmp_path / "db", KSCO, load_settings(finished / "model"))
    store.choose(1, "111", "kim")
    export(tmp_path / "coded.csv", tmp_path / "out.csv", store, ksco, overwrite=False)
    out = pd.read_csv(tmp_path / "out.csv", dtype=str, keep_default_na=False)
    assert out["final_code"].tolist() == ["312", "111"] + [""] * 6
    item = store.item(1)
    assert item and set(settings.classes) == {one["code"] for one in [*item["first"], *item["further"]]}
    assert all(one["title"] == settings.titles[one["code"]] for one in item["further"])
    frame[::-1].to_csv(tmp_path / "coded.csv", index=False)
    with pytest.raises(KjcmError, match="has changed since"):
        export(tmp_path / "coded.csv", tmp_path / "late.csv", store, ksco, overwrite=False)
    frame.assign(prob_2="예금 상담 " * 10).to_csv(tmp_path / "bad.csv", index=False)
    with pytest.raises(KjcmError, match="column 'prob_2', data row 1") as caught:
        opened(tmp_path / "bad.csv", tmp_path / "bad", KSCO, load_settings(finished / "model"))
    assert "예금 상담 " * 7 not in str(caught.value)


def test_the_columns_are_those_of_the_coding(finished: Path, here: Path) -> None:
    pd.DataFrame({"q1": ["은행"], "q2": ["직원"], "q3": ["예금 상담"]}).to_csv("in.csv", index=False)
    words = (f"run={finished}", "input=in.csv", "output=coded.csv", "accelerator=cpu")
    names = ("columns.workplace=q1", "columns.position=q2", "columns.task=q3")
    assert command("predict", *words, *names) == 0
    item = opened(here / "coded.csv", here / "db", KSCO, load_settings(finished / "model")).item(0)
    assert item and item["text"] == {"workplace": "은행", "position": "직원", "task": "예금 상담"}
    (here / "coded.csv.json").write_text("[]")
    with pytest.raises(KjcmError, match="missing or damaged"):
        opened(here / "coded.csv", here / "other", KSCO, load_settings(finished / "model"))
    (here / "coded.csv.json").unlink()
    with pytest.raises(KjcmError, match="has no column 'workplace'"):
        opened(here / "coded.csv", here / "other", KSCO, load_settings(finished / "model"))


def test_what_cannot_be_is_refused(coded: Path, finished: Path, here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("fastapi")
    words = ("review", f"run={finished}", f"input={coded}", f"db={here / 'db'}")
    for more, said in (
        ("decisions=[chose]", "no such decision"),
        ("host=0.0.0.0", "the name or address"),
        ("token=비밀", "at least 8 letters"),
        (f"export={coded}", "is the file under review"),
    ):
        assert command(*words, more) == 2
        assert said in capfd.readouterr().err
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for code, more, said in (
            (1, f"port={port}", "already in use"),
            (1, "decisions=[accept]", "no row has a decision to review"),
            (1, "show=[age]", "has no column 'age'"),
            (1, "id=pid", "has no column 'pid'"),
            (2, "who==1+1", "does not begin with"),
            (2, "who=' '", "1 to 64"),
        ):
            assert command(*words, more) == code
            told = capfd.readouterr().err
            assert said in told and len(told.strip().splitlines()) == 1
    assert (
        command(*words[:3], f"db={here / 'typo'}", "export=typo.csv") == 1 and "typo: no such" in capfd.readouterr().err
    )
    assert not (here / "typo").exists() and not Path("typo.csv").exists()
    assert command(*words, "export=out.csv") == 0 and command(*words, "export=out.csv") == 1
    assert "overwrite=true" in capfd.readouterr().err


def test_a_review_is_of_one_file_and_model(store: Store, coded: Path, finished: Path, tmp_path: Path) -> None:
    settings = load_settings(finished / "model")
    changed = tmp_path / "coded.csv"
    changed.write_text(coded.read_text(encoding="utf-8-sig").replace("벼농사", "밭농사"), encoding="utf-8")
    with pytest.raises(KjcmError, match="another file"):
        opened(changed, store.file, KSCO, settings)
    shutil.copy(coded.with_name("coded.csv.json"), tmp_path / "coded.csv.json")
    (tmp_path / "coded.csv.json").write_text('{"classes_hash": "0"}')
    with pytest.raises(KjcmError, match="other classes"):
        opened(changed, tmp_path / "new.sqlite", KSCO, settings)
    (tmp_path / "coded.csv.json").unlink()
    pd.DataFrame({"task": ["x"]}).to_csv(changed, index=False)
    with pytest.raises(KjcmError, match="has no column"):
        opened(changed, tmp_path / "new.sqlite", KSCO, settings)
    assert not (tmp_path / "new.sqlite").exists()
    (tmp_path / "bad.sqlite").write_bytes(b"no database" * 100)
    with pytest.raises(KjcmError, match="not a review"):
        opened(coded, tmp_path / "bad.sqlite", KSCO, settings)


def test_reviewed_rows_are_learnt_from_and_never_tested_on(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = pd.DataFrame({"code": ["111", "320", "630"] * 20, "workplace": "", "position": ""})
    rows["task"] = [f"{code} 일 {n}" for n, code in enumerate(rows["code"])]
    rows.to_csv("in.csv", index=False)
    words = ("data=table", "data.path=in.csv", "data.columns.id=null", *SMALL[1:], "trainer.max_epochs=1")
    assert command("train", *words, "run_dir=plain") == 0
    cohort = pd.read_parquet(prepared(words))
    tested = cohort["text"][cohort["side"] == "test"].iloc[0]
    texts = ["새로운 일", tested, "", "다른 일", "아무 일", "어떤 일", "남은 일"]
    reviewed = pd.DataFrame({"workplace": "", "position": "", "task": texts})
    reviewed["reviewed_code"] = ["111", "111", "320", "942", "94", "995", ""]
    reviewed.to_csv("reviewed.csv", index=False)
    assert command("train", *words, "data.reviewed=reviewed.csv", "run_dir=more") == 0
    assert "1 reviewed row" in capsys.readouterr().out
    plain, more = (pd.read_json(here / name / "report.json", typ="series") for name in ("plain", "more"))
    assert (plain["n_reviewed"], more["n_reviewed"]) == (0, 1) and more["n_test"] == plain["n_test"]
    assert more["n_reviewed_left"] == {
        "empty text": 1, "text of a test or validation row": 1, "group of 10 rows or fewer": 1,
        "code with fewer digits than data.level": 1, "unknown code": 1,
    }  # fmt: skip
    assert plain["hashes"]["split"] == more["hashes"]["split"] and plain["hashes"]["run"] != more["hashes"]["run"]
    assert command("baseline", "kind=svm", *words[:3], "data.reviewed=reviewed.csv", "run_dir=svm") == 0
    reviewed.drop(columns="reviewed_code").to_csv("reviewed.csv", index=False)
    assert command("train", *words, "data.reviewed=reviewed.csv", "run_dir=no") == 1


def test_a_reviewed_group_that_is_new_is_learnt(finished: Path, here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Code, review with a group that the model lacks, train again, and the next coding gives that group."""
    words = (
        "data=table",
        "data.path=in.csv",
        "data.columns.id=null",
        *LEARNS[1:],
        "trainer.accelerator=cpu",
        "data.batch_size=4",
    )
    known = pd.DataFrame({"code": ["111", "320", "630"] * 20, "workplace": "", "position": ""})
    known["task"] = [f"{name} {n}" for n in range(20) for name in ("기업 경영", "은행 예금 상담", "논 벼농사")]
    known.to_csv("in.csv", index=False)
    fresh = pd.DataFrame({"workplace": "", "position": "", "task": [f"아파트 계단 청소 {n}" for n in range(30, 46)]})
    fresh.to_csv("new.csv", index=False)
    assert command("train", *words, "run_dir=first") == 0
    coding = ("predict", "input=new.csv", "accelerator=cpu", "triage.threshold=0.999")
    assert command(*coding, "run=first", "output=coded.csv") == 0
    store = opened(here / "coded.csv", here / "coded.csv.review.sqlite", KSCO, load_settings(here / "first" / "model"))
    assert all(store.choose(row, "942" if row < 13 else "941", "kim") for row in range(16))
    store.close()
    assert command("review", "run=first", "input=coded.csv", "export=reviewed.csv") == 0
    for cutoff, classes, left in (
        (10, ["111", "320", "630", "942"], {"group of 10 rows or fewer": 3}),
        (2, ["111", "320", "630", "941", "942"], {}),
        (20, None, None),
    ):
        more = (f"data.cutoff={cutoff}", "data.reviewed=reviewed.csv", f"run_dir=at_{cutoff}")
        assert command("train", *words, *more) == (0 if classes else 1)
        if classes:
            report, cohort = (read_json(here / f"at_{cutoff}" / f"{name}.json") for name in ("report", "cohort"))
            assert cohort["classes"] == classes and report["n_reviewed_left"] == left
            assert {group["code"]: group["n_train"] for group in report["per_class"]}["942"] == 13
    assert "new groups: '941', '942'" in capfd.readouterr().out
    assert command(*coding, "run=at_10", "output=again.csv") == 0
    assert set(pd.read_csv("again.csv", dtype=str)["code_1"]) == {"942"}
    assert load_settings(here / "at_10" / "model").n_train[3] == 13
    assert command("evaluate", "run=at_10", "trainer.accelerator=cpu", "out=measured") == 0
    assert command("baseline", "kind=majority", *words[:3], "data.reviewed=reviewed.csv", "run_dir=majority") == 0


def prepared(words: tuple[str, ...]) -> Path:
    assert command("prepare", *words[:3], "out=cohort") == 0
    return Path("cohort/cohort.parquet")


def test_rows_with_the_same_texts_get_and_lose_a_decision_together(store: Store) -> None:
    assert store.choose(3, "111", "lee")
    assert store.choose(0, "320", "kim", copies=[1, 3]) == 2  # row 3 keeps its own decision
    assert store.settled() == {0: "320", 1: "320", 3: "111"} and len(store.times("kim", 9)) == 1
    assert store.choose(0, "630", "kim", store.choice(0).id, copies=[1, 3])  # type: ignore[union-attr]
    assert store.settled() == {0: "630", 1: "630", 3: "111"}
    assert store.undo("kim") == 0 and store.settled() == {0: "320", 1: "320", 3: "111"}
    assert store.choose(2, "942", "kim")
    assert store.undo("lee", 0) is None and store.undo("kim", 0) == 0  # not the last decision
    assert store.settled() == {2: "942", 3: "111"} and store.undo("kim", 0) is None


def test_marks_are_kept_and_exported(store: Store, coded: Path, tmp_path: Path, ksco: Classification) -> None:
    store.mark([0, 1], "skip", "", "kim")
    store.mark([0], "comment", "무슨 일?", "kim")
    store.mark([0], "comment", "다시", "lee")
    store.mark([2], "flag", "", "lee")
    store.mark([4], "flag", "", "lee")
    store.mark([4], "flag", None, "kim")
    marks = Store(store.file).marks()  # another process
    found = {row: {kind: (mark.note, mark.who) for kind, mark in kinds.items()} for row, kinds in marks.items()}
    skip = {"skip": ("", "kim")}
    assert found == {0: {**skip, "comment": ("다시", "lee")}, 1: skip, 2: {"flag": ("", "lee")}}
    assert store.choose(1, "320", "kim") and set(store.marks()) == {0, 2}  # a decided row is not skipped
    export(coded, tmp_path / "out.csv", store, ksco, overwrite=False)
    out = pd.read_csv(tmp_path / "out.csv", dtype=str, keep_default_na=False)
    assert out["skipped_by"].tolist()[:3] == ["kim", "", ""] and out["flagged_by"].tolist()[:3] == ["", "", "lee"]
    assert out["review_comment"][0] == "다시" and out["commented_by"].tolist()[:2] == ["lee", ""]
    assert store.base.execute("SELECT COUNT(*) FROM mark").fetchone() == (6,)  # nothing is overwritten


def test_a_file_of_an_earlier_version_goes_on(store: Store, coded: Path, finished: Path) -> None:
    store.choose(1, "320", "lee")
    store.base.executescript("DROP TABLE copy; DROP TABLE mark; PRAGMA user_version=1")
    store.close()
    again = opened(coded, store.file, KSCO, load_settings(finished / "model"))
    assert again.settled() == {1: "320"} and again.marks() == {}
    again.mark([1], "flag", "", "kim")
    assert again.undo("lee") == 1
    again.close()

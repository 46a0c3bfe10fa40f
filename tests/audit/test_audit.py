"""`kjcm audit`: out-of-fold predictions, planted wrong labels, and the way back through review into the training."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from kjcm.audit.folds import folds_of
from kjcm.errors import ConfigError, KjcmError
from kjcm.files import digest
from kjcm.keys.overrides import for_hydra
from kjcm.ksco.classification import load_classification
from kjcm.records import read_json
from kjcm.review.files import opened
from kjcm.run_folder.model_folder import load_settings
from kjcm.survey.rows import Rows, rows_of
from tests.conftest import command, config_of

LINEAR = ("model=linear", "logger=[]", "model.above=[]", "model.calibration_folds=0", "data.level=1")
FOLDS = 3
PLANTED = 100  # wrong labels
TWIN_TEXTS = ("workplace", "position", "task")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """data.csv with planted wrong codes, right.csv with the true codes of these rows, runs; tests must not change them."""
    folder = tmp_path_factory.mktemp("audit")
    assert command("prepare", "data.scale=0.02", "data.level=1", f"out={folder}/cohort") == 0
    rows = pd.read_parquet(folder / "cohort" / "cohort.parquet")[["id", *TWIN_TEXTS, "code"]]
    wrong = np.random.default_rng(0).choice(len(rows), PLANTED, replace=False)
    rows.iloc[wrong][["id", "code"]].to_csv(folder / "right.csv", index=False)
    codes = sorted(set(rows["code"]) - {"A"})
    place = {code: codes[number - 3] for number, code in enumerate(codes)}
    rows.loc[wrong, "code"] = rows.loc[wrong, "code"].map(place).fillna("1")
    rows.columns = ["사람", "직장", "position", "task", "ksco7"]  # type: ignore[assignment]
    rows.to_csv(folder / "data.csv", index=False)
    for fold in range(FOLDS):
        assert command("train", *words_of(folder), f"data.fold={fold}", f"run_dir={folder}/runs/{fold}") == 0
    return folder


def words_of(folder: Path) -> tuple[str, ...]:
    names = ("data.columns.id=사람", "data.columns.workplace=직장", "data.columns.code=ksco7")
    return (
        *LINEAR, "data=table", f"data.path={folder}/data.csv", *names, "data.cutoff=0", f"data.folds={FOLDS}",
        f"cache={folder}/cache",
    )  # fmt: skip


@pytest.fixture(scope="module")
def audited(made: Path) -> Path:
    """suspects.csv and out_of_fold.parquet of the runs; tests must not change them."""
    files = (f"output={made}/suspects.csv", f"out_of_fold={made}/out_of_fold.parquet")
    assert command("audit", f"runs={made}/runs", *files) == 0
    return made


def rows_with(*words: str) -> Rows:
    return rows_of(config_of("train", *for_hydra("train", words, swept=False)), test=True, cache=None)


def read(file: Path) -> pd.DataFrame:
    return pd.read_csv(file, dtype=str, keep_default_na=False, encoding="utf-8-sig")


def test_out_of_fold_predictions_are_those_of_the_runs(audited: Path) -> None:
    whole = pd.read_parquet(audited / "out_of_fold.parquet")
    data = read(audited / "data.csv")
    assert not whole["id"].duplicated().any() and set(whole["id"]) == set(data["사람"])
    assert dict(zip(whole["id"], whole["code"], strict=True)) == dict(zip(data["사람"], data["ksco7"], strict=True))
    for fold in range(FOLDS):
        run = audited / "runs" / str(fold)
        stored = pd.read_parquet(run / "predictions.parquet").set_index("id").sort_index()
        own = whole[whole["fold"] == fold].set_index("id").sort_index()
        assert set(own["run"]) == {read_json(run / "identity.json")["hash"][:12]}
        for k in (1, 2, 10):
            assert own[f"code_{k}"].equals(stored[f"code_{k}"])
            np.testing.assert_allclose(own[f"prob_{k}"], stored[f"prob_{k}"], rtol=1e-6)
    classes = [name for name in whole if name.startswith("p_")]
    assert classes == [f"p_{code}" for code in load_settings(audited / "runs" / "0" / "model").classes]
    np.testing.assert_allclose(whole[classes].sum(axis=1), 1, atol=1e-5)
    first = whole[classes].idxmax(axis=1).str.removeprefix("p_")
    assert (first == whole["code_1"]).all()


def test_planted_wrong_labels_come_first(audited: Path) -> None:
    found, right = read(audited / "suspects.csv"), read(audited / "right.csv").set_index("id")["code"]
    note = json.loads((audited / "suspects.csv.json").read_text(encoding="utf-8"))
    rows = len(read(audited / "data.csv"))
    assert found["rank"].tolist() == [str(rank) for rank in range(1, len(found) + 1)]
    assert found["label_quality"].astype(float).is_monotonic_increasing
    assert (found["given_code"] != found["suggested_code"]).all()
    assert note["rows"] == note["audited"] == rows and note["suspected"] == len(found)
    planted = found["사람"].isin(right.index)
    chance = PLANTED / rows
    assert planted.head(PLANTED).mean() > 10 * chance and planted.sum() > 0.8 * PLANTED
    again = found[planted].head(30)
    assert (again["suggested_code"] == again["사람"].map(right)).mean() > 0.9
    data = read(audited / "data.csv").set_index("사람")
    for name in ("직장", "position", "task", "ksco7"):
        own = "given_code" if name == "ksco7" else name
        assert found[own].tolist() == data.loc[found["사람"], name].tolist()


def test_reviewed_labels_replace_those_of_the_training_rows(audited: Path, here: Path) -> None:
    """audit -> review -> data.reviewed: exactly the changed labels change, and no row is added."""
    right = read(audited / "right.csv").set_index("id")["code"]
    assert command("audit", f"runs={audited}/runs", "output=suspects.csv", "most=60") == 0
    coded, run = here / "suspects.csv", audited / "runs" / "0"
    shown = read(coded)
    store = opened(
        coded, here / "suspects.csv.review.sqlite", load_classification("ksco7"), load_settings(run / "model")
    )
    assert store.counts() == {"choose": (60, 0)}
    item = store.item(0)
    assert item and item["text"] == {
        role: shown[name][0] for role, name in zip(TWIN_TEXTS, shown.columns[1:4], strict=True)
    }
    choices = {}
    for row in range(50):  # the last ten stay open
        one = shown.loc[row]
        choices[one["사람"]] = right.get(one["사람"], one["given_code"])
        assert store.choose(row, choices[one["사람"]], "kim")
    store.close()
    assert command("review", f"run={run}", "input=suspects.csv", "export=reviewed.csv") == 0
    assert (read(here / "reviewed.csv")["final_code"] != "").all()

    words = (*words_of(audited), "data.fold=0")
    before, after = rows_with(*words), rows_with(*words, "data.reviewed=reviewed.csv")
    old, new = (rows.cohort.rows.set_index("id") for rows in (before, after))
    assert old.drop(columns=["code", "finer"]).equals(new.drop(columns=["code", "finer"]))
    train = old.index[old["side"] == "train"]
    expected = {row: code for row, code in choices.items() if row in train and old["code"][row] != code}
    changed = new.index[old["code"] != new["code"]]
    assert len(expected) > 10 and {row: new["code"][row] for row in changed} == expected
    assert len(after.sides["train"]) == len(before.sides["train"]) and after.n_reviewed == 0
    assert after.sides["test"].equals(before.sides["test"])
    assert after.n_changed == len(expected) and after.n_decided == sum(row in train for row in choices)
    assert after.reviewed_left == {"text of a test or validation row": 50 - after.n_decided}
    assert command("train", *words, "data.reviewed=reviewed.csv", "run_dir=again") == 0
    report = read_json(here / "again" / "report.json")
    assert (report["n_reviewed"], report["n_reviewed_changed"]) == (0, len(expected))
    assert command("evaluate", "run=again", "out=measured") == 0


def test_rows_without_an_id_column_are_found_again(audited: Path, here: Path) -> None:
    """Without ids, kjcm makes them from text and code; the audit's file has them."""
    pair = read(audited / "data.csv").iloc[[0, 0]]
    rows = pd.concat([read(audited / "data.csv").head(300), pair])  # three rows are the same
    rows.drop(columns="사람").to_csv("data.csv", index=False)
    names = ("data.path=data.csv", "data.columns.id=null", "data.folds=2")
    words = tuple(
        word for word in words_of(audited) if not word.startswith(("data.path", "data.folds", "data.columns.id"))
    )
    for fold in range(2):
        assert command("train", *words, *names, f"data.fold={fold}", f"run_dir=runs/{fold}") == 0
    assert command("audit", "runs/0", "runs/1", "output=suspects.parquet", "rule=predicted_neq_given") == 0
    found = pd.read_parquet("suspects.parquet")
    found.assign(reviewed_code=found["suggested_code"]).to_parquet("reviewed.parquet")
    rows_now = rows_with(*words, *names, "data.fold=0", "data.reviewed=reviewed.parquet")
    sides = rows_now.cohort.rows.set_index("id")["side"]
    in_train = found["id"][found["id"].map(sides) == "train"]
    assert rows_now.n_changed == rows_now.n_decided == len(in_train) > 5 and rows_now.n_reviewed == 0


def test_reviewed_rows_of_other_people_are_added(audited: Path, here: Path) -> None:
    """An equal id with another text is another person; two codes for one row are an error."""
    rows = read(audited / "data.csv")
    cohort = rows_with(*words_of(audited), "data.fold=0").cohort.rows.set_index("id")
    known = rows[rows["사람"].map(cohort["side"]) == "train"].head(2)
    other = known.assign(task="드론으로 논에 약 뿌림", reviewed_code="6")
    same = known.assign(reviewed_code=known["ksco7"])
    pd.concat([other, same, same]).to_csv("reviewed.csv", index=False)
    words = (*words_of(audited), "data.fold=0", "data.reviewed=reviewed.csv")
    found = rows_with(*words)
    assert (found.n_reviewed, found.n_decided, found.n_changed) == (2, 2, 0)
    few = rows_with(*words, "data.train_fraction=0.1")
    assert few.reviewed_left == {"row that the split leaves unused": 4} and few.n_reviewed == 2
    pd.concat([same, same.assign(reviewed_code="6"), same.assign(reviewed_code="7")]).to_csv(
        "reviewed.csv", index=False
    )
    with pytest.raises(KjcmError, match="several reviewed codes"):
        rows_with(*words)


def test_a_missing_fold_is_an_error_unless_asked_for(audited: Path, here: Path) -> None:
    places = [f"{audited}/runs/0", f"{audited}/runs/2"]
    with pytest.raises(KjcmError, match="fold 1 of 3"):
        folds_of(places, incomplete=False)
    assert folds_of(places, incomplete=True).missing == [1]
    assert command("audit", *places, "output=part.csv") == 1 and not list(here.iterdir())
    assert command("audit", *places, "output=part.csv", "incomplete=true", "most=7") == 0
    note = read_json(here / "part.csv.json")
    rows = len(read(audited / "data.csv"))
    assert (
        note["rows"] + note["not_audited"]["missing_fold"] == rows > note["rows"] and len(read(here / "part.csv")) == 7
    )


def test_only_runs_of_one_cross_validation_are_audited(
    audited: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = words_of(audited)
    for name, more in {"C": ("data.fold=1", "model.C=0.5"), "seed": ("data.fold=0", "seed=7")}.items():
        assert command("train", *words, *more, f"run_dir={name}") == 0
    assert (
        command("train", *[word for word in words if "folds" not in word], "model.calibration_folds=0", "run_dir=one")
        == 0
    )
    runs = [f"{audited}/runs/{fold}" for fold in range(FOLDS)]
    with pytest.raises(ConfigError, match=r"model\.C"):
        folds_of([runs[0], "C", runs[2]], incomplete=False)
    with pytest.raises(ConfigError, match="fold 0 has several runs") as error:
        folds_of([*runs, "seed"], incomplete=False)
    assert f"{runs[0]} (seed 0)" in str(error.value) and f"{here / 'seed'} (seed 7)" in str(error.value)  # whole paths
    with pytest.raises(ConfigError, match=r"data\.folds"):
        folds_of(["one"], incomplete=False)
    shutil.copytree(runs[0], "copy")
    assert list(folds_of([*runs, "copy"], incomplete=False).runs) == [0, 1, 2]  # a copy counts once
    capsys.readouterr()
    for wrong in (
        ("output=x.csv",), (f"runs={audited}/runs",), (f"runs={audited}/runs", "output=x.doc"),
        (f"runs={audited}/runs", "out_of_fold=x.csv"), (f"runs={audited}/runs", "out_of_fold=x.parquet", "most=3"),
        (f"runs={audited}/runs", "output=x.parquet", "out_of_fold=x.parquet"),
    ):  # fmt: skip
        assert command("audit", *wrong) == 2
    before = digest(audited)
    assert command("audit", f"runs={audited}/runs", f"output={audited}/data.csv", "overwrite=true") == 2
    assert digest(audited) == before
    (here / "x.csv.json").write_text("mine")
    assert command("audit", f"runs={audited}/runs", "output=x.csv") == 1
    assert (here / "x.csv.json").read_text() == "mine" and not (here / "x.csv").exists()
    assert command("audit", f"runs={audited}/runs", "output=x.csv", "overwrite=true", "score=normalized_margin") == 0


def test_changed_data_and_names_that_clash_are_errors(audited: Path, here: Path) -> None:
    rows = read(audited / "data.csv").head(200)
    rows.columns = ["id", "rank", "position", "task", "code"]  # type: ignore[assignment]
    rows.to_csv("data.csv", index=False)
    words = (
        *LINEAR,
        "data=table",
        "data.path=data.csv",
        "data.columns.workplace=rank",
        "data.cutoff=0",
        "data.folds=2",
    )
    for fold in range(2):
        assert command("train", *words, f"data.fold={fold}", f"run_dir=runs/{fold}") == 0
    before = set(here.iterdir())
    assert command("audit", "runs=runs", "output=out.csv", "out_of_fold=out.parquet") == 2
    assert set(here.iterdir()) == before  # neither file, though out.parquet could be written
    rows.assign(task=rows["task"].str.replace(" ", ", ")).to_csv("data.csv", index=False)
    assert command("audit", "runs=runs", "out_of_fold=out.parquet") == 1 and not (here / "out.parquet").exists()


def test_a_review_file_that_cannot_be_written_leaves_no_other_file(
    audited: Path, here: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (here / "file").write_text("")
    words = ("audit", f"runs={audited}/runs", "out_of_fold=out.parquet")
    assert command(*words, "output=file/out.csv") == 1 and "file: cannot be written" in capfd.readouterr().err

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("kjcm.audit.review_file.write_json", full)
    assert command(*words, "output=out.csv") == 1 and "No space left" in capfd.readouterr().err
    assert [path.name for path in here.iterdir()] == ["file"]


def test_no_answer_is_on_the_screen(audited: Path, here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert command("audit", f"runs={audited}/runs", "output=out.csv") == 0
    printed = "".join(capfd.readouterr())
    assert not [task for task in read(here / "out.csv")["task"] if len(task) > 6 and task in printed]


def test_a_missing_extra_is_named(
    audited: Path, here: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("kjcm.audit.suspects.find_spec", lambda name: None)
    assert command("audit", f"runs={audited}/runs", "output=out.csv") == 2
    assert "kjcm[audit]" in capfd.readouterr().err
    assert command("audit", f"runs={audited}/runs", "out_of_fold=out.parquet") == 0

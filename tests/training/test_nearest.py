"""`kjcm train model=nearest`: an ordinary run, whose model every later command uses."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from jsonschema import validate

from kjcm.coding.linear import Explainer
from kjcm.errors import KjcmError
from kjcm.files import digest
from kjcm.linear.nearest import NearestModel
from kjcm.run_folder.model_folder import load_linear
from kjcm.survey.texts import TEXT_COLUMNS
from kjcm.training.run import folder_of
from tests.conftest import ROOT, command, config_of

TWIN = ("model=nearest", "augment=titles", "data.scale=0.01", "data.validation=0.2")


def load(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run; tests must not write into it."""
    folder = tmp_path_factory.mktemp("nearest")
    words = ("model.keep_texts=true", "logger=[]", f"run_dir={folder}/run", f"cache={folder}/cache")
    assert command("train", *TWIN, *words) == 0
    assert command("prepare", *TWIN[2:], f"out={folder}/cohort") == 0
    return folder / "run"


@pytest.fixture(scope="module")
def rows(run: Path) -> pd.DataFrame:
    return pd.read_parquet(run.parent / "cohort" / "cohort.parquet")


def test_the_run_folder_is_an_ordinary_one(run: Path, rows: pd.DataFrame) -> None:
    report = load(run / "report.json")
    validate(report, load(ROOT / "docs" / "schemas" / "report.schema.json"))
    assert (report["kind"], report["views"]) == ("nearest", {"text": "char", "position": "char"})
    assert 0.4 < report["metrics"]["accuracy"] < 1 and report["parameters"] == 10
    assert "nearest-neighbour classifier of char n-grams of text" in (run / "model" / "README.md").read_text()
    model, settings = load_linear(run / "model")
    assert isinstance(model, NearestModel) and settings.kind == "nearest"
    train, test = (rows[rows["side"] == side] for side in ("train", "test"))
    assert model.rows.texts is not None and sorted(model.rows.texts) == sorted(train["text"])
    assert len(model.titles.labels) == report["n_augmented"]
    first = np.array(settings.classes)[model.logits(test).argmax(axis=1)]
    assert pd.read_parquet(run / "predictions.parquet")["code_1"].tolist() == first.tolist()


def test_later_commands_use_it(run: Path, rows: pd.DataFrame, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    test = rows[rows["side"] == "test"].reset_index(drop=True)
    test[["id", *TEXT_COLUMNS]].to_csv("in.csv", index=False)
    assert command("predict", f"run={run}", "input=in.csv", "output=out.csv", "triage.calibrated=false") == 0
    coded, known = pd.read_csv("out.csv", dtype={"code_1": str}), pd.read_parquet(run / "predictions.parquet")
    assert coded["code_1"].tolist() == known["code_1"].tolist()
    assert coded["prob_1"].to_numpy() == pytest.approx(known["prob_1"].to_numpy(), abs=1e-6)
    assert command("evaluate", f"run={run}", "out=evaluated") == 0
    assert load(Path("evaluated/metrics.json"))["metrics"] == load(run / "report.json")["metrics"]
    assert command("triage", f"run={run}", "out=triage.csv") == 0 and len(pd.read_csv("triage.csv")) > 3
    assert command("export", f"run={run}") == 1 and "ONNX" in capsys.readouterr().err
    assert command("predict", f"run={run}", "input=in.csv", "output=o.csv", "precision=int8") == 2


FORMATS = (".csv", ".parquet", ".xlsx", ".sav", ".dta")


def test_explanations_are_the_nearest_texts_and_titles(run: Path, rows: pd.DataFrame, here: Path) -> None:
    train, test = (rows[rows["side"] == side].reset_index(drop=True) for side in ("train", "test"))
    asked = pd.concat(
        [train.iloc[:3], test.iloc[:40], test.iloc[:5], train.iloc[:1].assign(**dict.fromkeys(TEXT_COLUMNS))]
    )
    asked[["id", *TEXT_COLUMNS]].to_csv("in.csv", index=False)
    words = ("predict", f"run={run}", "input=in.csv", "triage.calibrated=false", "explain=true", "chunk_rows=10")
    for ending in FORMATS:
        assert command(*words, f"output=out{ending}", *(["formulas=keep"] if ending == ".csv" else [])) == 0
    found = pd.read_parquet("out.parquet")
    assert found.columns[-18:].tolist() == [
        f"{name}_{rank}"
        for name in (
            "near_text",
            "near_code",
            "near_similarity",
            "near_title",
            "near_title_code",
            "near_title_similarity",
        )
        for rank in (1, 2, 3)
    ]
    assert found["near_text_1"][:3].tolist() == train["text"][:3].tolist()
    assert found["near_similarity_1"][:3].to_numpy() == pytest.approx(1, abs=1e-6)
    assert found.iloc[3:8].drop(columns="id").equals(found.iloc[43:48].drop(columns="id").set_axis(range(3, 8)))
    assert found["near_text_1"].iloc[-1] == "" and np.isnan(found["near_similarity_1"].iloc[-1])
    codes = set(zip(train["text"], train["code"], strict=True))
    for rank in (1, 2, 3):
        assert set(zip(found[f"near_text_{rank}"][:-1], found[f"near_code_{rank}"][:-1], strict=True)) <= codes
    assert (found["near_title_similarity_1"][:-1] >= found["near_title_similarity_2"][:-1]).all()
    model, settings = load_linear(run / "model")
    assert isinstance(model, NearestModel)
    places, similar = model.nearest(test[["text", *TEXT_COLUMNS]].iloc[:40], model.titles, 3)
    assert found["near_title_similarity_3"][3:43].to_numpy() == pytest.approx(similar[:, 2], abs=1e-6)
    first = [model.titles.texts[place] for place in places[:, 0]]  # type: ignore[index]
    assert found["near_title_1"][3:43].tolist() == first
    owners = np.array(settings.classes)[model.titles.labels[places[:, 0]]]
    assert found["near_title_code_1"][3:43].tolist() == owners.tolist()
    for ending, read in (
        (".csv", pd.read_csv),
        (".xlsx", pd.read_excel),
        (".sav", pd.read_spss),
        (".dta", pd.read_stata),
    ):
        other = read(f"out{ending}")
        assert other["near_text_2"][:48].tolist() == found["near_text_2"][:48].tolist()
        assert other["near_similarity_2"][:48].to_numpy() == pytest.approx(found["near_similarity_2"][:48], abs=1e-6)


def test_explanations_without_texts_resume_and_other_runs_refuse(
    run: Path, rows: pd.DataFrame, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows[rows["side"] == "test"][["id", *TEXT_COLUMNS]].iloc[:60].to_csv("in.csv", index=False)
    assert command("train", *TWIN, "logger=[]", "run_dir=run", f"cache={run.parent}/cache") == 0
    words = ("predict", "run=run", "input=in.csv", "triage.calibrated=false", "explain=true", "chunk_rows=10")
    assert command(*words, "output=whole.csv") == 0
    columns = pd.read_csv("whole.csv").columns
    assert "near_code_1" in columns and "near_title_3" in columns and "near_text_1" not in columns
    near, calls = Explainer.near, []

    def broken(self: Explainer, answers: Any) -> Any:
        calls.append(len(answers))
        if len(calls) == 4:
            raise OSError("the disk is gone")
        return near(self, answers)

    monkeypatch.setattr(Explainer, "near", broken)
    assert command(*words, "output=part.csv") == 1
    assert command(*words, "output=part.csv") == 0 and 0 in calls[4:]  # chunks that are stored are not compared again
    assert Path("part.csv").read_bytes() == Path("whole.csv").read_bytes()
    assert command("train", "model=linear", *TWIN[2:], "logger=[]", "run_dir=linear") == 0
    assert command("predict", "run=linear", "input=in.csv", "output=o.csv", "explain=true") == 2
    assert "explain=true" in capsys.readouterr().err and not Path("o.csv").exists()


def test_an_ensemble_explains_by_its_nearest_member(rows: pd.DataFrame, here: Path) -> None:
    members = json.dumps(["model=linear model.above=[] model.calibration_folds=0", "model=nearest augment=titles"])
    words = ("model=ensemble", f"model.members={members}", "model.folds=2", *TWIN[2:], "data.level=2", "logger=[]")
    assert command("train", *words, "run_dir=run") == 0
    assert [one["kind"] for one in load(Path("run/report.json"))["members"]] == ["linear", "nearest"]
    rows[rows["side"] == "test"][["id", *TEXT_COLUMNS]].iloc[:20].to_csv("in.csv", index=False)
    asked = ("predict", "input=in.csv", "triage.calibrated=false", "explain=true", "levels=[1]")
    assert command(*asked, "run=run", "output=out.csv") == 0
    assert command(*asked, "run=run/members/2-nearest/all", "output=own.csv") == 0
    near = [name for name in pd.read_csv("own.csv").columns if name.startswith("near_")]
    assert (pd.read_csv("out.csv")["level_1_prob"] >= pd.read_csv("out.csv")["prob_1"] - 1e-6).all()
    assert len(near) == 15 and pd.read_csv("out.csv")[near].equals(pd.read_csv("own.csv")[near])


def test_groups_without_training_rows_are_found_by_their_titles(rows: pd.DataFrame, here: Path) -> None:
    counts = rows["code"].value_counts()
    hidden = counts.index[20:30]
    table = rows[["id", *TEXT_COLUMNS, "code"]]
    table[~table["code"].isin(hidden)].to_csv("train.csv", index=False)
    table[table["code"].isin(hidden)].to_csv("test.csv", index=False)
    words = ("data=table", "data.path=train.csv", "data.test_path=test.csv", "data.cutoff=0", "data.classes=all")
    found = {}
    for unseen in (0, 0.2):
        name = f"run_{unseen}"
        assert command("train", *TWIN[:2], *words, f"model.unseen={unseen}", "logger=[]", f"run_dir={name}") == 0
        found[unseen] = load(Path(name) / "report.json")["metrics_without_training"]["top_5_accuracy"]
    assert found[0.2] > max(0.4, found[0])


def test_a_run_keeps_no_text_unless_told_and_is_the_same_again(run: Path, here: Path) -> None:
    for name in ("one", "two"):
        assert command("train", *TWIN, "logger=[]", f"run_dir={name}", f"cache={run.parent}/cache") == 0
    assert load(Path("one/model/nearest.json"))["texts"] is None
    assert digest(run / "model" / "nearest.safetensors") == digest(Path("one/model/nearest.safetensors"))
    for name in ("nearest.json", "nearest.safetensors", "kjcm.json"):
        assert digest(Path("one/model") / name) == digest(Path("two/model") / name)
    hashes = [
        folder_of(config_of("train", *TWIN, *more)).identity.hash
        for more in ((), ("trainer.max_epochs=3",), ("model.neighbours=5",))
    ]
    assert hashes[0] == hashes[1] == load(Path("one/identity.json"))["hash"] != hashes[2]


@pytest.mark.parametrize("damage", ["labels", "vectors", "weights", "texts", "view", "missing"])
def test_a_damaged_model_is_refused(run: Path, tmp_path: Path, damage: str) -> None:
    from safetensors.numpy import load_file, save_file

    folder = tmp_path / "model"
    shutil.copytree(run / "model", folder)
    record, arrays = load(folder / "nearest.json"), load_file(folder / "nearest.safetensors")
    if damage == "labels":
        arrays["titles.labels"][-1] = 10**6
    elif damage == "vectors":
        arrays["rows.indices.text"][0] = 10**6
    elif damage == "weights":
        arrays["weights"] = arrays["weights"][1:].copy()
    elif damage == "texts":
        record["texts"].pop()
    elif damage == "view":
        record["views"]["text"]["terms"].pop()
    else:
        del arrays["rows.indptr.position"]
    (folder / "nearest.json").write_text(json.dumps(record))
    save_file(arrays, folder / "nearest.safetensors")
    settings = load(folder / "kjcm.json")
    settings["files"] = {name: digest(folder / name) for name in settings["files"]}
    (folder / "kjcm.json").write_text(json.dumps(settings))
    with pytest.raises(KjcmError, match=r"nearest\.(json|safetensors)"):
        load_linear(folder)

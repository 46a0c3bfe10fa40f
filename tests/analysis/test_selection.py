"""Run folders as a report reads them: found, chosen, refused, and the commands of those that are missing."""

import json
import shlex
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]

from kjcm.analysis.models import Model, base_words, command_for, load_models, words_for
from kjcm.analysis.selection import Run, choose_anchor, find_runs, refusal, select, study_hash
from kjcm.errors import KjcmError
from tests.conftest import ROOT, command
from tests.reporting.fixtures import MADE
from tests.reporting.making import make_run, survey_words, write_survey
from tests.reporting.reading import Study, read_csv

MODELS = load_models(ROOT / "experiments" / "models.yaml")
pytestmark = pytest.mark.usefixtures("undrawn")


@pytest.fixture(scope="module")
def found(study: Study) -> dict[str, list[Run]]:
    """The study's runs by name and seed."""
    runs, others = find_runs(study.runs)
    assert not others
    names = sorted({run.name for run in runs})
    return {name: sorted((run for run in runs if run.name == name), key=lambda run: run.seed) for name in names}


@pytest.mark.parametrize("key", [*MADE, "search"])
def test_the_invented_runs_are_such_as_the_schemas_allow(study: Study, key: str) -> None:
    assert study.of(key)
    for one in study.of(key):
        for name in ("report", "cohort"):
            schema = json.loads((ROOT / "docs" / "schemas" / f"{name}.schema.json").read_text(encoding="utf-8"))
            Draft202012Validator(schema).validate(getattr(one, name))
        if key != "search":
            top = [f"{part}_{k}" for part in ("code", "prob") for k in range(1, 11)]
            assert [*one.frame.columns] == ["id", "code", *top, "text", "seen"]
            assert len(one.frame) == one.report["n_test"]


def test_every_run_is_listed_with_what_it_differs_in(study: Study, built: Path) -> None:
    rows = read_csv(built / "tables" / "runs.csv")
    assert [row["Run"] for row in rows] == sorted(path.parent.as_posix() for path in study.runs.glob("*/*/DONE"))
    assert {row["In this report"] for row in rows} == {"used"}
    assert sorted((row["Model"], row["Seed"]) for row in rows) == sorted(
        (key, str(one.report["seed"])) for key in (*MADE, "search") for one in study.of(key)
    )
    differs = {row["Model"]: row["Differs from K-JCM in"] for row in rows}
    assert differs["k_jcm"] == ""
    assert differs["k_jcm_half"] == "data.train_fraction"
    assert differs["model_4"] == "augment.titles, data.cutoff"
    assert differs["klue_bert"] == "model.pretrained, optim.lr, schedule._target_, schedule.warmup"
    assert differs["level_4"] == "data.level"


def test_of_two_copies_one_is_used_and_of_two_settings_the_nearer(found: dict[str, list[Run]]) -> None:
    (own,) = found["model_3"]
    copy = replace(own, path=own.path.parent / "zzz")
    far = replace(own, path=own.path.parent / "far", config={**own.config, "optim": {**own.config["optim"], "lr": 1.0}})
    chosen, listed = select([*found["k_jcm"], far, copy, own], MODELS, found["k_jcm"][0])
    assert [run.path for run in chosen["model_3"]] == [own.path]
    assert {one.path.name: one.state for one in listed if one.name == "model_3"} == {
        own.path.name: "used", "zzz": "left out: a copy", "far": "left out: another setting",
    }  # fmt: skip
    assert [run.seed for run in chosen["k_jcm"]] == [0, 1]


def test_a_run_of_no_model_or_without_test_rows_is_left_out(found: dict[str, list[Run]]) -> None:
    k_jcm, (model_3,) = found["k_jcm"], found["model_3"]
    mine = replace(model_3, config={**model_3.config, "name": "mine"})
    untested = replace(model_3, report={**model_3.report, "n_test": 0})
    chosen, listed = select([*k_jcm, mine, untested, *found["search"]], MODELS, k_jcm[0])
    assert set(chosen) == {"k_jcm", "search"} and len(chosen["search"]) == 3  # trials have none, nor need any
    states = {one.name: one.state for one in listed}
    assert states["mine"].startswith("left out: no model") and "no test rows" in states["model_3"]


def test_hashes_and_files_decide_who_stands_beside_whom(found: dict[str, list[Run]]) -> None:
    anchor, half = found["k_jcm"][0], found["k_jcm_half"][0]

    def with_hash(**hashes: str) -> Run:
        return replace(half, report={**half.report, "hashes": {**half.hashes, **hashes}})

    assert refusal(half, anchor, "split") == ""
    assert refusal(with_hash(cohort="0" * 64), anchor, "split").startswith("refused: cohort_hash 000000000000, and")
    assert refusal(with_hash(split="0" * 64), anchor, "split").startswith("refused: split_hash 000000000000, and")
    assert refusal(with_hash(classes="0" * 64, run="0" * 64), anchor, "split") == ""
    assert refusal(with_hash(split="0" * 64), anchor, "cohort") == ""
    deeper = replace(half, config={**half.config, "data": {**half.config["data"], "level": 4}})
    assert refusal(deeper, anchor, "files") == ""  # other codes, the same data
    for other in (
        replace(deeper, inputs={**half.inputs, "data.wave6": "0" * 64}),
        replace(deeper, config={**half.config, "data": {**half.config["data"], "split_seed": 1}}),
    ):
        assert refusal(other, anchor, "files").startswith("refused: other data files")


def test_runs_of_another_results_version_are_another_setting(found: dict[str, list[Run]]) -> None:
    one, other = found["k_jcm"]
    older = replace(one, path=one.path.parent / "000", results_version=one.results_version - 1)
    chosen, listed = select([older, one, other], MODELS, one)
    assert [run.path for run in chosen["k_jcm"]] == [one.path, other.path]
    (left,) = [run for run in listed if run.path == older.path]
    assert (left.state, left.differs) == ("left out: another setting", "results_version")


def test_runs_that_differ_in_one_of_their_seeds_are_no_copies(found: dict[str, list[Run]]) -> None:
    k_jcm = found["k_jcm"][0]
    other = replace(k_jcm, config={**k_jcm.config, "seeds": {**k_jcm.config["seeds"], "dropout": 9}})
    chosen, _ = select([k_jcm, other], MODELS, k_jcm)
    assert len(chosen["k_jcm"]) == 2


def test_a_baseline_is_not_measured_against_the_keys_of_a_training(found: dict[str, list[Run]]) -> None:
    chosen, listed = select([*found["k_jcm"], *found["svm"]], MODELS, found["k_jcm"][0])
    assert set(chosen) == {"k_jcm", "svm"} and {one.differs for one in listed} == {""}


def test_a_wave_of_another_survey_is_refused(copied: Callable[..., Study], tmp_path: Path) -> None:
    made, other = copied("k_jcm"), tmp_path / "other"
    other.mkdir()
    write_survey(other)
    rows = pd.read_csv(other / "wave6.csv", dtype=str)
    rows.assign(task="다른 " + rows["task"]).to_csv(other / "wave6.csv", index=False)  # as many rows, other words
    make_run(made.runs, "wave_5_to_6", survey_words(other))
    assert command("report", f"runs={made.runs}", f"out={tmp_path / 'out'}", "replicates=0", "only=[runs,waves]") == 0
    states = {row["Model"]: row["In this report"] for row in read_csv(tmp_path / "out" / "tables" / "runs.csv")}
    assert states["wave_5_to_6"].startswith("refused: cohort_hash")
    seeds = {row["Model"]: row["Seeds"] for row in read_csv(tmp_path / "out" / "tables" / "waves.csv")}
    assert seeds == {"K-JCM": "2", "Trained on wave 5": "not run", "Trained on wave 6": "not run"}


FILES = ("config.yaml", "cohort.json", "report.json", "identity.json", "hydra/overrides.yaml")


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("content", [None, "{", "[]", "name: x", '{"hashes": {}}', "\x00"])
def test_a_damaged_run_is_named_and_the_others_are_read(
    copied: Callable[..., Study], file: str, content: str | None
) -> None:
    made = copied("k_jcm_half", "majority")
    (broken,) = (made.runs / "majority").iterdir()
    if file == "hydra/overrides.yaml" and content in ("[]", "name: x", '{"hashes": {}}'):
        content = "7"  # any list or mapping is one of words
    (broken / file).unlink()
    if content is not None:
        (broken / file).write_text(content, encoding="utf-8")
    runs, others = find_runs(made.runs)
    if file == "identity.json" and content is None:  # without it a folder is no run's
        assert [run.name for run in runs] == ["k_jcm_half"] and not others
        return
    assert [run.name for run in runs] == ["k_jcm_half"]
    assert [(one.path, one.name) for one in others] == [(broken, "majority")]
    assert others[0].state.startswith("damaged: ") and str(broken) in others[0].state


@pytest.mark.parametrize("key", ["same_text", "left_groups", "classification_groups", "flow"])
def test_a_run_of_an_earlier_version_is_named(copied: Callable[..., Study], key: str) -> None:
    made = copied("k_jcm_half")
    (run,) = (made.runs / "k_jcm_half").iterdir()
    cohort = json.loads((run / "cohort.json").read_text(encoding="utf-8"))
    del cohort[key]
    (run / "cohort.json").write_text(json.dumps(cohort), encoding="utf-8")
    runs, (other,) = find_runs(made.runs)
    assert not runs and other.state.startswith("damaged: ") and key in other.state


def test_unusable_predictions_stop_the_report_before_anything_is_written(
    copied: Callable[..., Study], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    made = copied("k_jcm", "majority")
    (run,) = (made.runs / "majority").iterdir()
    file = run / "predictions.parquet"
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    words = ("report", f"runs={made.runs}", f"out={tmp_path / 'out'}", "replicates=0", "only=[table_3]")
    assert command(*words) == 1
    assert f"{file}: missing or damaged" in capfd.readouterr().err
    file.write_bytes(whole)
    pd.read_parquet(file).iloc[1:].to_parquet(file)
    assert command(*words) == 1
    assert str(file) in (error := capfd.readouterr().err) and "where report.json has" in error
    assert not (tmp_path / "out").exists()


def test_the_report_is_of_k_jcm_or_else_of_the_next_model(found: dict[str, list[Run]]) -> None:
    every = [run for runs in found.values() for run in runs]
    assert choose_anchor(every, MODELS, None) is found["k_jcm"][0]
    assert choose_anchor([*found["svm"], *found["model_3"], *found["search"]], MODELS, None) is found["model_3"][0]
    with pytest.raises(KjcmError, match=r"No finished run .* there are runs named 'search'"):
        choose_anchor(found["search"], MODELS, None)
    other = found["model_2"][1]
    assert choose_anchor(every, MODELS, str(other.path)) is other


def test_like_names_a_run_of_a_model_with_test_rows(found: dict[str, list[Run]]) -> None:
    (own,) = found["model_3"]
    with pytest.raises(KjcmError, match=r"like=nowhere: not a finished run"):
        choose_anchor([own], MODELS, "nowhere")
    mine = replace(own, config={**own.config, "name": "mine"})
    for run in (mine, found["search"][0]):
        with pytest.raises(KjcmError, match=rf"named {run.name}.* test rows"):
            choose_anchor([run], MODELS, str(run.path))


def test_weights_of_the_hub_count_by_their_name(found: dict[str, list[Run]]) -> None:
    (own,) = found["klue_bert"]
    other = replace(own, config={**own.config, "seed": 1, "model": {**own.config["model"], "pretrained": "some/bert"}})
    with pytest.raises(KjcmError, match=r"'model.pretrained'"):
        choose_anchor([own, other], MODELS, None)


def test_settings_that_differ_are_named(found: dict[str, list[Run]]) -> None:
    one, other = found["k_jcm"]
    nodes = {name: {**other.config[name]} for name in ("optim", "data")}
    nodes["optim"]["lr"] = 0.25
    nodes["data"]["batch_size"] = 3
    with pytest.raises(KjcmError, match=r"2 settings.*'data.batch_size', 'optim.lr'.*like=DIR"):
        choose_anchor([one, replace(other, config={**other.config, **nodes})], MODELS, None)


def test_a_study_is_its_data_and_classification_not_the_models_or_the_place_of_files(
    found: dict[str, list[Run]], study: Study, tmp_path: Path
) -> None:
    def of(run: Run) -> str:
        return study_hash(run.config, run.inputs)

    same = {of(runs[0]) for key, runs in found.items() if key != "level_4"}
    assert len(same) == 1 and of(found["level_4"][0]) not in same
    moved = tmp_path / "moved"
    moved.mkdir()
    for name in ("wave5", "wave6", "crosswalk"):
        shutil.copy(study.data / f"{name}.csv", moved)
    make_run(tmp_path / "a", "majority", survey_words(moved))
    assert of(find_runs(tmp_path / "a")[0][0]) in same
    write_survey(moved, seed=3)
    make_run(tmp_path / "b", "majority", survey_words(moved))
    assert of(find_runs(tmp_path / "b")[0][0]) not in same


def words_of(key: str, *base: str, scale: float | None = None) -> list[str]:
    return words_for(MODELS[key], base, scale)


def test_a_models_words_win_over_those_of_the_study() -> None:
    base = (
        "data=kwcs",
        "model=distilkobert",
        "tokenizer=kobert",
        "optim.lr=0.1",
        "augment=none",
        "model.max_length=64",
    )
    assert words_of("k_jcm", *base) == ["experiment=k_jcm", *base]
    assert words_of("klue_bert", *base) == [*MODELS["klue_bert"].words, "data=kwcs", "augment=none"]
    assert words_of("svm_manual", *base) == ["kind=svm", "augment=manual", "name=svm_manual", "data=kwcs"]
    assert words_of("majority", scale=1.0) == ["kind=majority", "name=majority", "preset.scale=1.0"]
    assert words_of("linear", *base, "trainer.max_epochs=1") == [*MODELS["linear"].words, "data=kwcs"]
    unread = ("data.batch_size=8", "data.manager_words=[a]")  # a baseline does not read these
    assert words_of("majority", "data.scale=0.1", *unread, scale=1.0) == [
        "kind=majority",
        "name=majority",
        "data.scale=0.1",
    ]
    assert "optim.lr=0.1" not in words_of("search", *base)


@pytest.mark.parametrize("key", ["k_jcm", "klue_bert", "svm_manual", "wave_5_to_6", "level_4", "model_4"])
def test_what_makes_the_anchor_a_model_of_its_own_is_no_word_of_the_others(
    found: dict[str, list[Run]], study: Study, key: str
) -> None:
    assert base_words(found[key][0].words, MODELS[key]) == survey_words(study.data)


@pytest.mark.parametrize("folder", ["runs", "/a b/c", "runs (2), old", "it's", "결과=1", "a{b}"])
def test_the_command_of_a_missing_run_says_where_it_goes_whatever_the_folders_name(
    folder: str, capfd: pytest.CaptureFixture[str]
) -> None:
    import yaml

    model = Model("k_jcm", "K-JCM", ("experiment=k_jcm",))
    kjcm, *words = shlex.split(command_for(model, ("optim.lr=0.5",), None, Path(folder)))
    assert kjcm == "kjcm" and command(*words, "--cfg", "job") == 0
    config: dict[str, Any] = yaml.safe_load(capfd.readouterr().out)
    assert (config["name"], config["runs"], config["optim"]["lr"]) == ("k_jcm", folder, 0.5)

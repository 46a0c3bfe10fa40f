"""`kjcm report` on folders as they come: runs missing, half-written, of other data; and what a person adds to it."""

import html
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import yaml
from scipy.stats import binomtest

from kjcm.analysis.experiments import folder
from kjcm.errors import KjcmError
from kjcm.keys.commands.reports import ReportConfig
from kjcm.reporting.paper import load_paper
from kjcm.reporting.report import read_study
from kjcm.reporting.result import header
from tests.conftest import ROOT, command, config_of
from tests.reporting.fixtures import MADE
from tests.reporting.making import PLANS, make_run, survey_words, write_survey
from tests.reporting.reading import Study, read_csv

QUICK = ("replicates=0",)
Copy = Callable[..., Study]


def report(study: Study, out: Path, *words: str) -> int:
    return command("report", f"runs={study.runs}", f"out={out}", *QUICK, *words)


def files_of(out: Path) -> dict[str, bytes]:
    return {str(file.relative_to(out)): file.read_bytes() for file in sorted(out.rglob("*")) if file.is_file()}


def first_run(study: Study, key: str) -> Path:
    return sorted((study.runs / key).iterdir())[0]


@pytest.mark.slow
def test_a_process_of_its_own_gives_the_same_bytes_and_never_loads_torch(copied: Copy, tmp_path: Path) -> None:
    study = copied("k_jcm", "k_jcm_half", "svm")
    assert report(study, tmp_path / "a") == 0
    once = files_of(tmp_path / "a")
    assert {
        "report.html",
        "disagreements.csv",
        "tables/table_3.tex",
        "figures/figure_2.svg",
        "figures/figure_2.png",
    } <= {*once}
    code = (
        "import sys; from kjcm.cli import main; main(sys.argv[1:]); "
        "assert not {'torch', 'lightning', 'transformers'} & set(sys.modules)"
    )
    words = ["report", f"runs={study.runs}", f"out={tmp_path / 'b'}", *QUICK]
    done = subprocess.run(
        [sys.executable, "-c", code, *words], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert files_of(tmp_path / "b") == once


@pytest.mark.usefixtures("undrawn")
def test_missing_half_written_damaged_and_foreign_runs_are_named(
    copied: Copy, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    study = copied("k_jcm", "model_2", "model_3", "svm")
    (first_run(study, "model_3") / "DONE").unlink()
    (first_run(study, "svm") / "report.json").write_text("{", encoding="utf-8")
    shutil.rmtree(study.runs / "model_2")
    other = tmp_path / "other"
    other.mkdir()
    write_survey(other, seed=1)
    make_run(study.runs, "k_jcm_half", survey_words(other), 0)
    make_run(study.runs, "model_4", (*survey_words(study.data), "data.split_seed=1"), 0)
    assert report(study, tmp_path / "out") == 0
    screen = capfd.readouterr().out
    runs = {row["Model"]: row for row in read_csv(tmp_path / "out" / "tables" / "runs.csv")}
    for key, state in {
        "model_3": "not finished (no DONE)", "svm": "damaged: ", "k_jcm_half": "refused: cohort_hash ",
        "model_4": "refused: split_hash ",
    }.items():  # fmt: skip
        assert runs[key]["In this report"].startswith(state), key
        assert f"{first_run(study, key)}: {state}" in screen
    table = {row["Model"]: row for row in read_csv(tmp_path / "out" / "tables" / "supplementary_table_3.csv")}
    assert table["K-JCM"]["Seeds"] == "2"
    assert all(
        table[name]["Seeds"] == "not run" and not table[name]["Accuracy"] for name in ("Model 2", "Model 3", "Model 4")
    )
    assert (
        "TF-IDF + SVM"
        not in (tmp_path / "out" / "tables" / "comparisons.md").read_text(encoding="utf-8").split("not run")[0]
    )


@pytest.mark.usefixtures("undrawn")
def test_the_command_of_a_missing_run_is_one_that_works(copied: Copy, tmp_path: Path) -> None:
    study = copied("k_jcm")
    assert report(study, tmp_path / "out", "only=[supplementary_table_3,comparisons,waves,digits]") == 0
    text = "".join(file.read_text(encoding="utf-8") for file in (tmp_path / "out" / "tables").glob("*.md"))
    commands = {part.split("`")[0] for part in text.split("`kjcm ")[1:]}
    assert len(commands) >= 9
    for one in commands:
        words = shlex.split(one)
        assert command(*words, "--cfg", "job") == 0, one


@pytest.mark.usefixtures("undrawn")
def test_a_study_without_k_jcm_shows_it_as_not_run(copied: Copy, tmp_path: Path) -> None:
    study = copied("model_3", "svm")
    assert report(study, tmp_path / "out") == 0
    (row,) = [row for row in read_csv(tmp_path / "out" / "tables" / "table_3.csv") if row["Model"] == "K-JCM"]
    assert row["Seeds"] == "not run"
    assert "kjcm train experiment=k_jcm " in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert not (tmp_path / "out" / "disagreements.csv").exists()


def test_no_run_at_all(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert command("report", f"runs={tmp_path / 'none'}", f"out={tmp_path / 'out'}") == 1
    assert command("report", f"runs={tmp_path}", f"out={tmp_path / 'out'}") == 1
    error = capfd.readouterr().err
    assert "no such folder" in error and "kjcm reproduce" in error and not (tmp_path / "out").exists()


@pytest.mark.usefixtures("undrawn")
def test_damaged_runs_alone_are_named_with_the_remedy(
    copied: Copy, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    study = copied("k_jcm")
    for run in (study.runs / "k_jcm").iterdir():
        (run / "report.json").unlink()
    assert report(study, tmp_path / "out") == 1
    error = capfd.readouterr().err
    assert f"{first_run(study, 'k_jcm')}: damaged" in error and "overwrite=true" in error


def test_like_another_model_shows_the_texts_of_k_jcm(copied: Copy, tmp_path: Path) -> None:
    study = copied("k_jcm", "model_2")
    words = (f"like={first_run(study, 'model_2')}", "texts=true", "only=[table_1,table_2]")
    assert report(study, tmp_path / "out", *words) == 0
    (input_,) = re.findall(r"Input: (.+)", (tmp_path / "out" / "tables" / "table_2.md").read_text(encoding="utf-8"))
    assert "withheld" not in input_


def test_only_never_removes_another_table_unasked(
    copied: Copy, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    study, out = copied("k_jcm"), tmp_path / "out"
    assert report(study, out, "only=[table_3,figure_2]") == 0
    before = files_of(out)
    for words in (["only=[table_4]"], ["only=[table_3]"]):
        assert report(study, out, *words) == 1
        assert "figure_2" in capfd.readouterr().err and files_of(out) == before
    assert report(study, out, "only=[figure_2,table_3]") == 0  # the same
    assert report(study, out, "only=[table_3,figure_2,table_4]") == 0  # and more
    (out / "tables" / "own.txt").write_text("mine", encoding="utf-8")
    assert report(study, out, "only=[table_4]", "overwrite=true") == 0
    left = {file.name for file in (*out.glob("tables/*"), *out.glob("figures/*"))}
    assert {"table_4.csv", "own.txt"} <= left and not [
        name for name in left if name.startswith(("table_3", "figure_2"))
    ]
    manifest = out / "report.json"
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "only": []}), encoding="utf-8")
    assert report(study, out, "only=[table_4]") == 1  # a whole report loses none


@pytest.mark.parametrize(
    "words", [("only=[table_1,table_4,runs]",), ("only=[table_3]", "texts=true", "replicates=5", "bootstrap_seed=3")]
)
@pytest.mark.usefixtures("undrawn")
def test_the_command_of_a_page_makes_the_same_page(
    copied: Copy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    study = copied("k_jcm", "svm")
    monkeypatch.chdir(tmp_path)
    out = tmp_path / "out [1]"
    own = ("report", "runs=runs", "replicates=0")
    assert command(*own, f"out='{out}'", *words) == 0
    rows = pd.read_csv(out / "disagreements.csv", dtype=str, keep_default_na=False, encoding="utf-8-sig")
    rows.loc[0, "verdict"] = "model error"
    rows.to_csv(out / "disagreements.csv", index=False)
    assert command(*own, f"out='{out}'", *words) == 0
    shown = html.unescape((out / "report.html").read_text(encoding="utf-8"))
    (said,) = re.findall(r"Made by</dt><dd><code>(.*?)</code>", shown)
    kjcm, *again = shlex.split(said)
    assert kjcm == "kjcm" and study.runs == tmp_path / "runs"
    assert command(*again, "out=again") == 0
    assert files_of(tmp_path / "again") == files_of(out)


def test_several_settings_need_like(copied: Copy, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    study = copied("k_jcm", "model_3")
    make_run(study.runs, "k_jcm", survey_words(study.data), 5, {"optim.lr": 0.5})
    assert report(study, tmp_path / "out", "only=[table_3]") == 1
    error = capfd.readouterr().err
    assert "'optim.lr'" in error and "like=DIR" in error
    (other,) = [run for run in (study.runs / "k_jcm").iterdir() if "lr: 0.5" in (run / "config.yaml").read_text()]
    assert report(study, tmp_path / "out", "only=[table_3]", f"like={other}") == 0
    (row,) = [row for row in read_csv(tmp_path / "out" / "tables" / "table_3.csv") if row["Model"] == "K-JCM"]
    truth = pd.read_parquet(other / "predictions.parquet")
    assert row["Seeds"] == "1" and float(row["Accuracy"]) == pytest.approx((truth["code"] == truth["code_1"]).mean())


@pytest.mark.usefixtures("undrawn")
def test_out_is_not_overwritten_unasked(copied: Copy, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    study = copied("k_jcm")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("mine", encoding="utf-8")
    assert report(study, tmp_path / "mine", "only=[table_3]", "overwrite=true") == 1
    assert [file.name for file in (tmp_path / "mine").iterdir()] == ["letter.txt"]
    assert report(study, tmp_path / "out", "only=[table_3]") == 0
    manifest = tmp_path / "out" / "report.json"
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "study": "another"}), encoding="utf-8")
    assert report(study, tmp_path / "out", "only=[table_3]") == 1
    assert "another study" in capfd.readouterr().err
    assert report(study, tmp_path / "out", "only=[table_3]", "overwrite=true") == 0


@pytest.mark.usefixtures("undrawn")
def test_an_interrupted_report_is_made_again(copied: Copy, tmp_path: Path) -> None:
    study = copied("majority")

    def stop(*_: object) -> None:
        raise KjcmError("stopped")

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("kjcm.reporting.build.write_content", stop)
        assert report(study, tmp_path / "out", "only=[table_3]") == 1
    assert (tmp_path / "out").is_dir()
    assert report(study, tmp_path / "out", "only=[table_3]") == 0


def test_the_page_counts_runs_and_seeds_without_the_trials_of_the_search(built: Path) -> None:
    text = (built / "report.html").read_text(encoding="utf-8")
    assert f"{len(MADE) + 2} runs of {len(MADE)} models, at most 2 seeds each" in text


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize(("skill", "way"), [(0.1, "less accurate"), (0.7, "may be chance"), (1.0, "more accurate")])
def test_the_page_begins_with_a_paired_test_of_the_best_model_and_the_best_baseline(
    skill: float, way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PLANS, "k_jcm", replace(PLANS["k_jcm"], skill=skill))
    write_survey(tmp_path)
    runs = [make_run(tmp_path / "runs", key, survey_words(tmp_path)) for key in ("k_jcm", "svm", "majority")]
    own, other = (pd.read_parquet(run / "predictions.parquet") for run in runs[:2])
    right, others = own["code_1"] == own["code"], other["code_1"] == other["code"]
    only = [int((right & ~others).sum()), int((others & ~right).sum())]
    p = binomtest(only[0], sum(only)).pvalue
    study = read_study(config_of("report", f"runs={tmp_path / 'runs'}", "replicates=0"))
    said = header(study, load_paper(folder() / "paper.yaml"), "").lead[2]
    assert way in said and f"{abs(only[0] - only[1]) / len(own):.2%}".removesuffix("%") + " points" in said
    assert (f"p = {p:.3f}" if p >= 0.001 else "p < 0.001") in said
    assert ("random start" in said) is (skill == 0.1)


def test_only_builds_what_it_names(copied: Copy, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    study = copied("k_jcm")
    assert report(study, tmp_path / "out", "only=[table_4]") == 0
    tables = {file.stem for file in (tmp_path / "out" / "tables").iterdir()}
    assert tables == {"result", "table_4", "table_4_verdicts", "verdicts", "verdicts_short", "not_run", "left_out"}
    assert report(study, tmp_path / "out", "only=[table_9]") == 2
    assert "'table_9'" in capfd.readouterr().err


@pytest.mark.usefixtures("undrawn")
def test_answers_stay_out_of_the_report_unless_asked_for(copied: Copy, tmp_path: Path) -> None:
    study = copied("k_jcm")
    from kjcm.reporting.report import read_study

    config = ReportConfig(runs=str(study.runs), like=None, replicates=0, bootstrap_seed=0, texts=True)
    cohort = read_study(config).texts
    assert cohort is not None and read_study(replace(config, texts=False)).texts is None
    own = [text for text in cohort["text"].unique() if len(text) > 12]
    assert report(study, tmp_path / "out") == 0
    written = b"\n".join(files_of(tmp_path / "out").values()).decode("utf-8", "ignore")
    assert own and not [text for text in own if text in written]
    assert report(study, tmp_path / "shown", "only=[table_1]", "texts=true") == 0
    shown = (tmp_path / "shown" / "disagreements.csv").read_text(encoding="utf-8")
    assert [text for text in own if text in shown]


@pytest.mark.usefixtures("undrawn")
def test_texts_need_the_data_as_they_were(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    write_survey(tmp_path)
    make_run(tmp_path / "runs", "k_jcm", survey_words(tmp_path), 0)
    file = tmp_path / "wave6.csv"
    lines = file.read_text(encoding="utf-8-sig").splitlines(keepends=True)
    file.write_text("".join(lines[:-1]), encoding="utf-8")
    words = ("report", f"runs={tmp_path / 'runs'}", f"out={tmp_path / 'out'}", "only=[table_1]", "texts=true", *QUICK)
    assert command(*words) == 1
    file.unlink()
    assert command(*words) == 1
    error = capfd.readouterr().err
    assert "other rows than at training" in error and "wave6.csv" in error


EXPERIMENTS = sorted(file for file in (ROOT / "experiments").glob("*.yaml") if file.stem not in ("paper", "models"))
MODELS = yaml.safe_load((ROOT / "experiments" / "models.yaml").read_text(encoding="utf-8"))


@pytest.mark.parametrize("file", EXPERIMENTS, ids=lambda file: file.stem)
def test_every_experiment_names_what_there_is_and_is_built(file: Path, built: Path) -> None:
    from kjcm.reporting.build import makers
    from kjcm.reporting.paper import load_paper

    entry = yaml.safe_load(file.read_text(encoding="utf-8"))
    ids = list(load_paper(ROOT / "experiments" / "paper.yaml"))
    assert entry["function"] in makers({}, {}) and set(entry.get("runs", [])) <= set(MODELS)
    assert all(any(one == name or one.startswith(f"{name}.") for one in ids) for name in entry.get("printed", []))
    assert (built / "tables" / f"{file.stem}.csv").is_file() or (built / "figures" / f"{file.stem}.png").is_file()


@pytest.mark.parametrize("key", MODELS)
def test_every_model_makes_a_run_of_its_name(key: str) -> None:
    model = MODELS[key]
    words = [word for word in model["words"] if word != "-m"]
    assert config_of(model.get("command", "train"), *words).name == key


@pytest.mark.usefixtures("undrawn")
def test_a_table_with_other_codes_and_one_baseline_has_no_empty_section(tmp_path: Path) -> None:
    rows = pd.DataFrame(
        {"id": range(60), "workplace": "shop", "position": "clerk", "code": ["A-01", "<B>", "C 3"] * 20}
    )
    rows.assign(task=[f"sells {row}" for row in range(60)]).to_csv(tmp_path / "rows.csv", index=False)
    data = (
        "data=table",
        f"data.path={tmp_path / 'rows.csv'}",
        "classification=from_data",
        "data.level=null",
        "data.cutoff=0",
    )
    make_run(tmp_path / "runs", "svm", data)
    assert command("report", f"runs={tmp_path / 'runs'}", f"out={tmp_path / 'out'}", "replicates=0") == 0
    shown = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    sections = re.findall(r'<section id="(\w+)".*?</section>', shown, re.DOTALL)
    whole = re.findall(r"<section.*?</section>", shown, re.DOTALL)
    assert all("<td" in section or "<img" in section for section in whole)
    left = {row["Section"] for row in read_csv(tmp_path / "out" / "tables" / "left_out.csv")}
    assert {"From one wave to the other", "Calibration"} <= left and not {
        "waves",
        "calibration",
        "table_1",
        "table_4",
    } & {*sections}
    assert (
        "&lt;B&gt;" not in left and "84.44" not in re.search(r'<section id="result".*?</section>', shown, re.DOTALL)[0]
    )  # type: ignore[index]

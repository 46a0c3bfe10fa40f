"""`kjcm wandb report`: figures of the run folders, links to the runs, and no text of an answer."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from kjcm.wandb_project.folders import run_id
from kjcm.wandb_project.sweep_tables import confusion_tables, ranked, setting_table, without_folders
from tests.conftest import command
from tests.tracking.wandb_server import Server
from tests.wandb_project.test_workspace import without_ids

Out = pytest.CaptureFixture[str]


def specified(swept: Path, *words: str) -> Any:
    given = ("dry_run=true", "out=spec.json", "overwrite=true", f"sweep={swept}/sweep", *words)
    assert command("wandb", "report", *given) == 0
    return json.loads(Path("spec.json").read_text(encoding="utf-8"))


def blocks(spec: Any, kind: str) -> list[Any]:
    return [block for block in spec["spec"]["blocks"] if block["type"] == kind]


def texts(spec: Any) -> str:
    return "\n".join(block["content"] for block in blocks(spec, "markdown-block"))


def reports(swept: Path) -> dict[float, list[dict[str, Any]]]:
    """Return C -> report.json of each seed."""
    found: dict[float, list[dict[str, Any]]] = {}
    for entry in sorted(swept.glob("runs/*/*/DONE")):
        words = (entry.parent / "hydra" / "overrides.yaml").read_text()
        found.setdefault(0.01 if "model.C=0.01" in words else 1.0, []).append(
            json.loads((entry.parent / "report.json").read_text())
        )
    return found


def test_figures_are_means_over_seeds_and_the_best_comes_first(swept: Path) -> None:
    settings, metric = ranked(str(swept / "sweep"), None)
    assert metric == "validation_f1_weighted"
    expected = {c: [one["validation"]["f1_weighted"] for one in found] for c, found in reports(swept).items()}
    best = max(expected, key=lambda c: np.mean(expected[c]))
    assert float(settings[0].overrides["model.C"]) == best
    table = setting_table(settings, metric)
    assert table.rows[0][2] == f"model.C={settings[0].overrides['model.C']}" and table.rows[0][3] == 2
    estimate = table.rows[0][4]
    assert estimate.mean == pytest.approx(np.mean(expected[best]))  # type: ignore[union-attr]
    assert estimate.sd == pytest.approx(np.std(expected[best], ddof=1))  # type: ignore[union-attr]


def test_the_confusion_has_every_test_row_of_all_seeds(swept: Path) -> None:
    settings, _ = ranked(str(swept / "sweep"), None)
    matrix, pairs = confusion_tables(settings[0])
    rows = sum(run.report["n_test"] for run in settings[0].runs)
    assert sum(sum(line[1:]) for line in matrix.rows) == rows  # type: ignore[arg-type]
    frames = [pd.read_parquet(run.path / "predictions.parquet") for run in settings[0].runs]
    whole = pd.concat(frames)
    code, _, predicted, _, count, _ = pairs.rows[0]
    assert count == ((whole["code"] == code) & (whole["code_1"] == predicted)).sum() > 0
    right = sum(int(line[place]) for place, line in enumerate(matrix.rows, 1))  # type: ignore[arg-type]
    assert right == (whole["code"] == whole["code_1"]).sum()  # at level 1 a code is its major group


def test_links_and_panels_are_of_the_runs(swept: Path, here: Path) -> None:
    spec = specified(swept, "entity=me", "project=night")
    ids = {run_id(entry.parent) for entry in swept.glob("runs/*/*/DONE")}
    assert len(ids) == 4 and all(f"/me/night/runs/{one})" in texts(spec) for one in ids)
    every, best = blocks(spec, "panel-grid")
    (runs,) = every["metadata"]["runSets"]
    (own,) = runs["filters"]["filters"]
    assert own["key"] == {"section": "run", "name": "name"} and set(own["value"]) == ids
    panels = best["metadata"]["panelBankSectionConfig"]["panels"]
    assert ["test/confusion"] in [panel["config"]["mediaKeys"] for panel in panels]
    assert "/runs/" not in texts(specified(swept))  # without an entity there is no address


def test_no_answer_is_in_the_report(swept: Path, here: Path) -> None:
    from kjcm.analysis.selection import read_run
    from kjcm.reporting.report import rows_with_texts

    run = read_run(next(iter(swept.glob("runs/*/*/DONE"))).parent)
    rows = rows_with_texts(run, wanted=True)
    assert rows is not None
    sent = json.dumps(specified(swept, "entity=me"), ensure_ascii=False)
    assert not [text for text in set(rows["text"]) if text in sent]


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ("/home/me/응답 자료/answers.csv", "answers.csv"),
        ("'/home/me/a b.csv'", "'a b.csv'"),
        ("[/home/me/a.csv,/srv/b/c.csv]", "[a.csv,c.csv]"),
        (
            "'model=e5 model.pretrained=/home/me/e5 tokenizer.path=/home/me/tok.model'",
            "'model=e5 model.pretrained=e5 tokenizer.path=tok.model'",
        ),
        ("{path:/home/me/a.csv,share: ~/runs/one/}", "{path:a.csv,share: one}"),
        (r"C:\Users\me\a.csv", "a.csv"),
        ("file:///home/me/model", "model"),
        ("~me/model", "model"),
    ],
)
def test_an_absolute_path_is_cut_to_its_last_name(given: str, sent: str) -> None:
    assert without_folders(given) == sent


@pytest.mark.parametrize(
    "value",
    [
        "data/a.csv",
        "../a/b.csv",
        "monologg/distilkobert",
        "https://host/a/b",
        "0.1",
        "1/3",
        "/",
        r"\d+/\w",
        "${runs}/a/b",
    ],
)
def test_all_else_is_sent_unchanged(value: str) -> None:
    assert without_folders(value) == value


def test_no_folder_of_this_machine_is_in_the_report(swept: Path, here: Path) -> None:
    for number, entry in enumerate(sorted(swept.glob("runs/*/*/DONE"))):
        run = here / "runs" / str(number)
        shutil.copytree(entry.parent, run, symlinks=True)
        with (run / "hydra" / "overrides.yaml").open("a", encoding="utf-8") as words:
            words.write(f"- data.path={swept}/secret/answers{number}.csv\n")
    assert command("wandb", "report", f"sweep={here}/runs", "dry_run=true", "out=spec.json", "entity=me") == 0
    sent = (here / "spec.json").read_text(encoding="utf-8")
    assert "data.path=answers0.csv" in sent
    assert not [text for text in (str(swept), str(here), "secret") if text in sent]


def test_runs_without_wandb_have_tables_alone(finished: Path, here: Path, capfd: Out) -> None:
    assert command("wandb", "report", f"sweep={finished}", "dry_run=true", "out=spec.json", "name=보고") == 0
    assert "neither links nor panels" in capfd.readouterr().out
    spec = json.loads(Path("spec.json").read_text(encoding="utf-8"))
    assert spec["name"] == "보고" and "Not ranked" in texts(spec) and not blocks(spec, "panel-grid")
    assert command("wandb", "report", f"sweep={finished}", "dry_run=true") == 0
    assert texts(json.loads(capfd.readouterr().out)) == texts(spec)  # for a pipe, nothing but JSON


def test_a_report_is_sent_once_and_replaced_on_request(server: Server, swept: Path, capfd: Out) -> None:
    words = ("wandb", "report", f"sweep={swept}/sweep")
    assert command(*words) == 0
    (view,) = map(dict, server.views)
    assert (view["type"], view["displayName"], view["entityName"]) == ("runs", "Sweep sweep", "me")
    spec = specified(swept, "entity=me")
    assert without_ids(json.loads(view["spec"])) == without_ids(spec["spec"])
    assert f"{server.address}/me/kjcm/reports/" in capfd.readouterr().out
    assert command(*words) == 1 and "overwrite=true" in capfd.readouterr().err
    assert command(*words, "overwrite=true", "best=1") == 0
    (replaced,) = server.views
    assert replaced["id"] == view["id"] and replaced["spec"] != view["spec"]
    assert command("wandb", "workspace", "name=Sweep sweep") == 0  # a workspace is no report


def test_wrong_input_is_named(server: Server, swept: Path, here: Path, capfd: Out) -> None:
    (here / "empty").mkdir()
    for words, code, said in (
        (("sweep=nowhere",), 1, "nowhere"),
        (("sweep=empty",), 1, "no finished run"),
        ((f"sweep={swept}/sweep", "metric=f2"), 2, "validation_f1_weighted"),
        ((f"sweep={swept}/sweep", f"name={'a' * 129}"), 2, "128"),
        ((f"sweep={swept}/sweep", "project=other"), 1, "no project me/other"),
    ):
        assert command("wandb", "report", *words) == code
        error = capfd.readouterr().err
        assert said in error and len(error.splitlines()) == 1
    assert not server.views

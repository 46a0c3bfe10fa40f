"""`kjcm diff`: what it compares, tests and writes, on runs of a second."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from kjcm.analysis.scores import metrics
from kjcm.analysis.statistics import mcnemar
from kjcm.comparison.sides import Side, common_rows, sides_of
from kjcm.comparison.tables import Bootstrap, changed_rows, config_table, group_table, metric_table, paired_table
from kjcm.errors import ConfigError, KjcmError
from kjcm.keys.overrides import with_list
from tests.conftest import command

LINEAR = ("model=linear", "data.scale=0.03", "data.level=1", "logger=[]", "model.above=[]", "model.calibration_folds=0")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs one, other (C), split (other test rows), coarse (other codes), and two sweeps; tests must not write into it."""
    folder = tmp_path_factory.mktemp("diff")
    words = (*LINEAR, f"cache={folder}/cache")
    for name, own in {
        "one": (), "other": ("model.C=0.01",), "split": ("data.split_seed=9",), "coarse": ("data.level=2",),
        "untested": ("evaluate=false",),
    }.items():  # fmt: skip
        assert command("train", *words, *own, f"run_dir={folder}/{name}") == 0
    sweeps = {"first": words, "second": ("model=nearest", "augment=titles", *words[1:4], words[-1])}
    for name, own in sweeps.items():
        where = (f"runs={folder}/{name}", f"hydra.sweep.dir={folder}/swept-{name}")
        assert command("train", "-m", *own, "seed=0,1", *where) == 0
    return folder


def pair(made: Path, *names: str) -> tuple[Side, Side]:
    one, other = sides_of([str(made / name) for name in names])
    return one, other


def test_differences_are_those_of_the_metrics(made: Path) -> None:
    one, other = pair(made, "one", "other")
    common = common_rows(one, other)
    assert len(common) == one.first.report["n_test"] and (common.only, common.other_codes) == (0, 0)
    table = paired_table(one, other, common, Bootstrap(200, 0))
    found = {row[0]: row for row in table.rows}
    for name, heading in (("accuracy", "accuracy"), ("f1_macro", "macro F1")):
        low, high = (metrics(side.answers[0])[name] for side in (one, other))
        row = next(row for key, row in found.items() if key.lower() == heading.lower())
        assert row[1:3] == (low, high) and row[3].mean == pytest.approx(high - low)  # type: ignore[union-attr]
        assert row[3].low <= row[3].mean <= row[3].high  # type: ignore[union-attr, operator]
    right = [side.answers[0].codes[:, 0] == side.answers[0].truth for side in (one, other)]
    assert next(iter(found.values()))[4] == pytest.approx(mcnemar(right[1], right[0]))
    assert [row[0] for row in config_table([one, other]).rows] == ["model.C"]
    assert paired_table(one, other, common, Bootstrap(0, 0)).rows[0][3].low is None  # type: ignore[union-attr]


def test_changed_rows_and_groups_add_up(made: Path) -> None:
    one, other = pair(made, "one", "other")
    common = common_rows(one, other)
    changed = changed_rows(common)
    a, b = common.first[0], common.second[0]
    assert len(changed) == (a.codes[:, 0] != b.codes[:, 0]).sum() > 0
    counts = changed["change"].value_counts()
    gained = (b.codes[:, 0] == b.truth).sum() - (a.codes[:, 0] == a.truth).sum()
    assert counts.get("fixed", 0) - counts.get("broken", 0) == gained
    table = group_table(one, other, common)
    assert sum(row[3] for row in table.rows) == pytest.approx(gained, abs=0.5)  # type: ignore[misc]
    assert sum(row[2] for row in table.rows) == len(common) and all(row[1] for row in table.rows)  # type: ignore[misc]
    sizes = [abs(row[3]) for row in table.rows]  # type: ignore[arg-type]
    assert sizes == sorted(sizes, reverse=True)


def test_runs_with_other_rows_are_compared_on_the_common_ones(made: Path, here: Path) -> None:
    one, other = pair(made, "one", "split")
    common = common_rows(one, other)
    ids = [set(side.answers[0].ids) for side in (one, other)]
    assert set(common.first[0].ids) == ids[0] & ids[1] and common.only == len(ids[0] ^ ids[1]) > 0
    assert common.first[0].ids.tolist() == common.second[0].ids.tolist()
    one, coarse = pair(made, "one", "coarse")
    assert len(common_rows(one, coarse)) == 0 and common_rows(one, coarse).other_codes > 1000
    assert command("diff", made / "one", made / "coarse", made / "untested", "replicates=10", "out=out") == 0
    assert not list(here.glob("out/rows_*.csv")) and (here / "out" / "tables" / "config.csv").exists()
    rows = metric_table(sides_of([str(made / name) for name in ("one", "untested")])).rows
    assert rows[1][1] is None


def test_equal_ids_of_other_data_are_other_people(made: Path, here: Path) -> None:
    frame = pd.DataFrame(
        {"id": range(60), "workplace": "회사", "position": "대표", "task": "", "code": ["320", "873"] * 30}
    )
    for name in ("a", "b"):
        frame["task"] = [f"{name} {task} {row}" for row, task in enumerate(["예금 상담", "택시 운전"] * 30)]
        frame.to_csv(f"{name}.csv", index=False)
        words = ("model=linear", "data=table", f"data.path={name}.csv", "data.cutoff=0", "logger=[]")
        assert command("train", *words, f"run_dir={name}") == 0
    assert command("train", *words, "model.C=2", "run_dir=c") == 0
    assert len(common_rows(*sides_of(["a", "b"]))) == 0 and len(common_rows(*sides_of(["b", "c"]))) > 0
    one, other = sides_of(["b", "c"])
    grouped = replace(
        common_rows(one, other), second=tuple(replace(one, clusters=one.ids) for one in common_rows(one, other).second)
    )
    assert "clusters" in paired_table(one, other, grouped, Bootstrap(20, 0)).notes[-1]


def test_a_run_counts_once(made: Path, here: Path) -> None:
    shutil.copytree(made / "one", here / "copy")
    one, _ = sides_of([str(made / "one"), "copy", str(made / "other")])
    assert len(one.runs) == 1


def test_sweeps_are_grouped_over_seeds(made: Path, here: Path) -> None:
    one, other = sides_of([str(made / "swept-first"), str(made / "second")])
    assert [len(side.runs) for side in (one, other)] == [2, 2] and one.first.seed == 0
    estimate = metric_table([one, other]).rows[0][2]
    values = [metrics(answers)["accuracy"] for answers in one.answers]
    assert estimate.mean == pytest.approx(np.mean(values))  # type: ignore[union-attr]
    assert estimate.sd == pytest.approx(np.std(values, ddof=1))  # type: ignore[union-attr]
    assert command("diff", made / "swept-first", made / "swept-second", "replicates=20") == 0


def test_the_page_and_its_files(made: Path, here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert command("diff", made / "one", made / "other", "out=out", "replicates=20") == 0
    out = capfd.readouterr().out
    assert "model.C" in out and "SYNTHETIC" in out and ": see out/tables." in out
    assert not any(word in out for word in ("glyf", "fontTools", "pruned"))
    page = (here / "out" / "diff.html").read_text(encoding="utf-8")
    assert "model.C" in page and "SYNTHETIC" in page.upper() and "관리자" in page
    links = {part.split('"')[0] for part in page.split('href="')[1:] if part.startswith("tables/")}
    assert len(links) == 18 and all((here / "out" / link).is_file() for link in links)
    rows = pd.read_csv(here / "out" / "rows_A_B.csv", dtype=str)
    assert rows.columns.tolist() == ["id", "code", "code_a", "prob_a", "code_b", "prob_b", "change", "text"]
    assert rows["text"].notna().all()  # the twin's are invented
    assert command("diff", made / "one", made / "other", "out=out", "replicates=20") == 1
    assert command("diff", made / "one", made / "other", "out=out", "replicates=20", "overwrite=true") == 0
    (here / "out" / "run").mkdir()
    assert command("diff", made / "one", made / "other", "out=out", "replicates=20", "overwrite=true") == 1
    assert (here / "out" / "run").exists()
    (here / "out" / "run").rmdir()
    (here / "out" / "tables" / "notes.csv").touch()
    assert command("diff", made / "one", made / "other", "out=out", "replicates=20", "overwrite=true") == 1
    assert (here / "out" / "tables" / "notes.csv").exists()
    (here / "mine").mkdir()
    (here / "mine" / "file").touch()
    assert command("diff", made / "one", made / "other", "out=mine", "overwrite=true", "replicates=0") == 1
    assert (here / "mine" / "file").exists()


def test_respondents_texts_are_written_only_on_request(here: Path) -> None:
    tasks = [f"{task} {number}호" for number in range(30) for task in ("예금 상담", "택시 운전", "벼농사")]
    frame = pd.DataFrame(
        {"id": range(90), "workplace": "", "position": "대표", "task": tasks, "code": ["320", "873", "611"] * 30}
    )
    frame["code"] = np.random.default_rng(0).choice(["320", "873", "611"], 90)
    frame.to_csv("rows.csv", index=False)
    words = ("model=linear", "data=table", "data.path=rows.csv", "data.cutoff=0", "logger=[]")
    for name, ngrams in (("a", "[1,2]"), ("b", "[5,6]")):
        assert command("train", *words, f"model.views.text.ngrams={ngrams}", f"run_dir={name}") == 0
    assert command("diff", "a", "b", "out=out", "replicates=0") == 0
    assert command("diff", "a", "b", "out=texts", "replicates=0", "texts=true") == 0
    assert not [file for file in Path("out").rglob("*") if file.is_file() and "호" in file.read_text(encoding="utf-8")]
    texts = pd.read_csv("texts/rows_A_B.csv")["text"]
    assert len(texts) > 0 and texts.str.contains("호").all()


def test_what_cannot_be_compared_is_named(made: Path, here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(made / "one", here / "unfinished")
    (here / "unfinished" / "DONE").unlink()
    (here / "swept").mkdir()
    (here / "swept" / "jobs.csv").touch()
    for places, error, said in (
        (["none", str(made / "one")], KjcmError, "none"),
        ([str(made / "one")], ConfigError, "1 setting of"),
        ([str(made / "one"), str(made / "one")], ConfigError, "1 setting of"),
        (["unfinished", str(made / "one")], KjcmError, "DONE"),
        (["swept", str(made / "one")], KjcmError, r"jobs\.csv: no column folder"),
    ):
        with pytest.raises(error, match=said):
            sides_of(places)
    (here / "unfinished" / "DONE").touch()
    (here / "unfinished" / "report.json").write_text("{")
    assert command("diff", "unfinished", made / "other") == 1 and "report.json" in capfd.readouterr().err
    assert command("diff") == 2


def test_places_are_words_without_a_key() -> None:
    assert with_list("compare", ["a", "b c", "out=x", "--cfg", "job", "~y"]) == [
        "compare=[a,'b c']",
        "out=x",
        "--cfg",
        "job",
        "~y",
    ]
    assert with_list("compare", ["out=x"]) == ["out=x"]

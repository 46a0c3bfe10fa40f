"""Disagreements for a person to judge, and the tables of what the person judged."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from tests.conftest import command
from tests.reporting.making import make_run
from tests.reporting.reading import Study, read_csv

pytestmark = pytest.mark.usefixtures("undrawn")

TABLES = {
    "data error": "supplementary_table_4",
    "model error": "supplementary_table_5",
    "both defensible": "both_defensible",
}
ONLY = f"only=[{','.join(TABLES.values())}]"
Build = Callable[..., int]


def report(study: Study, out: Path, *words: str) -> int:
    return command("report", f"runs={study.runs}", f"out={out}", "replicates=0", ONLY, *words)


@pytest.fixture(scope="module")
def first(study: Study, tmp_path_factory: pytest.TempPathFactory) -> tuple[Study, Path]:
    """K-JCM's runs alone, and their report before anything is judged."""
    folder = tmp_path_factory.mktemp("review")
    shutil.copytree(study.runs / "k_jcm", folder / "runs" / "k_jcm")
    made = Study(study.data, folder / "runs")
    assert report(made, folder / "out") == 0
    return made, folder / "out"


@pytest.fixture
def build(first: tuple[Study, Path], tmp_path: Path) -> Build:
    """Build a report anew into `out`, where one lies that is not judged."""
    shutil.copytree(first[1], tmp_path / "out")
    return lambda *words: report(first[0], tmp_path / "out", *words)


def to_judge(out: Path) -> pd.DataFrame:
    return pd.read_csv(out / "disagreements.csv", dtype=str, keep_default_na=False, encoding="utf-8-sig")


def judged(out: Path, verdict: str) -> list[tuple[str, str]]:
    """Return code and prediction of the rows of a verdict's table."""
    return [(row["Code"], row["Predicted"]) for row in read_csv(out / "tables" / f"{TABLES[verdict]}.csv")]


def test_each_verdict_has_its_table_the_surest_first(build: Build, tmp_path: Path) -> None:
    out = tmp_path / "out"
    rows = to_judge(out)
    unjudged, *others = (judged(out, verdict) for verdict in TABLES)
    assert unjudged == [*zip(rows["code"][:20], rows["predicted"][:20], strict=True)] and not any(others)
    assert set(rows["verdict"]) == {""}
    said = [*TABLES] * 30  # 90 in turn, and the others are left for later
    rows.loc[: len(said) - 1, "verdict"] = said
    rows.sample(frac=1, random_state=0).to_csv(out / "disagreements.csv", index=False)  # a person may sort
    assert build() == 0
    assert to_judge(out)["verdict"].tolist() == rows["verdict"].tolist()
    for number, verdict in enumerate(TABLES):
        own = rows.iloc[number : 3 * 20 : 3]  # the first 20 of 30
        assert judged(out, verdict) == [*zip(own["code"], own["predicted"], strict=True)]
        notes = (out / "tables" / f"{TABLES[verdict]}.md").read_text(encoding="utf-8")
        assert (
            "90 judged: 30 data error, 30 model error, 30 both defensible" in notes and "The 20 disagreements" in notes
        )


def test_a_file_from_elsewhere_is_taken_in_any_form(build: Build, tmp_path: Path) -> None:
    out = tmp_path / "out"
    rows = to_judge(out).head(3).assign(verdict=["both defensible", " model error ", ""])
    rows.to_excel(tmp_path / "judged.xlsx", index=False)
    rows.assign(code=pd.to_numeric(rows["code"], errors="coerce")).to_excel(tmp_path / "numbers.xlsx", index=False)
    rows.to_csv(tmp_path / "judged.csv", index=False, encoding="cp949")
    for name in ("judged.xlsx", "numbers.xlsx", "judged.csv"):
        assert build(f"review={tmp_path / name}") == 0
        assert to_judge(out)["verdict"].tolist()[:4] == ["both defensible", "model error", "", ""], name
        assert judged(out, "model error") == [(rows["code"][1], rows["predicted"][1])]


def test_ids_that_look_like_formulas_are_found_again(tmp_path: Path) -> None:
    codes = ["111", "320", "630", "910"] * 25
    rows = pd.DataFrame(
        {"id": [f"-{row}" for row in range(100)], "workplace": "일터", "position": "직원", "code": codes}
    )
    rows.assign(task=[f"일 {row}" for row in range(100)]).to_csv(tmp_path / "rows.csv", index=False)
    make_run(tmp_path / "runs", "k_jcm", ("data=table", f"data.path={tmp_path / 'rows.csv'}"))
    words = ("report", f"runs={tmp_path / 'runs'}", f"out={tmp_path / 'out'}", "replicates=0", ONLY)
    assert command(*words) == 0
    found = to_judge(tmp_path / "out")
    assert found["id"].str.startswith("'-").all()  # no formula for a spreadsheet program
    found.assign(verdict="data error").to_csv(tmp_path / "out" / "disagreements.csv", index=False)
    assert command(*words) == 0
    again = to_judge(tmp_path / "out")
    assert again["id"].tolist() == found["id"].tolist() and set(again["verdict"]) == {"data error"}


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"verdict": "perhaps"}, ["column 'verdict'", "'perhaps'", "data error, model error, both defensible"]),
        ({"verdict": "Data error"}, ["'Data error'"]),
        ({"id": "5-0"}, ["1 verdicts", "5-0", "like=DIR"]),
        ({"code": "999"}, ["1 verdicts", ": 999, predicted"]),
        ({"predicted": "999"}, ["1 verdicts", "predicted 999"]),
        ({"verdict": None}, ["no column 'verdict'"]),
        ({"predicted": None}, ["no column 'predicted'"]),
    ],
)
def test_verdicts_that_cannot_be_used_are_named_and_nothing_is_lost(
    build: Build, tmp_path: Path, capfd: pytest.CaptureFixture[str], change: dict[str, str | None], named: list[str]
) -> None:
    out = tmp_path / "out"
    rows = to_judge(out).assign(verdict="")
    rows.loc[0, "verdict"] = "data error"
    for column, value in change.items():
        if value is None:
            rows = rows.drop(columns=column)
        else:
            rows.loc[0, column] = value
    file = out / "disagreements.csv"
    rows.to_csv(file, index=False)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    assert build() == 1
    error = capfd.readouterr().err
    assert str(file) in error and all(part in error for part in named), error
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before


def test_verdicts_in_out_that_the_review_lacks_are_not_lost(
    build: Build, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "out" / "disagreements.csv"
    rows = to_judge(tmp_path / "out")
    rows.head(2).assign(verdict=["data error", "model error"]).to_csv(tmp_path / "mine.csv", index=False)
    for said in ("", "both defensible"):  # not judged there, or judged otherwise
        rows.head(2).assign(verdict=["data error", said]).to_csv(tmp_path / "other.csv", index=False)
        assert build(f"review={tmp_path / 'mine.csv'}") == 0
        before = file.read_bytes()
        assert build(f"review={tmp_path / 'other.csv'}") == 1
        error = capfd.readouterr().err
        assert f"{file}: 1 of its verdicts" in error and f"{rows['id'][1]}: {rows['code'][1]}, predicted" in error
        assert file.read_bytes() == before


def test_two_verdicts_on_one_disagreement_are_named(
    build: Build, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    row = to_judge(tmp_path / "out").head(1)
    for second, code in (("data error", 0), ("model error", 1)):
        said = pd.concat([row.assign(verdict="data error"), row.assign(verdict=second)])
        said.to_csv(tmp_path / "judged.csv", index=False)
        assert build(f"review={tmp_path / 'judged.csv'}") == code
    assert f"two verdicts for id '{row['id'][0]}'" in capfd.readouterr().err


def test_a_review_that_is_not_there_is_named(build: Build, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert build(f"review={tmp_path / 'none.csv'}") == 1
    assert f"{tmp_path / 'none.csv'}: no such file" in capfd.readouterr().err

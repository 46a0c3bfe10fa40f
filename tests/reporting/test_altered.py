"""A deliberately altered predictions file changes the cells of the report that it should, and no others."""

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from kjcm.reporting.tables import PRINTED_EXAMPLES
from tests.conftest import command
from tests.reporting.fixtures import blank_pictures
from tests.reporting.making import make_run, survey_words
from tests.reporting.reading import MODELS, TITLES, Study, by_group, read_csv

pytestmark = pytest.mark.usefixtures("undrawn")

ALTERED = ("k_jcm", "k_jcm_half", "model_2", "model_3")
Cells = dict[tuple[str, int, str], str]
LABELS = {str(model["label"]) for model in MODELS.values()}


def cells_of(out: Path) -> Cells:
    """Return file, row and column -> cell of every CSV file of a report."""
    return {
        (file.relative_to(out).with_suffix("").as_posix(), number, column): cell
        for file in sorted(out.rglob("*.csv"))
        for number, row in enumerate(read_csv(file))
        for column, cell in row.items()
    }


@pytest.fixture(scope="module")
def before(study: Study, tmp_path_factory: pytest.TempPathFactory) -> tuple[Study, Cells]:
    """Some of the study's runs, and every cell of their report."""
    folder = tmp_path_factory.mktemp("altered")
    for key in ALTERED:
        shutil.copytree(study.runs / key, folder / "runs" / key)
    made = Study(study.data, folder / "runs")
    with blank_pictures():
        return made, cells_of(whole_report(made, folder / "before"))


def test_a_metric_of_the_users_own_is_a_column_of_table_3(copied: Callable[..., Study], tmp_path: Path) -> None:
    made = copied("k_jcm", "majority")
    for file in made.runs.glob("k_jcm/*/report.json"):
        report = json.loads(file.read_text())
        report["metrics"]["hinge_loss"] = 1.0 + report["seed"]
        file.write_text(json.dumps(report))
    rows = read_csv(whole_report(made, tmp_path / "out") / "tables" / "table_3.csv")
    cells = {row["Model"]: (row["Hinge loss"], row["Hinge loss sd"]) for row in rows}
    assert cells["K-JCM"] == ("1.5", "0.7071067811865476")
    assert {cell for model, cell in cells.items() if model != "K-JCM"} == {("", "")}


def whole_report(made: Study, out: Path) -> Path:
    assert command("report", f"runs={made.runs}", f"out={out}", "replicates=20") == 0
    return out


@dataclass(frozen=True)
class Change:
    """The cells that a report has otherwise after its runs were altered: file, row, column."""

    cells: set[tuple[str, str, str]]

    @property
    def files(self) -> set[str]:
        return {file for file, _, _ in self.cells}

    def rows(self, file: str) -> set[str]:
        return {row for own, row, _ in self.cells if own == file}

    def columns(self, file: str) -> set[str]:
        return {column for own, _, column in self.cells if own == file}


@pytest.fixture
def changed(before: tuple[Study, Cells], tmp_path: Path) -> Iterator[Callable[..., Change]]:
    """Alter columns of one row of a run: the first that is chosen; give what changes in the report."""
    made, cells = before
    restored: list[tuple[Path, bytes]] = []

    def change(key: str, seed: int, choose: Callable[[pd.DataFrame], "pd.Series[bool]"], **values: Any) -> Change:
        file = made.of(key)[seed].path / "predictions.parquet"
        restored.append((file, file.read_bytes()))
        frame = pd.read_parquet(file)
        row = frame.index[choose(frame)][0]
        for name, value in values.items():
            frame.loc[row, name] = value(frame.loc[row]) if callable(value) else value
        frame.to_parquet(file)
        after = cells_of(whole_report(made, tmp_path / "after"))
        different = {place for place in {*cells, *after} if cells.get(place) != after.get(place)}
        return Change({(file, name_of(after, file, row), column) for file, row, column in different})

    yield change
    for file, content in restored:
        file.write_bytes(content)


def name_of(cells: Cells, file: str, row: int) -> str:
    """Return what a row is about: its first two cells."""
    return " / ".join([cell for (own, number, _), cell in cells.items() if (own, number) == (file, row)][:2])


def test_an_altered_code_of_model_3_changes_its_rows_and_no_others(
    changed: Callable[..., Change], study: Study
) -> None:
    large = set(study.of("model_2")[0].trained)

    def chosen(frame: pd.DataFrame) -> "pd.Series[bool]":
        return (frame["code"] == frame["code_1"]) & frame["seen"] & ~frame["code"].isin(large)

    found = changed("model_3", 0, chosen, code_1="111")
    alone = {"supplementary_table_3", "supplementary_table_3_all", "texts", "all_groups"}  # Model 2 has no such row:
    of_figures = {"verdicts", "supplementary_table_3_verdicts"}  # nothing on common rows changes
    assert found.files == {f"tables/{name}" for name in {"head_and_tail", "comparisons"} | alone | of_figures}
    for name in alone:
        assert found.rows(f"tables/{name}") == {"Model 3 / 1"}, name
    assert {row.split(" / ")[0] for row in found.rows("tables/head_and_tail")} == {"Model 3"}
    assert found.rows("tables/verdicts") == {"Supplementary Table 3 / Model 3"}
    beneath = found.rows("tables/supplementary_table_3_verdicts")
    assert {row.split(":")[0] for row in beneath} == {"Supplementary Table 3. Model 3"}
    pairs = {"K-JCM / Model 3", "K-JCM-half / Model 3"}
    assert found.rows("tables/comparisons") >= pairs
    assert {name for file, row, name in found.cells if file == "tables/comparisons" and row not in pairs} <= {"p, Holm"}


def test_an_altered_code_of_k_jcm_changes_the_two_groups_that_it_is_of(
    changed: Callable[..., Change], study: Study
) -> None:
    one = study.of("k_jcm")[1]
    groups = by_group(one)
    row = one.frame.query("code == code_1 and code.str[0] == '7'").iloc[0]
    other = str(groups.index[(groups["n_predicted"] > 1) & (groups["precision"] > 0) & (groups.index.str[0] != "7")][0])
    found = changed("k_jcm", 1, lambda frame: frame["id"] == row["id"], code_1=other)
    both = {row["code"], other}
    for file in ("tables/supplementary_table_1", "figures/figure_2"):
        assert found.rows(file) == {f"{code} / {TITLES[code]}" for code in both}
    assert found.rows("figures/supplementary_figure_1") == {f"K-JCM / {code}" for code in both}
    assert found.rows("tables/table_4") <= {f"{code[0]} / {TITLES[code[0]]}" for code in both}
    of_models = {(file, name) for file, name, _ in found.cells if name.split(" / ")[0] in LABELS}
    assert {name.split(" / ")[0] for file, name in of_models if file != "tables/comparisons"} == {"K-JCM"}
    unchanged = {"disagreements", "tables/table_1", "tables/table_2", "tables/label_noise", "tables/runs"}
    assert not found.files & (unchanged | {"figures/figure_1"})  # examples are of the first run, counts of none


def test_an_altered_probability_changes_the_example_and_the_order_of_disagreements_alone(
    changed: Callable[..., Change],
) -> None:
    found = changed("k_jcm", 0, lambda frame: frame["code"] != frame["code_1"], prob_1=0.4562)
    assert found.files == {"disagreements", "tables/supplementary_table_4", "tables/table_2"}


def test_an_altered_third_code_changes_top_3_alone(changed: Callable[..., Change]) -> None:
    def chosen(frame: pd.DataFrame) -> "pd.Series[bool]":  # right at the fifth place, so that Top-5 stays
        return frame["code_5"] == frame["code"]

    found = changed("k_jcm", 1, chosen, code_3=lambda row: row["code"])
    names = {"verdicts", "supplementary_table_2_verdicts"}  # not the short one: the paper prints Top-5 alone
    assert found.files == {"tables/supplementary_table_2", *(f"tables/{name}" for name in names)}
    assert found.rows("tables/supplementary_table_2") == {"K-JCM / 2"}
    columns = {name.split()[0] for name in found.columns("tables/supplementary_table_2")}
    assert columns == {"Top-3", "Top-4"}
    assert found.rows("tables/verdicts") == {"Supplementary Table 2 / K-JCM"}
    beneath = found.rows("tables/supplementary_table_2_verdicts")
    assert {row.split(" / ")[0] for row in beneath} == {
        f"Supplementary Table 2. K-JCM: Top-{k} accuracy" for k in (3, 4)
    }


def test_a_group_that_only_reviewed_rows_have_is_in_every_table(
    study: Study, copied: Callable[..., Study], tmp_path: Path
) -> None:
    made = copied("majority")
    code = min({*PRINTED_EXAMPLES} - {*study.of("k_jcm")[0].trained})
    rows = pd.DataFrame({"workplace": "바다", "position": "선원", "task": [f"낚시 {n}" for n in range(12)]})
    rows.assign(reviewed_code=code).to_csv(tmp_path / "reviewed.csv", index=False)
    make_run(made.runs, "k_jcm", survey_words(study.data), settings={"data.reviewed": str(tmp_path / "reviewed.csv")})
    out = tmp_path / "out"
    assert command("report", f"runs={made.runs}", f"out={out}", "replicates=20", "texts=true") == 0
    groups = read_csv(out / "tables" / "supplementary_table_1.csv")
    (found,) = (row for row in groups if row["Code"] == code)
    assert (found["Title"], found["Training rows"], found["Test rows"]) == (TITLES[code], "12", "0")
    assert len(groups) == len(study.of("k_jcm")[0].trained) + 1
    assert code not in {row["Code"] for row in read_csv(out / "tables" / "table_1.csv")}  # no row of the survey
    models = {row["Model"]: row["Description"] for row in read_csv(out / "tables" / "result.csv")}
    assert models["K-JCM"].endswith("12 reviewed rows added") and "reviewed" not in models["Majority class"]

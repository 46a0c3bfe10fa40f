"""The twin: the paper's flow and group sizes, long tails, noise in measure, and nothing left to chance."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from kjcm.errors import ConfigError
from kjcm.ksco.classification import Classification, load_classification
from kjcm.survey.cohort import Cohort
from kjcm.survey.responses import Source, kwcs_source
from kjcm.survey.twin import ENDINGS, MASKS, group_sizes, misspelt, read_vocabulary, synthetic_source
from kjcm.training.prepare import write_twin
from tests.conftest import COLUMNS
from tests.survey.making import cohort_from

# The paper: groups and training rows by major group (Table 4; two groups and 73 rows of armed forces remain), and
# the groups that are small or absent (METHODS).
TABLE_4 = {
    "1": (8, 313), "2": (41, 10_998), "3": (9, 10_150), "4": (10, 10_908), "5": (5, 12_050), "6": (5, 6_260),
    "7": (21, 5_969), "8": (29, 6_021), "9": (12, 7_024), "A": (2, 73),
}  # fmt: skip
SMALL = {"111", "122", "134", "135", "149", "153", "225", "287", "288", "876"}
ABSENT = {"112", "159", "872", "A09"}


def test_flow_is_fig_1_counted_from_the_rows(paper: Cohort) -> None:
    rows, left = paper.rows, paper.left
    every = pd.concat([rows[["id", "wave"]], left[["id", "wave"]]])
    assert every["id"].is_unique
    assert every["wave"].value_counts().to_dict() == {"6": 50_538, "5": 50_205}
    small = left[left["reason"] == "group of 10 rows or fewer"]
    assert left["reason"].value_counts().to_dict() == {"unresolved": 1_026, "group of 10 rows or fewer": 52}
    assert set(left["wave"][left["reason"] == "unresolved"]) == {"5"}
    assert (len(small), len(paper.to_resolve)) == (52, 1_026)
    assert rows["side"].value_counts().to_dict() == {"train": 69_766, "test": 29_899}
    assert (len(rows), rows["code"].nunique(), len(paper.classes)) == (99_665, 142, 142)
    assert (rows["text"] != "").all()
    assert paper.synthetic
    flow = {
        "read": 100_743, "read_by_file": {"wave5": 50_205, "wave6": 50_538}, "invalid": 0, "unresolved": 1_026,
        "converted": 99_717, "cutoff": 10, "below_cutoff": 52, "below_cutoff_groups": 10, "cohort": 99_665,
        "groups": 142, "train": 69_766, "validation": 0, "unused": 0, "test": 29_899,
    }  # fmt: skip
    assert dict(paper.flow) == flow


def test_rows_and_split_are_those_of_earlier_versions(paper: Cohort) -> None:
    """Runs and reports compare by these: they change with a decision, never with how the rows are computed."""
    assert paper.cohort_hash == "aeccf1cefae46feca4543dce9a5b4e7e44020189c0fe59551830319fba6ebb8a"
    assert paper.split_hash == "266ae180560a7258202c630d3ef13e18068cd6bc32af7c1363c2fc9fa2c2cf70"
    assert paper.classes_hash == "007c6d1561bfb5810c6fc5241eb5f10b0908c1d139a874121a8885f4f1f597fa"


def test_expected_training_rows_by_major_group_are_table_4s(paper: Cohort) -> None:
    majors = paper.rows["code"].str[0]
    groups = paper.rows.groupby(majors)["code"].nunique()
    expected = (0.7 * majors.value_counts()).round().astype(int)
    assert {major: (groups[major], expected[major]) for major in groups.index} == TABLE_4


def test_groups_are_the_articles_and_long_tailed(paper: Cohort, twin: Source, ksco: Classification) -> None:
    assert set(ksco.codes(3)) - set(paper.rows["code"]) == SMALL | ABSENT
    every = cohort_from(twin, ksco, cutoff=0).rows["code"].value_counts()
    assert len(every) == 152
    assert every[sorted(SMALL)].sum() == 52
    assert every[sorted(SMALL)].max() <= 10
    assert (every > 100).sum() < 130  # Model 2's cutoff removes groups
    assert every.iloc[:30].sum() > 0.6 * every.sum()


def test_half_and_higher_cutoff_stay_on_the_papers_split(paper: Cohort, twin: Source, ksco: Classification) -> None:
    half = cohort_from(twin, ksco, train_fraction=0.5)
    model_2 = cohort_from(twin, ksco, cutoff=100)
    assert {half.cohort_hash, model_2.cohort_hash} == {paper.cohort_hash}
    assert {half.split_hash, model_2.split_hash} == {paper.split_hash}
    assert [half.flow[side] for side in ("train", "unused", "test")] == [34_883, 34_883, 29_899]
    assert half.side("test").equals(paper.side("test"))
    large = paper.rows["code"].map(paper.rows["code"].value_counts()) > 100
    assert model_2.rows.equals(paper.rows[large].reset_index(drop=True))


def test_the_same_seed_gives_the_same_rows(twin: Source, ksco: Classification) -> None:
    again, other = (synthetic_source(1.0, seed, COLUMNS, ksco) for seed in (0, 1))
    for mine, same, different in zip(twin.surveys, again.surveys, other.surveys, strict=True):
        assert mine.table.equals(same.table)
        assert len(different.table) == len(mine.table)
        assert not different.table.equals(mine.table)
    assert twin.crosswalk is not None
    assert twin.resolutions is not None
    assert twin.crosswalk.equals(again.crosswalk)
    assert twin.resolutions.equals(again.resolutions)
    other_cohort = cohort_from(other, ksco)
    assert (other_cohort.flow["cohort"], other_cohort.flow["unresolved"], other_cohort.flow["groups"]) == (
        99_665, 1_026, 142,
    )  # fmt: skip


@pytest.mark.parametrize("scale", [0.02, 0.1, 0.35])
def test_smaller_twins_keep_every_group(scale: float, ksco: Classification) -> None:
    sizes, whole = group_sizes(read_vocabulary(), scale), group_sizes(read_vocabulary(), 1.0)
    assert set(sizes) == set(whole)
    assert {code for code, size in sizes.items() if size < 11} == SMALL
    assert {code: sizes[code] for code in SMALL} == {code: whole[code] for code in SMALL}
    shrunk = [code for code in sizes if sizes[code] > 11]
    assert all(abs(sizes[code] - scale * whole[code]) <= 0.5 for code in shrunk)
    flow = cohort_from(synthetic_source(scale, 0, COLUMNS, ksco), ksco).flow
    assert flow["cohort"] == sum(sizes.values()) - 52
    assert flow["unresolved"] == round(1_026 * scale)
    assert (flow["groups"], flow["below_cutoff"], flow["below_cutoff_groups"]) == (142, 52, 10)
    assert flow["train"] == int(0.7 * flow["cohort"] + 0.5)


def words(twin: Source) -> Iterator[tuple[str, set[str], set[str]]]:
    """Yield group, groups whose vocabulary has the workplace, groups whose vocabulary has the task, of wave 6.

    Only rows whose workplace and task stand in the vocabulary, but for masks and endings.
    """
    places: dict[str, set[str]] = {}
    tasks: dict[str, set[str]] = {}
    for code, own in read_vocabulary().items():
        for place in own.workplaces:
            for mask in ("", *MASKS):
                places.setdefault(mask + place, set()).add(code)
        for task in own.tasks:
            for ending in set(ENDINGS):
                tasks.setdefault(task + ending, set()).add(code)
    for row in twin.surveys[1].table.itertuples():
        if row.workplace in places and row.task in tasks:
            yield row.code[:3], places[row.workplace], tasks[row.task]


def test_one_row_in_ten_is_mislabelled_and_neighbours_overlap(twin: Source) -> None:
    known = list(words(twin))
    assert len(known) > 25_000
    foreign = np.mean([group not in place and group not in task for group, place, task in known])
    assert 0.08 < foreign < 0.11
    mixed = np.mean([(group in place) != (group in task) for group, place, task in known])
    assert 0.08 < mixed < 0.25  # a neighbour's workplace or task beside one's own
    vocabulary = read_vocabulary()
    assert set(vocabulary) == set(group_sizes(vocabulary, 1.0))
    assert all(code not in own.neighbours and len(own.tasks) >= 8 for code, own in vocabulary.items())


def test_answers_read_as_respondents_write(twin: Source) -> None:
    table = pd.concat([survey.table for survey in twin.surveys])
    shares = {
        "masked": table["workplace"].str.startswith(MASKS).mean(),
        "no workplace": (table["workplace"] == "").mean(),
        "no position": (table["position"] == "").mean(),
    }
    assert 0.13 < shares["masked"] < 0.17
    assert 0.02 < shares["no workplace"] < 0.06
    assert 0.25 < shares["no position"] < 0.35
    assert (table["task"] != "").all()
    assert misspelt("새 배", 0.04) == "새배"
    assert misspelt("새 배", 0.051) == "세 배"
    assert misspelt("새 배", 0.099) == "새 베"
    assert misspelt("새 배", 0.10) == "새 배"


def test_wave_5_is_in_another_classification(twin: Source, ksco: Classification) -> None:
    five, six = (survey.table["code"] for survey in twin.surveys)
    assert set(six) <= set(ksco.codes(4))
    foreign = ~five.isin(ksco.codes(4))
    assert 0.1 < foreign.mean() < 0.5
    assert twin.crosswalk is not None
    assert set(five) <= set(twin.crosswalk["ksco6"])
    sixes, sevens = (
        twin.crosswalk.groupby("ksco6")["ksco7"].nunique(),
        twin.crosswalk.groupby("ksco7")["ksco6"].nunique(),
    )
    assert (sixes == 2).sum() == 24  # split
    assert sixes.max() == 2
    assert (sevens >= 2).sum() >= 30  # merged
    assert "invented" in twin.crosswalk_name
    assert all("synthetic" in survey.name for survey in twin.surveys)


def test_twin_written_and_read_back_as_kwcs_is_the_same_study(tmp_path: Path, ksco: Classification) -> None:
    source = synthetic_source(0.05, 0, COLUMNS, ksco)
    write_twin(tmp_path, source)
    names = ("wave5", "wave6", "crosswalk", "resolutions")
    read = cohort_from(kwcs_source(*(str(tmp_path / f"{name}.csv") for name in names), COLUMNS), ksco)
    made = cohort_from(source, ksco)
    assert (read.cohort_hash, read.split_hash) == (made.cohort_hash, made.split_hash)
    assert read.rows.equals(made.rows)
    assert dict(read.flow) == dict(made.flow)
    assert (read.synthetic, made.synthetic) == (True, True)  # its ids say so


@pytest.mark.parametrize("own", [{"task": "하는 일", "code": "직업", "position": None}, {"id": None}])
def test_columns_work_as_on_any_file(own: dict[str, str | None], ksco: Classification) -> None:
    source = synthetic_source(0.01, 0, {**COLUMNS, **own}, ksco)
    assert {name for name in own.values() if name} <= set(source.surveys[0].table)
    found = cohort_from(source, ksco)
    assert (found.flow["groups"], found.flow["below_cutoff"]) == (142, 52)
    assert found.rows["text"].str.contains("로) ", regex=False).any() == ("position" not in own)


@pytest.mark.parametrize("scale", [0.0, -1.0, 1.01])
def test_scale_is_checked(scale: float, ksco: Classification) -> None:
    with pytest.raises(ConfigError, match=r"data\.scale="):
        synthetic_source(scale, 0, COLUMNS, ksco)


@pytest.mark.parametrize("role", ["cluster", "weight"])
def test_has_no_clusters_and_weights(role: str, ksco: Classification) -> None:
    with pytest.raises(ConfigError, match="no clusters, weights"):
        synthetic_source(0.1, 0, {**COLUMNS, role: "area"}, ksco)


def test_needs_ksco() -> None:
    with pytest.raises(ConfigError, match="classification=ksco7"):
        synthetic_source(0.1, 0, COLUMNS, load_classification("from_data"))

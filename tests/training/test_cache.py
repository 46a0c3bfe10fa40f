"""The cohort from the cache: equal to one built anew, and never another's."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from kjcm.errors import KjcmError
from kjcm.keys.survey import TableConfig
from kjcm.ksco.classification import Classification, load_classification
from kjcm.survey import inputs
from kjcm.survey.cohort import Cohort
from kjcm.survey.inputs import cached_cohort, cohort_of
from kjcm.survey.store import FRAMES
from tests.conftest import config_of

ANSWERS = pd.DataFrame(
    {
        "id": [f"a{number}" for number in range(40)],
        "workplace": ["식당", "학교", "", "건축현장"] * 10,
        "position": ["사장", ""] * 20,
        "task": ["음식을 만든다", "수학을 가르친다", "옷을 판다", "벽돌을 쌓는다"] * 10,
        "code": ["441", "252", "521", "77"] * 10,  # 77: too few digits
        "area": [f"c{number % 13}" for number in range(40)],
        "w": [0.5, 1.25, None, 2.0] * 10,
    }
)


def node_of(*words: str) -> TableConfig:
    """Return the data node of `kjcm train` with these words."""
    return config_of("train", *words).data  # type: ignore[no-any-return]


@pytest.fixture
def answers(tmp_path: Path) -> Path:
    path = tmp_path / "answers.csv"
    ANSWERS.to_csv(path, index=False)
    return path


@pytest.fixture
def node(answers: Path) -> TableConfig:
    """The node of a table with clusters, weights, and rows that leave for every kind of reason."""
    return node_of(
        "data=table", f"data.path={answers}", "data.columns.cluster=area", "data.columns.weight=w", "data.cutoff=2",
        "data.drop_invalid=true", "data.validation=0.2",
    )  # fmt: skip


Take = Callable[..., Cohort]


@pytest.fixture
def take(tmp_path: Path, ksco: Classification) -> Take:
    """Return the cohort of a node through a cache of the test's own."""
    return partial(cached_cohort, classification=ksco, cache=str(tmp_path / "cache"))


def entries(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "cache").iterdir())


def assert_equal(one: Cohort, other: Cohort) -> None:
    for name, value in vars(one).items():
        if name in FRAMES:
            pd.testing.assert_frame_equal(value, getattr(other, name), check_column_type="exact")
        else:
            assert value == getattr(other, name) and type(value) is type(getattr(other, name)), name
    assert list(one.flow) == list(other.flow) and list(one.left_groups) == list(other.left_groups)


def test_cohort_from_the_cache_is_the_one_built(
    take: Take, node: TableConfig, ksco: Classification, monkeypatch: pytest.MonkeyPatch
) -> None:
    nodes = [node, node_of("data.scale=0.02"), node_of("data.scale=0.02", "data.cutoff=0", "data.train_wave=5")]
    built = [cohort_of(one, ksco) for one in nodes]
    assert len(built[0].left) and built[0].rows["weight"].dtype == float and len(built[0].to_resolve) == 0
    assert len(built[1].left_groups) and len(built[1].to_resolve)
    for one, cohort in zip(nodes, built, strict=True):
        assert_equal(take(one), cohort)
    monkeypatch.setattr(inputs, "cohort_of", None)  # a hit builds nothing
    for one, cohort in zip(nodes, built, strict=True):
        assert_equal(take(one), cohort)


def test_a_changed_file_is_never_served_from_the_cache(
    take: Take, node: TableConfig, answers: Path, tmp_path: Path
) -> None:
    before = take(node)
    answers.write_bytes(answers.read_bytes().replace("수학".encode(), "과학".encode()))  # the same length
    after = take(node)
    assert len(entries(tmp_path)) == 2 and before.cohort_hash != after.cohort_hash
    assert after.rows["text"].str.contains("과학").any() and not after.rows["text"].str.contains("수학").any()


def test_what_a_cohort_is_kept_by(take: Take, node: TableConfig, answers: Path, tmp_path: Path) -> None:
    take(node)
    moved = answers.rename(tmp_path / "moved.csv")
    same = [{"path": str(moved)}, {"path": str(moved), "batch_size": 7}, {"path": str(moved), "higher_cutoff": 7}]
    for change in same:
        take(replace(node, **change))
    assert len(entries(tmp_path)) == 1
    ANSWERS.to_csv(moved.with_suffix(".tsv"), index=False, sep="\t")
    table = tmp_path / "codes.csv"
    table.write_text("code,title\n4411,가\n44119,나\n", encoding="utf-8")
    other = [{"path": str(moved.with_suffix(".tsv"))}, *({"path": str(moved), **change} for change in (
        {"cutoff": 3}, {"level": 2}, {"split_seed": 1}, {"train_share": 0.6}, {"train_fraction": 0.5}, {"validation": 0.0},
        {"test_path": str(moved), "columns": replace(node.columns, id=None)},
    ))]  # fmt: skip
    for change in other:
        take(replace(node, **change))
    take(replace(node, path=str(moved)), classification=load_classification("ksco7", table))
    take(replace(node, path=str(moved)), classification=load_classification("from_data"))
    assert len(entries(tmp_path)) == 1 + len(other) + 2


def test_other_code_or_words_of_the_twin_are_another_cohort(
    take: Take, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made_by = [file.name for pattern in inputs.MADE_BY for file in inputs.PACKAGE.glob(pattern)]
    assert {"twin.py", "twin_vocabulary.tsv", "ksco7.tsv", "crosswalk.py", "files.py", "inputs.py"} <= {*made_by}
    take(node_of("data.scale=0.02"))
    monkeypatch.setattr(inputs, "digest", lambda path: path.name)
    take(node_of("data.scale=0.02"))
    assert len(entries(tmp_path)) == 2


@pytest.mark.parametrize("place", [0.0, 0.02, 0.3, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("cut", [True, False], ids=["cut", "other byte"])
def test_a_damaged_entry_is_made_again(take: Take, node: TableConfig, tmp_path: Path, place: float, cut: bool) -> None:
    built = take(node)
    (file,) = entries(tmp_path)
    whole = file.read_bytes()
    at = int(place * len(whole))
    file.write_bytes(whole[:at] if cut else whole[:at] + bytes([whole[at] ^ 255]) + whole[at + 1 :])
    assert_equal(take(node), built)
    assert entries(tmp_path) == [file]


def test_a_file_that_changes_while_it_is_read_is_not_kept(
    take: Take, node: TableConfig, answers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow(*arguments: Any) -> Cohort:
        answers.write_bytes(answers.read_bytes() + b"\n")
        return cohort_of(*arguments)

    monkeypatch.setattr(inputs, "cohort_of", slow)
    with pytest.raises(KjcmError, match=r"answers\.csv'?: changed while the cohort was built"):
        take(node)
    assert not (tmp_path / "cache").exists()


def test_without_a_cache_nothing_is_kept(node: TableConfig, ksco: Classification, tmp_path: Path) -> None:
    before = sorted(tmp_path.iterdir())
    assert_equal(cached_cohort(node, ksco, None), cohort_of(node, ksco))
    assert sorted(tmp_path.iterdir()) == before

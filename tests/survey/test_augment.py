"""Titles and descriptions of the classification as training rows."""

from collections.abc import Callable
from pathlib import Path
from types import MappingProxyType

import pandas as pd
import pytest

from kjcm.errors import ConfigError, KjcmError
from kjcm.ksco.classification import Classification, load_classification
from kjcm.survey.augment import augmentation, position_rows
from kjcm.survey.rows import rows_of
from tests.conftest import config_of
from tests.survey.making import answers

SMALL = Classification(
    "small",
    titles=MappingProxyType({"1": "관리", "11": "어부", "111": " 어부 ", "112": "선장", "2": "은행원"}),
    descriptions=MappingProxyType({"111": "배를 타고\n고기를 잡는다", "2": "은행원"}),
    parents=MappingProxyType({"1": None, "11": "1", "111": "11", "112": "11", "2": None}),
    levels=MappingProxyType({"1": 1, "11": 2, "111": 3, "112": 3, "2": 1}),
)


@pytest.mark.parametrize(
    ("titles", "descriptions", "expected"),
    [
        (False, False, []),
        (True, False, [["어부", "11"], ["선장", "11"], ["은행원", "2"]]),
        (False, True, [["배를 타고 고기를 잡는다", "11"], ["은행원", "2"]]),
        (True, True, [["어부", "11"], ["배를 타고 고기를 잡는다", "11"], ["선장", "11"], ["은행원", "2"]]),
    ],
)
def test_each_class_gets_its_words_and_those_beneath_it_once(
    titles: bool, descriptions: bool, expected: list[list[str]]
) -> None:
    rows = augmentation(SMALL, ["11", "2"], titles=titles, descriptions=descriptions)
    assert rows.columns.tolist() == ["text", "code"]
    assert rows.to_numpy().tolist() == expected


def test_ksco_titles_of_the_package(ksco: Classification) -> None:
    rows = augmentation(ksco, ["111", "112"], titles=True, descriptions=False)
    assert rows.to_numpy().tolist() == [
        ["의회 의원·고위 공무원 및 공공단체 임원", "111"], ["기업 고위 임원", "112"],
    ]  # fmt: skip
    every = augmentation(ksco, ksco.codes(3), titles=True, descriptions=True)
    assert set(every["code"]) == set(ksco.codes(3))
    assert len(every) == len({(ksco.title(c), ksco.at_level(c, 3)) for n in (3, 4) for c in ksco.codes(n)})


def test_five_digit_titles_of_a_file(shared: Callable[[str], Path]) -> None:
    whole = load_classification("ksco7", shared("data/ksco7/ksco7.tsv"))
    rows = augmentation(whole, ["111"], titles=True, descriptions=False)
    assert rows["text"].tolist() == [
        "의회 의원·고위 공무원 및 공공단체 임원", "국회의원", "지방의회 의원 및 교육 의원", "중앙정부 고위 공무원",
        "지방정부 고위 공무원", "공공 기관 임원", "정당 및 특수 단체 임원",
    ]  # fmt: skip
    assert set(rows["code"]) == {"111"}


def test_titles_have_the_code_one_level_below_the_class(shared: Callable[[str], Path]) -> None:
    rows = augmentation(SMALL, ["11", "2"], titles=True, descriptions=False, level=2)
    assert rows.to_numpy().tolist() == [["어부", "11", "111"], ["선장", "11", "112"], ["은행원", "2", ""]]
    whole = load_classification("ksco7", shared("data/ksco7/ksco7.tsv"))
    below = augmentation(whole, ["111"], titles=True, descriptions=False, level=3)
    assert below["finer"].tolist() == ["1110"] * 7


def test_rows_of_a_run_know_their_group_below(tmp_path: Path) -> None:
    table = answers(code=["1110", "111", "3201", "3201"] * 10)
    table.to_csv(tmp_path / "a.csv", index=False)
    words = ("data=table", f"data.path={tmp_path / 'a.csv'}", "data.cutoff=0", "data.columns.code=code")
    rows = rows_of(config_of("train", *words, "augment=titles", "augment.positions=1"), test=False, cache=None)
    groups, index = rows.finer
    train = rows.sides["train"]
    assert groups == sorted({code for code in train["finer"] if code}) and {"1110", "3201"} < set(groups)
    assert [groups[n] if n >= 0 else "" for n in index] == train["finer"].fillna("").tolist()
    assert index[index < 0].tolist() == [-100] * int((train["finer"] == "").sum()) and (index < 0).any()
    positions = train[len(train) - len(rows.learnt) :]
    assert positions["finer"].tolist() == train["finer"][: len(rows.learnt)].tolist()


def test_classes_that_the_classification_does_not_know_get_nothing() -> None:
    assert len(augmentation(load_classification("from_data"), ["0111", "x"], titles=True, descriptions=True)) == 0


def test_rows_for_positions_have_the_unit_of_their_row() -> None:
    frame = pd.DataFrame(
        {"text": ["a b", "c", "d"], "position": ["b", None, "-"], "code": ["11", "2", "2"], "unit": ["1", "2", "3"]}
    )
    assert position_rows(frame).to_dict("list") == {"code": ["11"], "unit": ["1"], "text": ["b"]}
    with pytest.raises(ConfigError, match=r"augment\.positions"):
        position_rows(frame[1:])


def test_rows_of_a_run_have_their_weights() -> None:
    plain, weighted = (
        rows_of(config_of("train", "data.scale=0.01", "augment=titles", *words), test=False, cache=None)
        for words in ((), ("augment.weight=0.7", "augment.positions=0.5"))
    )
    assert plain.weights is None and weighted.weights is not None
    n_survey, n_titles = len(plain.learnt), plain.n_augmented
    assert weighted.learnt == plain.learnt
    positions = weighted.n_augmented - n_titles
    expected = [1.0] * n_survey + [0.7] * n_titles + [0.5] * positions
    own = plain.sides["train"]["position"][:n_survey].str.contains(r"[^\W\d_]", na=False)
    added = weighted.sides["train"][-positions:]
    assert positions == own.sum() and added["unit"].notna().all()
    assert weighted.weights.tolist() == pytest.approx(expected)


def test_titles_of_an_index_join_the_training_rows_with_their_weights(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    table = answers(code=["1110", "111", "3201", "3201"] * 10)
    table.to_csv(tmp_path / "a.csv", index=False)
    index = tmp_path / "index.csv"
    index.write_text("title,code,weight\n은행원,3201,2\n은행원,320,1\n의원,1110,0.5\n교사,2521,1\n사무원,3,1\n")
    data = (
        "data=table",
        f"data.path={tmp_path / 'a.csv'}",
        "data.cutoff=0",
        "data.columns.code=code",
        "augment.weight=0.5",
    )
    words = (*data, "augment=index", f"classification.index={index}")
    with caplog.at_level("INFO", "kjcm"):
        rows = rows_of(config_of("train", *words), test=True, cache=None)
    assert "2 of 5 titles left out" in caplog.text and "the index has" not in caplog.text
    added = rows.sides["train"][-rows.n_augmented :]
    assert added[["text", "code", "row_weight"]].values.tolist() == [["은행원", "320", 1.5], ["의원", "111", 0.25]]
    assert added["finer"].tolist() == ["3201", "1110"] and len(rows.sides["test"]) == len(rows.cohort.side("test"))
    every = rows_of(config_of("train", *words, "data.classes=all", "augment.titles=true"), test=False, cache=None)
    assert ["교사", "252"] in every.sides["train"][["text", "code"]].to_numpy().tolist()
    title = load_classification("ksco7").title("1110")
    index.write_text(f"title,code,weight\n{title},1110,3\n")
    own = rows_of(config_of("train", *words, "augment.titles=true"), test=False, cache=None).sides["train"]
    shared = own[(own["text"] == title) & (own["code"] == "111")]
    assert shared["row_weight"].tolist() == [0.5]  # the classification's own title, which the index has too
    with pytest.raises(ConfigError, match=r"classification\.index"):
        rows_of(config_of("train", *data, "augment=index"), test=False, cache=None)
    index.write_text("title,code\n교사,2521\n")
    with pytest.raises(ConfigError, match=r"classification\.index"):
        rows_of(config_of("train", *words), test=False, cache=None)


def test_the_log_counts_the_test_rows_that_the_model_learns(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    table = answers(code=["111", "320"] * 20).assign(position=["의원", "은행 원"] * 20)
    table.to_csv(tmp_path / "a.csv", index=False)
    (tmp_path / "index.csv").write_text("title,code\n은행원,3201\n")
    words = (
        "data=table", f"data.path={tmp_path / 'a.csv'}", "data.cutoff=0", "data.validation=0.3", "augment=index",
        f"classification.index={tmp_path / 'index.csv'}",
    )  # fmt: skip
    with caplog.at_level("INFO", "kjcm"):
        rows = rows_of(config_of("train", *words), test=True, cache=None)
    held = pd.concat([rows.sides["validation"], rows.sides["test"]])
    assert f"{(held['position'] == '은행 원').sum()} of {len(held)} held-out and test rows" in caplog.text


def test_a_wrong_index_is_refused_before_a_training(tmp_path: Path) -> None:
    answers(code=["111", "320"] * 20).to_csv(tmp_path / "a.csv", index=False)
    (tmp_path / "index.csv").write_text("title,code\n은행원,7799\n")
    words = ("data=table", f"data.path={tmp_path / 'a.csv'}", "data.cutoff=0", "data.validation=0.3")
    with pytest.raises(KjcmError, match="7799"):
        rows_of(config_of("train", *words, f"classification.index={tmp_path / 'index.csv'}"), test=False, cache=None)
